"""The readiness probes read what ZooKeeper and Kafka answer, and give up when the service is gone."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROLES = Path(__file__).resolve().parents[2] / "roles"
KAFKA = ROLES / "kafka" / "files" / "kafka_ready.py"
ZOOKEEPER = ROLES / "zookeeper" / "files" / "zookeeper_ready.py"


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def metadata(brokers: int, controller: int, correlation: int = 1) -> bytes:
    """Build the body of a Metadata response, version 4, without topics."""
    body = struct.pack(">iii", correlation, 0, brokers)
    for number in range(brokers):
        body += struct.pack(">i", number) + text("10.0.0.1") + struct.pack(">ih", 9092, -1)
    return body + text("XpQQqun9TnyqkH3_VCFqyw") + struct.pack(">ii", controller, 0)


@contextmanager
def server(answer: Callable[[bytes], bytes]) -> Iterator[int]:
    """Answer each connection's first bytes and close it; yields the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(10)
                connection.sendall(answer(connection.recv(4096)))

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        # closing alone would not wake the thread that waits in accept
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def probe(path: Path, port: int, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(path), "--timeout", "1", *options, "127.0.0.1", str(port)]
    # on a host kafka_client stands beside it
    env = {**os.environ, "PYTHONPATH": str(ROLES.parent / "plugins" / "module_utils")}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=90, env=env)


def framed(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def test_kafka_is_ready_with_a_controller() -> None:
    with server(lambda _: framed(metadata(1, 1))) as port:
        done = probe(KAFKA, port)
    assert done.returncode == 0, done.stderr


def test_kafka_is_not_ready_without_one() -> None:
    with server(lambda _: framed(metadata(1, -1))) as port:
        done = probe(KAFKA, port)
    assert done.returncode == 1
    assert "no controller" in done.stderr
    assert "kafka_start_timeout" in done.stderr


def test_kafka_is_not_ready_while_others_do_not_know_of_it() -> None:
    with server(lambda _: framed(metadata(2, 1))) as port:
        assert probe(KAFKA, port, "--node", "1").returncode == 0
        done = probe(KAFKA, port, "--node", "2")
    assert done.returncode == 1
    assert "brokers 0, 1, without 2" in done.stderr


@pytest.mark.parametrize(
    ("answer", "options", "status"),
    [
        (b"Zookeeper version: 3.9.3\nMode: standalone\n", [], 0),
        (b"This ZooKeeper instance is not currently serving requests\n", [], 1),
        (b"imok", ["--ensemble"], 0),
        (b"", ["--ensemble"], 1),
    ],
)
def test_zookeeper_is_ready_when_it_serves(answer: bytes, options: list[str], status: int) -> None:
    with server(lambda _: answer) as port:
        assert probe(ZOOKEEPER, port, *options).returncode == status


@pytest.mark.parametrize("path", [KAFKA, ZOOKEEPER])
def test_a_probe_gives_up_when_the_process_has_ended(path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with server(lambda _: b"") as port:
        done = probe(path, port, "--pid", str(gone.pid), "--timeout", "60")
    assert done.returncode == 1
    assert "ended before it was ready" in done.stderr


def test_a_question_that_is_never_answered_is_asked_again() -> None:
    """Seen on a busy host: ZooKeeper accepted a connection while it started, and never answered on it."""
    calls = []

    def answer(_: bytes) -> bytes:
        calls.append(1)
        if len(calls) == 1:
            threading.Event().wait(3)
        return b"Zookeeper version: 3.9.3\nMode: standalone\n"

    with server(answer) as port:
        done = probe(ZOOKEEPER, port, "--timeout", "20")
    assert done.returncode == 0, done.stderr
    assert len(calls) == 2
