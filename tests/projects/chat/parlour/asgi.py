"""ASGI entry point of the chat project: rooms in which everybody hears everybody, whichever process holds a socket."""

import os

from channels.generic.websocket import AsyncJsonWebsocketConsumer, AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path, re_path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "parlour.settings")
pages = get_asgi_application()


class Room(AsyncJsonWebsocketConsumer):
    """Somebody in a room, who is told first which process holds the socket."""

    async def connect(self) -> None:
        self.room = f"room.{self.scope['url_route']['kwargs']['room']}"
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()
        await self.send_json({"process": os.getpid()})

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.room, self.channel_name)

    async def receive_json(self, content: dict, **kwargs: object) -> None:
        await self.channel_layer.group_send(
            self.room, {"type": "said", "text": str(content["text"])}
        )

    async def said(self, event: dict) -> None:
        """Pass on what somebody in the room said."""
        await self.send_json({"text": event["text"], "process": os.getpid()})


class Nowhere(AsyncWebsocketConsumer):
    """Refuse the handshake of a path that leads nowhere, with 403; a router alone would raise."""

    async def connect(self) -> None:
        await self.close()


application = ProtocolTypeRouter(
    {
        "http": pages,
        "websocket": URLRouter(
            [
                path("ws/rooms/<slug:room>/", Room.as_asgi()),
                re_path(r"", Nowhere.as_asgi()),
            ]
        ),
    }
)
