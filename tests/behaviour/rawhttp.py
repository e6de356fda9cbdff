"""A client on a bare socket: it sends bytes as they are and tells what came back, and from whom.

HTTP libraries correct what they send and hide what they receive; a test of routing needs neither. This
module uses the standard library alone, so a test can also run it on the tested host itself.
"""

from __future__ import annotations

import base64
import http
import json
import os
import socket
import ssl
import struct
import time
from dataclasses import dataclass, field
from typing import Any

# Opcodes of RFC 6455, 5.2.
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
# The type of the error pages that Apache makes itself; no Django project answers in that charset.
APACHE_MADE = "text/html; charset=iso-8859-1"
# With which HAProxy refuses what it can't read; its other pages have Apache's type.
HAPROXYS = "Bad request"
# The reason phrases that Apache and Django use.
PHRASES = {status.phrase for status in http.HTTPStatus} | {"Request Entity Too Large", ""}


class ClosedError(Exception):
    """The other side closed the connection, orderly or not, where an answer was due."""


class TimedOutError(Exception):
    """Nothing came within the time allowed."""


@dataclass
class Response:
    """One HTTP response; `status` is None where the connection ended without a status line."""

    status: int | None = None
    reason: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    seconds: float = 0.0

    def header(self, name: str) -> str | None:
        """Return the header's values joined by ", " (RFC 9110, 5.3), or None."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(values) if values else None

    def all(self, name: str) -> list[str]:
        """Return the values of each header of that name."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def answerer(self) -> str:
        """Say who answered: `daphne`, `mod_wsgi`, `apache`, or `nobody` without a status line.

        The probe project's pages say it themselves. Daphne is known by what it accepts, by the header
        Server of its pages, and by the reason phrases of its own with which it refuses a handshake;
        Apache by its error pages. What is left comes from the project in mod_wsgi.
        """
        if self.status is None:
            return "nobody"
        told = self.header("X-Answered-By")
        if told:
            return told
        server = (self.header("Server") or "").lower()
        if self.status == 101 or "daphne" in server:
            return "daphne"
        if self.header("Content-Type") == APACHE_MADE:
            return "apache"
        if self.reason == HAPROXYS:
            return "balancer"
        return "mod_wsgi" if self.reason in PHRASES else "daphne"

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class Connection:
    """One TCP connection; `timeout` in seconds holds for each wait, not for the whole.

    With `tls` it is encrypted, and the server must prove that it is `name`.
    """

    def __init__(
        self,
        address: str,
        port: int,
        timeout: float = 15.0,
        tls: ssl.SSLContext | None = None,
        name: str = "",
    ) -> None:
        self.socket = socket.create_connection((address, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname=name)
        self.buffer = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def _more(self) -> None:
        try:
            data = self.socket.recv(65536)
        except TimeoutError as error:
            raise TimedOutError(f"nothing within {self.socket.gettimeout()} s") from error
        except OSError as error:
            raise ClosedError(str(error)) from error
        if not data:
            raise ClosedError("the other side closed the connection")
        self.buffer += data

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            self._more()
        head, _, self.buffer = self.buffer.partition(mark)
        return head

    def _exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self._more()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def response(self, method: str = "GET") -> Response:
        """Read one response with its body; without any byte of one, `status` is None.

        Raises TimedOutError where nothing comes, and ClosedError where a response breaks off.
        """
        start = time.monotonic()
        try:
            head = self._until(b"\r\n\r\n")
        except ClosedError:
            if self.buffer:
                # bytes without the head of a response: a frame, or half a head
                return Response(body=self.buffer, seconds=time.monotonic() - start)
            return Response(seconds=time.monotonic() - start)
        lines = head.decode("latin-1").split("\r\n")
        version, _, rest = lines[0].partition(" ")
        if not version.startswith("HTTP/"):
            return Response(body=head, seconds=time.monotonic() - start)
        result = Response(int(rest[:3]), rest[4:])
        for line in lines[1:]:
            name, _, value = line.partition(":")
            result.headers.append((name.strip(), value.strip()))
        result.body = self._body(result, method)
        result.seconds = time.monotonic() - start
        return result

    def _body(self, response: Response, method: str) -> bytes:
        """Read a body by the rules of RFC 9112, 6.3."""
        if method == "HEAD" or response.status in (204, 304) or response.status == 101:
            return b""
        if "chunked" in (response.header("Transfer-Encoding") or "").lower():
            body = b""
            while size := int(self._until(b"\r\n").split(b";")[0], 16):
                body += self._exactly(size)
                self._until(b"\r\n")
            while self._until(b"\r\n"):
                pass
            return body
        length = response.header("Content-Length")
        if length is not None:
            return self._exactly(int(length))
        try:
            while True:
                self._more()
        except ClosedError:
            body, self.buffer = self.buffer, b""
            return body

    def send_frame(self, payload: bytes, opcode: int = TEXT) -> None:
        """Send one masked frame, as a client must (RFC 6455, 5.3)."""
        self.send(frame(payload, opcode))

    def frame(self) -> tuple[int, bytes]:
        """Read one frame, answering pings on the way; return its opcode and payload."""
        while True:
            first, second = self._exactly(2)
            length = second & 127
            if length == 126:
                (length,) = struct.unpack("!H", self._exactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", self._exactly(8))
            payload = self._exactly(length)
            opcode = first & 15
            if opcode == PING:
                self.send_frame(payload, PONG)
                continue
            return opcode, payload

    def message(self) -> bytes:
        """Read one whole message of one frame or more; raise ClosedError on a close frame."""
        whole = b""
        while True:
            final = self._peek_final()
            opcode, payload = self.frame()
            if opcode == CLOSE:
                raise ClosedError(f"closed with a frame: {payload!r}")
            if opcode == PONG:
                continue
            whole += payload
            if final:
                return whole

    def _peek_final(self) -> bool:
        # a ping between two fragments is final too, but frame() swallows it; so look past pings
        while True:
            while len(self.buffer) < 2:
                self._more()
            if self.buffer[0] & 15 != PING:
                return bool(self.buffer[0] & 128)
            length = self.buffer[1] & 127
            while len(self.buffer) < 2 + length:
                self._more()
            payload = self.buffer[2 : 2 + length]
            self.buffer = self.buffer[2 + length :]
            self.send_frame(payload, PONG)


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return one final, masked frame."""
    mask = os.urandom(4)
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
    elif length < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, length)
    repeated = (mask * (length // 4 + 1))[:length]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(
        length, "big"
    )
    return head + mask + masked


def key() -> str:
    """Return a Sec-WebSocket-Key: 16 random bytes in base64 (RFC 6455, 4.1)."""
    return base64.b64encode(os.urandom(16)).decode()


def handshake(
    path: str, host: str, origin: str | None = None, headers: tuple[str, ...] = ()
) -> bytes:
    """Return a complete handshake; the origin is the host's own unless given, "" leaves it out."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key()}",
    ]
    if origin != "":
        lines.append(f"Origin: {origin or f'http://{host}'}")
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1")


def get(path: str, host: str, headers: tuple[str, ...] = (), method: str = "GET") -> bytes:
    """Return a plain request without a body."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode(
        "latin-1"
    )


def ask(
    address: str,
    port: int,
    data: bytes,
    timeout: float = 15.0,
    tls: ssl.SSLContext | None = None,
    name: str = "",
) -> Response:
    """Send one request on a connection of its own and return the response."""
    with Connection(address, port, timeout, tls, name) as connection:
        connection.send(data)
        return connection.response(data.split(b" ", 1)[0].decode("latin-1"))
