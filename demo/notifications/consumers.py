"""The WebSockets of the app."""

import json
from typing import Any
from urllib.parse import parse_qs

from channels.generic.websocket import AsyncWebsocketConsumer

from notifications.hub import hub

MAX_FRAME = 1024  # characters or bytes that a browser may send in one frame; all are ignored
MAX_ID = 2**63 - 1


class NotificationConsumer(AsyncWebsocketConsumer):
    """Sends one signed-in person's notifications, and takes nothing from the browser.

    `?after=<id>` names the newest notification that the page shows already; the first frame then
    brings the unread ones that came after it. Without it the first frame brings the count alone.
    """

    user_id: int = 0
    last_id: int | None = None
    registered = False

    async def connect(self) -> None:
        """Accept a signed-in person, register the socket, and only then look what it missed."""
        user = self.scope.get("user")
        if user is None or not user.is_authenticated or not user.is_active:
            await self.close()
            return
        self.user_id = user.pk
        self.last_id = _after(self.scope.get("query_string", b""))
        await self.accept()
        self.registered = True
        hub.register(self)

    async def disconnect(self, code: int) -> None:
        """Let go of the socket."""
        if self.registered:
            hub.discard(self)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Ignore what the browser sends; close (1009, message too big) where it is long."""
        if len(text_data or bytes_data or "") > MAX_FRAME:
            await self.close(code=1009)

    async def push(self, content: dict[str, Any]) -> None:
        """Send one frame."""
        await self.send(text_data=json.dumps(content))


class RefuseConsumer(AsyncWebsocketConsumer):
    """Answers 403 to a handshake for a path that nothing serves."""

    async def connect(self) -> None:
        """Refuse."""
        await self.close()


def _after(query: bytes) -> int | None:
    """Return the row id in `after=<id>`; None where it is absent or no number."""
    value = parse_qs(query.decode("latin-1")).get("after", [""])[0]
    if value.isascii() and value.isdigit() and len(value) < 20:
        return min(int(value), MAX_ID)
    return None
