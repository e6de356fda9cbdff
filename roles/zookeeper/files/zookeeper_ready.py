#!/usr/bin/python3
"""Wait until a ZooKeeper server answers.

A single server is ready when `srvr` names its mode. A member of an ensemble is ready when it answers `ruok`: it
serves nobody before a majority has started, and the others are started at the same time, or later.
Exit status 0 when ready, 1 when the time is over or the server's process has ended.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time

# Seconds for one question: a connection that came while the server was starting may never be answered.
ATTEMPT = 2.0


def ask(address: str, port: int, command: str, seconds: float) -> str:
    """Send a four-letter command and return the answer; OSError when there is none in time."""
    with socket.create_connection((address, port), timeout=seconds) as connection:
        connection.sendall(command.encode("ascii"))
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    return answer.decode("utf-8", "replace")


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
    """Ask until the server is ready, its process has ended or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--ensemble", action="store_true", help="one of several servers")
    parser.add_argument("--pid", type=int, default=0, help="the server's process")
    parser.add_argument("--timeout", type=float, default=60, help="seconds in all")
    options = parser.parse_args()
    command, sign = ("ruok", "imok") if options.ensemble else ("srvr", "Mode: ")
    end = time.monotonic() + options.timeout
    said = "nothing"
    while time.monotonic() < end:
        if options.pid and not alive(options.pid):
            print(
                "ZooKeeper ended before it was ready; its own messages stand above.",
                file=sys.stderr,
            )
            return 1
        try:
            answer = ask(
                options.address,
                options.port,
                command,
                max(0.1, min(ATTEMPT, end - time.monotonic())),
            )
        except OSError as error:
            said = str(error)
        else:
            if sign in answer:
                return 0
            said = answer.strip() or "an empty answer"
        time.sleep(0.1)
    print(
        f"ZooKeeper on {options.address}:{options.port} answered {command} with {said!r} "
        f"for {options.timeout:g} seconds (zookeeper_start_timeout).",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
