"""An ensemble of ZooKeeper on three hosts: who gets in, and what is lost when a server goes away. Nothing is."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.cluster.conftest import OUTAGE, Cluster, arguments_and_journal
from tests.cluster.conftest import PEERS as ALL_PEERS
from tools.common import image_name

PEERS = f"{ALL_PEERS}/zookeeper"
# What an attempt with TLS comes to: "imok" where the server answers, else the error; of address, port, what is shown.
TLS = f"""
import socket, ssl, sys
address, port, shown = sys.argv[1:]
context = ssl.create_default_context(cafile="{PEERS}/ca.pem")
if shown != "nothing":
    context.load_cert_chain("{PEERS}/keystore.pem" if shown == "own" else "/root/foreign.pem")
try:
    with socket.create_connection((address, int(port)), 10) as plain:
        with context.wrap_socket(plain, server_hostname=address) as connection:
            connection.sendall(b"ruok")
            print(connection.recv(100).decode() or "closed")
except OSError as error:
    print(type(error).__name__, error)
"""
PLAIN = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as connection:
    connection.sendall(b"ruok")
    try:
        print(connection.recv(100))
    except OSError as error:
        print(type(error).__name__)
"""
FOREIGN = """
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=stranger \\
  -keyout /root/foreign.key -out /root/foreign.crt 2>/dev/null
cat /root/foreign.key /root/foreign.crt > /root/foreign.pem
"""
# Which ports of an address let somebody connect.
PORTS = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor
def open_(port):
    try:
        socket.create_connection((sys.argv[1], port), 2).close()
    except OSError:
        return None
    return port
ports = [21, 22, 23, 25, 53, 80, 111, 443, 2049, 2181, 2281, 2888, 3888, 5432, 6379, 7000, 8080, 9090, 9092, 9093, 9100]
with ThreadPoolExecutor(len(ports)) as pool:
    print([port for port in pool.map(open_, ports) if port])
"""
STRANGER = "switchboard-cluster-stranger"


@pytest.fixture(scope="module", autouse=True)
def ensemble(cluster: Cluster) -> None:
    """Leave out what asks ZooKeeper, where the brokers do without it."""
    if not cluster.users:
        pytest.skip("kafka_mode is kraft: there is no ZooKeeper")


@pytest.fixture(scope="module")
def foreign(cluster: Cluster) -> None:
    """A certificate that no CA of the cluster signed, on the first host."""
    cluster.output(next(iter(cluster.addresses)), "sh", "-c", FOREIGN)


def test_one_server_leads_and_the_others_follow(cluster: Cluster) -> None:
    cluster.whole()


def test_each_server_has_the_number_that_the_others_know_it_by(cluster: Cluster) -> None:
    for name, address in cluster.addresses.items():
        config = cluster.output(name, "cat", "/etc/zookeeper/zoo.cfg")
        number = cluster.output(name, "cat", "/var/lib/zookeeper/data/myid")
        assert f"server.{number}={address}:2888:3888" in config.splitlines()


@pytest.mark.parametrize(
    ("shown", "answer"),
    [("own", "imok"), ("nothing", "SSLError"), ("foreign", "SSLError")],
)
def test_a_client_shows_a_certificate_of_the_cluster(
    cluster: Cluster, foreign: None, shown: str, answer: str
) -> None:
    first, *others = cluster.addresses
    for name in others:
        said = cluster.output(first, "python3", "-c", TLS, cluster.addresses[name], "2281", shown)
        assert answer in said, f"{name}: {said}"
        assert shown == "own" or "imok" not in said


def test_nobody_is_a_server_without_a_certificate(cluster: Cluster, foreign: None) -> None:
    first, *others = cluster.addresses
    leader = cluster.leader()
    doors = [(name, "3888") for name in others] + [(leader, "2888")]
    for name, port in doors:
        for shown in ("nothing", "foreign"):
            said = cluster.output(first, "python3", "-c", TLS, cluster.addresses[name], port, shown)
            assert re.match("SSL|Connection|TimeoutError", said), f"{name}:{port} {shown}: {said}"


def test_nothing_is_said_without_tls(cluster: Cluster) -> None:
    first, *others = cluster.addresses
    for name in others:
        said = cluster.output(first, "python3", "-c", PLAIN, cluster.addresses[name], "2281")
        assert "imok" not in said


@pytest.mark.parametrize("way", ["tls", "loopback"])
@pytest.mark.parametrize("user", ["-", "stranger"])
def test_without_the_password_nobody_reads_or_writes(cluster: Cluster, user: str, way: str) -> None:
    servers = "127.0.0.1:2181" if way == "loopback" else ""
    said = cluster.client("try", f"/stolen-{user}", servers=servers, user=user)
    assert "done" not in said.values(), said
    assert cluster.client("try", "/tests", servers=servers) == {"write": "done", "read": "done"}


def test_the_passwords_are_for_zookeeper_alone(cluster: Cluster) -> None:
    for name in cluster.addresses:
        for path in ("/etc/zookeeper/jaas.conf", f"{PEERS}/privkey.pem", f"{PEERS}/keystore.pem"):
            assert cluster.output(name, "stat", "-c", "%U:%G %a", path) == "root:zookeeper 640"
        told = arguments_and_journal(cluster, name, "zookeeper.service")
        for password in cluster.users.values():
            assert password not in told


@pytest.fixture
def stranger(cluster: Cluster) -> Iterator[str]:
    """A machine on the same network that is in no inventory."""
    remove = ["docker", "rm", "--force", STRANGER]
    subprocess.run(remove, check=False, capture_output=True)
    command = ["docker", "run", "--detach", "--rm", "--name", STRANGER, "--network"]
    command += ["switchboard-test", image_name("13"), "sleep", "300"]
    subprocess.run(command, check=True, capture_output=True)
    yield STRANGER
    subprocess.run(remove, check=False, capture_output=True)


def test_a_stranger_on_the_network_reaches_ssh_alone(cluster: Cluster, stranger: str) -> None:
    first, second, _ = cluster.addresses
    for address in cluster.addresses.values():
        assert cluster.output(stranger, "python3", "-c", PORTS, address) in ("[]", "[22]")
    reached = cluster.output(second, "python3", "-c", PORTS, cluster.addresses[first])
    assert {2281, 3888} <= set(map(int, re.findall(r"\d+", reached)))


def test_zookeeper_may_write_nothing_that_root_runs(cluster: Cluster) -> None:
    """Beside its data and its package's log folder there is nothing that its user could change."""
    find = (
        "find / -xdev ( -path /proc -o -path /sys -o -path /var/lib/zookeeper -o -path /var/log/zookeeper ) -prune"
        " -o ! -type l ! -perm -1002 -writable -print"
    )
    for name in cluster.addresses:
        found = cluster.run(name, "runuser", "-u", "zookeeper", "--", *find.split()).stdout
        assert [path for path in found.split() if not path.startswith("/dev/")] == []
        data = cluster.output(
            name, "find", "/var/lib/zookeeper", "/var/log/zookeeper", "-perm", "/111", "-type", "f"
        )
        assert data == ""


def rolled(cluster: Cluster, before: dict[str, int]) -> list[str]:
    """Return the hosts in the order in which their servers were started; each must have been since."""
    after = cluster.started()
    assert all(after[name] > before[name] for name in after)
    return sorted(after, key=lambda name: after[name])


@pytest.mark.parametrize(
    ("playbook", "changed"),
    [
        pytest.param("restart", {}, marks=pytest.mark.soak),
        ("messaging", {"zookeeper_max_client_cnxns": 61}),
    ],
)
def test_servers_restart_one_by_one_and_no_acknowledged_write_is_lost(
    cluster: Cluster, playbook: str, changed: dict[str, int]
) -> None:
    leader, before = cluster.leader(), cluster.started()
    with cluster.writing(f"/tests/{playbook}") as written:
        run = cluster.play(playbook, *(["--tags", "zookeeper"] if not changed else []), **changed)
    assert run.code == 0, run.output[-4000:]
    assert rolled(cluster, before)[-1] == leader
    cluster.whole(1)
    assert cluster.lost(written) == []
    assert written.told["longest"] < OUTAGE


def test_a_leader_that_is_killed_is_replaced_and_nothing_is_lost(cluster: Cluster) -> None:
    leader = cluster.leader()
    with cluster.writing("/tests/killed") as written:
        time.sleep(3)  # of writing, before and after
        cluster.output(leader, "systemctl", "kill", "--signal=KILL", "zookeeper.service")
        end = time.monotonic() + OUTAGE
        while leader == next(
            (name for name, mode in cluster.modes().items() if mode == "leader"), leader
        ):
            assert time.monotonic() < end, cluster.modes()
        time.sleep(5)  # of writing under the new one
    assert cluster.lost(written) == []
    assert written.told["longest"] < OUTAGE
    assert cluster.whole()[leader] == "follower"


@pytest.mark.soak
def test_no_roll_begins_while_a_server_is_away(cluster: Cluster) -> None:
    cluster.whole()
    away = next(name for name, mode in cluster.modes().items() if mode == "follower")
    cluster.output(away, "systemctl", "stop", "zookeeper.service")
    try:
        before = cluster.started()
        run = cluster.play("restart", "--tags", "zookeeper")
        assert run.code != 0
        run.says(f"the ensemble is not whole ({away}: " if away.endswith("1") else f"{away}: ")
        assert cluster.started() == before
        alone = cluster.play(
            "restart",
            "--limit",
            next(name for name, mode in cluster.modes().items() if mode == "leader"),
        )
        assert alone.code != 0
        alone.says("1 of these 3 servers are in this run", "Run it without --limit")
        assert cluster.started() == before
    finally:
        cluster.output(away, "systemctl", "start", "zookeeper.service")
    cluster.whole()


@pytest.mark.soak
def test_a_server_that_does_not_come_back_ends_the_roll(cluster: Cluster) -> None:
    """The first one restarts with a configuration that it refuses; the others are not touched."""
    leader, before = cluster.leader(), cluster.started()
    run = cluster.play("messaging", zookeeper_java_options=["-XX:NoSuchOption"])
    assert run.code != 0
    after = cluster.started()
    touched = [name for name in after if after[name] != before[name]]
    assert len(touched) == 1
    assert touched != [leader]
    assert sorted(cluster.modes().values()) == ["", "follower", "leader"]
    whole = cluster.play("messaging")
    assert whole.code == 0, whole.output[-4000:]
    cluster.whole()
