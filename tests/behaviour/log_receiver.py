"""A receiver of syslog over TLS (RFC 5425) for test hosts: what arrives, one JSON text a line.

    log_receiver.py ADDRESS PORT FOLDER FILE

FOLDER has receiver.crt and receiver.key, and ca.crt, whose clients alone are let in. Told to end, it takes leave of
each client.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import sys
import threading
from pathlib import Path
from typing import Any


def serve(raw: socket.socket, context: ssl.SSLContext, path: Path, open_ones: list[Any]) -> None:
    """Write each frame of one client to the file."""
    try:
        client = context.wrap_socket(raw, server_side=True)
    except OSError as error:
        print(f"refused: {error}", flush=True)
        return
    open_ones.append(client)
    stream = client.makefile("rb")
    while True:
        length = b""
        while (byte := stream.read(1)) not in (b" ", b""):
            length += byte
        if not byte:
            return
        text = stream.read(int(length)).decode(errors="replace")
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(text) + "\n")


def main() -> None:
    """Listen until somebody says that it is enough."""
    address, port, folder, path = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/receiver.crt", f"{folder}/receiver.key")
    context.load_verify_locations(f"{folder}/ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    open_ones: list[ssl.SSLSocket] = []

    def leave(*_: object) -> None:
        for client in open_ones:
            client.settimeout(0.1)
            with contextlib.suppress(OSError, ValueError):  # one that is gone, or does not answer
                client.unwrap()
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)
    listener = socket.create_server((address, int(port)))
    while True:
        raw, _ = listener.accept()
        arguments = (raw, context, Path(path), open_ones)
        threading.Thread(target=serve, args=arguments, daemon=True).start()


if __name__ == "__main__":
    main()
