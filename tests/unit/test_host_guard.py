"""A change that nobody confirms is taken back, with all that the guard had put on the host."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plugins.action import host_guard
from plugins.module_utils.host_guard import arm, armed, disarm


class Host:
    """Folders that take the place of the host's, a systemctl that is written down, and a real cp."""

    def __init__(self, folder: Path) -> None:
        self.root, self.units, self.etc = folder / "guard", folder / "units", folder / "etc"
        for path in (self.units / "timers.target.wants", self.etc, folder / "bin"):
            path.mkdir(parents=True)
        self.calls: list[str] = []
        self.broken = ""
        for name in ("systemctl", "logger"):
            program = folder / "bin" / name
            program.write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/ran\n')
            program.chmod(0o755)
        self.folder = folder

    def run(self, words: list[str]) -> tuple[int, str, str]:
        self.calls.append(" ".join(words))
        if words[0] == "cp":
            return subprocess.run(words, check=False).returncode, "", ""
        return (1, "", "no") if self.broken and self.broken in words else (0, "", "")

    def arm(self, *paths: Path, before: str = "true", after: str = "true") -> None:
        names = [str(path) for path in paths]
        arm(
            "lab",
            names,
            30,
            self.run,
            before=[before],
            after=[after],
            root=self.root,
            units=self.units,
        )

    def take_back(self) -> None:
        """Run the script as the timer does."""
        path = f"{self.folder / 'bin'}:/usr/bin:/bin"
        subprocess.run(["sh", str(self.root / "lab" / "restore")], env={"PATH": path}, check=True)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def left(host: Host) -> list[str]:
    return [
        path.name
        for folder in (host.root, host.units)
        for path in folder.rglob("*")
        if not path.is_dir()
    ]


def test_what_was_there_comes_back_and_what_was_not_goes(host: Host) -> None:
    there, link, new = host.etc / "there", host.etc / "link", host.etc / "new"
    there.write_text("old\n")
    there.chmod(0o640)
    link.symlink_to("there")
    host.arm(
        there,
        link,
        new,
        before=f"echo before >> {host.folder}/ran",
        after=f"echo after >> {host.folder}/ran",
    )
    assert armed(host.root) == ["lab"]
    assert "OnActiveSec=30\n" in (host.units / "switchboard-guard-lab.timer").read_text()
    there.write_text("changed\n")
    there.chmod(0o600)
    link.unlink()
    new.write_text("new\n")
    host.take_back()
    assert there.read_text() == "old\n"
    assert there.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    assert not new.exists()
    assert armed(host.root) == []
    assert left(host) == []
    ran = (host.folder / "ran").read_text().splitlines()
    assert ran[:3] == ["before", "systemctl daemon-reload", "after"]


def test_a_second_change_keeps_what_was_there_before_the_first(host: Host) -> None:
    path = host.etc / "there"
    path.write_text("proven\n")
    host.arm(path)
    path.write_text("unproven\n")
    host.arm(path)
    path.write_text("unproven too\n")
    host.take_back()
    assert path.read_text() == "proven\n"


def test_a_confirmed_change_stays_and_leaves_nothing_of_the_guard(host: Host) -> None:
    path = host.etc / "there"
    path.write_text("old\n")
    host.arm(path)
    path.write_text("changed\n")
    assert disarm("lab", host.run, host.root, host.units) is True
    assert path.read_text() == "changed\n"
    assert left(host) == []
    assert host.calls.index("systemctl stop switchboard-guard-lab.timer") > 0
    assert disarm("lab", host.run, host.root, host.units) is False, (
        "nothing is there to be confirmed"
    )


def test_a_timer_that_does_not_start_ends_the_change(host: Host) -> None:
    host.broken = "restart"
    with pytest.raises(OSError, match="timer fails"):
        host.arm(host.etc / "new")


def test_what_cannot_be_put_back_is_kept_and_tried_again(host: Host) -> None:
    path = host.etc / "rules"
    path.write_text("old")
    host.arm(path)
    path.write_text("new")
    moved = host.etc.rename(host.etc.with_name("gone"))  # no copy can be put there
    with pytest.raises(subprocess.CalledProcessError):
        host.take_back()
    assert armed(host.root) == ["lab"]
    assert "restart switchboard-guard-lab.timer" in (host.folder / "ran").read_text()
    moved.rename(host.etc)
    assert path.read_text() == "new"  # nothing was taken away before its copy was there
    host.take_back()
    assert path.read_text() == "old"
    assert armed(host.root) == []


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([{"confirmed": True}], ""),
        ([{}, {"confirmed": True}], ""),
        ([{}, {"confirmed": False}], "the host took no new connection of this run within 60 s"),
        # nobody tried in time: the run waited for another host
        ([{"confirmed": False}], "this run came back later than the 60 s"),
    ],
)
def test_a_change_that_nobody_tried_to_confirm_in_time_is_not_called_wrong(
    answers: list[dict[str, Any]], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = SimpleNamespace(
        args={"name": "access", "variables": "access_sshd"}, check_mode=False, async_val=0
    )
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))
    action = host_guard.ActionModule(task, connection, None, None, None, None)
    left = iter(answers)
    monkeypatch.setattr(action, "quicken", lambda: None)
    monkeypatch.setattr(action, "attempt", lambda _: (next(left), ""))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    result = action.run()
    assert told in result.get("msg", "")
    assert bool(result.get("failed")) == bool(told)
