"""Kafka's own protocol: what is sent is what the protocol guide says, and what comes is read to its end."""

from __future__ import annotations

import os
import socket
import struct
import threading
from pathlib import Path

import pytest
from ansible.module_utils import kafka_client
from ansible.module_utils.kafka_access import Acl, deleted
from ansible.module_utils.kafka_client import (
    Answer,
    Connection,
    KafkaError,
    array,
    compact,
    compact_array,
    login_of,
    text,
    varint,
)

LOGIN = """# Ansible managed
sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="broker" password="a=b;#c";
sasl.mechanism=PLAIN
security.protocol=SASL_SSL
ssl.truststore.location=/etc/kafka/ca.pem
ssl.truststore.type=PEM
"""


def test_client_properties_are_read_as_librdkafka_takes_them(tmp_path: Path) -> None:
    path = tmp_path / "admin.properties"
    assert login_of(path) == {}
    path.write_text(LOGIN)
    assert login_of(path) == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "broker",
        "sasl.password": "a=b;#c",
        "ssl.ca.location": "/etc/kafka/ca.pem",
    }


@pytest.mark.parametrize(("number", "data"), [(0, b"\0"), (127, b"\x7f"), (300, b"\xac\x02")])
def test_a_number_of_seven_bits_a_byte(number: int, data: bytes) -> None:
    assert varint(number) == data
    assert Answer(data).varint() == number


def test_a_flexible_list_is_read_as_it_is_written_and_past_fields_that_came_later() -> None:
    names = [b"one", b"two" * 50]
    answer = Answer(compact_array([compact(name) for name in names]) + b"\x2a", flexible=True)
    assert answer.array(answer.text) == [name.decode() for name in names]
    assert answer.take(">b") == 42
    # one tagged field, number 7, of 3 bytes
    answer = Answer(b"\x02" + compact(b"one") + b"\x01\x07\x03abc" + b"\x2a", flexible=True)
    assert answer.array(answer.text) == ["one"]
    assert answer.take(">b") == 42


def test_null_is_an_empty_text_and_what_is_cut_short_is_refused() -> None:
    assert Answer(text(None)).text() == ""
    assert Answer(b"\0", flexible=True).text() == ""
    with pytest.raises(struct.error):
        Answer(text("lab.owner")[:5]).text()


class Broker(Connection):
    """A connection whose answer is given."""

    def __init__(self, body: bytes) -> None:
        self.body, self.asked = body, b""

    def ask(self, key: int, version: int, body: bytes, flexible: bool = False) -> Answer:
        self.asked = body
        return Answer(self.body, flexible)


def partition(number: int, leader: int, replicas: list[int], in_sync: list[int]) -> bytes:
    numbers = [array([struct.pack(">i", one) for one in many]) for many in (replicas, in_sync)]
    return struct.pack(">hii", 0, number, leader) + b"".join(numbers)


def test_metadata_is_read_to_its_end() -> None:
    brokers = [
        struct.pack(">i", 1) + text("10.0.0.1") + struct.pack(">i", 9092) + text(None),
        struct.pack(">i", 2) + text("fd00::2") + struct.pack(">i", 9092) + text("rack"),
    ]
    partitions = [partition(1, -1, [2], []), partition(0, 1, [1, 2], [1])]
    topic = struct.pack(">h", 0) + text("lab.owner") + b"\0" + array(partitions)
    body = struct.pack(">i", 0) + array(brokers) + text("cluster") + struct.pack(">i", 2)
    broker = Broker(body + array([topic]))
    assert broker.metadata(all_topics=True) == {
        "brokers": {1: "10.0.0.1:9092", 2: "[fd00::2]:9092"},
        "controller": 2,
        "topics": {"lab.owner": [(1, 2, 1), (-1, 1, 0)]},
    }
    assert broker.asked == struct.pack(">i?", -1, False)
    assert Broker(broker.body).layout(all_topics=True) == {
        "brokers": {1: ("10.0.0.1:9092", ""), 2: ("[fd00::2]:9092", "rack")},
        "controller": 2,
        "topics": {"lab.owner": {0: (1, [1, 2], [1]), 1: (-1, [2], [])}},
    }


def replicas(*some: tuple[int, int]) -> bytes:
    """Return controllers as DescribeQuorum, version 1, tells of them: the number of each, and when it had caught up."""
    return compact_array([struct.pack(">iqqq", number, 45, at + 9, at) for number, at in some])


def test_the_quorum_is_read_to_its_end() -> None:
    some = replicas((1, 100_000), (2, 99_600), (3, -1))
    partition = struct.pack(">ihiiq", 0, 0, 1, 7, 44) + some + replicas((4, 99_000))
    topics = compact_array([compact(b"__cluster_metadata") + compact_array([partition])])
    broker = Broker(struct.pack(">h", 0) + topics + b"\0")
    assert broker.quorum() == (1, {1: 0, 2: 400, 3: -1})
    partition = struct.pack(">i", 0) + b"\0"
    asked = b"\x02" + compact(b"__cluster_metadata") + b"\x02" + partition + b"\0"
    assert broker.asked == asked
    with pytest.raises(KafkaError, match="quorum: error 35"):
        Broker(struct.pack(">h", 35)).quorum()


def test_settings_are_read_to_their_end() -> None:
    word = text("min.insync.replicas")
    entry = word + text("2") + b"\0\x05\0" + array([word + text("1") + b"\x05"])
    one = struct.pack(">h", 0) + text(None) + b"\x02" + text("lab.owner") + array([entry])
    gone = struct.pack(">h", 3) + text("no such topic") + b"\x02" + text("lab.gone") + array([])
    broker = Broker(struct.pack(">i", 0) + array([one, gone, one]))
    assert broker.settings(["lab.owner"], "min.insync.replicas") == {"lab.owner": "2"}
    assert broker.asked == array([b"\x02" + text("lab.owner") + array([word])]) + b"\0"


def test_an_acl_is_packed_as_kafka_numbers_it_and_shown_as_it_is_declared() -> None:
    acl = Acl("topic", "lab.", "prefixed", "User:lab", "*", "write", "allow")
    assert acl.packed() == b"\x02\0\x04lab.\x04\0\x08User:lab\0\x01*\x04\x03"
    assert (acl.user, str(acl)) == ("lab", "allow write topic lab.*")
    assert acl._replace(principal="Group:lab").user == ""


def test_a_refusal_within_a_list_is_an_error() -> None:
    match = struct.pack(">h", 0) + text(None) + b"\x02" + text("lab.") + b"\x04"
    match += text("User:lab") + text("*") + b"\x04\x03"
    well = struct.pack(">h", 0) + text(None) + array([match, match])
    answer = Answer(well + b"\x2a")
    deleted(answer)
    assert answer.take(">b") == 42
    with pytest.raises(KafkaError, match="not yours"):
        deleted(Answer(struct.pack(">h", 31) + text("not yours") + array([])))


class Impostor(threading.Thread):
    """Somebody who listens at the broker's port while it is down, and answers as it would."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.heard = b""
        self.start()

    def run(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            request = connection.recv(4096)
            answer = request[8:12] + struct.pack(">h", 0) + array([text("PLAIN")])
            connection.sendall(struct.pack(">i", len(answer)) + answer)
            self.heard = connection.recv(4096)


@pytest.mark.parametrize("known", [False, True])
def test_a_password_is_sent_to_kafkas_own_user_alone(
    monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    impostor = Impostor()
    login = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}
    login |= {"sasl.username": "broker", "sasl.password": "hush-of-a-test"}
    uids: list[int] = []

    def brokers(uid: int) -> bool:
        uids.append(uid)
        return known

    monkeypatch.setattr(kafka_client, "brokers", brokers)
    said = "closed the connection" if known else "no password is sent"
    with pytest.raises(ConnectionError, match=said):
        Connection(impostor.address, login, 5)
    impostor.join(5)
    assert (b"hush-of-a-test" in impostor.heard) is known
    assert uids == [os.getuid()]
