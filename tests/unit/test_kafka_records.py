"""How records are read and written, with a librdkafka that does as it is told."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils import kafka_records
from ansible.module_utils.kafka_files import Record
from ansible.module_utils.kafka_records import RecordsError, read_all

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
