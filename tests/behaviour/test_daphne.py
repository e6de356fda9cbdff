"""Daphne's instances: a client that does not read, a process that grows, and the last word of one that ends."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from testinfra.host import Host

from tests.behaviour import rawhttp
from tests.behaviour.conftest import journal
from tests.behaviour.sites import Site, web_sites

MIB = 1 << 20
MESSAGE = b"x" * 70_000
# What a client sends without reading: far above the bound, the buffers of two kernels, and Apache's.
MOST = 96 * MIB
DROPPED = "Dropped a socket at /live/echo"
NOBODY = "Attempt to send on a closed protocol"
TOO_LARGE = "bytes of memory are more than"

pytestmark = [pytest.mark.probe, pytest.mark.disruptive]


@pytest.fixture(scope="module")
def site(deployed: dict[str, Any], address: str) -> Site:
    for found in web_sites(deployed, address):
        if found.is_probe and not found.tls and not found.is_seed:
            return found
    pytest.skip("this host has no probe project")


@pytest.fixture
def unit(site: Site) -> str:
    return f"daphne-{site.name}@1.service"


def pid(host: Host, unit: str) -> int:
    return int(host.check_output("systemctl show --property=MainPID --value %s", unit))


def resident(host: Host, unit: str) -> int:
    """Return the resident memory of a unit's main process in bytes."""
    return 1024 * int(host.check_output("ps -o rss= -p %s", str(pid(host, unit))))


def flood(connection: rawhttp.Connection, opcode: int, payload: bytes) -> None:
    """Send frames and read nothing, until nobody takes them for 2 s or MOST bytes are sent.

    Apache reads on for a while after Daphne has dropped the socket (lingering close): what was taken tells nothing.
    """
    one = rawhttp.frame(payload, opcode)
    frame, sent = one * max(1, 65536 // len(one)), 0  # few large sends
    connection.socket.settimeout(2)
    with suppress(OSError):
        while sent < MOST:
            connection.send(frame)
            sent += len(frame)


def echoes(site: Site) -> int:
    """Return how many applications of open echoes the instance counts."""
    connection, _ = site.open(site.under("info"))
    with connection:
        return int(json.loads(connection.message())["echoes"])


@pytest.mark.parametrize(
    ("opcode", "payload"),
    [(rawhttp.TEXT, MESSAGE), (rawhttp.PING, b"p" * 125)],
    ids=["messages", "pings"],
)
def test_a_client_that_does_not_read_is_dropped(
    host: Host, site: Site, unit: str, opcode: int, payload: bytes
) -> None:
    before, process = resident(host, unit), pid(host, unit)
    dropped = journal(host, unit, 10_000).count(DROPPED)
    neighbour, _ = site.open(site.under("echo"))
    with neighbour:
        for _ in range(2):
            connection, response = site.open(site.under("echo"))
            assert response.status == 101
            with connection:
                flood(connection, opcode, payload)
            neighbour.send_frame(b"still here?")
            assert neighbour.message() == b"still here?"
        # sooner than Daphne cancels an application that does not end
        end = time.monotonic() + 5
        while echoes(site) > 1:
            assert time.monotonic() < end, "the application of a dropped socket is not told"
            time.sleep(0.2)  # until it has left; the assertion above ends it
    assert pid(host, unit) == process, journal(host, unit)
    assert journal(host, unit, 10_000).count(DROPPED) == dropped + 2
    grown = (resident(host, unit) - before) // MIB
    assert grown < 64, f"it grew by {grown} MiB"


@pytest.fixture
def small(host: Host, unit: str) -> Iterator[None]:
    """Take the bound of unread bytes away and let the instance grow by 24 MiB alone."""
    folder = f"/run/systemd/system/{unit}.d"
    limit = resident(host, unit) + 24 * MIB
    command = host.check_output(
        "systemctl show --property=ExecStart --value %s | sed -E 's/.*argv\\[\\]=([^;]*) ;.*/\\1/'",
        unit,
    )
    assert "--memory-max" in command
    words = command.split()
    words[words.index("--unsent-max") + 1] = str(1 << 40)
    words[words.index("--memory-max") + 1] = str(limit)
    text = "[Service]\nExecStart=\nExecStart=" + " ".join(words)
    host.check_output(
        "mkdir -p %s && echo %s >%s/small.conf && systemctl daemon-reload && systemctl restart %s",
        folder,
        text,
        folder,
        unit,
    )
    yield
    host.check_output("rm -r %s && systemctl daemon-reload && systemctl restart %s", folder, unit)


@pytest.mark.usefixtures("small")
def test_an_instance_that_grows_too_large_starts_anew(host: Host, site: Site, unit: str) -> None:
    process = pid(host, unit)
    ended, refused = (journal(host, unit, 10_000).count(text) for text in (TOO_LARGE, NOBODY))
    end = time.monotonic() + 60
    with ExitStack() as floods:
        while pid(host, unit) in (0, process):
            assert time.monotonic() < end, journal(host, unit)
            with suppress(OSError):  # it is just ending
                connection, _ = site.open(site.under("echo"))
                flood(floods.enter_context(connection), rawhttp.TEXT, MESSAGE)
    # the last flood may have met the next process
    assert journal(host, unit, 10_000).count(TOO_LARGE) > ended, journal(host, unit)
    # an application that still sends when its socket was told to leave does no wrong
    assert journal(host, unit, 10_000).count(NOBODY) == refused
    # systemd holds the socket: a handshake waits for the new process
    end = time.monotonic() + 90
    connection, response = site.open(site.under("echo"), timeout=60)
    while response.status == 504:  # it starts for longer than Apache waits
        connection.close()
        assert time.monotonic() < end, journal(host, unit)
        connection, response = site.open(site.under("echo"), timeout=60)
    with connection:
        assert response.status == 101, journal(host, unit)
        connection.send_frame(b"again")
        assert connection.message() == b"again"


def test_a_socket_is_told_that_it_may_come_back(host: Host, site: Site, unit: str) -> None:
    silent, _ = site.open(site.under("echo"))
    connection, _ = site.open(site.under("echo"))
    with silent, connection:
        connection.send_frame(b"hello")
        assert connection.message() == b"hello"
        host.check_output("systemctl restart %s", unit)
        opcode, payload = connection.frame()
        assert opcode == rawhttp.CLOSE
        assert struct.unpack("!H", payload[:2])[0] == 1012


def test_many_sockets_are_told_one_after_the_other(host: Host, site: Site, unit: str) -> None:
    """All at once would come back at once, and keep another instance from accepting them in time."""

    def left(connection: rawhttp.Connection) -> float:
        opcode, payload = connection.frame()  # which answers pings
        assert opcode == rawhttp.CLOSE
        assert struct.unpack("!H", payload[:2])[0] == 1012
        return time.monotonic()

    connections: list[rawhttp.Connection] = []
    with ExitStack() as sockets, ThreadPoolExecutor(30) as pool:
        for _ in range(30):
            connection, response = site.open(site.under("echo"))
            sockets.enter_context(connection)
            assert response.status == 101
            connection.send_frame(b"hello")
            assert connection.message() == b"hello"
            connection.socket.settimeout(30)
            connections.append(connection)
        leaving = [pool.submit(left, connection) for connection in connections]
        host.check_output("systemctl restart --no-block %s", unit)
        told = sorted(one.result() for one in leaving)
    assert 0.3 < told[-1] - told[0] < 5, [when - told[0] for when in told]


def test_a_consumer_ends_in_peace_when_its_instance_stops(
    host: Host, site: Site, unit: str
) -> None:
    """Daphne cancels what runs when it stops; a consumer that notes that its socket is gone never came to it."""
    name = f"socket-{time.time_ns()}"
    connection, response = site.open(site.under(f"farewell?{name}"))
    with connection:
        assert response.status == 101
        connection.send_frame(b"hello")
        assert connection.message() == b"hello"
        host.check_output("systemctl restart %s", unit)
        assert connection.frame()[0] == rawhttp.CLOSE
    assert f"noted the end of {name}" in journal(host, unit, 10_000)
