"""ASGI entry point of the probe project: an echo, an account of the handshake, and refusals."""

import asyncio
import json
import os
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path, re_path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "beacon.config")


def readable(value: Any) -> Any:
    """Turn a part of an ASGI scope into JSON: bytes become text, one character a byte."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, list | tuple):
        return [readable(item) for item in value]
    return value


class Echo(AsyncWebsocketConsumer):
    """Send each message back as it came."""

    open = 0  # how many of them this process has

    async def connect(self) -> None:
        Echo.open += 1
        await self.accept()

    async def disconnect(self, code: int) -> None:
        Echo.open -= 1

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data, bytes_data=bytes_data)


class Farewell(Echo):
    """Has something to note when it ends, which takes a moment."""

    async def disconnect(self, code: int) -> None:
        await super().disconnect(code)
        await asyncio.sleep(1)
        print(f"noted the end of {self.scope['query_string'].decode()}", flush=True)


class Info(AsyncWebsocketConsumer):
    """Accept (with subprotocol "b" where it is offered) and tell what Daphne received."""

    fields = ("path", "raw_path", "root_path", "query_string", "headers", "client", "scheme")

    async def connect(self) -> None:
        offered = self.scope.get("subprotocols", [])
        await self.accept("b" if "b" in offered else None)
        told = {name: readable(self.scope.get(name)) for name in self.fields}
        told |= {"subprotocols": offered, "echoes": Echo.open}
        await self.send(text_data=json.dumps(told))


class Deny(AsyncWebsocketConsumer):
    """Refuse the handshake: Daphne answers 403."""

    async def connect(self) -> None:
        await self.close()


application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter(
            [
                path("live/echo", Echo.as_asgi()),
                path("live/farewell", Farewell.as_asgi()),
                re_path(r"^live/info(?:$|/)", Info.as_asgi()),
                re_path(r"", Deny.as_asgi()),
            ]
        ),
    }
)
