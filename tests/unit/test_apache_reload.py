"""The reload of Apache: it counts the children, and makes room or refuses where there is none."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "roles/apache/files/apache_reload.py"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("apache_reload", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PROC", tmp_path / "proc")
    monkeypatch.setattr(module, "PID_FILE", tmp_path / "pid")
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    monkeypatch.setattr(module.sys, "argv", ["apache_reload.py", "4", "2"])
    (tmp_path / "pid").write_text("1\n")
    for pid, parent, command in (
        (1, 0, "/usr/sbin/apache2"),
        (2, 1, "(wsgi:lab)\0-k\0start"),
        (3, 1, "/usr/bin/rotatelogs\0-l\0-L\0/var/log/apache2/lab/access.json"),
        (4, 9, "/usr/sbin/apache2"),
        (5, 1, "/usr/sbin/apache2"),
        (6, 1, "/usr/sbin/apache2"),
    ):
        folder = tmp_path / "proc" / str(pid)
        folder.mkdir(parents=True)
        (folder / "stat").write_text(f"{pid} (apache2 (x)) S {parent} 0 0")
        (folder / "cmdline").write_bytes(command.encode())
    return module


def calls(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    made: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        made.append(command)
        return subprocess.CompletedProcess(
            command, 0, "daphne-lab@1.service loaded active running x\n", ""
        )

    monkeypatch.setattr(program.subprocess, "run", run)
    return made


def test_only_apaches_own_children_count(program: ModuleType) -> None:
    assert program.children(1) == 2


def test_with_room_it_reloads(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    made = calls(program, monkeypatch)
    assert program.main() == 0
    assert made == [["/usr/sbin/apachectl", "graceful"]]


def test_without_room_it_closes_the_sockets_and_refuses_if_that_does_not_help(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program.sys, "argv", ["apache_reload.py", "3", "2"])
    made = calls(program, monkeypatch)
    assert program.main() == 1
    assert ["systemctl", "restart", "daphne-lab@1.service"] in made
    assert ["/usr/sbin/apachectl", "graceful"] not in made
    assert "`systemctl restart apache2`" in capsys.readouterr().err


def test_without_room_it_reloads_when_the_old_children_have_ended(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program.sys, "argv", ["apache_reload.py", "3", "2"])
    made = calls(program, monkeypatch)
    monkeypatch.setattr(program, "make_room", lambda main, room: True)
    assert program.main() == 0
    assert made == [["/usr/sbin/apachectl", "graceful"]]
