"""From one server to inventory/cluster as it stands, then with people on the site while servers are lost."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.live.people import Person
from tests.live.traffic import NAMES, Rates, Traffic
from tests.whole.conftest import PASSWORD, Cluster, changes
from tools.bench import Host
from tools.common import ROOT, environment, run

SITE = "graphspace"
RATES = Rates(pages=10, slow=0.1, seconds=1, sockets=30, changes=3)
AROUND = 15.0  # seconds of traffic before a fault, with it, and after it


def unit(action: str, name: str) -> Callable[[Host], object]:
    """Return what does something with a unit of a host."""
    return lambda host: host.shell(f"sudo systemctl {action} {name}")


def docker(action: str) -> Callable[[Host], object]:
    """Return what does something with a whole host."""
    return lambda host: run(["docker", action, host.name])


def nothing(host: Host) -> None:
    """systemd starts it again."""


@dataclass(frozen=True)
class Fault:
    """What happens to one server, and what ends it."""

    server: str
    begin: Callable[[Host], object]
    end: Callable[[Host], object]
    refused: int  # requests at most that no visitor gets an answer to


FAULTS = {
    "a broker is killed": Fault("broker1", unit("kill -s KILL", "kafka"), nothing, 0),
    "a server of ZooKeeper is killed": Fault(
        "broker2", unit("kill -s KILL", "zookeeper"), nothing, 0
    ),
    "a broker's server hangs": Fault("broker3", docker("pause"), docker("unpause"), 0),
    "a web host's Apache stops": Fault(
        "web1", unit("stop", "apache2"), unit("start", "apache2"), 5
    ),
    "a web host hangs": Fault("web2", docker("pause"), docker("unpause"), 100),
}


@contextmanager
def people(cluster: Cluster, server: str, refused: int | None) -> Iterator[None]:
    """Let people use the site; each page has to show what was changed, once.

    Args:
        cluster: the hosts.
        server: the one that visitors come in by.
        refused: how many requests at most get no answer; None where the site is closed meanwhile.
    """
    traffic = Traffic(cluster.target(server), PASSWORD, RATES)
    traffic.start()
    try:
        yield
        time.sleep(AROUND)  # of traffic when all is over
    finally:
        result = traffic.stop()
        print(f"{len(traffic.answers)} pages, {len(traffic.failures)} refused, {result}")
    assert result.right, result
    assert refused is None or len(traffic.failures) <= refused, traffic.failures[:10]


def listed(cluster: Cluster, server: str) -> dict[str, list[Any]]:
    """Return what each person was told since the beginning."""

    async def ask() -> dict[str, list[Any]]:
        found = {}
        for name in NAMES:
            person = await Person.sign_in(cluster.target(server), name, PASSWORD)
            found[name] = (await person.listed(0))[0]
            await person.close()
        return found

    return asyncio.run(ask())


def test_one_server_has_everything(cluster: Cluster) -> None:
    cluster.write("one")
    cluster.good("site.yml")
    with people(cluster, "web1", 0):
        pass


def test_its_rows_move_to_a_server_of_their_own(cluster: Cluster) -> None:
    cluster.write("rows")
    cluster.good("site.yml", "--limit", "database1")
    before = listed(cluster, "web1")
    assert before["ada"]
    with people(cluster, "web1", None):
        cluster.good("playbooks/move_database.yml", "-e", f"site={SITE}")
    after = listed(cluster, "web1")
    assert {name: after[name][: len(told)] for name, told in before.items()} == before


def test_its_bus_becomes_three_servers(cluster: Cluster) -> None:
    cluster.write("bus")
    with people(cluster, "web1", 0):
        cluster.good("site.yml")
    cluster.hosts["web1"].shell("sudo systemctl disable --now kafka zookeeper")
    with people(cluster, "web1", 0):
        pass


def test_a_second_web_host_and_a_balancer_come(cluster: Cluster) -> None:
    before = listed(cluster, "web1")
    cluster.write("all")
    cluster.good("site.yml")
    assert listed(cluster, "balancer1") == before


def test_the_next_run_changes_nothing(cluster: Cluster) -> None:
    done = cluster.good("site.yml")
    assert set(changes(done).values()) == {0}, done.output[-4000:]


@pytest.mark.parametrize("name", FAULTS)
def test_what_was_changed_is_heard_of_on_every_page(cluster: Cluster, name: str) -> None:
    fault = FAULTS[name]
    host = cluster.hosts[fault.server]
    with people(cluster, "balancer1", fault.refused):
        time.sleep(AROUND)  # of traffic before it
        fault.begin(host)
        try:
            time.sleep(AROUND)  # of traffic with it
        finally:
            fault.end(host)


def test_make_verify_is_content_with_them(cluster: Cluster) -> None:
    command = ["make", "--no-print-directory", "verify", f"INVENTORY={cluster.folder}"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
