"""A cluster of Kafka on three hosts: who gets in, and what is lost when a broker goes away. Nothing is."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.cluster.conftest import Cluster, Written

# Seconds without an acknowledgement that a producer may see while a partition, or the cluster, has nobody who leads.
OUTAGE = 60
# What came of each fault, for the summary at the end.
TABLE: list[str] = []


def judged(what: str, sent: Written, outage: float = OUTAGE) -> dict[str, Any]:
    """Say what a fault came to, in one line, and assert that nothing was lost."""
    told = sent.told
    line = (
        f"{what}: {told['acknowledged']} acknowledged, {len(told['lost'])} lost, {told['doubled']} doubled, "
        f"{sum(told['failed'].values())} failed, longest pause {told['longest']} s"
    )
    print(line)
    assert told["acknowledged"] > 100, line
    assert told["lost"] == [], line
    assert told["longest"] < outage, line
    return told


def test_one_broker_controls_and_all_replicas_are_in_sync(cluster: Cluster) -> None:
    cluster.in_sync()


@pytest.mark.parametrize("victim", ["leader", "controller", "zookeeper"])
def test_nothing_is_lost_when_one_is_killed(cluster: Cluster, victim: str) -> None:
    whole = cluster.in_sync()
    unit = "kafka.service"
    if victim == "zookeeper":
        name, unit = cluster.leader(), "zookeeper.service"
    elif victim == "controller":
        name = cluster.named(whole["controller"])
    else:
        leaders = [number for number in whole["leaders"].values() if number != whole["controller"]]
        name = cluster.named(leaders[0])
    with cluster.sending() as sent:
        time.sleep(2)  # of sending, before and after
        cluster.output(name, "systemctl", "kill", "--signal=KILL", unit)
        time.sleep(5)  # of sending without it
        cluster.whole()
        cluster.in_sync()
    judged(f"kill -9 of the {victim}", sent)
