"""The module apache_files, on a configuration folder of the test with a stand-in for Apache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2.nativetypes import NativeEnvironment

from plugins.modules import apache_files
from tests.unit.run_module import run_module


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("sites-available", "sites-enabled", "conf-available", "conf-enabled"):
        (tmp_path / folder).mkdir()
    (tmp_path / "sites-available" / "old.conf").write_text("old\n")
    (tmp_path / "sites-enabled" / "old.conf").symlink_to("../sites-available/old.conf")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "link", "target"),
    [
        ("sites-available/lab.conf", "sites-enabled/lab.conf", "../sites-available/lab.conf"),
        ("conf-available/x.conf", "conf-enabled/x.conf", "../conf-available/x.conf"),
    ],
)
def test_links_are_those_of_a2ensite(path: str, link: str, target: str) -> None:
    assert apache_files.link_of(path) == (link, target)


@pytest.mark.parametrize(
    "path", ["ports.conf", "mods-available/x.conf", "/etc/passwd", "sites-available/../x"]
)
def test_other_folders_hold_nothing_to_enable(path: str) -> None:
    with pytest.raises(ValueError, match="is in none of"):
        apache_files.link_of(path)


def test_changes_are_made_below_the_root_alone(root: Path) -> None:
    apache_files.apply(
        root,
        {"sites-available/lab.conf": "new\n", "switchboard/504.asis": "page\n"},
        {"sites-enabled/lab.conf": "../sites-available/lab.conf"},
        ["sites-enabled/old.conf"],
    )
    assert (root / "sites-enabled" / "lab.conf").read_text() == "new\n"
    assert (root / "switchboard" / "504.asis").read_text() == "page\n"
    assert not (root / "sites-enabled" / "old.conf").exists()
    assert (root / "sites-available" / "old.conf").read_text() == "old\n"
    assert [path.name for path in (root / "sites-available").iterdir()] != []
    assert not list(root.rglob(".switchboard-*")), "a temporary file was left"


def test_a_written_file_is_readable_and_root_can_tell_it_is_right(root: Path) -> None:
    path = root / "sites-available" / "lab.conf"
    apache_files.write(path, "text\n")
    assert path.stat().st_mode & 0o777 == 0o644
    assert not apache_files.is_as_wanted(path, "other\n")


def test_a_dangling_link_is_there(root: Path) -> None:
    link = root / "sites-enabled" / "gone.conf"
    link.symlink_to("../sites-available/gone.conf")
    assert apache_files.is_there(link)
    assert apache_files.is_link_to(link, "../sites-available/gone.conf")
    assert not apache_files.is_link_to(link, "../sites-available/lab.conf")
    assert apache_files.read(link) is None


def test_a_module_is_switched_on_with_what_it_depends_on(root: Path) -> None:
    available = root / "mods-available"
    available.mkdir()
    (available / "proxy.load").write_text("LoadModule proxy_module proxy.so\n")
    (available / "proxy.conf").write_text("ProxyRequests Off\n")
    (available / "proxy_http.load").write_text(
        "# Depends: proxy\nLoadModule proxy_http_module x.so\n"
    )
    apache_files.switch_on(root, "proxy_http")
    enabled = {path.name for path in (root / "mods-enabled").iterdir()}
    assert enabled == {"proxy_http.load", "proxy.load", "proxy.conf"}
    assert (root / "mods-enabled" / "proxy.load").read_text().startswith("LoadModule")
    with pytest.raises(ValueError, match="no module lua"):
        apache_files.switch_on(root, "lua")


def test_a_file_that_no_longer_belongs_there_goes(tmp_path: Path) -> None:
    stale = tmp_path / "mods-enabled" / "00-old.load"
    stale.parent.mkdir()
    stale.write_text("LoadFile /usr/lib/gone.so\n")
    absent = ["mods-enabled/00-old.load"]
    arguments = {"server_root": str(tmp_path), "absent": absent}
    told = run_module("apache_files", arguments, check=True)
    assert told["paths"] == [str(stale)]
    assert stale.exists(), "a check changed something"
    apache_files.apply(tmp_path, {}, {}, absent)
    assert run_module("apache_files", arguments)["paths"] == []


@pytest.mark.parametrize(("release", "absent"), [("12", False), ("13", True)])
def test_what_debian_12_needs_goes_when_it_becomes_13(release: str, absent: bool) -> None:
    path = Path(__file__).resolve().parents[2] / "roles" / "apache" / "vars" / "main.yml"
    role = yaml.safe_load(path.read_text(encoding="utf-8"))
    native = NativeEnvironment()
    facts = {"distribution_major_version": release}
    needed: Any = native.from_string(role["__apache_pcre"]).render(
        ansible_facts=facts, __apache_seed=False
    )
    found: Any = native.from_string(role["__apache_files_absent"]).render(
        **{**role, "__apache_pcre": needed}
    )
    assert found == ([role["__apache_pcre_file"]["path"]] if absent else [])
