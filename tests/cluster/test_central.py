"""One Prometheus for several hosts: it has the numbers of all that are watched, and answers those alone who may ask."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.alerts.dashboards import FACTS, blank, wanted
from tests.cluster.conftest import Cluster, arguments_and_journal

CENTRAL, SENDER, UNWATCHED = (f"switchboard-cluster-{number}" for number in (1, 2, 3))
UNIT = "switchboard-monitoring-central"
PORT = 9095
CA = "/etc/switchboard/certificates/peers/ca.pem"
FILES = "/etc/prometheus/switchboard"


def until(look: Callable[[], bool], told: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something holds; a test that waits in vain says what it saw."""
    end = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < end, told()
        time.sleep(0.5)  # between two looks; the assertion above ends them


@dataclass
class Central:
    """The Prometheus that hears of others, asked from a host that is watched."""

    cluster: Cluster
    reader: str
    hosts: str

    @property
    def url(self) -> str:
        """Return where it is."""
        return f"https://{self.cluster.addresses[CENTRAL]}:{PORT}"

    def curl(self, *words: str, name: str = SENDER, path: str = "/api/v1/query?query=up") -> str:
        """Return the status that somebody gets, or curl's exit code after a zero (curl(1))."""
        command = ["curl", "-s", "-o", "/dev/null", "--connect-timeout", "3", "-w", "%{http_code}"]
        done = self.cluster.run(name, *command, *words, f"{self.url}{path}")
        return str(done.stdout if done.returncode == 0 else f"0 {done.returncode}")

    def ask(self, path: str) -> Any:
        """Return what it answers the reader."""
        words = ("curl", "-sS", "-g", "--fail", "--cacert", CA, "-u", f"reader:{self.reader}")
        return json.loads(self.cluster.output(SENDER, *words, f"{self.url}/api/v1/{path}"))["data"]

    def own(self, name: str) -> Callable[[str], Any]:
        """Return what asks a host's own Prometheus."""

        def ask(path: str) -> Any:
            words = ("curl", "-sS", "-g", "--fail", f"http://127.0.0.1:9090/api/v1/{path}")
            return json.loads(self.cluster.output(name, *words))["data"]

        return ask

    def hosts_with(self, query: str) -> set[str]:
        """Return the hosts of which it has something."""
        return {one["metric"]["host"] for one in self.ask(f"query?query={quote(query)}")["result"]}


@pytest.fixture(scope="module")
def central(cluster: Cluster) -> Central:
    """Return the one of the first host, with the passwords that the run has made."""
    if CENTRAL not in cluster.addresses:
        pytest.skip("the scenario kraft-cluster has nobody who hears of others")
    folder = Path(cluster.inventory) / ".private" / "secrets"
    words = [(folder / f"monitoring-{user}").read_text().strip() for user in ("reader", "hosts")]
    return Central(cluster, *words)


def test_it_has_the_numbers_of_each_host_that_is_watched(central: Central) -> None:
    some = ("up", "node_load1", "switchboard_kafka_up == 1", "switchboard_unit_memory_bytes")

    def told() -> dict[str, set[str]]:
        return {query: central.hosts_with(query) for query in some}

    until(lambda: told() == {query: {CENTRAL, SENDER} for query in some}, told)


def test_nobody_gets_in_without_the_password(central: Central) -> None:
    trust = ("--cacert", CA)
    assert central.curl(*trust, "-u", f"reader:{central.reader}") == "200"
    assert central.curl(*trust) == "401"
    assert central.curl(*trust, "-u", "reader:of-somebody-else") == "401"
    assert central.curl(*trust, "-u", f"reader:{central.hosts}") == "401"
    for path in ("/metrics", "/api/v1/write", "/consoles/switchboard.html", "/-/healthy"):
        assert central.curl(*trust, path=path) == "401", path
    assert (
        central.curl("-u", f"reader:{central.reader}") == "0 60"
    )  # a CA that the system does not know


def test_it_is_reached_by_hosts_that_are_watched_alone(central: Central) -> None:
    log_in = ("--cacert", CA, "-u", f"reader:{central.reader}")
    assert central.curl(*log_in, name=UNWATCHED) == "0 28"  # nobody answers
    told = central.cluster.output(CENTRAL, "ss", "-Hltn", f"sport = :{PORT}")
    assert [line.split()[3] for line in told.splitlines()] == [
        f"{central.cluster.addresses[CENTRAL]}:{PORT}"
    ]
    assert central.cluster.output(SENDER, "ss", "-Hltn", f"sport = :{PORT}") == ""


def test_the_passwords_are_told_to_nobody(central: Central) -> None:
    for name, unit in ((CENTRAL, UNIT), (CENTRAL, "prometheus"), (SENDER, "prometheus")):
        told = arguments_and_journal(central.cluster, name, unit)
        assert central.hosts not in told
        assert central.reader not in told
    for name, files in (
        (CENTRAL, ["central-web.yml", "central.password"]),
        (SENDER, ["central.password"]),
        (UNWATCHED, []),
    ):
        find = ("find", "/etc", "-name", "central*", "-path", f"{FILES}/*", "!", "-name", "*l.yml")
        found = central.cluster.output(name, *find, "-printf", "%f %m %u:%g\\n").splitlines()
        assert sorted(found) == [f"{file} 640 root:prometheus" for file in files]
    assert central.reader not in central.cluster.output(CENTRAL, "cat", f"{FILES}/central-web.yml")


def test_what_it_missed_comes_later_and_an_alert_says_so(central: Central) -> None:
    ask, cluster = central.own(SENDER), central.cluster

    def late() -> list[Any]:
        told = ask("alerts")["alerts"]
        return [one for one in told if one["labels"]["alertname"] == "NumbersNotSent"]

    until(lambda: late() == [], late)
    cluster.output(CENTRAL, "systemctl", "stop", UNIT)
    began = time.time()
    try:
        until(lambda: any(one["state"] == "firing" for one in late()), late)
        ended = time.time()
    finally:
        cluster.output(CENTRAL, "systemctl", "start", UNIT)
    until(lambda: late() == [], late)
    missed = f'count_over_time(node_load1{{host="{SENDER}"}}[{int(ended - began)}s] @ {ended:.0f})'
    (found,) = central.ask(f"query?query={quote(missed)}")["result"]
    assert int(found["value"][1]) >= (ended - began) / 2 / 2  # every 2 s, and some of it


def test_each_panel_of_the_dashboards_has_an_answer(central: Central) -> None:
    told = central.cluster.output(SENDER, "python3", "-c", FACTS)
    panels = " ".join(wanted(central.own(SENDER), told))
    for panel in ("Processor", "Brokers", "Servers", "Partitions without a leader"):
        assert panel in panels

    def lacking() -> dict[str, str]:  # an alert that fires may end meanwhile
        return blank(central.ask, wanted(central.own(SENDER), told))

    until(lambda: not lacking(), lacking)
