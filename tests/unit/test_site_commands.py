"""The playbooks that take the name of a site: each refuses one that the inventory lacks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def play(folder: Path, name: str, *flags: str) -> tuple[int, str]:
    """Run a playbook against this machine with two sites in the inventory; return its code and its words."""
    sites = {site: {"domain": f"{site}.example.org"} for site in ("lab", "wiki")}
    host = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "sites": sites,
    }
    inventory = {"all": {"children": {"web": {"hosts": {"one": host}}}}}
    (folder / "hosts.yml").write_text(json.dumps(inventory))
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            "-i",
            str(folder / "hosts.yml"),
            str(ROOT / "playbooks" / f"{name}.yml"),
            *flags,
        ],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize("name", ["deploy", "rollback", "releases", "maintenance"])
def test_a_mistyped_site_is_refused(tmp_path: Path, name: str) -> None:
    code, said = play(tmp_path, name, "-e", "site=lba")
    assert code == 2, said
    assert "site is lba: `sites` has lab, wiki. Name one, with -e site=." in said


@pytest.mark.parametrize("name", ["rollback", "maintenance"])
def test_a_missing_site_is_refused(tmp_path: Path, name: str) -> None:
    code, said = play(tmp_path, name)
    assert code == 2, said
    assert "site is empty: `sites` has lab, wiki. Name one, with -e site=." in said


def test_a_state_of_maintenance_is_on_or_off(tmp_path: Path) -> None:
    code, said = play(tmp_path, "maintenance", "-e", "site=lab", "-e", "state=onn")
    assert code == 2, said
    assert "state is onn: that is neither on nor off. Say which, with -e state=on." in said


def test_the_releases_of_every_site_are_listed(tmp_path: Path) -> None:
    code, said = play(tmp_path, "releases")
    assert code == 0, said
    assert "one: lab no release yet" in said
    assert "one: wiki no release yet" in said
