"""A single server without ZooKeeper becomes three brokers, with its records, and they go on without it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import TOPIC, Cluster
from tests.cluster.test_moves import lacking

SENT = 500
WRITE = (
    "seq 1 {} | kafka-console-producer.sh --bootstrap-server 127.0.0.1:9092 "
    "--producer.config /etc/kafka/admin.properties --topic {}"
)
READ = (
    "kafka-console-consumer.sh --bootstrap-server {}:9092 --consumer.config /etc/kafka/admin.properties "
    "--topic {} --from-beginning --max-messages {} --timeout-ms 30000"
)


@pytest.fixture
def one(cluster: Cluster, tmp_path: Path) -> Iterator[Cluster]:
    """The first host alone, with an empty disk; afterwards all have what they had."""
    if cluster.users:
        pytest.skip("the brokers work with ZooKeeper: tests/whole takes a server to a cluster")
    cluster.in_sync()
    inventory = cluster.inventory
    for number, name in enumerate(list(cluster.addresses)[1:]):
        inventory = lacking(
            dataclasses.replace(cluster, inventory=inventory), name, tmp_path / str(number)
        )
    cluster.swap("three", "one")
    first = next(iter(cluster.addresses))
    yield dataclasses.replace(
        cluster, inventory=inventory, addresses={first: cluster.addresses[first]}
    )
    cluster.swap("one", "three")
    run = cluster.play("messaging", kafka_rolling=False)
    assert run.code == 0, run.output[-4000:]
    for name in cluster.addresses:
        cluster.output(name, "rm", "-rf", "/var/lib/kafka/one")
    cluster.in_sync()


def test_one_server_becomes_three_that_bear_its_loss(cluster: Cluster, one: Cluster) -> None:
    run = one.play("messaging")
    assert run.code == 0, run.output[-4000:]
    (first,) = one.addresses
    one.output(first, "sh", "-c", WRITE.format(SENT, TOPIC))
    run = cluster.play("messaging")
    assert run.code != 0
    run.says("kafka_rolling is True: brokers talk to one another by SASL_PLAINTEXT")
    # as docs/cluster.md says
    run = cluster.play(
        "messaging", kafka_rolling=False, kafka_properties={"min.insync.replicas": 1}
    )
    assert run.code != 0
    run.says(
        "it has 1, and this moves none.", "playbooks/rebalance.yml with -e kafka_move_replicas=3"
    )
    assert cluster.controllers() == [1, 2, 3]
    for playbook, more in (("rebalance", {"kafka_move_replicas": 3}), ("messaging", {})):
        run = cluster.play(playbook, **more)
        assert run.code == 0, run.output[-4000:]
    again = cluster.play("messaging")
    assert again.code == 0
    assert " 1 changed" not in again.output
    cluster.in_sync()
    # what the first one had is with the others, who lead themselves
    cluster.output(first, "systemctl", "stop", "kafka.service")
    second = cluster.named(2)
    read = READ.format(cluster.addresses[second], TOPIC, SENT)
    said = cluster.output(second, "sh", "-c", read)
    assert sorted(map(int, said.split())) == list(range(1, SENT + 1))
    cluster.output(first, "systemctl", "start", "kafka.service")
    cluster.in_sync()
