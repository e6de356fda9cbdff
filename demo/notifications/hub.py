"""The sockets that one process holds, by person. Everything here runs in its event loop.

Events, read marks and catch-ups go through one task, so that what a socket is told keeps the order
in which the database was read: a count never goes back to an older one. Under load the task takes
what has gathered in one go and asks for all the counts in one query.

Each socket knows the last sequence that it was told. An event that continues it is passed on, one
that does not is dropped as known, or answered by a catch-up from the database where numbers between
are missing. A socket that stays behind is caught up after some seconds, whatever Kafka does. So the
frames of a socket have neither gaps nor repetitions, in whatever order and however often the
records came.
"""

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol

from channels.db import database_sync_to_async
from django.db import DatabaseError

from notifications import leases, metrics, store
from notifications.schema import Ended, Event, Read, Record, frame, read_frame, unread_frame

log = logging.getLogger(__name__)

RETRY = 2.0  # seconds until a catch-up that the database refused is tried again
CHECK = 3.0  # seconds between two looks at whether the sockets' sessions still hold, and lag


class Socket(Protocol):
    """What the hub needs of a WebSocket consumer."""

    session: store.Session
    last: int | None  # the newest sequence that this socket was told of; None: ask the database

    async def push(self, content: dict[str, object]) -> None:
        """Send one frame."""

    async def end(self) -> None:
        """Close the socket: its session is over."""


class Hub:
    """Delivers to the sockets of the right person, among those held here."""

    def __init__(self) -> None:
        self._sockets: defaultdict[int, set[Socket]] = defaultdict(set)
        self._events: list[Event] = []
        self._reads: list[Read] = []
        self._behind: set[Socket] = set()
        self._doubted: set[Socket] = set()  # whose session is to be looked at now
        self._task: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._look = asyncio.Event()
        self._late: dict[Socket, int | None] = {}  # what was behind at the last look, and where
        self._closing: set[asyncio.Task[Any]] = set()  # the loop itself keeps no task alive

    def register(self, socket: Socket) -> None:
        """Deliver to this socket from now on, beginning with a catch-up."""
        self._sockets[socket.session.person].add(socket)
        metrics.add("sockets")
        self.catch_up([socket])
        if self._watch is None or self._watch.done():
            self._watch = asyncio.get_running_loop().create_task(self._watch_sessions())

    def discard(self, socket: Socket) -> None:
        """Forget a socket; one that is unknown is no error."""
        self._behind.discard(socket)
        self._doubted.discard(socket)
        held = self._sockets.get(socket.session.person)
        if held is not None and socket in held:
            held.discard(socket)
            metrics.add("sockets", -1)
            if not held:
                del self._sockets[socket.session.person]

    def publish(self, record: Record) -> None:
        """Deliver what one record says to the sockets of its recipient."""
        held = self._sockets.get(record.recipient)
        if not held:
            return
        if isinstance(record, Event):
            self._events.append(record)
        elif isinstance(record, Read):
            self._reads.append(record)
        elif isinstance(record, Ended):
            gone = [socket for socket in held if socket.session.digest == record.session]
            for socket in gone:
                self._end(socket)
            self._doubted |= held - set(gone)
            self._look.set()
        self._wake()

    def catch_up(self, sockets: Iterable[Socket] | None = None) -> None:
        """Bring sockets up to date from the database: the given ones, or all."""
        if sockets is None:
            sockets = self._all()
        self._behind.update(socket for socket in sockets if self._holds(socket))
        self._wake()

    def _all(self) -> list[Socket]:
        return [socket for held in self._sockets.values() for socket in held]

    def _holds(self, socket: Socket) -> bool:
        return socket in self._sockets.get(socket.session.person, ())

    # -- frames ------------------------------------------------------------------------------------

    def _wake(self) -> None:
        waiting = self._events or self._reads or self._behind
        if waiting and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        while self._events or self._reads or self._behind:
            events, self._events = self._events, []
            reads, self._reads = self._reads, []
            behind, self._behind = self._behind, set()
            try:
                await self._round(events, reads, behind)
            except Exception:
                log.exception("Notifications could not be delivered to their sockets")
                asyncio.get_running_loop().call_later(RETRY, self.catch_up)

    async def _round(self, events: list[Event], reads: list[Read], behind: set[Socket]) -> None:
        fresh: dict[Socket, list[Event]] = {}
        for person, theirs in _by_person(events).items():
            for socket in self._sockets.get(person, ()):
                if socket not in behind:
                    following = _following(socket.last, theirs)
                    if following is None:
                        behind.add(socket)  # a number is missing; the database has it
                    else:
                        fresh[socket] = following
        people = {socket.session.person for socket in (*behind, *fresh)}
        people |= {read.recipient for read in reads}
        try:
            counts = await database_sync_to_async(store.unread_counts)(people)
            missed = await database_sync_to_async(store.missed)(
                {(socket.session.person, socket.last) for socket in behind}
            )
        except DatabaseError as error:
            log.error("The database did not answer (%s): counts follow", error)
            counts, missed = {}, None
            asyncio.get_running_loop().call_later(RETRY, self.catch_up, behind)
        for socket in behind if missed is not None else ():
            if not self._holds(socket):
                continue
            person = socket.session.person
            step = missed[person, socket.last]
            socket.last = step.sequence
            content = unread_frame(counts.get(person, 0), step.sequence, step.events)
            if await self._push(socket, content):
                for event in step.events:
                    metrics.add(f"delivered.{event.kind}")
                metrics.add("caught_up", len(step.events))
            if not step.complete:
                self._behind.add(socket)
        for socket, following in fresh.items():
            for event in following:
                if not self._holds(socket):
                    break
                socket.last = event.sequence
                if await self._push(socket, frame(event, counts.get(event.recipient))):
                    metrics.add(f"delivered.{event.kind}")
                    metrics.observe(time.time() - datetime.fromisoformat(event.time).timestamp())
        for read in reads:
            for socket in list(self._sockets.get(read.recipient, ())):
                await self._push(socket, read_frame(read, counts.get(read.recipient)))

    async def _push(self, socket: Socket, content: dict[str, object]) -> bool:
        try:
            await socket.push(content)
        except Exception as error:
            log.info("A socket took no frame (%s): it is let go", type(error).__name__)
            self.discard(socket)
            return False
        return True

    # -- sessions ----------------------------------------------------------------------------------

    async def _watch_sessions(self) -> None:
        """Close the sockets of sessions that are over, for as long as there are any sockets."""
        whole = time.monotonic()  # when all were looked at the last time
        said = False
        while self._sockets:
            wait = max(0.0, whole + CHECK - time.monotonic())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), wait)
            self._look.clear()
            everybody = time.monotonic() - whole >= CHECK
            sockets = self._all() if everybody else list(self._doubted)
            self._doubted.clear()
            try:
                if everybody:
                    whole = time.monotonic()
                    held = {person: len(held) for person, held in self._sockets.items()}
                    await database_sync_to_async(leases.beat)(held)
                    await self._look_for_late(sockets)
                over = await database_sync_to_async(store.ended)(
                    {socket.session for socket in sockets}
                )
                said = False
            except Exception as error:
                if not said:
                    log.error("Sessions cannot be looked at (%s): sockets stay open", error)
                said = True
                continue
            for socket in sockets:
                if socket.session in over and self._holds(socket):
                    self._end(socket)

    async def _look_for_late(self, sockets: list[Socket]) -> None:
        """Catch up sockets that have been behind since the last look: Kafka is away, or a record is.

        One look is not enough: an event may be on its way.
        """
        latest = await database_sync_to_async(store.latest)(
            {socket.session.person for socket in sockets}
        )
        late = {
            socket: socket.last
            for socket in sockets
            if socket.last is not None and socket.last < latest.get(socket.session.person, 0)
        }
        before, self._late = self._late, late
        self.catch_up(socket for socket, last in late.items() if before.get(socket) == last)

    def _end(self, socket: Socket) -> None:
        """Let go of a socket at once, and close it as soon as the loop gets there."""
        self.discard(socket)
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(self._close(socket))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close(self, socket: Socket) -> None:
        try:
            await socket.end()
        except Exception as error:
            log.info("A socket could not be closed (%s)", type(error).__name__)


def _by_person(events: Iterable[Event]) -> dict[int, list[Event]]:
    """Sort events by person and sequence, each once."""
    found: defaultdict[int, dict[int, Event]] = defaultdict(dict)
    for event in events:
        found[event.recipient][event.sequence] = event
    return {
        person: [theirs[number] for number in sorted(theirs)] for person, theirs in found.items()
    }


def _following(last: int | None, events: list[Event]) -> list[Event] | None:
    """Return those of the events that come after `last`; None where a number before them is missing."""
    if last is None:
        return None
    new = [event for event in events if event.sequence > last]
    if new and new[-1].sequence != last + len(new):
        return None
    return new


hub = Hub()
