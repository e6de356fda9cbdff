"""Three brokers leave ZooKeeper with their records, come back to it, and go on with what was acknowledged.

What is in the folder that a copy of the inventory lies in is what an operator has written: kafka_mode, and no group
zookeeper.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.cluster.conftest import TOPIC, Cluster, judged

pytestmark = pytest.mark.soak
PARTITIONS = f"""
import json, sys
sys.path.insert(0, "/usr/local/lib/switchboard")
from confluent_kafka import Consumer
from kafka_client import login_of
client = Consumer({{**login_of("/etc/kafka/admin.properties"), "bootstrap.servers": sys.argv[1], "group.id": "x",
                   "enable.partition.eof": True, "auto.offset.reset": "earliest"}})
client.subscribe(["{TOPIC}"])
left, found = set(client.list_topics("{TOPIC}", timeout=30).topics["{TOPIC}"].partitions), []
while left:
    message = client.poll(30)
    if message.error():
        left.discard(message.partition())
    else:
        found.append([message.partition(), message.timestamp()[1], message.value().decode()])
print(json.dumps(sorted(found)))
"""


@pytest.fixture
def without(cluster: Cluster, tmp_path: Path) -> Iterator[Cluster]:
    """The same hosts with an inventory that has no ZooKeeper; they have it again afterwards."""
    if not cluster.users:
        pytest.skip("the brokers work without ZooKeeper already")
    folder = tmp_path / "inventory"
    shutil.copytree(cluster.inventory, folder)
    for path in folder.glob("*.yml"):
        told = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for place in (told, told.get("all", {}).get("children", {})):
            place.pop("zookeeper", None)
        if path.name == "cluster.yml":
            told["switchboard"]["vars"]["kafka_mode"] = "kraft"
        path.unlink()  # it may be a link
        path.write_text(yaml.safe_dump(told), encoding="utf-8")
    yield replace(cluster, inventory=str(folder))
    if (
        cluster.run(
            next(iter(cluster.addresses)), "test", "-d", "/var/lib/kafka/data.zookeeper"
        ).returncode
        == 0
    ):
        assert cluster.play("leave_zookeeper", back=True).code == 0
    cluster.in_sync()


def held(cluster: Cluster) -> str:
    """Return all records of the topic with their partitions and times."""
    name, address = next(iter(cluster.addresses.items()))
    return cluster.output(name, "python3", "-c", PARTITIONS, f"{address}:9092")


def test_what_was_acknowledged_is_there_after_the_move_and_after_the_way_back(
    cluster: Cluster, without: Cluster
) -> None:
    with cluster.sending() as sent:
        run = without.play("leave_zookeeper", "--limit", cluster.named(1))
    assert run.code != 0
    run.says("these are 1 of 3 brokers. Run it without --limit")
    judged("a move that is refused", sent)
    before = held(cluster)
    stopped = cluster.named(3)
    cluster.output(stopped, "systemctl", "stop", "kafka.service")
    refused = without.play("leave_zookeeper")
    assert refused.code != 0
    refused.says("the cluster is not whole (broker 3 is not there")
    cluster.output(stopped, "systemctl", "start", "kafka.service")
    cluster.in_sync()
    run = without.play("leave_zookeeper")
    assert run.code == 0, run.output[-4000:]
    run.says("Kafka works without ZooKeeper, and has ")
    without.in_sync()
    assert held(without) == before
    states = {
        name: cluster.run(name, "systemctl", "is-active", "zookeeper").stdout.strip()
        for name in cluster.addresses
    }
    assert Counter(states.values()) == {"inactive": 3}
    with without.sending() as sent:
        assert without.play("restart").code == 0
    assert judged("a roll after the move", sent)["failed"] == {}
    run = cluster.play("leave_zookeeper", back=True)
    assert run.code == 0, run.output[-4000:]
    cluster.in_sync()
    assert held(cluster) == before
