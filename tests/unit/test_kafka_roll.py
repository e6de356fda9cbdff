"""The order in which brokers of a cluster are restarted, and when none of them is."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.filter.kafka_cluster import (
    kafka_switch_fault,
    kafka_turn,
)
from plugins.modules.kafka_state import behind, late, tight, whole

BROKERS = [{"id": number, "host": f"10.0.0.{number}"} for number in (1, 2, 3)]


def state(**own: Any) -> dict[str, Any]:
    usual = {"lacking": [], "controller": 1, "behind": [], "tight": [], "refused": False}
    return {**usual, "said": "", **own}


def run(*states: dict[str, Any], done: str = "") -> list[dict[str, Any]]:
    """Return the hosts a, b, c of a run with what the broker of each said; those in ``done`` were restarted."""
    return [
        {
            "inventory_hostname": name,
            "__kafka_settings": {"brokers": BROKERS, "id": number},
            "__kafka_state": told,
            "__kafka_roll": {"due": name not in done},
        }
        for number, (name, told) in enumerate(zip("abc", states, strict=False), 1)
    ]


def test_the_controller_is_restarted_last_whoever_it_is_by_then() -> None:
    assert kafka_turn(run(*[state()] * 3), BROKERS) == {"next": "b", "fault": ""}
    moved = [state(controller=3)] * 3
    assert kafka_turn(run(*moved, done="b"), BROKERS)["next"] == "a"
    assert kafka_turn(run(*moved, done="ab"), BROKERS)["next"] == "c"
    assert kafka_turn(run(*moved, done="abc"), BROKERS) == {"next": "", "fault": ""}


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (state(said="Connection refused"), "c: Connection refused"),
        (state(lacking=[2]), "c: without 2"),
        (state(controller=-1), "c: no controller"),
        (state(behind=["lab.owner"]), "c: replicas are behind in lab.owner"),
        (
            state(controller=2),
            "a: the controller is 1; b: the controller is 1; c: the controller is 2",
        ),
        (state(late=[2, 3]), "c: without the controllers 2, 3, or these are behind"),
        (state(refused=True, said="log-in"), "refuse the log-in of kafka_broker_user"),
        (state(tight=["lab.owner"]), "lab.owner have no replica more than min.insync.replicas"),
    ],
)
def test_nobodys_turn_comes_unless_all_brokers_tell_that_nothing_lacks(
    other: dict[str, Any], told: str
) -> None:
    turn = kafka_turn(run(state(), state(), other), BROKERS)
    assert turn["next"] == ""
    assert told in turn["fault"]


def test_topics_without_a_replica_to_spare_are_accepted_where_it_is_said() -> None:
    tight_ones = run(*[state(tight=["lab.owner"])] * 3)
    assert kafka_turn(tight_ones, BROKERS, True) == {"next": "b", "fault": ""}
    last = run(*[state(tight=["lab.owner"])] * 3, done="abc")
    assert kafka_turn(last, BROKERS) == {"next": "", "fault": ""}


def test_some_of_the_brokers_are_not_enough() -> None:
    assert (
        "2 of these 3 brokers are in this run (a, b)"
        in kafka_turn(run(state(), state()), BROKERS)["fault"]
    )


def test_a_partition_is_judged_by_its_replicas() -> None:
    topics = {
        "good": [(1, 3, 3)],
        "late": [(1, 3, 3), (1, 3, 2)],
        "none": [(-1, 1, 1)],
        "two": [(1, 2, 2)],
    }
    assert behind(topics) == ["late", "none"]
    assert tight(topics, {"good": 2, "late": 1, "none": 1, "two": 2}) == ["none", "two"]
    assert whole(state())
    assert not whole(state(behind=["late"]))


OLD = {"listeners": "PLAINTEXT://127.0.0.1:9092"}
NEW: dict[str, Any] = {
    "listeners": ["SASL_SSL://10.0.0.1:9092"],
    "listener.security.protocol.map": ["SASL_SSL:SASL_SSL", "LOCAL:PLAINTEXT"],
    "inter.broker.listener.name": "SASL_SSL",
}


def test_how_brokers_talk_to_one_another_is_not_changed_one_by_one() -> None:
    assert "by PLAINTEXT (PLAINTEXT), and would by SASL_SSL (SASL_SSL)" in kafka_switch_fault(
        OLD, NEW
    )
    written = {
        key: value if isinstance(value, str) else ",".join(value) for key, value in NEW.items()
    }
    assert kafka_switch_fault(written, NEW) == ""
    assert kafka_switch_fault({}, NEW) == ""
    told = kafka_switch_fault(written, {**NEW, "zookeeper.set.acl": True})
    assert told.startswith("brokers log in to ZooKeeper from now on, and those that are not")
    assert kafka_switch_fault(OLD, {"listeners": ["PLAINTEXT://10.0.0.1:9092"]}) == ""


def test_a_controller_that_is_behind_holds_a_restart_up() -> None:
    assert late({1: 0, 2: 400, 3: 9000}) == [3]
    assert late({1: 0, 2: -1}) == [2]
    assert late({}) == []
    assert not whole(state(late=[3]))


QUORUM = {"controller.quorum.voters": ["1@10.0.0.1:9093", "2@10.0.0.2:9093"]}


def test_where_controllers_look_for_one_another_is_not_changed_one_by_one() -> None:
    written = {"controller.quorum.voters": "1@10.0.0.1:9093,2@10.0.0.2:9095"}
    fault = kafka_switch_fault(written, QUORUM)
    assert "2@10.0.0.2:9095, and would as 1@10.0.0.1:9093,2@10.0.0.2:9093" in fault
    turned = {"controller.quorum.voters": "2@10.0.0.2:9093,1@10.0.0.1:9093"}
    assert kafka_switch_fault(turned, QUORUM) == ""
    assert kafka_switch_fault(written, OLD) == kafka_switch_fault(OLD, {**OLD, **QUORUM}) == ""
