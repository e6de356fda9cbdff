"""inventory/cluster as it stands, on seven servers, with people on the site while servers are lost."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.live.people import Target
from tests.live.traffic import Rates, Traffic
from tests.whole.conftest import PASSWORD, Cluster, changes
from tools.bench import Host
from tools.common import ROOT, environment, run

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


def test_one_command_sets_all_of_them_up(cluster: Cluster) -> None:
    done = cluster.play("site.yml")
    assert done.code == 0, done.output[-4000:]


def test_the_next_run_changes_nothing(cluster: Cluster) -> None:
    done = cluster.play("site.yml")
    assert done.code == 0, done.output[-4000:]
    assert set(changes(done).values()) == {0}, done.output[-4000:]


@pytest.mark.parametrize("name", FAULTS)
def test_what_was_changed_is_heard_of_on_every_page(cluster: Cluster, name: str) -> None:
    fault = FAULTS[name]
    host = cluster.hosts[fault.server]
    traffic = Traffic(Target(cluster.address, 80, cluster.address), PASSWORD, RATES)
    traffic.start()
    try:
        time.sleep(AROUND)
        fault.begin(host)
        time.sleep(AROUND)
    finally:
        fault.end(host)
    time.sleep(AROUND)
    result = traffic.stop()
    print(f"{name}: {len(traffic.answers)} pages, {len(traffic.failures)} refused, {result}")
    assert result.right, result
    assert len(traffic.failures) <= fault.refused, traffic.failures[:10]


def test_make_verify_is_content_with_them(cluster: Cluster) -> None:
    command = ["make", "--no-print-directory", "verify", f"INVENTORY={cluster.folder}"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
