"""The sites of a tested web host, as the routing tests ask for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.behaviour import rawhttp

PROBE = "probe"


@dataclass(frozen=True)
class Site:
    """A site as it is reached from here: where to connect, and by which names and paths to ask."""

    name: str
    address: str
    port: int
    host: str
    prefix: str
    socket_path: str
    settings: dict[str, Any]

    @property
    def origin(self) -> str:
        """The origin of the site's own pages."""
        return f"http://{self.host}"

    @property
    def is_probe(self) -> bool:
        """Whether it is the probe project, which tells what it receives."""
        return self.name == PROBE

    @property
    def is_seed(self) -> bool:
        """Whether it has the published rules."""
        return bool(self.prefix) and self.settings["websocket_mode"] == "seed"

    def under(self, name: str) -> str:
        """Return a path below the site's first WebSocket path."""
        return self.prefix + name

    def connect(self, timeout: float = 15.0) -> rawhttp.Connection:
        """Connect to Apache."""
        return rawhttp.Connection(self.address, self.port, timeout)

    def ask(self, data: bytes, timeout: float = 15.0) -> rawhttp.Response:
        """Send one request on a connection of its own."""
        return rawhttp.ask(self.address, self.port, data, timeout)

    def page(self, path: str = "/", timeout: float = 15.0, *headers: str) -> rawhttp.Response:
        """Ask for a page."""
        return self.ask(rawhttp.get(path, self.host, headers), timeout)

    def handshake(self, path: str, *headers: str) -> bytes:
        """Return a complete handshake for this site."""
        return rawhttp.handshake(path, self.host, headers=headers)

    def open(self, path: str, timeout: float = 15.0) -> tuple[rawhttp.Connection, rawhttp.Response]:
        """Open a WebSocket; the caller closes the connection."""
        connection = self.connect(timeout)
        connection.send(self.handshake(path))
        return connection, connection.response()


def web_sites(deployed: dict[str, Any], address: str) -> list[Site]:
    """Return the sites that the inventory gives to a host; an empty list where it is no web host."""
    apache = deployed.get("apache") or {}
    port = apache.get("http_port", 80)
    health = {
        site["name"]: site["health_path"]
        for site in (deployed.get("daphne") or {}).get("sites", [])
    }
    sites = []
    for settings in apache.get("sites", []):
        name = settings["name"]
        host = settings["server_name"] + ("" if port == 80 else f":{port}")
        prefix = next(iter(settings["websocket_paths"]), "")
        path = f"{prefix}info" if name == PROBE else health.get(name, prefix)
        sites.append(Site(name, address, port, host, prefix, path, settings))
    return sites
