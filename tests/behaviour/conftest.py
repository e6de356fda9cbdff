"""What every behaviour test starts from: the inventory's word on each host, and each host's address."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from tests.behaviour.sites import Site
from tests.behaviour.summary import table

ROOT = Path(__file__).resolve().parents[2]


class Prediction:
    """A run of the whole that changes nothing (--check), beside the tests."""

    def __init__(self, inventory: str) -> None:
        command = ["ansible-playbook", "-i", inventory, "site.yml", "--check", "--diff"]
        plain = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
        plain["ANSIBLE_STDOUT_CALLBACK"] = "default"
        # a file, since nobody reads a pipe meanwhile
        self.output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the run
        self.run = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **plain},
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def stop(self) -> None:
        """End the run with all that it started, where nobody waited for its end."""
        if self.run.poll() is None:
            os.killpg(self.run.pid, signal.SIGTERM)
            self.run.wait()

    def result(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and the output."""
        code = self.run.wait()
        self.output.seek(0)
        return code, self.output.read()

    def judge(self, name: str) -> None:
        """Fail unless the run comes to its end and would change nothing on a host; say all that it would."""
        code, output = self.result()
        told = recap(output, name)
        assert told, f"the run did not come to its end ({code}):\n{output[-3000:]}"
        tasks = [
            task
            for task in re.split(r"^(?=(?:TASK|RUNNING HANDLER) \[)", output, flags=re.M)
            if f"changed: [{name}]" in task
        ]
        # a run that fails has said before what it would change
        changes = "these tasks would change something:\n\n" + "".join(tasks) if tasks else ""
        assert (told["failed"], told["unreachable"]) == (0, 0), (
            f"the run would fail:\n{output[-3000:]}\n{changes}"
        )
        assert told["changed"] == 0, changes
        assert code == 0, f"another host ended the run before its end:\n{output[-3000:]}"


def recap(output: str, host: str) -> dict[str, int]:
    """Return what the last lines of a run count for a host (ok, changed, failed …); empty without such a line."""
    line = re.search(rf"^{re.escape(host)} +: (.*)$", output, re.M)
    return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", line[1])} if line else {}


RUN = pytest.StashKey[Prediction]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin the prediction where a test will look at it."""
    wanted = any("prediction" in getattr(item, "fixturenames", ()) for item in session.items)
    if (
        wanted
        and not session.config.option.collectonly
        and "MOLECULE_SCENARIO_NAME" not in os.environ
    ):
        inventory = session.config.option.ansible_inventory or str(ROOT / "inventory" / "demo")
        session.config.stash[RUN] = Prediction(inventory)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End a run that nobody waited for."""
    prediction = session.config.stash.get(RUN, None)
    if prediction:
        prediction.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one table what was looked at, what fell short, and what to do."""
    results = []
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.getreports(outcome):
            crash = getattr(report.longrepr, "reprcrash", None)
            results.append((report.nodeid, outcome, str(crash.message) if crash else ""))
    if results:
        terminalreporter.section("summary")
        for line in table(results):
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def prediction(request: pytest.FixtureRequest) -> Prediction:
    """Return the prediction that runs beside the tests."""
    return request.config.stash[RUN]


@pytest.fixture(scope="session")
def descriptions(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """Map each host to what the inventory says of it; playbooks/describe.yml writes it."""
    inventory = request.config.option.ansible_inventory or ROOT / "inventory" / "demo"
    folder = tmp_path_factory.mktemp("describe")
    command = ["ansible-playbook", "-i", inventory, ROOT / "playbooks" / "describe.yml"]
    result = subprocess.run(
        [*map(str, command), "-e", json.dumps({"describe_dir": str(folder)})],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


@pytest.fixture(scope="module")
def deployed(host: Host, descriptions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the description of the host under test."""
    return descriptions[host.backend.host]


@pytest.fixture(scope="module")
def address(host: Host, deployed: dict[str, Any]) -> str:
    """Return the address at which the host is reached from here: a container's own, or the inventory's."""
    if "docker" in deployed["connection"]:
        return host.check_output("hostname -I").split()[0]
    return deployed["address"]


@pytest.fixture(scope="module")
def probe(sites: list[Site]) -> Site:
    """Return the probe project's site, of the `sites` that the test's own module takes."""
    found = next((site for site in sites if site.is_probe), None)
    if found is None:
        pytest.skip("the probe project is not on this host")
    return found


def journal(host: Host, unit: str, lines: int = 30) -> str:
    """Return the last lines of a unit's journal, for the message of a failing test."""
    return host.run(
        "journalctl --no-pager --output=short-iso --lines=%s --unit=%s", str(lines), unit
    ).stdout
