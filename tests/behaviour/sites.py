"""The sites of a tested web host, as the routing tests ask for them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.behaviour import rawhttp

PROBE = "probe"


@dataclass(frozen=True)
class Site:
    """A site as it is reached from here: where to connect, and by which names and paths to ask.

    One that is served over HTTP and over TLS is two of these.
    """

    name: str
    address: str
    port: int
    host: str
    prefix: str
    socket_path: str
    settings: dict[str, Any]
    tls: ssl.SSLContext | None = field(default=None, compare=False)
    outside: frozenset[int] = frozenset()  # all ports that the host's Apache listens at
    direct: str = ""  # the web host's own address, another one where visitors come by a balancer

    @property
    def scheme(self) -> str:
        """The scheme in the site's addresses."""
        return "https" if self.tls else "http"

    @property
    def origin(self) -> str:
        """The origin of the site's own pages."""
        return f"{self.scheme}://{self.host}"

    @property
    def balanced(self) -> bool:
        """Whether a balancer stands before the web host."""
        return self.address != self.direct

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
        name = self.settings["server_name"]
        return rawhttp.Connection(self.address, self.port, timeout, self.tls, name)

    def ask(self, data: bytes, timeout: float = 15.0) -> rawhttp.Response:
        """Send one request on a connection of its own."""
        name = self.settings["server_name"]
        return rawhttp.ask(self.address, self.port, data, timeout, self.tls, name)

    def page(self, path: str = "/", timeout: float = 15.0, *headers: str) -> rawhttp.Response:
        """Ask for a page."""
        return self.ask(rawhttp.get(path, self.host, headers), timeout)

    def handshake(self, path: str, *headers: str) -> bytes:
        """Return a complete handshake for this site."""
        return rawhttp.handshake(path, self.host, self.origin, headers)

    def open(self, path: str, timeout: float = 15.0) -> tuple[rawhttp.Connection, rawhttp.Response]:
        """Open a WebSocket; the caller closes the connection."""
        connection = self.connect(timeout)
        connection.send(self.handshake(path))
        return connection, connection.response()


def trust(deployed: dict[str, Any], name: str) -> ssl.SSLContext:
    """Return how a visitor of a site knows it: by the CA that the inventory names, or by the system's.

    The certificates of a test service for ACME are taken as they are; test_tls.py looks who gave them.
    """
    told = deployed["certificates"]
    site = next(site for site in told["sites"] if site["name"] == name)
    own = {"ca": told["ca"], "files": site["certificate"]}.get(site["source"])
    context = ssl.create_default_context(cafile=own)
    if site["source"] == "files":
        context.load_default_certs()  # a given certificate may be signed by anybody
    if site["source"] == "acme" and told["acme_ca"]:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def web_sites(deployed: dict[str, Any], address: str) -> list[Site]:
    """Return the sites that the inventory gives to a host; an empty list where it is no web host."""
    apache = deployed.get("apache") or {}
    health = {
        site["name"]: site["health_path"]
        for site in (deployed.get("daphne") or {}).get("sites", [])
    }
    balancer = deployed.get("loadbalancer") or {}
    public = {site["name"]: site for site in balancer.get("sites", [])}
    outside = frozenset(apache.get("ports", []))
    sites = []
    for own in apache.get("sites", []):
        name = own["name"]
        seen = public.get(name, own)
        settings = {**own, **{key: seen[key] for key in ("tls", "tls_redirect")}}
        prefix = next(iter(settings["websocket_paths"]), "")
        path = f"{prefix}info" if name == PROBE else health.get(name, prefix)
        for tls in (False, True):
            if not (
                settings["tls"] if tls else not settings["tls"] or not settings["tls_redirect"]
            ):
                continue
            port = (balancer or apache)["https_port" if tls else "http_port"]
            host = settings["server_name"] + ("" if port == (443 if tls else 80) else f":{port}")
            context = trust(deployed, name) if tls else None
            at = balancer.get("address", address)
            sites.append(
                Site(name, at, port, host, prefix, path, settings, context, outside, address)
            )
    return sites


def rewrite_sites(deployed: dict[str, Any], address: str) -> list[Site]:
    """Return the sites whose routing is the bundle's own; skip the test on a host of the published rules."""
    found = [site for site in web_sites(deployed, address) if not site.is_seed]
    if not found:
        pytest.skip("no site of this host is in mode rewrite")
    return found
