"""Visitors of the demonstration site, on the test host itself: standard library alone. NAME is the site's.

visitors.py NAME errors            ask again and again for a page that answers with a server error
visitors.py NAME sockets NUMBER    sign in, and hold so many WebSockets
visitors.py NAME threads NUMBER    let so many people sign in while nobody may write to the database
"""

from __future__ import annotations

import base64
import contextlib
import http.cookiejar
import os
import re
import socket
import sqlite3
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

HERE = "http://127.0.0.1"
DATA = "/srv/graphspace/data/graphspace.sqlite3"
NAME = sys.argv[1]
PASSWORD = "watches-for-a-test"


def asked(
    opener: urllib.request.OpenerDirector, path: str, form: dict[str, str] | None = None
) -> str:
    """Return a page of the site."""
    data = urllib.parse.urlencode(form).encode() if form else None
    request = urllib.request.Request(HERE + path, data, {"Host": NAME})  # noqa: S310 - HTTP
    return str(opener.open(request, timeout=90).read().decode())


def sign_in() -> http.cookiejar.CookieJar:
    """Sign in by the form and return the cookies."""
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    token = re.search(r'csrfmiddlewaretoken" value="([^"]+)', asked(opener, "/sign-in/"))
    assert token, "the page has no form"
    form = {"csrfmiddlewaretoken": token[1], "username": "watcher", "password": PASSWORD}
    asked(opener, "/sign-in/", form)
    return jar


def errors() -> None:
    """Ask for the page that says 503 while Kafka is down."""
    while True:
        with contextlib.suppress(urllib.error.URLError):
            asked(urllib.request.build_opener(), "/readyz/kafka")
        time.sleep(0.3)  # three a second, until the unit is stopped or its time is over


def sockets(number: int) -> None:
    """Hold WebSockets."""
    jar = sign_in()
    cookie = "; ".join(f"{one.name}={one.value}" for one in jar)
    held = []
    for _ in range(number):
        connection = socket.create_connection(("127.0.0.1", 80))
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            "GET /ws/notifications/ HTTP/1.1",
            f"Host: {NAME}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Origin: http://{NAME}",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
            f"Cookie: {cookie}",
        ]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        print(connection.recv(200).split(b"\r\n")[0].decode(), flush=True)
        held.append(connection)
    time.sleep(600)  # so long they are held, or until the unit is stopped


def threads(number: int) -> None:
    """Let people sign in while another one writes."""
    writer = sqlite3.connect(DATA, timeout=10, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    for _ in range(number):
        threading.Thread(target=sign_in, daemon=True).start()
    time.sleep(600)  # so long the lock is held, or until the unit is stopped


if __name__ == "__main__":
    if sys.argv[2] == "errors":
        errors()
    elif sys.argv[2] == "sockets":
        sockets(int(sys.argv[3]))
    else:
        threads(int(sys.argv[3]))
