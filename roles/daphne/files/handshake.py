#!/usr/bin/python3
"""Wait until a Daphne instance answers a WebSocket handshake on its private UNIX socket.

Exit status 0 after 101 (accepted) or 403 (refused by the project, so alive), 1 when the time is over with another
answer, which is printed, or when the instance's process has ended. RFC 6455, section 4.1, is the handshake.
"""

from __future__ import annotations

import argparse
import base64
import os
import socket
import sys
import time

ALIVE = {101, 403}


def handshake(path: str, host: str, url: str, seconds: float) -> int:
    """Send one handshake and return the status of the answer; OSError when there is none in time."""
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET {url} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nUser-Agent: switchboard-readiness\r\n\r\n"
    )
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(path)
        connection.sendall(request.encode("ascii"))
        answer = b""
        while b"\r\n" not in answer:
            piece = connection.recv(4096)
            if not piece:
                raise OSError("the connection was closed without an answer")
            answer += piece
    return int(answer.split(b" ", 2)[1])


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
    """Try until the instance answers as it should, its process has ended or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("socket", help="the instance's UNIX socket")
    parser.add_argument("url", help="the WebSocket path")
    parser.add_argument("--host", default="localhost", help="the Host and Origin to send")
    parser.add_argument("--pid", type=int, default=0, help="the instance's process")
    parser.add_argument("--timeout", type=float, default=30, help="seconds in all")
    options = parser.parse_args()
    end = time.monotonic() + options.timeout
    said = "nothing"
    while time.monotonic() < end:
        if options.pid and not alive(options.pid):
            print(
                "Daphne ended before it answered a WebSocket handshake; its own messages stand above.",
                file=sys.stderr,
            )
            return 1
        try:
            status = handshake(
                options.socket, options.host, options.url, max(0.1, end - time.monotonic())
            )
        except (OSError, ValueError, IndexError) as error:
            said = str(error)
        else:
            if status in ALIVE:
                return 0
            said = f"status {status}"
        time.sleep(0.1)
    print(
        f"A WebSocket handshake on {options.url} (daphne_health_path) with the host {options.host} "
        "(daphne_health_host) "
        f"got {said}, not 101 or 403, for {options.timeout:g} seconds. "
        "Name a path that the project's routing knows, or fix the project.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
