"""A live server is broken on purpose, and `make verify` must say so.

`make test` breaks one thing of each kind and looks once; SWITCHBOARD_SOAK=1 breaks every one, a batch at a time.
A batch that was undone must leave nothing behind: the last verify of an unbroken server must be green.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from tests.behaviour.conftest import journal
from tests.behaviour.test_services import REPLACED
from tests.mutations.mutations import MUTATIONS, Mutation
from tests.mutations.report import UNBROKEN, note

ROOT = Path(__file__).resolve().parents[2]
SOAK = "SWITCHBOARD_SOAK"
SECONDS = 900
UNBROKEN_RUNS = 5
BATCHES = sorted({mutation.batch for mutation in MUTATIONS}) if os.environ.get(SOAK) else ["short"]


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's folder; the caller judges how it ended."""
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def verify(config: pytest.Config, folder: Path) -> dict[str, str]:
    """Run what `make verify` runs; return what each failing test said, by its name."""
    report = folder / "verify.xml"
    environment = {k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/behaviour",
        "-m",
        "not disruptive",
        "-o",
        "verbosity_assertions=2",
        f"--junitxml={report}",
    ]
    for option in ("connection", "hosts", "ansible_inventory"):
        command.append(f"--{option.replace('_', '-')}={config.getoption(option)}")
    done = run(command, environment)
    assert report.exists(), done.stdout[-4000:]
    said: dict[str, str] = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):  # noqa: S314 - our own file
        for kind in ("failure", "error"):
            found = case.find(kind)
            if found is not None:
                said[re.sub(r"\[.*", "", case.get("name", ""))] = (
                    f"{case.get('name')}\n{found.text}"
                )
    return said


def heal(config: pytest.Config, variables: dict[str, Any] | None = None) -> None:
    """Run the whole, which brings the server to its inventory, with other variables where they are given."""
    command = ["ansible-playbook", "-i", config.getoption("ansible_inventory"), "site.yml"]
    command += ["-e", json.dumps(variables)] if variables else []
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    done = run(command, environment)
    assert done.returncode == 0, done.stdout[-4000:]


def chosen(batch: str) -> list[Mutation]:
    if batch == "short":
        return [mutation for mutation in MUTATIONS if mutation.short]
    return [mutation for mutation in MUTATIONS if mutation.batch == batch]


def test_there_are_enough_of_each_kind() -> None:
    assert len(MUTATIONS) >= 80
    assert len([mutation for mutation in MUTATIONS if mutation.short]) >= 15
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.parametrize("batch", BATCHES)
def test_verify_notices(
    request: pytest.FixtureRequest, host: Host, tmp_path: Path, batch: str
) -> None:
    applied: list[Mutation] = []
    try:
        for mutation in chosen(batch):
            applied.append(mutation)
            done = host.run(mutation.apply)
            assert done.rc == 0, f"{mutation.name} could not be broken: {done}"
        said = verify(request.config, tmp_path)
    finally:
        undone: list[Any] = [host.run(mutation.undo) for mutation in reversed(applied)]
        host.run("systemctl reset-failed")
        heal(request.config)  # what was changed and changed back has begun before its files
    assert [done for done in undone if done.rc] == []
    found, unseen = json.loads(host.check_output("python3 -I -c %s", REPLACED))
    assert {unit: files for unit, files in found.items() if files} == {}, "the run restarted less"
    assert unseen == []
    missed = []
    for mutation in applied:
        tests = [name for name, text in said.items() if re.search(mutation.mark, text)]
        note(mutation.batch, mutation.kind, mutation.name, tests)
        if not tests and not mutation.beyond:
            missed.append(mutation.name)
    assert not missed, f"verify did not notice: {missed}; it said {sorted(said)}"


@pytest.mark.soak
def test_the_window_of_upgrades_restarts_what_they_replace(
    request: pytest.FixtureRequest, host: Host
) -> None:
    """Apache and the rest, in the unit that upgrades; without a window that unit is Debian's again."""
    renew = "cd /usr/lib/x86_64-linux-gnu && cp -a libc.so.6 libc.new && mv libc.new libc.so.6"
    heal(request.config, {"base_upgrades_enabled": True, "base_upgrades_window": "04:00"})
    try:
        host.check_output(renew)
        before = json.loads(host.check_output("python3 -I -c %s", REPLACED))[0]
        assert before["apache2.service"]
        assert before["kafka.service"]
        done = host.run("systemctl start apt-daily-upgrade.service")
        assert done.rc == 0, journal(host, "apt-daily-upgrade.service", 100)
        found = json.loads(host.check_output("python3 -I -c %s", REPLACED))[0]
        assert found.keys() == before.keys()
        assert {unit: files for unit, files in found.items() if files} == {}
    finally:
        heal(request.config)
    told = host.check_output("systemctl show --property=ExecStartPost apt-daily-upgrade.service")
    assert "switchboard" not in told


@pytest.mark.soak
@pytest.mark.parametrize("number", range(UNBROKEN_RUNS))
def test_verify_says_nothing_of_a_whole_server(
    request: pytest.FixtureRequest, tmp_path: Path, number: int
) -> None:
    said = verify(request.config, tmp_path)
    UNBROKEN.append(len(said))
    assert said == {}
