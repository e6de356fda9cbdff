"""A client of the ensemble, run on one of its hosts: `client.py SERVERS USER PASSWORD write|read|try FOLDER`.

With `write` it creates numbered nodes until its input ends, and says as JSON how many were acknowledged and how long it
waited for one at most. `try` writes once and reads once, and says what came of it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NodeExistsError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.retry import KazooRetry

TLS = "/etc/switchboard/certificates/peers/zookeeper"


def connected(servers: str, user: str, password: str) -> KazooClient:
    """Return a client; with TLS unless the server is on loopback."""
    options: dict[str, Any] = {}
    if not servers.startswith("127."):
        options = {"use_ssl": True, "verify_certs": True, "ca": f"{TLS}/ca.pem"}
        options |= {"certfile": f"{TLS}/fullchain.pem", "keyfile": f"{TLS}/privkey.pem"}
    if user != "-":
        options["sasl_options"] = {
            "mechanism": "DIGEST-MD5",
            "username": user,
            "password": password,
        }
    return KazooClient(hosts=servers, timeout=8, **options)


def write(client: KazooClient, folder: str) -> dict[str, Any]:
    """Create folder/1, folder/2 and so on until the input ends."""
    ended = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    retry = KazooRetry(max_tries=-1, delay=0.05, max_delay=0.5, ignore_expire=True)
    client.ensure_path(folder)
    number, longest = 0, 0.0
    while not ended.is_set():
        number, began = number + 1, time.monotonic()
        with contextlib.suppress(NodeExistsError):  # it was written, and the answer was lost
            retry(client.create, f"{folder}/{number}", str(number).encode())
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.01)  # a hundred a second are enough
    return {"acknowledged": number, "longest": round(longest, 2)}


def attempt(client: KazooClient, folder: str) -> dict[str, str]:
    """Write and read once; return what each came to."""
    said = {}
    acts = {"write": (client.ensure_path_async, folder), "read": (client.get_children_async, "/")}
    for name, (act, path) in acts.items():
        try:
            act(path).get(timeout=5)
            said[name] = "done"
        except (KazooException, KazooTimeoutError, RuntimeError) as error:
            said[name] = type(error).__name__
    return said


def main() -> None:
    """Do what the arguments say."""
    logging.basicConfig(level=logging.ERROR)
    servers, user, password, job, folder = sys.argv[1:]
    client = connected(servers, user, password)
    try:
        client.start(timeout=20)
    except Exception as error:  # whatever it is, it is the answer
        print(json.dumps({"start": type(error).__name__}), flush=True)
        os._exit(0)
    told: Any
    if job == "write":
        told = write(client, folder)
    elif job == "read":
        told = [int(name) for name in client.retry(client.get_children, folder)]
    else:
        told = attempt(client, folder)
    print(json.dumps(told), flush=True)
    os._exit(0)  # an orderly end waits for a session that may be none


if __name__ == "__main__":
    main()
