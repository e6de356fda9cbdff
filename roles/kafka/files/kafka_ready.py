#!/usr/bin/python3
"""Wait until a Kafka broker answers and knows the cluster's controller.

Asks with the Metadata request, version 4, of Kafka's protocol; needs nothing but Python. Exit status 0 when the
broker is ready, 1 when the time is over or the broker's process has ended.
"""

from __future__ import annotations

import argparse
import os
import socket
import struct
import sys
import time

METADATA = 3
VERSION = 4
CLIENT = b"switchboard-readiness"
# Seconds for one question; a broker that is starting may leave it open.
ATTEMPT = 5.0


def request(correlation: int) -> bytes:
    """Build a Metadata request for no topic at all, with its length in front (4 bytes, big-endian)."""
    header = struct.pack(
        f">hhih{len(CLIENT)}s", METADATA, VERSION, correlation, len(CLIENT), CLIENT
    )
    # an empty array of topics, and false for allow_auto_topic_creation
    body = header + struct.pack(">i?", 0, False)
    return struct.pack(">i", len(body)) + body


def parse(answer: bytes, correlation: int) -> tuple[int, int]:
    """Return how many brokers the answer names and the controller's id, -1 for none.

    The answer is: correlation id, throttle time, array of (node id, host, port, rack), cluster id, controller id.

    Raises:
        ValueError: the answer belongs to another request.
        struct.error: the answer is cut short.
    """
    position = 0

    def take(form: str) -> int:
        nonlocal position
        (value,) = struct.unpack_from(form, answer, position)
        position += struct.calcsize(form)
        return int(value)

    def skip_text() -> None:
        nonlocal position
        length = take(">h")
        position += max(0, length)

    if take(">i") != correlation:
        raise ValueError("an answer to another request")
    take(">i")
    brokers = take(">i")
    for _ in range(brokers):
        take(">i")
        skip_text()
        take(">i")
        skip_text()
    skip_text()
    return brokers, take(">i")


def receive(connection: socket.socket, size: int) -> bytes:
    """Read exactly that many bytes; OSError when the connection ends first."""
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise OSError("the connection was closed")
        data += piece
    return data


def ask(address: str, port: int, seconds: float) -> tuple[int, int]:
    """Return how many brokers there are and the controller's id."""
    with socket.create_connection((address, port), timeout=seconds) as connection:
        connection.sendall(request(1))
        (size,) = struct.unpack(">i", receive(connection, 4))
        return parse(receive(connection, size), 1)


def alive(pid: int) -> bool:
    """Tell whether a process of the same user exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main() -> int:
    """Ask until the broker is ready, its process has ended or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--pid", type=int, default=0, help="the broker's process")
    parser.add_argument("--timeout", type=float, default=300, help="seconds in all")
    options = parser.parse_args()
    end = time.monotonic() + options.timeout
    said = "nothing"
    while time.monotonic() < end:
        if options.pid and not alive(options.pid):
            print("Kafka ended before it was ready; its own messages stand above.", file=sys.stderr)
            return 1
        try:
            brokers, controller = ask(
                options.address, options.port, max(0.1, min(ATTEMPT, end - time.monotonic()))
            )
        except (OSError, ValueError, struct.error) as error:
            said = str(error)
        else:
            if brokers and controller >= 0:
                return 0
            said = f"{brokers} brokers and no controller"
        time.sleep(0.1)
    print(
        f"Kafka on {options.address}:{options.port} said {said!r} for {options.timeout:g} seconds "
        "(kafka_start_timeout).",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
