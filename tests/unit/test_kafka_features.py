"""Features of a Kafka cluster: read out of what a broker tells, and raised to what it knows, but for one."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Any

import pytest
from ansible.module_utils.kafka_client import (
    Answer,
    Connection,
    KafkaError,
    compact,
    compact_array,
    varint,
)

from plugins.modules import kafka_features as module
from tests.unit.run_module import run_module

KNOWN = {"metadata.version": (7, 33), "kraft.version": (0, 1), "group.version": (0, 1)}


def field(number: int, data: bytes) -> bytes:
    return varint(number) + varint(len(data)) + data


def versions(finalized: dict[str, int]) -> bytes:
    """Return an answer to ApiVersions, version 4: two APIs, what the broker knows, and what the cluster has."""
    known = [compact(name.encode()) + struct.pack(">hh", *ends) for name, ends in KNOWN.items()]
    has = [
        compact(name.encode()) + struct.pack(">hh", level, level)
        for name, level in finalized.items()
    ]
    fields = [
        field(0, compact_array(known)),
        field(1, struct.pack(">q", 19)),
        field(2, compact_array(has)),
    ]
    apis = compact_array([struct.pack(">hhh", 3, 0, 13), struct.pack(">hhh", 18, 0, 5)])
    body = apis + struct.pack(">i", 0) + varint(len(fields)) + b"".join(fields)
    return struct.pack(">h", 0) + body


class Given(Connection):
    """A connection whose answer is given, and read as far as `Connection.ask` reads it."""

    def __init__(self, body: bytes, header: bytes = b"") -> None:
        self.body, self.header, self.asked = body, header, b""

    def ask(self, key: int, version: int, body: bytes, flexible: bool = False) -> Answer:
        self.asked = body
        answer = Answer(struct.pack(">i", 1) + self.header + self.body, flexible)
        answer.take(">i")
        answer.tags()
        return answer


def test_features_are_read_to_their_end() -> None:
    known, has = module.features(Given(versions({"metadata.version": 21})))
    assert known == {"metadata.version": 33, "kraft.version": 1, "group.version": 1}
    assert has == {"metadata.version": 21}
    with pytest.raises(KafkaError, match="versions: error 35"):
        module.features(Given(struct.pack(">h", 35)))


def test_all_but_the_version_of_the_quorum_are_raised() -> None:
    known = {"metadata.version": 33, "kraft.version": 1, "group.version": 1}
    assert module.higher(known, {"metadata.version": 21}) == {
        "metadata.version": 33,
        "group.version": 1,
    }
    assert module.higher(known, {"metadata.version": 33, "group.version": 1}) == {}
    # a broker of the version before, in a roll
    assert module.higher({"metadata.version": 21}, {"metadata.version": 33}) == {}


def test_what_is_raised_is_sent_as_kafka_takes_it() -> None:
    good = struct.pack(">ih", 0, 0) + compact(b"") + compact_array([])
    connection = Given(good, b"\0")
    module.raise_features(connection, {"metadata.version": 33}, 60)
    assert connection.asked == (
        struct.pack(">i", 60_000) + b"\x02" + compact(b"metadata.version") + b"\0\x21\x01\0" + b"\0"
    )
    one = compact(b"group.version") + struct.pack(">h", 95) + compact(b"not all brokers")
    bad = struct.pack(">ih", 0, 0) + compact(b"") + compact_array([one])
    with pytest.raises(KafkaError, match="not all brokers"):
        module.raise_features(Given(bad, b"\0"), {"group.version": 1}, 60)


class Broker(threading.Thread):
    """Answers any request as if it asked for versions."""

    def __init__(self, body: bytes) -> None:
        super().__init__(daemon=True)
        self.listener, self.body = socket.create_server(("127.0.0.1", 0)), body
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                answer = struct.pack(">i", 1) + self.body
                connection.sendall(struct.pack(">i", len(answer)) + answer)


def run(body: bytes, check: bool = False, **more: Any) -> dict[str, Any]:
    broker = Broker(body)
    try:
        return run_module(
            "kafka_features", {"bootstrap_servers": broker.address, **more}, check=check
        )
    finally:
        broker.listener.close()


def test_the_module_says_what_is_behind_and_what_would_be_raised() -> None:
    told = run(versions({"metadata.version": 21}))
    assert (told["changed"], told["behind"]) == (False, ["group.version", "metadata.version"])
    told = run(versions({"metadata.version": 21}), check=True, finish=True)
    assert (told["changed"], told["behind"]) == (True, [])
    assert told["diff"]["before"] == "group.version: 0\nmetadata.version: 21\n"
    assert told["diff"]["after"] == "group.version: 1\nmetadata.version: 33\n"
    told = run(versions({"metadata.version": 33, "group.version": 1}), finish=True)
    assert (told["changed"], told["behind"]) == (False, [])


def test_nobody_who_answers_is_an_error_but_in_a_dry_run() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # which nobody listens at
        arguments = {"bootstrap_servers": f"127.0.0.1:{taken.getsockname()[1]}"}
        assert "kafka_finalize is false" in run_module("kafka_features", arguments)["msg"]
        assert run_module("kafka_features", arguments, check=True)["behind"] == []
