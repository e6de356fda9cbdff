"""A cluster of Kafka on three hosts: who gets in, and what is lost when a broker goes away. Nothing is.

SWITCHBOARD_SOAK=1 takes the long forms too: a host that is cut off, two of three that stop, a run that is killed.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster.conftest import (
    PEERS,
    TOPIC,
    Cluster,
    arguments_and_journal,
    judged,
    killed,
    rolled,
)

# What each way in at each broker comes to: of users, a word each, and the brokers' addresses.
ENTRY = """
import json, socket, sys
sys.path.insert(0, "/usr/local/lib/switchboard")
from kafka_client import Connection, text
import struct
passwords, *brokers = json.load(sys.stdin)
CA = "/etc/switchboard/certificates/peers/ca.pem"

def login(name, password, mechanism="SCRAM-SHA-512", protocol="SASL_SSL"):
    return {"security.protocol": protocol, "ssl.ca.location": CA, "sasl.mechanism": mechanism,
            "sasl.username": name, "sasl.password": password}

ways = {
    "plain": {}, "nobody": {"security.protocol": "SSL", "ssl.ca.location": CA},
    "stranger": {"security.protocol": "SSL"},
    "wrong": login("tests", "x" * 40), "broker": login("broker", passwords["tests"], "PLAIN"),
    "without tls": login("tests", passwords["tests"], protocol="SASL_PLAINTEXT"),
    "other": login("other", passwords["other"]), "tests": login("tests", passwords["tests"]),
}
said = {}
for broker in brokers:
    for way, how in ways.items():
        try:
            with Connection(broker, how, 10) as connection:
                said.setdefault(way, []).append(sorted(connection.metadata(all_topics=True)["topics"]))
        except Exception as error:
            said.setdefault(way, []).append(type(error).__name__)
print(json.dumps(said))
"""
# Lets nothing through that is not the host's own, but for the rules in the way of whoever watches.
CUT = """
add table inet cut
add chain inet cut in { type filter hook input priority -300; policy drop; }
add chain inet cut out { type filter hook output priority -300; policy drop; }
add rule inet cut in iif lo accept
add rule inet cut out oif lo accept
"""


def test_one_broker_controls_and_all_replicas_are_in_sync(cluster: Cluster) -> None:
    cluster.in_sync()


def test_each_listener_refuses_who_has_no_password(cluster: Cluster) -> None:
    """Nobody, a wrong password and another's are refused at each broker, and a user sees its own topics alone."""
    brokers = [f"{address}:9092" for address in cluster.addresses.values()]
    command = ["docker", "exec", "-i", next(iter(cluster.addresses)), "python3", "-c", ENTRY]
    text = json.dumps([cluster.kafka_users, *brokers])
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said.pop("tests") == [["tests.records"]] * 3
    assert said.pop("other") == [[]] * 3
    assert said.pop("wrong") == said.pop("broker") == ["LoginRefused"] * 3
    assert said.pop("stranger") == ["SSLCertVerificationError"] * 3
    assert set(said) == {"plain", "nobody", "without tls"}
    for way, ends in said.items():
        assert all(isinstance(end, str) for end in ends), f"{way}: {ends}"


def test_a_user_writes_nothing_that_is_anothers(cluster: Cluster) -> None:
    first = next(iter(cluster.addresses))
    command = ["python3", "/root/records.py", cluster.brokers_at, "other"]
    said = cluster.output(first, *command, cluster.kafka_users["other"], TOPIC)
    told = json.loads(said.splitlines()[-1])
    assert (told["acknowledged"], list(told["failed"])) == (0, ["TOPIC_AUTHORIZATION_FAILED"])


def test_the_passwords_are_for_kafka_alone(cluster: Cluster) -> None:
    for name in cluster.addresses:
        files = ["jaas.conf", "admin.properties"]
        for path in [f"{PEERS}/kafka/privkey.pem", *(f"/etc/kafka/{file}" for file in files)]:
            assert cluster.output(name, "stat", "-c", "%U:%G %a", path) == "root:kafka 640"
        login = cluster.output(name, "cat", "/etc/kafka/admin.properties")
        own = login.partition('password="')[2].partition('"')[0]
        told = arguments_and_journal(cluster, name, "kafka.service")
        words = [word for user, word in cluster.users.items() if user == "kafka"]
        for password in [own, *words, *cluster.kafka_users.values()]:
            assert len(password) > 12
            assert password not in told


def test_kafka_may_write_nothing_that_root_runs(cluster: Cluster) -> None:
    """Beside its data there is nothing that its user could change."""
    find = (
        "find / -xdev ( -path /proc -o -path /sys -o -path /var/lib/kafka ) -prune"
        " -o ! -type l ! -perm -1002 -writable -print"
    )
    for name in cluster.addresses:
        found = cluster.run(name, "runuser", "-u", "kafka", "--", *find.split()).stdout
        assert [path for path in found.split() if not path.startswith("/dev/")] == []
        assert cluster.output(name, "find", "/var/lib/kafka", "-perm", "/111", "-type", "f") == ""


@pytest.mark.parametrize(
    "victim", ["controller", "zookeeper", pytest.param("leader", marks=pytest.mark.soak)]
)
def test_nothing_is_lost_when_one_is_killed(cluster: Cluster, victim: str) -> None:
    """The controller leads partitions too; the other leader controls nothing."""
    if victim == "zookeeper" and not cluster.users:
        pytest.skip("this cluster works without ZooKeeper")
    whole, unit = cluster.in_sync(), "kafka.service"
    if victim == "zookeeper":
        name, unit = cluster.leader(), "zookeeper.service"
    elif victim == "controller":
        name = cluster.named(whole["controller"])
        assert whole["controller"] in whole["leaders"].values()
    else:
        leaders = [number for number in whole["leaders"].values() if number != whole["controller"]]
        name = cluster.named(leaders[0])
    with cluster.sending() as sent:
        time.sleep(2)  # of sending, before and after
        cluster.output(name, "systemctl", "kill", "--signal=KILL", unit)
        time.sleep(3)  # of sending without it
        if cluster.users:
            cluster.whole()
        cluster.in_sync()
    judged(f"kill -9 of the {victim}", sent)


def test_no_roll_begins_while_a_broker_is_away(cluster: Cluster) -> None:
    whole = cluster.in_sync()
    away = cluster.named(next(number for number in (1, 2, 3) if number != whole["controller"]))
    before = cluster.started("kafka")
    cluster.output(away, "systemctl", "stop", "kafka.service")
    try:
        run = cluster.play("restart", "--tags", "kafka")
        assert run.code != 0
        run.says("the cluster is not whole (", f"{away}: [Errno 111] Connection refused")
        assert cluster.started("kafka") == before
    finally:
        cluster.output(away, "systemctl", "start", "kafka.service")
    cluster.in_sync()


def test_a_configuration_that_kafka_rejects_restarts_nobody_and_the_next_run_each_one(
    cluster: Cluster,
) -> None:
    """It is tried beside the brokers that run. The run after it has what the first one left to be restarted."""
    whole, before = cluster.in_sync(), cluster.started("kafka")
    run = cluster.play("messaging", kafka_properties={"log.retention.hours": "a week"})
    assert run.code != 0
    run.says("Invalid value a week for configuration log.retention.hours")
    assert cluster.started("kafka") == before
    # but for who leads: Kafka itself gives that back to whom it prefers, every 300 s
    assert cluster.in_sync() | {"leaders": None} == whole | {"leaders": None}
    with cluster.sending() as sent:
        run = cluster.play("messaging")
    assert run.code == 0, run.output[-4000:]
    assert rolled(cluster, before)[-1] == cluster.named(whole["controller"])
    assert judged("rolling restart", sent)["failed"] == {}
    cluster.in_sync(10)


@pytest.mark.soak
def test_a_cluster_that_would_speak_otherwise_is_not_rolled(cluster: Cluster) -> None:
    if not cluster.users:
        pytest.skip("this cluster works without ZooKeeper")
    before = cluster.started("kafka")
    others = {"tests": cluster.users["tests"]}
    run = cluster.play(
        "preflight", kafka_authentication=False, kafka_users=[], zookeeper_users=others
    )
    assert run.code != 0
    run.says("kafka_rolling is True", "by SASL_SSL (SASL_SSL), and would by SSL (SSL)")
    run.says("zookeeper_users of switchboard-cluster-1", "Give zookeeper_users an entry `kafka`")
    run = cluster.play(
        "preflight",
        zookeeper_tls_keystore="",
        zookeeper_tls_ca="",
        zookeeper_secure_client_port_address="",
    )
    assert run.code != 0
    run.says("zookeeper_rolling is True", "sslQuorum is true where the server runs")
    assert cluster.started("kafka") == before


@pytest.mark.parametrize("mode", [pytest.param("kraft", marks=pytest.mark.soak), "zookeeper"])
def test_the_mode_of_a_cluster_that_has_data_is_not_changed(cluster: Cluster, mode: str) -> None:
    if (mode == "zookeeper") == bool(cluster.users):
        pytest.skip("the cluster is in this mode")
    before = cluster.started("kafka")
    run = cluster.play("preflight", kafka_mode=mode)
    assert run.code != 0
    run.says(f"kafka_mode is {mode}: the records in /var/lib/kafka/data were written in the mode")
    assert cluster.started("kafka") == before


# -- long forms ----------------------------------------------------------------------------------------


@contextmanager
def cut_off(cluster: Cluster, name: str) -> Iterator[None]:
    """Let a host reach nobody, and be reached by nobody, for the time of a block."""
    rules = ["docker", "exec", "-i", name, "nft", "-f", "-"]
    subprocess.run(rules, input=CUT, text=True, check=True)
    try:
        yield
    finally:
        cluster.output(name, "nft", "delete", "table", "inet", "cut")


@pytest.mark.soak
def test_a_host_that_is_cut_off_loses_nothing_and_acknowledges_nothing(cluster: Cluster) -> None:
    """The producer on it is told nothing meanwhile; the others go on, and it comes back by itself."""
    cluster.in_sync()
    away = list(cluster.addresses)[-1]
    with cluster.sending() as sent, cluster.sending(away) as alone:
        time.sleep(2)  # of sending before
        with cut_off(cluster, away):
            time.sleep(40)  # longer than its sessions last
        cluster.in_sync(180)
    judged("a host cut off, from the others", sent)
    assert judged("a host cut off, from that host", alone, 180)["longest"] > 39


@pytest.mark.soak
def test_one_of_three_acknowledges_nothing(cluster: Cluster) -> None:
    """With two of three brokers stopped, no record of acks=all is taken, and none that was is lost."""
    cluster.in_sync()
    _, *away = cluster.addresses
    with cluster.sending() as sent:
        time.sleep(2)  # of sending before
        for name in away:
            cluster.output(name, "systemctl", "kill", "--signal=KILL", "kafka.service")
            cluster.output(name, "systemctl", "stop", "kafka.service")
        time.sleep(20)  # of sending in vain
        for name in away:
            cluster.output(name, "systemctl", "start", "kafka.service")
        cluster.in_sync(180)
    assert judged("two of three stopped", sent, 120)["longest"] > 19


@pytest.mark.soak
def test_a_run_that_is_killed_is_finished_by_the_next(cluster: Cluster) -> None:
    """It is killed when the first broker has begun to restart."""
    cluster.in_sync()
    before = cluster.started("kafka")
    extra = ["-e", json.dumps({"kafka_log_retention_hours": 166})]
    with cluster.sending() as sent:
        killed(
            cluster,
            ["playbooks/messaging.yml", *extra],
            lambda: cluster.started("kafka") != before,
        )
        half = cluster.started("kafka")
        assert len([name for name in half if half[name] == before[name]]) == 2
        run = cluster.play("messaging", kafka_log_retention_hours=166)
        assert run.code == 0, run.output[-4000:]
        after = cluster.started("kafka")
        assert all(after[name] > before[name] for name in after)
        assert [name for name in half if half[name] != before[name] and half[name] == after[name]]
    assert judged("a run killed in the middle", sent)["failed"] == {}
    assert cluster.play("messaging").code == 0


@pytest.mark.soak
def test_a_broker_that_does_not_come_back_ends_the_roll(cluster: Cluster) -> None:
    """The first one restarts with a ZooKeeper that is none, which Kafka sees only then; the others are not touched."""
    if not cluster.users:
        pytest.skip("this cluster works without ZooKeeper")
    before = cluster.started("kafka")
    run = cluster.play(
        "messaging", kafka_properties={"zookeeper.connect": "127.0.0.1:1"}, kafka_start_timeout=60
    )
    assert run.code != 0
    after = cluster.started("kafka")
    assert len([name for name in after if after[name] != before[name]]) == 1
    whole = cluster.play("messaging")
    assert whole.code == 0, whole.output[-4000:]
    cluster.in_sync()
