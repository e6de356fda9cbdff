"""A host that installs its own upgrades is waited for; for how long, and for whom, is told."""

from __future__ import annotations

import shlex
import threading
import time
from pathlib import Path

import pytest

from tests.refusals.bench import ROOT, Bench

HOLD = "import fcntl,time; f=open('/var/lib/dpkg/lock-frontend','w'); fcntl.lockf(f,fcntl.LOCK_EX); time.sleep({})"


def hold(bench: Bench, seconds: int) -> None:
    """Hold dpkg's lock on the host, as unattended-upgrades does."""
    program = shlex.quote(HOLD.format(seconds))
    bench.host.check_output(
        f"systemd-run --quiet --collect --unit=switchboard-upgrades python3 -c {program}; sleep 1"
    )


@pytest.mark.usefixtures("unchanged")
def test_a_lock_that_stays_is_refused_with_its_holder(bench: Bench) -> None:
    hold(bench, 600)
    try:
        run = bench.play(ROOT / "playbooks" / "base.yml", {"switchboard_lock_timeout": 2})
    finally:
        bench.host.check_output("systemctl stop switchboard-upgrades")
    assert run.code == 2
    run.says("switchboard_lock_timeout is 2: python3 (process ", "Let it end")


@pytest.mark.soak
def test_a_lock_that_goes_is_waited_for(bench: Bench, tmp_path: Path) -> None:
    hold(bench, 600)
    log = tmp_path / "log"
    log.touch()

    def let_go() -> None:
        end = time.monotonic() + 300
        while "installs packages on this host" not in log.read_text() and time.monotonic() < end:
            time.sleep(0.5)  # until the run has come to it
        bench.host.check_output("systemctl stop switchboard-upgrades")

    thread = threading.Thread(target=let_go)
    thread.start()
    try:
        run = bench.play(ROOT / "playbooks" / "base.yml", ANSIBLE_LOG_PATH=str(log))
    finally:
        thread.join()
    assert run.code == 0
    run.says("installs packages on this host; this run waits for it, 600 s at most.")
