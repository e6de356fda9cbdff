"""What the topics module plans: it creates, grows and configures, and refuses what loses records."""

from __future__ import annotations

import sys
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils import kafka_admin as kafka

from plugins.modules import kafka_topics as module

THERE = {
    "lab.group": {
        "partitions": 3,
        "replication_factor": 1,
        "config": {"retention.ms": "1000", "cleanup.policy": "delete"},
        "own": {"retention.ms": "1000"},
    }
}


def declared(**settings: Any) -> dict[str, Any]:
    base = {
        "name": "lab.group",
        "partitions": 3,
        "replication_factor": 1,
        "config": {},
        "state": "present",
    }
    return {**base, **settings}


def planned(*topics: dict[str, Any], allow_delete: bool = False) -> dict[str, list[Any]]:
    return module.plan(list(topics), THERE, allow_delete)


NOTHING: dict[str, list[Any]] = {"create": [], "grow": [], "configure": [], "delete": []}


def test_a_topic_as_declared_needs_nothing() -> None:
    assert planned(declared(config={"retention.ms": 1000})) == NOTHING


def test_a_replication_factor_that_is_not_declared_is_not_compared() -> None:
    assert planned(declared(replication_factor=None)) == NOTHING


def test_a_missing_topic_is_created() -> None:
    topic = declared(name="lab.owner")
    assert planned(topic) == {**NOTHING, "create": [topic]}


def test_partitions_grow() -> None:
    assert planned(declared(partitions=6)) == {**NOTHING, "grow": [("lab.group", 6)]}


def test_a_setting_is_changed_alone() -> None:
    topic = declared(config={"retention.ms": 2000, "cleanup.policy": "delete"})
    assert planned(topic)["configure"] == [("lab.group", {"retention.ms": "2000"})]


def test_null_gives_a_setting_back_once() -> None:
    topic = declared(config={"retention.ms": None, "cleanup.policy": None})
    assert planned(topic)["configure"] == [("lab.group", {"retention.ms": None})]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"partitions": 2}, ["2 partitions", "has 3", "cannot take partitions away"]),
        ({"replication_factor": 2}, ["replication factor 2", "has 1", "kafka_move_replicas"]),
        ({"state": "absent"}, ["absent", "kafka_topics_allow_delete"]),
    ],
)
def test_what_loses_records_is_refused(settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(kafka.Refused) as refusal:
        planned(declared(name="lab.new"), declared(**settings))
    for word in ["kafka_topics", "lab.group", *words]:
        assert word in str(refusal.value)


def test_a_topic_is_deleted_with_permission() -> None:
    assert planned(declared(state="absent"), allow_delete=True)["delete"] == ["lab.group"]


def test_an_absent_topic_that_is_not_there_needs_no_permission() -> None:
    assert planned(declared(name="lab.former", state="absent")) == NOTHING


@pytest.mark.parametrize("topics", [[declared(), declared()], [declared(partitions=0)]])
def test_a_list_that_cannot_be_is_refused(topics: list[dict[str, Any]]) -> None:
    with pytest.raises(kafka.Refused, match=r"kafka_topics .*lab\.group"):
        module.check(topics)


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (1000, "1000"), (0.5, "0.5"), (["a", "b"], "a,b"), ("x", "x"), (None, None)],
)
def test_settings_are_compared_as_kafka_writes_them(value: Any, text: str | None) -> None:
    assert kafka.as_text(value) == text


def test_the_diff_shows_what_changes_and_nothing_else() -> None:
    topics = [
        declared(partitions=6, config={"retention.ms": 2000}),
        declared(name="lab.owner", replication_factor=None, config={"cleanup.policy": "compact"}),
    ]
    before, after = module.states(topics, THERE, planned(*topics))
    assert module.render(before) == (
        "lab.group: partitions 3, replication factor 1\n  retention.ms: 1000\n"
    )
    assert module.render(after) == (
        "lab.group: partitions 6, replication factor 1\n  retention.ms: 2000\n"
        "lab.owner: partitions 1, replication factor (default)\n  cleanup.policy: compact\n"
    ).replace("partitions 1,", "partitions 3,")


class StartingBroker:
    """A broker whose list is empty for some looks, though the controller has the topic lab.group."""

    def __init__(self, early: int, code: int) -> None:
        self.early, self.code = early, code

    def list_topics(self, timeout: int) -> SimpleNamespace:
        self.early -= 1
        return SimpleNamespace(topics={} if self.early >= 0 else {"lab.group": "as it is"})

    def create_topics(
        self, topics: list[str], validate_only: bool, request_timeout: int
    ) -> dict[str, Future[None]]:
        assert validate_only
        answers = {}
        for name in topics:
            answers[name] = Future[None]()
            if name == "lab.group":
                error = SimpleNamespace(code=lambda: self.code)
                answers[name].set_exception(KafkaProblem(error))
            else:
                answers[name].set_result(None)
        return answers


class KafkaProblem(Exception):
    pass


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> kafka.Cluster:
    client: Any = SimpleNamespace(
        KafkaException=KafkaProblem,
        KafkaError=SimpleNamespace(TOPIC_ALREADY_EXISTS=36, INVALID_REPLICATION_FACTOR=38),
    )
    admin: Any = SimpleNamespace(NewTopic=lambda name, partitions, replicas: name)
    monkeypatch.setitem(sys.modules, "confluent_kafka", client)
    monkeypatch.setitem(sys.modules, "confluent_kafka.admin", admin)
    found = kafka.Cluster.__new__(kafka.Cluster)
    found.timeout = 1
    return found


@pytest.mark.parametrize("code", [36, 38])
def test_the_list_of_a_broker_that_has_just_started_is_waited_for(
    cluster: kafka.Cluster, code: int
) -> None:
    cluster.admin = StartingBroker(2, code)
    assert cluster.listed(["lab.group", "lab.new"]) == {"lab.group": "as it is"}


def test_a_list_that_never_gets_whole_is_refused(cluster: kafka.Cluster) -> None:
    cluster.admin = StartingBroker(1000, 36)
    with pytest.raises(kafka.Refused, match=r"kafka_topics .*lab\.group.* after 1 seconds"):
        cluster.listed(["lab.group"])
