"""The module host_look: what a host has, and what stands in the way of the roles."""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path

import pytest

from plugins.module_utils import host_packages
from plugins.modules import host_look
from tests.unit.run_module import run_module


def test_each_question_has_its_answer(tmp_path: Path) -> None:
    (tmp_path / "myid").write_text("2\n", encoding="utf-8")
    storage = {
        "path": str(tmp_path),
        "path_variable": "zookeeper_data_dir",
        "minimum_mb": "1000000000",
        "minimum_variable": "zookeeper_disk_minimum_mb",
        "expect": [{"file": "myid", "value": "1", "variable": "zookeeper_id"}],
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        asked = {
            "ports": [{"variable": "zookeeper_client_port", "port": port, "unit": "x.service"}],
            "storage": [storage],
            "present": [str(tmp_path / "myid"), str(tmp_path / "none")],
            "pythons": [sys.executable, str(tmp_path / "python3")],
            "packages": ["dpkg", "no-such-package"],
            "free": [str(tmp_path)],
            "addresses": ["127.0.0.1", "0.0.0.0", "localhost", "192.0.2.99"],
            "settings": {str(tmp_path / "zoo.cfg"): ["server.*"], str(tmp_path / "none"): ["*"]},
        }
        (tmp_path / "zoo.cfg").write_text("# a=b\nserver.1=one:1=\nclientPort=2181\n")
        looked = run_module("host_look", {"roles": {"zookeeper": asked, "base": {}}})["looked"]
    held, full, other = looked["zookeeper"]["faults"]
    assert held.startswith(f"zookeeper_client_port is {port}:")
    assert "MiB free, fewer than the 1000000000 of zookeeper_disk_minimum_mb" in full
    assert "written by the server with the id 2" in other
    assert looked["zookeeper"]["present"] == {
        str(tmp_path / "myid"): True,
        str(tmp_path / "none"): False,
    }
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert list(looked["zookeeper"]["pythons"].values()) == [version, ""]
    assert list(looked["zookeeper"]["settings"].values()) == [{"server.1": "one:1="}, {}]
    assert list(looked["zookeeper"]["addresses"].values()) == [True, True, True, False]
    room = shutil.disk_usage(tmp_path).free // 2**20
    assert abs(looked["zookeeper"]["free"][str(tmp_path)] - room) < room / 4
    assert looked["zookeeper"]["lacking"] == ["no-such-package"]
    assert looked["base"] == {
        "faults": [],
        "lacking": [],
        "present": {},
        "settings": {},
        "pythons": {},
        "calendars": {},
        "addresses": {},
        "free": {},
    }
    root = looked["host"]["users"]["root"]
    assert root == {"home": "/root", "shell": root["shell"], "group": "root"}


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="this machine has no systemd")
def test_a_time_is_asked_of_systemd() -> None:
    asked = {"calendars": ["daily", "25:00"]}
    times = run_module("host_look", {"roles": {"django": asked}})["looked"]["django"]["calendars"]
    assert times["daily"] == ""
    assert "25:00" in times["25:00"]


def test_packages_that_were_removed_are_not_installed(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(
        "Package: one\nStatus: install ok installed\nVersion: 1\n\n"
        "Package: two\nEssential: yes\nStatus: hold ok installed\n\n"
        "Package: three\nStatus: deinstall ok config-files\n\n",
        encoding="utf-8",
    )
    assert host_packages.installed(status) == ["one", "two"]
    assert host_packages.installed(tmp_path / "none") == []  # no Debian


def test_names_are_those_of_links_too(tmp_path: Path) -> None:
    (tmp_path / "multi-user.target.wants").mkdir()
    (tmp_path / "multi-user.target.wants" / "kafka.service").symlink_to("/nowhere")
    assert host_look.names(tmp_path, "*.wants/*") == ["kafka.service"]
    assert host_look.names(tmp_path / "none", "*") == []
