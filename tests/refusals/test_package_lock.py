"""A host that installs its own upgrades is waited for; for how long, and for whom, is told."""

from __future__ import annotations

import shlex

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
    hold(bench, 60)
    try:
        run = bench.play(ROOT / "playbooks" / "base.yml", {"switchboard_lock_timeout": 2})
    finally:
        bench.host.check_output("systemctl stop switchboard-upgrades")
    assert run.code == 2
    run.says("switchboard_lock_timeout is 2: python3 (process ", "Let it end")


def test_a_lock_that_goes_is_waited_for(bench: Bench) -> None:
    hold(bench, 30)  # until the run has come to it, also where other tests share the machine
    run = bench.play(ROOT / "playbooks" / "base.yml")
    assert run.code == 0
    run.says("installs packages on this host; this run waits for it, 600 s at most.")
