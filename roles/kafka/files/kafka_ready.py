#!/usr/bin/python3
"""Wait until a Kafka broker answers and knows the cluster's controller.

Needs nothing but Python and kafka_client beside it. Exit status 0 when the broker is ready, 1 when the time is over or
the broker's process has ended.
"""

from __future__ import annotations

import argparse
import os
import struct
import sys
import time

from kafka_client import Connection, login_of

# Seconds for one question; a broker that is starting may leave it open.
ATTEMPT = 5.0


def ask(address: str, login: dict[str, str], seconds: float) -> tuple[list[int], int]:
    """Return which brokers there are and the controller's id, -1 for none."""
    with Connection(address, login, seconds) as connection:
        told = connection.metadata()
    return sorted(told["brokers"]), told["controller"]


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
    parser.add_argument("--login", default="", help="the file of client properties to log in by")
    parser.add_argument("--node", type=int, help="the broker's number, which has to be among them")
    parser.add_argument("--pid", type=int, default=0, help="the broker's process")
    parser.add_argument("--timeout", type=float, default=300, help="seconds in all")
    options = parser.parse_args()
    login = login_of(options.login) if options.login else {}
    end = time.monotonic() + options.timeout
    said = "nothing"
    while time.monotonic() < end:
        if options.pid and not alive(options.pid):
            print("Kafka ended before it was ready; its own messages stand above.", file=sys.stderr)
            return 1
        try:
            brokers, controller = ask(
                f"{options.address}:{options.port}",
                login,
                max(0.1, min(ATTEMPT, end - time.monotonic())),
            )
        except (OSError, ValueError, struct.error) as error:
            said = str(error)
        else:
            if brokers and controller >= 0 and options.node in (None, *brokers):
                return 0
            said = f"{len(brokers)} brokers and no controller"
            if controller >= 0:
                said = f"brokers {', '.join(map(str, brokers))}, without {options.node}"
        time.sleep(0.1)
    print(
        f"Kafka on {options.address}:{options.port} said {said!r} for {options.timeout:g} seconds "
        "(kafka_start_timeout).",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
