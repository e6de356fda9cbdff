"""Brokers that come, go, are lost with their host, or run another version; what was acknowledged meanwhile is there.

SWITCHBOARD_SOAK=1 takes the long forms too: a fourth broker, a run that is killed, and an upgrade from Kafka 3.8.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import Cluster, judged, killed, rolled
from tests.refusals.bench import run_playbook
from tools.common import ROOT, image_name

MOVED = "tests.moved"
ADMIN = "--command-config /etc/kafka/admin.properties"
# All that the playbooks write for ZooKeeper and Kafka, and their data, as on a host that was lost and set up anew.
WIPE = """
systemctl kill --signal=KILL kafka.service zookeeper.service
systemctl stop kafka.service zookeeper.service
rm -rf /var/lib/kafka /var/lib/zookeeper/data /etc/kafka /etc/zookeeper/zoo.cfg /etc/zookeeper/jaas.conf /opt/kafka
rm -rf /etc/systemd/system/kafka.service /etc/systemd/system/zookeeper.service /etc/switchboard/certificates/peers
systemctl daemon-reload
"""
OLD = {
    "kafka_version": "3.8.1",
    "kafka_maven_pom": str(ROOT / "tests/cluster/kafka-3.8/pom.xml"),
    "kafka_maven_lock": str(ROOT / "tests/cluster/kafka-3.8/pom.lock"),
}


def topics(cluster: Cluster, *words: str) -> None:
    """Let Kafka's own tool do something to a topic."""
    first, address = next(iter(cluster.addresses.items()))
    tool = ["kafka-topics.sh", "--bootstrap-server", f"{address}:9092", *ADMIN.split()]
    cluster.output(first, *tool, *words, "--topic", MOVED)


@pytest.fixture
def piled(cluster: Cluster) -> Iterator[None]:
    """A topic with all of its replicas on two brokers, of which one leads."""
    cluster.in_sync()
    topics(cluster, "--create", "--replica-assignment", ",".join(["1:2"] * 6))
    yield
    topics(cluster, "--delete")


def shares(told: dict[str, Any], topic: str = MOVED) -> dict[int, int]:
    """Return how many replicas of a topic each broker has."""
    return dict(Counter(one for replicas in told["replicas"][topic] for one in replicas))


def test_replicas_are_spread_while_records_are_sent(cluster: Cluster, piled: None) -> None:
    """A broker that no topic could do without is not emptied, and what is spread stays."""
    run = cluster.play("rebalance", kafka_empty=cluster.named(3))
    assert run.code != 0
    run.says("kafka_empty is 3: 2 brokers would be left (1, 2)", "have more replicas than that")
    assert shares(cluster.in_sync()) == {1: 6, 2: 6}
    with cluster.sending(topic=MOVED) as sent:
        run = cluster.play("rebalance", kafka_move_throttle=1_000_000)
    assert run.code == 0, run.output[-4000:]
    assert judged("replicas moved", sent)["failed"] == {}
    told = cluster.in_sync(10)
    assert shares(told) == {1: 4, 2: 4, 3: 4}
    assert Counter(replicas[0] for replicas in told["replicas"][MOVED]) == {1: 2, 2: 2, 3: 2}
    assert told["slowed"] == []
    again = cluster.play("rebalance")
    assert again.code == 0
    assert " 1 changed" not in again.output


@pytest.mark.soak
def test_a_host_that_was_lost_is_replaced_under_its_number(cluster: Cluster) -> None:
    """It comes back with nothing, as its own number, and has everything before anybody else is restarted."""
    whole = cluster.in_sync()
    number = next(one for one in (3, 2, 1) if one != whole["controller"])
    name = cluster.named(number)
    others = [other for other in cluster.addresses if other != name]
    units = ("kafka", "zookeeper") if cluster.users else ("kafka",)
    before = {unit: cluster.started(unit) for unit in units}
    with cluster.sending(others[0]) as sent:
        cluster.output(name, "sh", "-c", WIPE)
        run = cluster.play("messaging")
        assert run.code == 0, run.output[-4000:]
        told = cluster.in_sync()
    judged("a host replaced", sent, 120)
    assert told["replicas"] == whole["replicas"]
    if cluster.users:
        assert sorted(cluster.whole().values()) == ["follower", "follower", "leader"]
    else:
        assert cluster.controllers() == [1, 2, 3]
    after = {unit: cluster.started(unit) for unit in before}
    for unit, times in before.items():
        assert [one for one in others if after[unit][one] != times[one]] == []


# -- long forms ----------------------------------------------------------------------------------------


@pytest.mark.soak
def test_a_move_whose_run_is_killed_is_taken_up(cluster: Cluster, piled: None) -> None:
    """With a throttle that would take minutes; the second run has another one."""
    with cluster.sending(topic=MOVED) as sent:
        first, address = next(iter(cluster.addresses.items()))
        load = f"--topic {MOVED} --num-records 40000 --record-size 1000 --throughput -1 --producer.config"
        servers = f"/etc/kafka/admin.properties --producer-props bootstrap.servers={address}:9092"
        cluster.output(first, "kafka-producer-perf-test.sh", *load.split(), *servers.split())

        def begun() -> bool:
            return bool(cluster.brokers()[first].get("slowed"))

        killed(cluster, ["playbooks/rebalance.yml", "-e", "kafka_move_throttle=50000"], begun)
        time.sleep(3)  # for the move to have begun
        assert 3 in shares(cluster.brokers()[first])
        assert cluster.brokers()[first]["slowed"] == [MOVED]
        run = cluster.play("rebalance", kafka_move_throttle=0)
        assert run.code == 0, run.output[-4000:]
    judged("a move taken up", sent)
    told = cluster.in_sync(10)
    assert shares(told) == {1: 4, 2: 4, 3: 4}
    assert told["slowed"] == []


@pytest.fixture(scope="module")
def four(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with another host in the inventory, fresh and empty."""
    cluster.in_sync()
    last, address = list(cluster.addresses.items())[-1]
    name, address = last.replace("-3", "-4"), f"{address[:-1]}4"
    # those behind a host that is taken out keep their numbers
    hosts: dict[str, dict[str, Any]] = {
        one: {"kafka_node_id": number} for number, one in enumerate([*cluster.addresses, name], 1)
    }
    hosts[name] |= {"ansible_connection": "community.docker.docker", "switchboard_address": address}
    path = Path(cluster.inventory) / "zz-fourth.yml"
    group: dict[str, Any] = {"hosts": {name: {}}}
    content = {"test_hosts": group, "kafka": group, "switchboard": {"hosts": hosts}}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    remove = ["docker", "rm", "--force", "--volumes", name]
    subprocess.run(remove, check=False, capture_output=True)
    made = f"{{'test_hosts': [{{'name': '{name}', 'image': '{image_name('13-filled')}'}}]}}"
    for playbook in ("create", "prepare"):
        command = ["ansible-playbook", "-i", cluster.inventory, f"molecule/shared/{playbook}.yml"]
        run = run_playbook([*command, "--limit", f"localhost,{name}", "-e", made], 600)
        assert run.code == 0, run.output[-4000:]
    yield dataclasses.replace(cluster, addresses={**cluster.addresses, name: address})
    path.unlink(missing_ok=True)
    subprocess.run(remove, check=False, capture_output=True)


def lacking(cluster: Cluster, name: str, folder: Path) -> str:
    """Copy the inventory without one of Kafka's hosts, and return the folder."""
    copy = folder / "inventory"
    shutil.copytree(cluster.inventory, copy)
    for path in copy.glob("*.yml"):
        told = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        told.get("kafka", {}).get("hosts", {}).pop(name, None)
        path.unlink()  # it may be a link
        path.write_text(yaml.safe_dump(told), encoding="utf-8")
    return str(copy)


@pytest.mark.soak
def test_a_controller_that_leaves_is_replaced_by_another(
    cluster: Cluster, four: Cluster, tmp_path: Path
) -> None:
    """Three of four have a say: the fourth gets it when another is taken out, and keeps it when that is back."""
    if cluster.users:
        pytest.skip("the brokers work with ZooKeeper, by which no broker has a say in who leads")
    with cluster.sending() as sent:
        for playbook in ("base", "messaging", "rebalance"):
            run = four.play(playbook)
            assert run.code == 0, run.output[-4000:]
    judged("a broker added", sent)
    assert four.controllers() == [1, 2, 3]
    run = four.play("rebalance", kafka_empty=cluster.named(2))
    assert run.code == 0, run.output[-4000:]
    fewer = dataclasses.replace(four, inventory=lacking(four, cluster.named(2), tmp_path))
    run = fewer.play("messaging", "--check", "--diff")
    assert run.code == 0, run.output[-4000:]
    assert four.controllers() == [1, 2, 3]
    with four.sending() as sent:
        run = fewer.play("messaging")
    assert run.code == 0, run.output[-4000:]
    run.says("Broker 2 at", "has no replica, and is not in the inventory")
    judged("a controller replaced by another", sent)
    assert four.controllers() == [1, 3, 4]
    run = four.play("messaging")
    assert run.code == 0, run.output[-4000:]
    assert four.controllers() == [1, 3, 4]
    run = four.play("rebalance")
    assert run.code == 0, run.output[-4000:]


@pytest.mark.soak
def test_a_broker_is_added_and_emptied_and_removed(cluster: Cluster, four: Cluster) -> None:
    with cluster.sending() as sent:
        for playbook in ("base", "messaging", "rebalance"):
            run = four.play(playbook)
            assert run.code == 0, run.output[-4000:]
        told = four.in_sync()
    judged("a broker added", sent)
    assert sorted(shares(told, "tests.records").values()) == [4, 4, 5, 5]
    path = Path(cluster.inventory) / "zz-fourth.yml"
    aside = path.rename(path.with_suffix(".aside"))
    try:
        run = cluster.play("preflight")
        assert run.code != 0
        run.says(
            "kafka_brokers is 1, 2, 3: broker 4 of the cluster is not among them", "tests.records"
        )
    finally:
        aside.rename(path)
    with cluster.sending() as sent:
        run = four.play("rebalance", kafka_empty=four.named(4))
    assert run.code == 0, run.output[-4000:]
    run.says("broker 4: 0 replicas, leads 0 partitions", "Nothing of a topic is left on broker 4")
    judged("a broker emptied", sent)
    kept = "ls -d /var/lib/kafka/data/[a-z]*-[0-9] || true"
    assert four.output(four.named(4), "sh", "-c", kept) == ""
    path.unlink()
    before = cluster.started("kafka")
    run = cluster.play("messaging")
    assert run.code == 0, run.output[-4000:]
    broker = f"Broker 4 at {four.addresses[four.named(4)]}:9092 has no replica"
    run.says(broker, "systemctl disable --now kafka")
    if cluster.users:
        assert cluster.started("kafka") == before
    else:
        assert cluster.controllers() == [1, 2, 3]
    four.output(four.named(4), "systemctl", "disable", "--now", "kafka.service")
    cluster.in_sync()


@pytest.fixture
def older(cluster: Cluster) -> Iterator[dict[str, Any]]:
    """A cluster of Kafka 3.8 in the place of the other one, whose data are put aside; the variables that lead to it."""
    if not cluster.users:
        pytest.skip("the brokers work without ZooKeeper, which Kafka 3.8 is not tested for")
    connect = ",".join(f"{address}:2281" for address in cluster.addresses.values())
    place = {"kafka_zookeeper_connect": f"{connect}/older"}

    cluster.swap("newer", "older")
    run = cluster.play("messaging", kafka_rolling=False, **place, **OLD)
    assert run.code == 0, run.output[-4000:]
    yield place
    cluster.swap("older", "newer")
    run = cluster.play("messaging", kafka_rolling=False)
    assert run.code == 0, run.output[-4000:]
    for name in cluster.addresses:
        cluster.output(name, "rm", "-rf", "/var/lib/kafka/older")
    cluster.in_sync()


def protocols(cluster: Cluster) -> set[str]:
    """Return how brokers talk to one another, by the files that they read."""
    line = ["sed", "-n", "s/^inter.broker.protocol.version=//p", "/etc/kafka/server.properties"]
    return {cluster.output(name, *line) for name in cluster.addresses}


@pytest.mark.soak
def test_an_upgrade_has_two_phases_and_loses_nothing(
    cluster: Cluster, older: dict[str, Any]
) -> None:
    """From Kafka 3.8: what the new one rejects restarts nobody, and no run raises the protocol by itself."""
    cluster.in_sync()
    assert protocols(cluster) == {"3.8"}
    before = cluster.started("kafka")
    run = cluster.play("messaging", **older, kafka_properties={"log.retention.hours": "a week"})
    assert run.code != 0
    run.says("Invalid value a week for configuration log.retention.hours")
    assert cluster.started("kafka") == before
    with cluster.sending() as sent:
        run = cluster.play("messaging", **older)
    assert run.code == 0, run.output[-4000:]
    run.says("talk to one another as those of 3.8 do", "playbooks/finalize.yml")
    assert judged("upgrade to the new binary", sent)["failed"] == {}
    rolled(cluster, before)
    assert protocols(cluster) == {"3.8"}
    before = cluster.started("kafka")
    with cluster.sending() as sent:
        run = cluster.play("finalize", **older)
    assert run.code == 0, run.output[-4000:]
    assert judged("upgrade finished", sent)["failed"] == {}
    rolled(cluster, before)
    assert protocols(cluster) == {"3.9"}
    run = cluster.play("preflight", **older, **OLD)
    assert run.code != 0
    run.says("kafka_version is 3.8.1: the brokers talk to one another as those of 3.9 do")
