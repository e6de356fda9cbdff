"""The module that asks a ZooKeeper server what it does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.unit.run_module import run_module


@contextmanager
def server(*synced: int, mode: str = "leader") -> Iterator[int]:
    """Answer `srvr` with a mode, and each `mntr` with the next number of followers; yield the port."""
    numbers = list(synced)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                command = connection.recv(4)
                text = f"Zxid: 0x0\nMode: {mode}\n"
                if command == b"mntr":
                    number = numbers.pop(0) if len(numbers) > 1 else numbers[0]
                    text = f"zk_version\t3.9\nzk_synced_followers\t{number}\n"
                if not mode:
                    text = "This ZooKeeper instance is not currently serving requests\n"
                connection.sendall(text.encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield int(listener.getsockname()[1])
    listener.close()


def test_a_leader_is_waited_for_until_its_followers_have_all() -> None:
    with server(0, 1, 2) as port:
        told = run_module(
            "zookeeper_mode", {"address": "127.0.0.1", "port": port, "followers": 2, "timeout": 20}
        )
    assert (told["mode"], told["synced"]) == ("leader", 2)


@pytest.mark.parametrize(("mode", "said"), [("follower", ""), ("", "not currently serving")])
def test_it_says_what_it_heard(mode: str, said: str) -> None:
    with server(mode=mode) as port:
        told = run_module("zookeeper_mode", {"address": "127.0.0.1", "port": port, "followers": 2})
    assert told["mode"] == mode
    assert said in told["said"]
    assert not told.get("failed")


def test_no_answer_is_none_of_the_modes() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # which nobody listens at
        told = run_module(
            "zookeeper_mode", {"address": "127.0.0.1", "port": taken.getsockname()[1]}
        )
    assert (told["mode"], told["synced"]) == ("", 0)
    assert "refused" in told["said"]
