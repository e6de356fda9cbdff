"""kafka_cluster reads what Kafka and ZooKeeper wrote."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plugins.module_utils import kafka_cluster


@contextmanager
def server(reply: bytes) -> Iterator[str]:
    """Answer one client as ZooKeeper does: a packet to its greeting, one to its question."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as connection:
                for answer in (b"\0" * 37, reply):
                    connection.recv(4096)
                    connection.sendall(struct.pack(">i", len(answer)) + answer)
                connection.recv(4096)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_the_id_that_zookeeper_knows() -> None:
    data = b'{"version":"1","id":"abc"}'
    with server(struct.pack(">iqii", 1, 7, 0, len(data)) + data) as address:
        assert kafka_cluster.in_zookeeper(f"{address}/kafka", 5) == "abc"


def test_a_zookeeper_without_kafka() -> None:
    with server(struct.pack(">iqi", 1, 7, kafka_cluster.NO_NODE)) as address:
        assert kafka_cluster.in_zookeeper(f"127.0.0.1:1,{address}", 5) == ""


def test_none_that_answers() -> None:
    assert kafka_cluster.in_zookeeper("127.0.0.1:1", 1) is None


@pytest.mark.parametrize(
    ("text", "told"), [("broker.id=1\ncluster.id=a=b \n", "a=b"), ("version=0\n", "")]
)
def test_the_id_on_the_disk(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "meta.properties").write_text(text)
    assert kafka_cluster.on_disk(str(tmp_path)) == told
    assert kafka_cluster.on_disk(str(tmp_path / "nowhere")) == ""
