"""Brokers without ZooKeeper go on from Kafka 3.9 to 4.4: nothing is lost, and there is no way back."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.cluster.conftest import Cluster, judged, rolled

FOUR = {"kafka_version": "4.4.0"}
# What the role asks of Debian's client, from the making of a topic to its end; of the address of a broker.
TOPICS = """
import sys
sys.path.insert(0, "/usr/local/lib/switchboard")
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic
from kafka_client import login_of
login = login_of("/etc/kafka/admin.properties")
admin = AdminClient({**login, "bootstrap.servers": sys.argv[1], "log_level": 0})
kind, name = ConfigResource.Type.TOPIC, "tests.four"
own = {"retention.ms": "60000"}
for ask in (
    lambda: admin.create_topics([NewTopic(name, 1, 3)]),
    lambda: admin.create_partitions([NewPartitions(name, 2)]),
    lambda: admin.alter_configs([ConfigResource(kind, name, set_config=own)]),
    lambda: admin.describe_configs([ConfigResource(kind, name)]),
    lambda: admin.delete_topics([name], operation_timeout=30),
):
    (answer,) = (future.result(30) for future in ask().values())
    assert answer is None or "retention.ms" in answer
"""
FEATURES = "kafka-features.sh --command-config /etc/kafka/admin.properties --bootstrap-server"


def features(cluster: Cluster) -> dict[str, str]:
    """Return the level that the cluster has of each feature, as Kafka's own tool tells it."""
    name, address = next(iter(cluster.addresses.items()))
    lines = cluster.output(name, *FEATURES.split(), f"{address}:9092", "describe").splitlines()
    words = [line.split() for line in lines if line.startswith("Feature:")]
    return {one[1]: one[one.index("FinalizedVersionLevel:") + 1] for one in words}


@pytest.fixture
def renewed(cluster: Cluster) -> Iterator[None]:
    """Give the other tests what the inventory says again: the cluster begins anew, with empty disks."""
    first = next(iter(cluster.addresses))
    if cluster.run(
        first, "grep", "-q", "^process.roles=", "/etc/kafka/server.properties"
    ).returncode:
        pytest.skip("the brokers work with ZooKeeper, which Kafka 4 does not know")
    cluster.in_sync()
    yield
    for name in cluster.addresses:
        cluster.output(name, "systemctl", "kill", "--signal=KILL", "kafka.service")
        cluster.output(name, "systemctl", "stop", "kafka.service")
        cluster.output(name, "rm", "-rf", "/var/lib/kafka/data")
    run = cluster.play("messaging", kafka_rolling=False)
    assert run.code == 0, run.output[-4000:]
    cluster.in_sync()


def test_an_upgrade_to_kafka_4_loses_nothing(cluster: Cluster, renewed: None) -> None:
    """What Kafka 4 rejects restarts nobody; brokers roll; what only 4.4 understands waits until it is asked for."""
    run = cluster.play("preflight", kafka_version="4.1.1")
    assert run.code != 0
    run.says("kafka_version is 4.1.1: the mode kraft is tested with Kafka 3.9 and 4.4 alone.")
    before = cluster.started("kafka")
    run = cluster.play("messaging", **FOUR, kafka_properties={"log.retention.hours": "a week"})
    assert run.code != 0
    run.says("Invalid value a week for configuration log.retention.hours")
    assert cluster.started("kafka") == before
    with cluster.sending() as sent:
        run = cluster.play("messaging", **FOUR)
    assert run.code == 0, run.output[-4000:]
    run.says("keep to what those of 3.9 understand", "playbooks/finalize.yml")
    assert judged("upgrade to Kafka 4", sent)["failed"] == {}
    rolled(cluster, before)
    has = features(cluster)
    assert (has["metadata.version"], has["kraft.version"]) == ("3.9-IV0", "1")
    before = cluster.started("kafka")
    with cluster.sending() as sent:
        run = cluster.play("finalize", **FOUR)
    assert run.code == 0, run.output[-4000:]
    assert judged("upgrade to Kafka 4 finished", sent)["failed"] == {}
    assert cluster.started("kafka") == before
    has = features(cluster)
    assert has["metadata.version"].startswith("4.4-")
    assert has["kraft.version"] == "1"
    again = cluster.play("finalize", **FOUR)
    assert again.code == 0
    assert not re.search(r" [1-9][0-9]* changed", again.output)
    run = cluster.play("preflight")
    assert run.code != 0
    run.says("kafka_version is 3.9.2: Kafka 4 is installed here, and there is no way back from it.")
    # each one alone, with what it has now
    before = cluster.started("kafka")
    # not from Debian 12: its librdkafka can't log in to Kafka 4 by SCRAM (docs/kafka.md)
    with cluster.sending(cluster.named(3)) as sent:
        run = cluster.play("restart", **FOUR)
    assert run.code == 0, run.output[-4000:]
    assert judged("a roll of Kafka 4", sent)["failed"] == {}
    rolled(cluster, before)
    for name, address in cluster.addresses.items():
        cluster.output(name, "python3", "-c", TOPICS, f"{address}:9092")
    run = cluster.play("rebalance", **FOUR)
    assert run.code == 0, run.output[-4000:]
    cluster.in_sync()
