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

from tests.behaviour.sites import Site, web_sites
from tests.report.plugin import Descriptions, Recorder
from tests.report.record import UNSEEN

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

    def ended(self) -> str | None:
        """Return the output of a run that came to its end by itself, None of any other."""
        code = self.run.poll()
        return self.result()[1] if code is not None and code >= 0 else None

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
RECORDER = pytest.StashKey[Recorder]()
DESCRIBED = pytest.StashKey[Descriptions]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the option that asks for a report."""
    parser.getgroup("switchboard").addoption(
        "--verify-report",
        metavar="DIR",
        type=Path,
        help="look at each host beside the tests, and write DIR/report.json and DIR/report.html",
    )
    parser.getgroup("switchboard").addoption(
        "--verify-name", metavar="NAME", help="what the report calls the inventory"
    )


def inventory_of(config: pytest.Config) -> str:
    """Return the path of the inventory whose hosts are tested."""
    return config.option.ansible_inventory or str(ROOT / "inventory" / "demo")


def pytest_configure(config: pytest.Config) -> None:
    """Begin the record of the run."""
    name = config.option.verify_name or inventory_of(config)
    recorder = Recorder(name, config.option.verify_report)
    config.stash[RECORDER] = recorder
    config.pluginmanager.register(recorder)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin the prediction where a test will look at it, and look at the hosts where a report is wanted."""
    config = session.config
    if config.option.collectonly:
        return
    wanted = any("prediction" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted and "MOLECULE_SCENARIO_NAME" not in os.environ:
        config.stash[RUN] = Prediction(inventory_of(config))
    recorder = config.stash[RECORDER]
    try:
        recorder.begin(session.items, lambda: describe(config))
    except UndescribedError as error:
        recorder.trouble = str(error)
    if recorder.trouble:
        pytest.exit("there is nothing to look at", returncode=UNSEEN)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Ask nothing of a host that could not be reached: each test would wait for it anew."""
    if heard := item.config.stash[RECORDER].unreached(item):
        pytest.skip(f"the host could not be reached: {heard}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End a run that nobody waited for."""
    prediction = session.config.stash.get(RUN, None)
    if prediction:
        prediction.stop()
    recorder = session.config.stash[RECORDER]
    recorder.finish(prediction.ended() if prediction else None)
    if recorder.code == UNSEEN:
        session.exitstatus = UNSEEN


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one table what was looked at on which host, what fell short, and what to do."""
    lines = terminalreporter.config.stash[RECORDER].lines()
    if lines:
        terminalreporter.section("summary")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def prediction(request: pytest.FixtureRequest) -> Prediction:
    """Return the prediction that runs beside the tests."""
    return request.config.stash[RUN]


class UndescribedError(Exception):
    """The inventory says nothing that can be understood; the message is Ansible's."""


def describe(config: pytest.Config) -> Descriptions:
    """Map each host to what the inventory says of it; playbooks/describe.yml writes it, once a session.

    Raises:
        UndescribedError: the playbook failed.
    """
    if DESCRIBED not in config.stash:
        with tempfile.TemporaryDirectory() as folder:
            command = ["ansible-playbook", "-i", inventory_of(config), "playbooks/describe.yml"]
            result = subprocess.run(
                [*command, "-e", json.dumps({"describe_dir": folder})],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            if result.returncode:
                raise UndescribedError(result.stdout[-4000:] + result.stderr[-4000:])
            config.stash[DESCRIBED] = {
                path.stem: json.loads(path.read_text()) for path in Path(folder).glob("*.json")
            }
    return config.stash[DESCRIBED]


@pytest.fixture(scope="session")
def descriptions(request: pytest.FixtureRequest) -> Descriptions:
    """Map each host to what the inventory says of it."""
    return describe(request.config)


@pytest.fixture(scope="module")
def deployed(host: Host, descriptions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the description of the host under test, a web host's with that of the balancer before it."""
    found = descriptions[host.backend.host]
    for name in found.get("balancers", [])[:1]:
        balancer = descriptions[name]
        docker = "docker" in balancer["connection"]
        address = balancer["private_address" if docker else "address"]
        found = {
            **found,
            "certificates": balancer["certificates"],
            "loadbalancer": {**balancer["loadbalancer"], "address": address},
        }
    return found


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
        "journalctl --sync; journalctl --no-pager --output=short-iso --lines=%s --unit=%s",
        str(lines),
        unit,
    ).stdout


def main_pid(host: Host, unit: str) -> str:
    """Return the number of a unit's main process, 0 where there is none."""
    return host.check_output("systemctl show --property=MainPID --value %s", unit)


def comes_back_after_a_kill(host: Host, unit: str, seconds: int = 120) -> None:
    """Kill a unit's main process; systemd starts another.

    A unit is active for as long as systemd has not heard of the death, so the process says more than the state.
    """
    before = main_pid(host, unit)
    host.check_output("kill -9 %s", before)
    wait = (
        "for i in $(seq %s); do systemctl is-active --quiet %s && "
        "pid=$(systemctl show --property=MainPID --value %s) && "
        'test "$pid" != 0 && test "$pid" != %s && exit; sleep 0.5; done; exit 1'
    )
    assert host.run(wait, str(2 * seconds), unit, unit, before).rc == 0, journal(host, unit)
    assert main_pid(host, unit) not in ("0", before), journal(host, unit)


@pytest.fixture(scope="module")
def chat(deployed: dict[str, Any], address: str) -> Site:
    """Return the site of the chat project (tests/projects/chat)."""
    found = next(
        (site for site in web_sites(deployed, address) if site.name == "lecture-chat"), None
    )
    if found is None:
        pytest.skip("the chat project is not on this host")
    return found
