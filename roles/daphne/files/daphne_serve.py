#!/usr/bin/python3
"""Daphne, with what it lacks: a bound of what a socket has not read yet, a bound of memory, and a last word.

    daphne_serve.py --unsent-max BYTES --memory-max BYTES <arguments of daphne>

- A client that does not read leaves its messages in this process. Beyond --unsent-max bytes its socket is dropped.
- Beyond --memory-max bytes of resident memory (0: no bound) the process ends, in order, and systemd starts it anew.
- Every few seconds it notes how many WebSockets it holds, and how much of what was sent is yet to be read, in
  numbers.json of its own folder below /run.
- When it is stopped, each WebSocket gets the close code 1012 ("service restart"; RFC 6455, 7.4.2), so that a browser
  knows that it may come back at once. They are told one after the other: who comes back asks for a session, and a
  thousand at once would keep another instance from accepting any of them in time.

It runs in the site's virtual environment, with `python -P`: this folder is none to import the project's modules from.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from math import ceil
from pathlib import Path
from typing import Any

# First of all: it installs Twisted's asyncio reactor.
from daphne.server import Server  # isort: skip
from daphne.cli import CommandLineInterface
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol
from twisted.internet import defer, reactor

RESTART = 1012
A_SECOND = 50  # sockets that are told to leave, each second
ALL = 5.0  # seconds within which all of them are told, however many there are
TURN = 0.05  # seconds between two looks, or two turns of sockets
PATIENCE = 2.0  # seconds that sockets get to take the close frame
LAST_WORDS = 3.0  # seconds that applications get, after that, to end by themselves
SECOND = 1.0  # between two looks at the memory
NOTED = 5.0  # seconds between two notes
logger = logging.getLogger("switchboard.daphne")


def unsent(transport: Any) -> int:
    """Return how many bytes of a Twisted transport still wait for the other side to read (abstract.FileDescriptor)."""
    return len(transport.dataBuffer) - int(transport.offset) + int(transport._tempDataLen)


def resident() -> int:
    """Return this process's resident memory in bytes (proc_pid_statm(5))."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class BoundedProtocol(WebSocketProtocol):
    """A WebSocket that is dropped when its client does not read."""

    unsent_max = 0
    dropped = False

    def sendData(self, data: bytes, *more: Any, **named: Any) -> None:  # noqa: N802 - autobahn's name
        """Send bytes; all frames come this way, answers to pings too."""
        if self.dropped:
            return
        # What waited before these bytes: one message may be as long as it likes.
        waiting = unsent(self.transport)
        super().sendData(data, *more, **named)
        if waiting > self.unsent_max:
            self.dropped = self.muted = True
            logger.warning(
                "Dropped a socket at %s: its client leaves %s bytes unread.",
                getattr(self, "path", b"?").decode("ascii", "replace"),
                waiting,
            )
            self.transport.abortConnection()

    def serverSend(self, content: str | bytes, binary: bool = False) -> None:  # noqa: N802 - daphne's name
        """Send a message of the application; after a close frame of either side there is nobody to read it."""
        if self.state == WebSocketProtocol.STATE_OPEN:
            super().serverSend(content, binary)

    def onClose(self, *of: Any) -> None:  # noqa: N802 - autobahn's name
        """Let the application of a dropped socket know, as that of any other."""
        self.muted = self.muted and not self.dropped
        super().onClose(*of)


class SwitchboardServer(Server):
    """Daphne's server, which takes leave and watches its memory."""

    memory_max = 0

    def listen_success(self, port: Any) -> None:
        """Remember what is listened on; Daphne does not."""
        self.ports = [*getattr(self, "ports", []), port]
        super().listen_success(port)

    def run(self) -> None:
        """Serve until a signal comes."""
        # set by systemd to the folder that the unit has (systemd.exec(5), RuntimeDirectory)
        if folder := os.environ.get("RUNTIME_DIRECTORY"):
            reactor.callLater(NOTED, self.note, Path(folder) / "numbers.json")
        if self.memory_max:
            reactor.callLater(SECOND, self.watch_memory)
        super().run()

    def note(self, path: Path) -> None:
        """Write how many WebSockets are open, and the bytes that they all together have yet to take."""
        held = [one for one in self.connections if isinstance(one, WebSocketProtocol)]
        waiting = sum(unsent(one.transport) for one in held if one.transport)
        draft = path.with_suffix(".new")
        try:
            draft.write_text(json.dumps({"sockets": len(held), "unsent": waiting}))
            draft.replace(path)
        except OSError as error:
            logger.warning("The numbers could not be noted: %s", error)
        reactor.callLater(NOTED, self.note, path)

    def watch_memory(self) -> None:
        """End the process when it is too large."""
        now = resident()
        if now > self.memory_max:
            logger.error("%s bytes of memory are more than %s: ending.", now, self.memory_max)
            self.stop()
        else:
            reactor.callLater(SECOND, self.watch_memory)

    def kill_all_applications(self) -> Any:
        """Tell each socket that it may come back, wait until all know it, and end the applications."""
        for port in self.ports:
            # systemd holds the socket: who comes now is another instance's, or waits for the next process
            port.stopListening()
        sockets = [each for each in self.connections if isinstance(each, WebSocketProtocol)]
        done: Any = defer.Deferred()
        self.take_leave(sockets, max(ceil(A_SECOND * TURN), ceil(len(sockets) * TURN / ALL)), done)
        return done

    def take_leave(self, sockets: list[Any], number: int, done: Any) -> None:
        """Send some of the sockets their close frame, and the others when it is their turn."""
        for protocol in sockets[:number]:
            if protocol.state == WebSocketProtocol.STATE_OPEN:
                protocol.sendCloseFrame(code=RESTART, reasonUtf8=b"restart", isReply=False)
        if len(sockets) > number:
            reactor.callLater(TURN, self.take_leave, sockets[number:], number, done)
        else:
            self.await_leave(done, time.monotonic() + PATIENCE)

    def await_leave(self, done: Any, end: float) -> None:
        """Look in each turn whether all sockets are gone; those that take no leave are dropped in the end."""
        open_ones = [
            protocol
            for protocol, details in self.connections.items()
            if isinstance(protocol, WebSocketProtocol) and not details.get("disconnected")
        ]
        if open_ones and time.monotonic() < end:
            reactor.callLater(TURN, self.await_leave, done, end)
            return
        for protocol in open_ones:
            protocol.transport.abortConnection()
        self.await_end(done, time.monotonic() + LAST_WORDS)

    def await_end(self, done: Any, end: float) -> None:
        """Look in each turn whether the applications have ended, and cancel those that have not in the end.

        A consumer that is told of the disconnection may have something to note, such as a socket less of its person.
        """
        running = [
            application
            for details in self.connections.values()
            if (application := details.get("application_instance")) and not application.done()
        ]
        if running and time.monotonic() < end:
            reactor.callLater(TURN, self.await_end, done, end)
            return
        for application in running:
            application.cancel()
        ended = defer.Deferred.fromFuture(asyncio.gather(*running, return_exceptions=True))
        ended.chainDeferred(done)


class Program(CommandLineInterface):
    """Daphne's command with another server."""

    server_class = SwitchboardServer


def main() -> None:
    """Read our own arguments, and hand Daphne the rest."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--unsent-max", type=int, required=True)
    parser.add_argument("--memory-max", type=int, required=True)
    own, rest = parser.parse_known_args()
    BoundedProtocol.unsent_max = own.unsent_max
    SwitchboardServer.memory_max = own.memory_max
    WebSocketFactory.protocol = BoundedProtocol
    Program().run(rest)


if __name__ == "__main__":
    sys.exit(main())
