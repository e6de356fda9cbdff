"""The ASGI application: the WebSockets under /ws/, and the pages where ASGI alone serves the site.

Importing this module starts nothing. The thread that reads Kafka starts with the first request or
handshake that the application handles, and hands what it reads to the event loop that handles it.
"""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "graphspace.settings")

pages = get_asgi_application()  # loads the apps; what is imported below needs their models

from channels.auth import AuthMiddlewareStack  # noqa: E402 - needs the apps loaded
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402 - needs the apps loaded
from channels.security.websocket import (  # noqa: E402 - needs the apps loaded
    AllowedHostsOriginValidator,
)
from django.urls import path, re_path  # noqa: E402 - needs the apps loaded

from notifications.consumers import NotificationConsumer, RefuseConsumer  # noqa: E402 - as above
from notifications.listener import WithListener  # noqa: E402 - needs the apps loaded

sockets = AllowedHostsOriginValidator(
    URLRouter(
        [
            path("ws/notifications/", AuthMiddlewareStack(NotificationConsumer.as_asgi())),
            # Without this, an unknown path is an exception and the handshake a 500.
            re_path(r"", RefuseConsumer.as_asgi()),
        ]
    )
)

application = WithListener(ProtocolTypeRouter({"http": pages, "websocket": sockets}))
