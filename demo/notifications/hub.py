"""The sockets that one process holds, by person. Everything here runs in its event loop.

Events and catch-ups go through one task, so that what a socket is told keeps the order in which the
database was read: a count never goes back to an older one. Under load the task takes what has
gathered in one go and asks for all the counts in one query.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol

from channels.db import database_sync_to_async
from django.db import DatabaseError

from notifications import store
from notifications.schema import Event, frame, unread_frame

log = logging.getLogger(__name__)

RETRY = 2.0  # seconds until a catch-up that the database refused is tried again


class Socket(Protocol):
    """What the hub needs of a WebSocket consumer."""

    user_id: int
    last_id: int | None  # the newest row that this socket was told of; None: ask the database

    async def push(self, content: dict[str, object]) -> None:
        """Send one frame."""


class Hub:
    """Delivers to the sockets of the right person, among those held here."""

    def __init__(self) -> None:
        self._sockets: defaultdict[int, set[Socket]] = defaultdict(set)
        self._events: list[Event] = []
        self._behind: set[Socket] = set()
        self._task: asyncio.Task[None] | None = None

    def register(self, socket: Socket) -> None:
        """Deliver to this socket from now on, beginning with a catch-up."""
        self._sockets[socket.user_id].add(socket)
        self.catch_up([socket])

    def discard(self, socket: Socket) -> None:
        """Forget a socket; one that is unknown is no error."""
        self._behind.discard(socket)
        held = self._sockets.get(socket.user_id)
        if held is not None:
            held.discard(socket)
            if not held:
                del self._sockets[socket.user_id]

    def publish(self, event: Event) -> None:
        """Deliver one event to every socket of its recipient."""
        if event.recipient in self._sockets:
            self._events.append(event)
            self._wake()

    def catch_up(self, sockets: Iterable[Socket] | None = None) -> None:
        """Bring sockets up to date from the database: the given ones, or all."""
        if sockets is None:
            sockets = [socket for held in self._sockets.values() for socket in held]
        self._behind.update(socket for socket in sockets if self._holds(socket))
        self._wake()

    def _holds(self, socket: Socket) -> bool:
        return socket in self._sockets.get(socket.user_id, ())

    def _wake(self) -> None:
        if (self._events or self._behind) and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        while self._events or self._behind:
            events, self._events = self._events, []
            behind, self._behind = self._behind, set()
            try:
                await self._round(events, behind)
            except Exception:
                log.exception("Notifications could not be delivered to their sockets")
                asyncio.get_running_loop().call_later(RETRY, self.catch_up, behind)

    async def _round(self, events: list[Event], behind: set[Socket]) -> None:
        people = {event.recipient for event in events} | {socket.user_id for socket in behind}
        try:
            counts = await database_sync_to_async(store.unread_counts)(people)
            missed = await database_sync_to_async(store.missed)(
                {(socket.user_id, socket.last_id) for socket in behind}
            )
        except DatabaseError as error:
            log.error("The database did not answer (%s): counts follow", error)
            counts, missed = {}, None
        brought: dict[Socket, set[str]] = {}
        if missed is None:
            asyncio.get_running_loop().call_later(RETRY, self.catch_up, behind)
        else:
            for socket in behind:
                if self._holds(socket):
                    rows, socket.last_id = missed[socket.user_id, socket.last_id]
                    brought[socket] = {row.event for row in rows}
                    content = unread_frame(counts.get(socket.user_id, 0), rows)
                    await self._push(socket, content)
        for event in events:
            for socket in list(self._sockets.get(event.recipient, ())):
                if event.event not in brought.get(socket, ()):
                    socket.last_id = max(socket.last_id or 0, event.id)
                    await self._push(socket, frame(event, counts.get(event.recipient)))

    async def _push(self, socket: Socket, content: dict[str, object]) -> None:
        try:
            await socket.push(content)
        except Exception as error:
            log.info("A socket took no frame (%s): it is let go", type(error).__name__)
            self.discard(socket)


hub = Hub()
