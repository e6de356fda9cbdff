"""How records are read and written, with a librdkafka that does as it is told."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils import kafka_records
from ansible.module_utils.kafka_files import Record, Sink, file_of, records_of
from ansible.module_utils.kafka_records import RecordsError, read_all, there

from plugins.modules import kafka_records as module

EOF, PART = -191, ("a", 0)


class Message:
    """One of librdkafka's: a record, or the end of the partition."""

    def __init__(self, offset: int, *, end: bool = False) -> None:
        self.place, self.end = offset, end

    def error(self) -> Any:
        return SimpleNamespace(code=lambda: EOF) if self.end else None

    def offset(self) -> int:
        return self.place

    def topic(self) -> str:
        return PART[0]

    def partition(self) -> int:
        return PART[1]

    def timestamp(self) -> tuple[int, int]:
        return 1, 5

    def key(self) -> bytes:
        return b"key"

    value = key

    def headers(self) -> None:
        return None


class Client:
    """A consumer that gets what it is given, in turn, and then nothing."""

    def __init__(self, *messages: Message) -> None:
        self.messages = list(messages)

    def assign(self, _: Any) -> None:
        """Take what it is given."""

    def get_watermark_offsets(self, *_: Any, **__: Any) -> tuple[int, int]:
        return 0, 2

    def close(self) -> None:
        """Do nothing."""

    def consume(self, _: int, __: float) -> list[Message]:
        return [self.messages.pop(0)] if self.messages else []


@pytest.fixture(autouse=True)
def librdkafka(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    made = SimpleNamespace(
        KafkaError=SimpleNamespace(_PARTITION_EOF=EOF), TopicPartition=lambda *told: told
    )
    monkeypatch.setitem(sys.modules, "confluent_kafka", made)
    for name in ("IDLE", "OPEN"):
        monkeypatch.setattr(kafka_records, name, 0.05, raising=False)
    return made


def test_what_an_open_transaction_hides_is_waited_for() -> None:
    seen = list[int]()

    def see(_: Any, record: Record) -> None:
        seen.append(record.offset)

    client = Client(Message(0), Message(1, end=True), Message(2), Message(4, end=True))
    read_all(client, {PART: -2}, see, {PART: 4})
    assert seen == [0, 2]
    assert client.messages == []


def test_a_transaction_that_stays_open_is_told() -> None:
    with pytest.raises(RecordsError, match="a transaction is open in a, and hides what came after"):
        read_all(Client(Message(1, end=True)), {PART: -2}, lambda *_: None, {PART: 4})
    with pytest.raises(RecordsError, match="nothing came of a for"):
        read_all(Client(), {PART: -2}, lambda *_: None, {PART: 4})


def test_users_are_asked_over_a_connection_that_is_as_old_as_the_question(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A broker closes those that nobody uses for ten minutes, and records may take longer."""
    done = list[str]()

    class Access:
        def __init__(self, *_: Any) -> None:
            done.append("connect")

        def acls(self) -> set[Any]:
            return set()

        def change_acls(self, *_: Any) -> None:
            done.append("acls")

    login = tmp_path / "login"
    login.write_text("security.protocol=SASL_SSL\n")
    monkeypatch.setattr(module, "Access", Access)
    monkeypatch.setattr(module, "Cluster", lambda *_: SimpleNamespace(find=lambda *_: {}))
    monkeypatch.setattr(module, "there", lambda *_: {})
    monkeypatch.setattr(module, "send", lambda *_: done.append("send"))
    monkeypatch.setattr(module, "commit", lambda *_: [])
    for name in ("skip_numbers", "make", "policies"):
        monkeypatch.setattr(module.Move, name, lambda *_: None)
    options = {"bootstrap_servers": "x:1", "config": str(login), "folder": str(tmp_path)}
    plan = {"producers": 0, "topics": {}, "counts": [], "groups": {}, "acls": [], "quotas": {}}
    module.Move(options).write(plan)
    assert done == ["send", "connect", "acls"]


@pytest.mark.parametrize(
    ("old", "settings", "found"),
    [
        (5, {}, 2),
        (0, {}, 2),  # librdkafka takes 0 for none
        (9, {"message.timestamp.type": "LogAppendTime"}, 2),
        (9, {"cleanup.policy": "compact,delete"}, 2),
        (9, {}, "a-0 has 2 records already, and none as it was"),
    ],
)
def test_what_came_is_compared_by_what_the_other_cluster_keeps(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    old: int,
    settings: dict[str, str],
    found: int | str,
) -> None:
    client = Client(Message(0), Message(1), Message(2, end=True))
    monkeypatch.setattr(kafka_records, "consumer", lambda *_: client)
    sink = Sink(file_of(tmp_path, PART))
    for number in range(2):
        sink.add(Record(number, old, b"key", b"key"))
    sink.close()
    asked: tuple[Any, ...] = ("x:1", {}, tmp_path, {PART: 2}, {"a": settings})
    if isinstance(found, int):
        assert there(*asked) == {PART: found}
        return
    with pytest.raises(RecordsError, match=found):  # or each run would append them once more
        there(*asked)


def test_settings_of_all_brokers_count_for_a_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        {},
        {"a": "compact"},
        {"a": "LogAppendTime"},
    ]  # at first the broker has not heard of it
    wire = SimpleNamespace(settings=lambda *_: answers.pop(0))
    monkeypatch.setattr(module, "Connection", lambda *_: nullcontext(wire))
    monkeypatch.setattr(module, "Cluster", lambda *_: None)
    move = module.Move({"bootstrap_servers": "x:1", "config": "", "folder": "/x"})
    assert move.policies(["a"]) == {
        "a": {"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"}
    }


class Producer:
    """A producer that keeps what it is given until it is flushed."""

    def __init__(self, _: Any) -> None:
        self.waiting, self.most = list[Any](), 0

    def produce(self, *told: Any, **_: Any) -> None:
        self.waiting.append(told)
        self.most = max(self.most, len(self.waiting))

    def poll(self, _: float) -> None:
        """Send nothing."""

    def flush(self, _: float) -> int:
        self.waiting.clear()
        return 0


def test_records_that_wait_to_be_sent_take_little_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, librdkafka: SimpleNamespace
) -> None:
    made = Producer({})
    librdkafka.Producer = lambda _: made
    monkeypatch.setattr(kafka_records, "QUEUED", 1000, raising=False)
    sink = Sink(file_of(tmp_path, PART))
    for number in range(20):
        sink.add(Record(number, 5, None, bytes(250)))
    sink.close()
    kafka_records.send("x:1", {}, tmp_path, {PART: 0})
    assert made.waiting == []
    assert 1 < made.most < 5


def test_free_space_is_looked_at_before_many_bytes_are_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = Client(*(Message(number) for number in range(9)), Message(9, end=True))
    looks = iter([100, 100])
    room = SimpleNamespace(f_bavail=0, f_frsize=1 << 20)

    def look(_: Any) -> SimpleNamespace:
        room.f_bavail = next(looks, 9)
        return room

    monkeypatch.setattr(kafka_records, "consumer", lambda *_: client)
    monkeypatch.setattr(kafka_records, "CHECKED", 100)  # two records
    monkeypatch.setattr(os, "statvfs", look)
    with pytest.raises(RecordsError, match="has 9 MiB left, and 50 have to stay free"):
        kafka_records.fetch("x:1", {}, tmp_path, [PART], 50)
    assert 2 < len(list(records_of(file_of(tmp_path, PART)))) < 9
