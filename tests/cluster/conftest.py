"""The hosts of a scenario with a cluster together, and a client that writes while something happens to them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.refusals.bench import Together
from tools.common import ROOT, environment

CLIENT = Path(__file__).parent / "client.py"
RECORDS = Path(__file__).parent / "records.py"
# What a broker says of its cluster, asked on its host.
KAFKA = """
import json, sys
sys.path.insert(0, "/usr/local/lib/switchboard")
from kafka_client import Connection, login_of
with Connection(sys.argv[1] + ":9092", login_of("/etc/kafka/admin.properties"), 20) as connection:
    told = connection.layout(all_topics=True)
    if "process.roles=" in open("/etc/kafka/server.properties").read():
        told["controller"] = connection.quorum()[0]
    slowed = connection.settings(list(told["topics"]), "follower.replication.throttled.replicas")
topics = told["topics"]
behind = [name for name, parts in topics.items() if any(l < 0 or len(s) < len(r) for l, r, s in parts.values())]
leaders = {str(number): l for number, (l, r, s) in sorted(topics.get("tests.records", {}).items())}
found = {"brokers": sorted(told["brokers"]), "controller": told["controller"], "behind": behind}
found["replicas"] = {name: [r for _, (l, r, s) in sorted(parts.items())] for name, parts in topics.items()}
print(json.dumps({**found, "leaders": leaders, "slowed": [name for name in slowed if slowed[name]]}))
"""
TOPIC = "tests.records"
# Seconds without an acknowledgement that a producer may see while a partition, or the cluster, has nobody who leads.
OUTAGE = 60
PEERS = "/etc/switchboard/certificates/peers"
ASK = """
import socket, sys
with socket.create_connection(("127.0.0.1", 2181), 5) as connection:
    connection.sendall(sys.argv[1].encode())
    answer = b""
    while piece := connection.recv(4096):
        answer += piece
print(answer.decode())
"""
QUORUM = "kafka-metadata-quorum.sh --command-config /etc/kafka/admin.properties --bootstrap-server"
STARTED = "systemctl show --property=ExecMainStartTimestampMonotonic --value"


@dataclass
class Written:
    """What a client that writes was told, once it has ended."""

    folder: str
    told: dict[str, Any] = field(default_factory=dict)


@dataclass
class Cluster(Together):
    """Some hosts in containers, by the inventory's names, with their private addresses."""

    users: dict[str, str]  # of ZooKeeper; there are none without it
    kafka_users: dict[str, str] = field(default_factory=dict)

    def modes(self) -> dict[str, str]:
        """Return what each server says that it is, an empty text where it serves nobody."""
        found = {}
        for name in self.addresses:
            said = self.run(name, "python3", "-c", ASK, "srvr").stdout
            found[name] = said.partition("Mode: ")[2].partition("\n")[0]
        return found

    def leader(self) -> str:
        """Return the leader, for whom this waits."""
        return next(name for name, mode in self.whole().items() if mode == "leader")

    def whole(self, seconds: float = 60) -> dict[str, str]:
        """Wait until one server leads and the others follow, and return what each is."""
        end = time.monotonic() + seconds
        while sorted((modes := self.modes()).values()) != ["follower", "follower", "leader"]:
            assert time.monotonic() < end, modes
            time.sleep(0.5)  # between two looks; the assertion above ends them
        return modes

    def started(self, unit: str = "zookeeper") -> dict[str, int]:
        """Return when each server was started, in microseconds by the machine's one clock."""
        command = [*STARTED.split(), f"{unit}.service"]
        return {name: int(self.output(name, *command)) for name in self.addresses}

    def brokers(self) -> dict[str, Any]:
        """Return what each broker says of the cluster; ``said`` where it does not."""
        found = {}
        for name, address in self.addresses.items():
            done = self.run(name, "python3", "-c", KAFKA, address)
            found[name] = (
                json.loads(done.stdout) if done.returncode == 0 else {"said": done.stderr[-300:]}
            )
        return found

    def in_sync(self, seconds: float = 120) -> dict[str, Any]:
        """Wait until all brokers tell the same of a cluster that lacks nothing, and return that."""
        end = time.monotonic() + seconds
        while True:
            first, *others = self.brokers().values()
            good = (
                first.get("brokers") == list(range(1, len(self.addresses) + 1))
                and not first["behind"]
                and first["controller"] > 0
            )
            if good and all(other == first for other in others):
                return dict(first)
            assert time.monotonic() < end, [first, *others]
            time.sleep(0.5)  # between two looks; the assertion above ends them

    def controllers(self) -> list[int]:
        """Return the brokers that have a say in who leads (KRaft), as Kafka's own tool tells it."""
        name, address = next(iter(self.addresses.items()))
        said = self.output(name, *QUORUM.split(), f"{address}:9092", "describe", "--replication")
        rows = [line.split() for line in said.splitlines()[1:]]
        return sorted(int(row[0]) for row in rows if row[-1] in ("Leader", "Follower"))

    def swap(self, away: str, back: str) -> None:
        """Kill all brokers, put their data aside under one name, and take those of another, if there are any."""
        for name in self.addresses:
            # the last ones of a quorum that is gone would wait for it
            self.output(name, "systemctl", "kill", "--signal=KILL", "kafka.service")
            self.output(name, "systemctl", "stop", "kafka.service")
            swap = f"cd /var/lib/kafka; mv data {away}; mv {back} data || true"
            self.output(name, "sh", "-c", swap)

    @property
    def brokers_at(self) -> str:
        """Return how a client is told of all brokers."""
        return ",".join(f"{address}:9092" for address in self.addresses.values())

    def named(self, number: int) -> str:
        """Return the host of a broker."""
        return list(self.addresses)[number - 1]

    @contextmanager
    def sending(self, name: str = "", topic: str = TOPIC) -> Iterator[Written]:
        """Let producers on a host, the first one, send meanwhile; what became of the records is there at the end."""
        name = name or next(iter(self.addresses))
        command = ["docker", "exec", "-i", name, "python3", "/root/records.py"]
        command += [self.brokers_at, "tests", self.kafka_users["tests"], topic]
        sent, pipe = Written(topic), subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
            assert process.stdout
            assert process.stdout.readline() == "begun\n"
            yield sent
            said, _ = process.communicate(timeout=240)
        assert process.returncode == 0
        sent.told = json.loads(said.splitlines()[-1])

    @property
    def servers(self) -> str:
        """Return how a client is told of all servers."""
        return ",".join(f"{address}:2281" for address in self.addresses.values())

    def client(self, job: str, folder: str, *, servers: str = "", user: str = "tests") -> Any:
        """Let a client on the first host do something; return what it says."""
        word = self.users.get(user, "a-wrong-password")
        command = ["python3", "/root/client.py", servers or self.servers, user, word, job, folder]
        return json.loads(self.output(next(iter(self.addresses)), *command).splitlines()[-1])

    @contextmanager
    def writing(self, folder: str) -> Iterator[Written]:
        """Let a client write meanwhile; what it was told is there at the end."""
        command = ["docker", "exec", "-i", next(iter(self.addresses)), "python3", "/root/client.py"]
        command += [self.servers, "tests", self.users["tests"], "write", folder]
        written = Written(folder)
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
            yield written
            said, _ = process.communicate(timeout=180)
        written.told = json.loads(said.splitlines()[-1])

    def lost(self, written: Written) -> list[int]:
        """Return what was acknowledged and is not there."""
        assert written.told["acknowledged"] > 100, written.told
        there = set(self.client("read", written.folder))
        return sorted(set(range(1, written.told["acknowledged"] + 1)) - there)


def judged(what: str, sent: Written, outage: float = OUTAGE) -> dict[str, Any]:
    """Say what a fault came to, in one line, and assert that nothing was lost."""
    told = sent.told
    line = (
        f"{what}: {told['acknowledged']} acknowledged, {len(told['lost'])} lost, {told['doubled']} doubled, "
        f"{sum(told['failed'].values())} failed, longest pause {told['longest']} s"
    )
    print(f"\n{line}")
    assert told["acknowledged"] > 100, line
    assert told["lost"] == [], line
    assert told["longest"] < outage, line
    return told


def rolled(cluster: Cluster, before: dict[str, int]) -> list[str]:
    """Return the hosts in the order in which their brokers were started; each must have been since."""
    after = cluster.started("kafka")
    assert all(after[name] > before[name] for name in after), (before, after)
    return sorted(after, key=lambda name: after[name])


def killed(cluster: Cluster, command: list[str], begun: Callable[[], bool]) -> None:
    """Run a playbook, and kill the run with all of its processes once something has begun."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        ["ansible-playbook", "-i", cluster.inventory, *command],
        cwd=ROOT,
        env=environment(),
        stdout=quiet,
        stderr=quiet,
        start_new_session=True,
    ) as process:
        end = time.monotonic() + 300
        while not begun():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.5)  # until it begins; the assertion ends it
        os.killpg(process.pid, 9)


def arguments_and_journal(cluster: Cluster, name: str, unit: str) -> str:
    """Return the arguments of all processes of a host, and what a unit has written into the journal."""
    arguments = cluster.output(name, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    return arguments + cluster.output(name, "journalctl", "--no-pager", f"--unit={unit}")


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """Return the hosts, with a client on the first of them."""
    inventory = request.config.option.ansible_inventory
    text = (Path(inventory) / "cluster.yml").read_text(encoding="utf-8")  # the scenario's hosts.yml
    group = yaml.safe_load(text)["switchboard"]
    addresses = {name: told["switchboard_address"] for name, told in group["hosts"].items()}
    users = {user["name"]: user["password"] for user in group["vars"]["kafka_users"]}
    found = Cluster(inventory, addresses, group["vars"].get("zookeeper_users", {}), users)
    if found.users:
        install = "apt-get -qq install -y --no-install-recommends python3-kazoo"
        found.output(next(iter(addresses)), *install.split())
    for path in (CLIENT, RECORDS):
        for name in addresses:
            copy = ["docker", "cp", "-q", str(path), f"{name}:/root/"]
            subprocess.run(copy, check=True, capture_output=True)
    return found
