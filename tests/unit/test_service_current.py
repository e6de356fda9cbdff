"""The module that tells which service runs with less than what is written."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils import wsgi_group
from tests.unit.test_site_settings import plugin

service_current = plugin("module_utils/service_current.py")
STARTED = "Sat 2026-11-28 06:00:00.500000 UTC"
TOLD = {
    "ActiveState": "active",
    "MainPID": "7",
    "ExecMainStartTimestamp": STARTED,
    "ActiveEnterTimestamp": STARTED,
    "StateChangeTimestamp": "n/a",
    "NeedDaemonReload": "no",
    "FragmentPath": "/usr/lib/systemd/system/lab.service",
    "DropInPaths": "",
}


def service(**options: Any) -> dict[str, Any]:
    return {"unit": "lab.service", "group": None, "paths": [], "stamp": None} | options


def began(shift: float) -> dict[str, str]:
    """Return what systemd says of a service that began ``shift`` seconds from now."""
    text = time.strftime("%a %Y-%m-%d %H:%M:%S.000000 UTC", time.gmtime(time.time() + shift))
    return TOLD | {"ExecMainStartTimestamp": text}


def test_a_time_of_systemd_is_read_as_seconds() -> None:
    assert service_current.seconds("Thu 1970-01-01 00:00:01.500000 UTC") == 1.5
    assert service_current.seconds("n/a") == service_current.seconds("") == 0


def test_a_link_that_was_moved_is_a_change(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("")
    (tmp_path / "current").symlink_to("old")
    said = service_current.reason(service(paths=[str(tmp_path / "current")]), began(-60))
    assert said.startswith(f"{tmp_path}/")
    assert " s after lab.service began" in said


def test_what_is_older_than_the_service_is_current(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("")
    paths = [f"{tmp_path}/*.conf", f"{tmp_path}/", f"{tmp_path}/none"]
    assert service_current.reason(service(paths=paths), began(+60)) == ""
    assert service_current.reason(service(paths=paths), began(-60)) != ""
    assert service_current.reason(service(paths=[f"{tmp_path}/none"]), began(-60)) == ""


def test_a_mode_that_was_changed_is_a_change(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("")
    os.utime(path, (1, 1))
    changed, which = service_current.latest([str(path)])
    assert (changed, which) == (path.stat().st_ctime, str(path))
    assert changed > 1e9


def test_a_reload_counts_where_it_leaves_a_stamp(tmp_path: Path) -> None:
    path, stamp = tmp_path / "a.conf", tmp_path / "stamp"
    path.write_text("")
    wanted = service(paths=[str(path)], stamp=str(stamp))
    assert service_current.reason(wanted, began(-60))
    stamp.write_text("")
    os.utime(stamp, (time.time() + 60,) * 2)
    assert service_current.reason(wanted, began(-60)) == ""


@pytest.mark.parametrize("state", ["inactive", "failed", "activating"])
def test_what_does_not_run_is_not_behind(tmp_path: Path, state: str) -> None:
    (tmp_path / "a.conf").write_text("")
    told = began(-60) | {"ActiveState": state}
    assert service_current.reason(service(paths=[f"{tmp_path}/a.conf"]), told) == ""


def test_a_unit_that_systemd_has_not_read_is_behind() -> None:
    said = service_current.reason(service(), began(+60) | {"NeedDaemonReload": "yes"})
    assert said == "systemd has not read the files of lab.service anew"


def test_the_files_of_a_package_are_left_to_its_scripts() -> None:
    told = began(-(10**9))
    assert service_current.reason(service(), told | {"FragmentPath": "/usr/bin/env"}) == ""
    assert service_current.reason(service(), told | {"FragmentPath": "/etc/passwd"}) != ""


def test_a_group_of_mod_wsgi_began_with_its_oldest_process() -> None:
    before = time.time()
    name = wsgi_group.title("lab-of-a-test")
    command = ["bash", "-c", f"exec -a '{name}' sleep 30"]  # killed below
    with subprocess.Popen(command) as process:
        try:
            arguments = Path(f"/proc/{process.pid}/cmdline")
            while not arguments.read_bytes().startswith(name.encode()):
                time.sleep(0.01)  # until bash, whose own arguments hold the name, has become it
            found = wsgi_group.began("lab-of-a-test")
        finally:
            process.kill()
    assert before - 1 < found < before + 5
    assert wsgi_group.began("lab-of-no-test") == 0


@pytest.mark.parametrize(
    ("path", "behind"),
    [
        ("/etc/lab/a.conf", True),
        ("/srv/lab/current/app/x.py", True),
        ("/etc/systemd/system/lab@.service", True),
        ("/etc/systemd/system/lab@1.service.d/x.conf", True),
        ("/etc/systemd/system/lab@.service.d/x.conf", True),
        ("/etc/lab/a.txt", False),
        ("/srv/lab/current-x", False),
        ("/etc/systemd/system/lab.service", False),
    ],
)
def test_what_this_run_is_about_to_change_counts(path: str, behind: bool) -> None:
    wanted = service(unit="lab@1.service", paths=["/etc/lab/*.conf", "/srv/lab/current"])
    assert bool(service_current.reason(wanted, began(+60), [path])) is behind
    stopped = TOLD | {"ActiveState": "inactive"}
    assert service_current.reason(wanted, stopped, [path]) == ""
