"""The tools around `make verify`: exit codes, kept reports, and the units of its timer."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools import verify, verify_timer
from tools.common import ROOT, ToolError

LAB = ROOT / "inventory" / "lab"
RECORD = Path(__file__).parent / "verify_record.json"


def test_the_exit_code_says_that_nothing_could_be_looked_at() -> None:
    command = [sys.executable, "-m", "tools.verify", "--inventory=inventory/no-such", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "There is no inventory inventory/no-such" in done.stderr
    assert "inventory/single" in done.stderr


def test_an_empty_inventory_is_told_in_words_and_as_data(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("all: {hosts: {lab: }}\n")
    command = [sys.executable, "-m", "tools.verify", f"--inventory={tmp_path}", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)
    shutil.rmtree(verify.report_folder(tmp_path))
    assert (done.returncode, told["exit"], told["status"]) == (2, 2, "unseen"), done.stderr
    assert "no host in the group switchboard" in told["trouble"]
    assert "no host in the group switchboard" in done.stderr


@pytest.mark.parametrize(
    ("pytests", "report", "code"),
    [
        (0, True, 0),
        (1, True, 1),
        (1, False, 2),
        (2, True, 2),
        (3, True, 2),
        (4, False, 2),
        (5, True, 2),
    ],
)
def test_what_pytest_ends_with_is_translated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pytests: int, report: bool, code: int
) -> None:
    (tmp_path / "report.json").write_text("of an earlier run")
    (tmp_path / "report.html").write_text("of an earlier run")

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert not list(tmp_path.iterdir()), (
            "what an earlier run wrote would be taken for this one's"
        )
        if report:
            (tmp_path / "report.json").write_text("{}")
        return subprocess.CompletedProcess(command, pytests)

    monkeypatch.setattr(subprocess, "run", run)
    assert verify.verify(LAB, tmp_path, quiet=False, extra=[]) == code


def test_the_last_reports_are_kept(tmp_path: Path) -> None:
    for day in range(1, 6):
        started = datetime.datetime(2026, 11, day, 6, tzinfo=datetime.UTC).isoformat()
        (tmp_path / "report.json").write_text(json.dumps({"started": started}))
        (tmp_path / "report.html").write_text(f"page {day}")
        verify.keep(tmp_path, 3)
    kept = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert kept == ["2026-11-03T060000", "2026-11-04T060000", "2026-11-05T060000"]
    assert (tmp_path / kept[0] / "report.html").read_text() == "page 3"
    assert (tmp_path / "report.html").read_text() == "page 5"


def test_nothing_is_kept_where_no_report_was_written(tmp_path: Path) -> None:
    verify.keep(tmp_path, 3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("inventory", "name", "folder"),
    [
        (ROOT / "inventory" / "lab", "inventory/lab", "lab"),
        (ROOT / "inventory" / "lab" / "hosts.yml", "inventory/lab/hosts.yml", "lab-hosts.yml"),
        (Path("/srv/my servers/lab"), "/srv/my servers/lab", "srv-my-servers-lab"),
    ],
)
def test_each_inventory_has_its_folder(inventory: Path, name: str, folder: str) -> None:
    assert verify.inventory_name(inventory) == name
    assert verify.report_folder(inventory) == ROOT / "build" / "verify" / folder


# -- the timer -----------------------------------------------------------------------------------------


def test_the_units_verify_keep_and_tell() -> None:
    files = verify_timer.units(LAB, "Mon 06:00", "ops@example.org")
    assert sorted(files) == [
        "switchboard-verify-lab-mail.service",
        "switchboard-verify-lab.service",
        "switchboard-verify-lab.timer",
    ]
    service = files["switchboard-verify-lab.service"]
    assert (
        f'ExecStart="{ROOT}/.venv/bin/python" -m tools.verify "--inventory={LAB}" --keep=14'
        in service
    )
    assert "OnFailure=switchboard-verify-lab-mail.service" in service
    assert "OnCalendar=Mon 06:00\n" in files["switchboard-verify-lab.timer"]
    assert '"--mail=ops@example.org"' in files["switchboard-verify-lab-mail.service"]


def test_without_an_address_nobody_is_mailed() -> None:
    files = verify_timer.units(LAB, "daily")
    assert len(files) == 2
    assert "OnFailure" not in "".join(files.values())


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd on this machine")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    odd = Path('/srv/100% "odd" $HOME/lab')
    for name, text in verify_timer.units(odd, "Mon 06:00", "ops@example.org").items():
        # what is started must be there, or systemd-analyze complains of that
        (tmp_path / name).write_text(
            re.sub(r'^ExecStart="[^"]*"', 'ExecStart="/bin/true"', text, flags=re.M)
        )
    command = [
        "systemd-analyze",
        "verify",
        "--man=no",
        *map(str, sorted(tmp_path.glob("*verify*"))),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "switchboard-verify" in line]
    assert (done.returncode, ours) == (0, [])


def test_what_systemd_would_read_otherwise_is_escaped() -> None:
    assert verify_timer.quoted('/a b/100%/$HOME/"x"\\') == '"/a b/100%%/$$HOME/\\"x\\"\\\\"'


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the folder of units of a systemd that takes everything and writes down what it was told."""
    program = tmp_path / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n')
    program.chmod(0o755)
    monkeypatch.setattr(verify_timer, "place", lambda: (tmp_path / "units", [str(program)]))
    monkeypatch.setattr(verify_timer, "refuse", lambda when, mail: None)
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    return tmp_path / "units"


def told(folder: Path) -> list[str]:
    lines = (folder.parent / "told").read_text().splitlines()
    (folder.parent / "told").unlink()
    return lines


def test_a_timer_comes_changes_and_goes(systemd: Path) -> None:
    other = systemd / "switchboard-verify-lab-two.service"
    verify_timer.install(LAB, "daily", "ops@example.org")
    other.write_text("of another inventory")
    assert len(list(systemd.iterdir())) == 4
    assert told(systemd) == [
        "daemon-reload",
        "enable switchboard-verify-lab.timer",
        "restart switchboard-verify-lab.timer",
    ]
    verify_timer.install(LAB, "hourly", "")
    names = {path.name for path in systemd.iterdir()}
    assert names == {"switchboard-verify-lab.service", "switchboard-verify-lab.timer", other.name}
    assert "OnCalendar=hourly" in (systemd / "switchboard-verify-lab.timer").read_text()
    told(systemd)
    verify_timer.remove(LAB)
    assert list(systemd.iterdir()) == [other]
    assert told(systemd) == ["disable --now switchboard-verify-lab.timer", "daemon-reload"]
    verify_timer.remove(LAB)
    assert not (systemd.parent / "told").exists()


@pytest.mark.parametrize(
    ("when", "mail", "why"),
    [
        ("whenever", "", "WHEN is 'whenever'"),
        ("daily\n[Service]", "", "name a time"),
        ("", "", "name a time"),
        ("daily", "ops", "name one address"),
        ("daily", "ops@example.org, all@example.org", "name one address"),
        ("daily", "-bp@example.org", "name one address"),
        ("daily", "ops@example.org", "nothing here sends mail"),
    ],
)
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd on this machine")
def test_what_cannot_work_is_refused(
    monkeypatch: pytest.MonkeyPatch, when: str, mail: str, why: str
) -> None:
    monkeypatch.setattr(verify_timer, "SENDMAIL", "/no/such/sendmail")
    with pytest.raises(ToolError, match=re.escape(why)):
        verify_timer.refuse(when, mail)


def test_the_mail_says_what_fell_short_and_what_to_do() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    mail = verify_timer.message(record, "inventory/lab", Path("/b/report.html"), "ops@example.org")
    assert mail["Subject"] == "Switchboard: inventory/lab: 7 of 24 checks fell short"
    text = mail.get_content()
    assert "- server1: should be: Each service runs as its own user" in text
    assert "- services and listeners: Ask the unit" in text
    assert text.rstrip().endswith("/b/report.html")


def test_the_mail_says_that_nothing_was_looked_at() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8")) | {"status": "unseen"}
    record["hosts"][0] |= {"reached": False, "heard": "No route to host"}
    mail = verify_timer.message(record, "inventory/lab", Path("/b"), "ops@example.org")
    assert mail["Subject"].endswith(": not everything could be looked at")
    assert "server1 could not be reached: No route to host" in mail.get_content()
    mail = verify_timer.message(None, "inventory/lab", Path("/b"), "ops@example.org")
    assert mail["Subject"] == "Switchboard: inventory/lab was not verified"
