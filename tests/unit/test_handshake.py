"""Daphne's readiness probe: what it takes for an answer, and that it gives up when the instance is gone."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

PROBE = Path(__file__).resolve().parents[2] / "roles" / "daphne" / "files" / "handshake.py"


def probe(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROBE), "--timeout", "1", *options, str(path), "/ws/"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)


@pytest.fixture
def answer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Answer each handshake with a status; return the socket's path."""
    path = tmp_path / "daphne.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(f"HTTP/1.1 {request.param} Well\r\n\r\n".encode())

        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        # closing alone would not wake the thread that waits in accept
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("answer", "status"), [(101, 0), (403, 0), (404, 1), (500, 1)], indirect=["answer"]
)
def test_an_instance_that_accepts_or_refuses_is_alive(answer: Path, status: int) -> None:
    done = probe(answer)
    assert done.returncode == status, done.stderr
    assert ("daphne_health_path" in done.stderr) == bool(status)


def test_nobody_is_waited_for_who_has_ended(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    begun = time.monotonic()
    done = probe(tmp_path / "daphne.sock", "--pid", str(gone.pid), "--timeout", "60")
    assert done.returncode == 1
    assert "Daphne ended" in done.stderr
    assert time.monotonic() - begun < 30


def test_one_that_is_there_is_waited_for_until_the_time_is_over(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as there:
        done = probe(tmp_path / "daphne.sock", "--pid", str(there.pid))
        there.kill()
    assert done.returncode == 1
    assert "for 1 seconds" in done.stderr
