"""The load of `make bench-web`, for a container of its own: echoes, open sockets, pages. Standard library only.

    web_load.py echo <address> <port> <connections> <seconds>
    web_load.py sockets <address> <port>
    web_load.py pages <address> <port> <a second> <longest>

`echo` sends a message on each connection as soon as the one before has come back. `sockets` opens so many WebSockets
as a line of its input says, keeps them, answers pings, and tells after each line how many are open, failed to open
(why, and how many were open at the first of these: `room`) and were lost. `pages` asks for / at a steady rate over
connections that are kept, until its input ends or a page has taken `longest` seconds. Each prints JSON; times are in
seconds.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

# Opcodes of RFC 6455, 5.2.
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
PAYLOAD = b"0123456789abcdef" * 2
SOCKET_PATH = "/live/echo"
AT_ONCE = 32  # handshakes
PATIENCE = 10.0  # seconds for a handshake


def masked(opcode: int, payload: bytes) -> bytes:
    """Return one final, masked frame of less than 126 bytes (RFC 6455, 5.2)."""
    mask = os.urandom(4)
    data = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes((0x80 | opcode, 0x80 | len(payload))) + mask + data


SENT = masked(TEXT, PAYLOAD)
ECHOED = bytes((0x80 | TEXT, len(PAYLOAD))) + PAYLOAD


class Socket(asyncio.Protocol):
    """One WebSocket: its handshake, then pings answered. `on_lost` is called when it was open and is so no longer."""

    def __init__(self, address: str, port: int, on_lost: Callable[[], None]) -> None:
        host = address if port == 80 else f"{address}:{port}"
        key = base64.b64encode(os.urandom(16)).decode()
        self.handshake = (
            f"GET {SOCKET_PATH} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n"
        ).encode()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.open = False
        self.on_lost = on_lost
        self.buffer = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.handshake)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.open:
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self.fail(head.split(b"\r\n")[0].decode("latin-1"))
                self.transport.close()
                return
            self.open, self.buffer = True, rest
            if not self.opened.done():
                self.opened.set_result(None)
        while len(self.buffer) >= 2 and len(self.buffer) >= (end_at := 2 + self.buffer[1]):
            opcode, payload = self.buffer[0] & 15, self.buffer[2:end_at]
            self.buffer = self.buffer[end_at:]
            if opcode == PING:
                self.transport.write(masked(PONG, payload))
            elif opcode == TEXT:
                self.message()
            elif opcode == CLOSE:
                self.transport.close()

    def message(self) -> None:
        """Take one message."""

    def fail(self, why: str) -> None:
        """Say why it did not open."""
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(why))

    def connection_lost(self, error: Exception | None) -> None:
        self.fail(str(error or "closed during the handshake"))
        if self.open:
            self.open = False
            self.on_lost()


class Echo(Socket):
    """A WebSocket that sends a message as soon as the one before has come back, and notes how long that took."""

    def begin(self, waits: list[float]) -> None:
        """Send the first one."""
        self.waits = waits
        self.sent = time.perf_counter()
        self.transport.write(SENT)

    def data_received(self, data: bytes) -> None:
        if data == ECHOED and not self.buffer:  # all but pings; what follows is for them
            self.message()
        else:
            super().data_received(data)

    def message(self) -> None:
        now = time.perf_counter()
        self.waits.append(now - self.sent)
        self.sent = now
        self.transport.write(SENT)


async def connect(socket: Socket, address: str, port: int) -> None:
    """Open a socket; raise OSError or TimeoutError where that fails."""
    async with asyncio.timeout(PATIENCE):
        await asyncio.get_running_loop().create_connection(lambda: socket, address, port)
        try:
            await socket.opened
        except asyncio.CancelledError:
            socket.transport.abort()
            raise


async def echo(address: str, port: int, connections: int, seconds: float) -> dict[str, float]:
    """Return p50 and p99 of the round trips, messages a second, and how much of a core this client took."""
    lost: list[None] = []
    sockets = [Echo(address, port, lambda: lost.append(None)) for _ in range(connections)]
    for socket in sockets:
        await connect(socket, address, port)
    waits: list[float] = []
    for socket in sockets:
        socket.begin(waits)
    await asyncio.sleep(1.0)  # warm by then
    waits.clear()
    start, used = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    took, used = time.perf_counter() - start, time.process_time() - used
    found = sorted(waits)
    for socket in sockets:
        socket.transport.abort()
    if lost:
        raise ConnectionError(f"{len(lost)} of {connections} connections were lost")
    return {
        "p50": found[len(found) // 2],
        "p99": found[int(0.99 * len(found))],
        "rate": len(found) / took,
        "client": used / took,
    }


async def standard_input() -> asyncio.StreamReader:
    """Return the standard input as a stream."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


async def hold(address: str, port: int) -> None:
    """Open WebSockets as the input asks, and tell about them, until it ends."""
    counts = {"failed": 0, "lost": 0}
    reasons: dict[str, int] = {}
    sockets: list[Socket] = []
    lines = await standard_input()
    turns = asyncio.Semaphore(AT_ONCE)

    def lose() -> None:
        counts["lost"] += 1

    async def open_one() -> None:
        socket = Socket(address, port, lose)
        async with turns:
            try:
                await connect(socket, address, port)
            except (OSError, TimeoutError) as error:
                counts["failed"] += 1
                counts.setdefault("room", sum(other.open for other in sockets))
                why = str(error) or "no answer"
                reasons[why] = reasons.get(why, 0) + 1
            else:
                sockets.append(socket)

    while line := await lines.readline():
        await asyncio.gather(*(open_one() for _ in range(int(line))))
        count = sum(socket.open for socket in sockets)
        print(json.dumps({"open": count, **counts, "reasons": reasons}), flush=True)


class Visitor(asyncio.Protocol):
    """One kept connection on which pages are asked for, one after another."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.answered: asyncio.Future[int] | None = None
        self.buffer = b""
        self.used = False  # whether a page has come over it
        self.alive = True  # whether another one may

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    async def ask(self, request: bytes) -> int:
        """Return the status of one page.

        Raises:
            ConnectionError: it was closed before the page was whole.
        """
        self.answered = asyncio.get_running_loop().create_future()
        if not self.alive:
            raise ConnectionResetError("closed before it was asked")
        self.transport.write(request)
        return await self.answered

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end or self.answered is None or self.answered.done():
            return
        fields = head.lower().split(b"\r\n")
        length = next((f for f in fields if f.startswith(b"content-length:")), b":0")
        if len(body) < int(length.partition(b":")[2]):
            return
        self.buffer, self.used = b"", True
        if b"connection: close" in fields:
            self.alive = False
            self.transport.close()
        self.answered.set_result(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        self.alive = False
        if self.answered and not self.answered.done():
            part = "in the middle of" if self.buffer else "before"
            self.answered.set_exception(ConnectionResetError(f"closed {part} a page"))


async def pages(address: str, port: int, rate: float, longest: float) -> dict[str, Any]:
    """Ask for pages at a steady rate; return `[when, wait]` of each, failures, and how many were asked for twice.

    `when` is the Unix time at which a page was due; waits count from there, so a stall counts for each page that it
    delayed. Where a kept connection ends without a byte of the answer, the page is asked for once more over a new one,
    as browsers do (RFC 9112, 9.3.1); that is no failure.
    """
    host = address if port == 80 else f"{address}:{port}"
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    result: dict[str, Any] = {"pages": [], "failed": [], "again": 0}
    idle: list[Visitor] = []
    stop = asyncio.Event()

    async def once(visitor: Visitor | None) -> int:
        if visitor is None:
            _, visitor = await asyncio.get_running_loop().create_connection(Visitor, address, port)
        try:
            status = await visitor.ask(request)
        except asyncio.CancelledError:
            visitor.transport.abort()
            raise
        if visitor.alive:
            idle.append(visitor)
        return status

    async def one(due: float, began: float) -> None:
        try:
            async with asyncio.timeout(longest):
                while idle and not idle[-1].alive:
                    idle.pop()
                kept = idle.pop() if idle else None
                try:
                    status = await once(kept)
                except ConnectionError:
                    if kept is None or kept.buffer:
                        raise
                    result["again"] += 1
                    status = await once(None)
            if status != 200:
                raise ConnectionError(f"status {status}")
        except TimeoutError:
            result["failed"].append([due, "hung"])
            stop.set()
        except OSError as error:
            result["failed"].append([due, str(error)])
        result["pages"].append([due, time.perf_counter() - began])

    async def until_input_ends() -> None:
        await (await standard_input()).read()
        stop.set()

    waiting = asyncio.create_task(until_input_ends())
    running: set[asyncio.Task[None]] = set()
    start, wall, number = time.perf_counter(), time.time(), 0
    while not stop.is_set():
        ahead = start + number / rate - time.perf_counter()
        if ahead > 0:
            await asyncio.sleep(ahead)
        task = asyncio.create_task(one(wall + number / rate, start + number / rate))
        running.add(task)
        task.add_done_callback(running.discard)
        number += 1
    waiting.cancel()
    if not any(why == "hung" for _, why in result["failed"]) and running:
        await asyncio.wait(running)
    for task in running:
        task.cancel()
    return result


def main() -> None:
    """Do what the arguments say."""
    verb, address, port, *rest = sys.argv[1:]
    if verb == "echo":
        print(json.dumps(asyncio.run(echo(address, int(port), int(rest[0]), float(rest[1])))))
    elif verb == "pages":
        print(json.dumps(asyncio.run(pages(address, int(port), float(rest[0]), float(rest[1])))))
    else:
        asyncio.run(hold(address, int(port)))


if __name__ == "__main__":
    main()
