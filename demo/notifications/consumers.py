"""The WebSockets of the app."""

import json
import logging
import time
from typing import Any
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import DatabaseError

from notifications import leases, store
from notifications.hub import hub
from notifications.schema import MAX_SEQUENCE

log = logging.getLogger(__name__)

MAX_FRAME = 1024  # characters or bytes that a browser may send in one frame; all are ignored
FRAMES = 10  # frames that a browser may send at once
FRAMES_PER_SECOND = 1.0  # and over time
TOO_BIG, TOO_MANY = 1009, 1008  # RFC 6455, section 7.4.1
SESSION_OVER = 4401  # the browser is not to try again


class NotificationConsumer(AsyncWebsocketConsumer):
    """Sends one signed-in person's notifications, and takes nothing from the browser.

    `?after=<sequence>` names the newest notification that the page shows already; the first frames
    then bring the unread ones that came after it. Without it the first frame brings the count alone.
    `&person=<id>` names whose page it is: where somebody else has signed in since, it is over.
    """

    session: store.Session
    last: int | None = None
    registered = False
    tokens = float(FRAMES)
    counted = 0.0

    async def connect(self) -> None:
        """Accept a signed-in person, register the socket, and only then look what it missed."""
        user = self.scope.get("user")
        if user is None or not user.is_authenticated or not user.is_active:
            await self.close()
            return
        key = getattr(self.scope.get("session"), "session_key", None) or ""
        self.session = store.Session(user.pk, key, user.get_session_auth_hash())
        query = self.scope.get("query_string", b"")
        self.last = _number(query, "after")
        if _number(query, "person") not in {None, user.pk}:
            await self.accept()  # a refused handshake has no code: the page would try again
            await self.end()
            return
        try:
            if not await database_sync_to_async(leases.acquire)(user.pk):
                log.info("Person %s holds %d sockets: no more", user.pk, leases.limit())
                await self.close()
                return
        except DatabaseError as error:
            log.error("A socket was refused, for the database did not answer: %s", error)
            await self.close()
            return
        self.registered = True
        await self.accept()
        hub.register(self)

    async def disconnect(self, code: int) -> None:
        """Let go of the socket."""
        if self.registered:
            self.registered = False
            hub.discard(self)
            try:
                await database_sync_to_async(leases.release)(self.session.person)
            except DatabaseError as error:
                log.error("A closed socket is still counted, for a while: %s", error)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Ignore what the browser sends; close where it is long, or comes too often."""
        now = time.monotonic()
        if self.counted:
            self.tokens += (now - self.counted) * FRAMES_PER_SECOND
        self.counted = now
        self.tokens = min(self.tokens, FRAMES) - 1
        if len(text_data or bytes_data or "") > MAX_FRAME:
            await self.close(code=TOO_BIG)
        elif self.tokens < 0:
            await self.close(code=TOO_MANY)

    async def push(self, content: dict[str, Any]) -> None:
        """Send one frame."""
        await self.send(text_data=json.dumps(content))

    async def end(self) -> None:
        """Close the socket: its session is over."""
        await self.close(code=SESSION_OVER)


class RefuseConsumer(AsyncWebsocketConsumer):
    """Answers 403 to a handshake for a path that nothing serves."""

    async def connect(self) -> None:
        """Refuse."""
        await self.close()


def _number(query: bytes, name: str) -> int | None:
    """Return the number in `<name>=<number>`; None where it is absent or no number."""
    value = parse_qs(query.decode("latin-1")).get(name, [""])[0]
    if value.isascii() and value.isdigit() and len(value) < 20:
        return min(int(value), MAX_SEQUENCE)
    return None
