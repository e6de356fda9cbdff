"""Filters of the loadbalancer role: the rules of its preflight, and texts as HAProxy's configuration has them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

SUPPORTED = ("12", "13")
SERVER = re.compile(r"[A-Za-z0-9_.:-]+")
ADDRESS = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}")
HOST = re.compile(r"(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
PATH = re.compile(r"/[!#-&(-\[\]-~]*")  # of printable ASCII without space, quotes and backslash
# Those that HAProxy makes itself (configuration manual, "http-error"), and 421, which a rule gives.
STATUSES = {400, 401, 403, 404, 405, 407, 408, 410, 413, 421, 425, 429, 500, 501, 502, 503, 504}
RANGES = {
    "http_port": (1, 65535),
    "https_port": (1, 65535),
    "max_connections": (100, 1000000),
    "max_connections_per_address": (1, 1000000),
    "check_interval": (1, 60),
    "connect_timeout": (1, 60),
    "response_timeout": (1, 86400),
    "tunnel_timeout": (60, 604800),
    "hard_stop_after": (1, 720),
    "drain_timeout": (5, 3600),
    "acme_port": (1024, 65535),
    "metrics_port": (0, 65535),
}
Broken = tuple[str, Any, str, str]


def loadbalancer_rules(
    sites: Sequence[Mapping[str, Any]], host: Mapping[str, Any], facts: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return what can't work, as rules that do not hold; empty when all is well.

    Args:
        sites: the complete sites.
        host: what holds for the whole host, by the names of the role's variables without their prefix.
        facts: Ansible's facts of the host.

    Returns:
        Mappings of variable, value, why and remedy.
    """
    return [
        {
            "variable": f"loadbalancer_{name}" if name != "ansible_distribution" else name,
            "value": "empty" if value in ("", None, []) else value,
            "why": why,
            "remedy": remedy,
        }
        for name, value, why, remedy in (*_broken_host(sites, host, facts), *_broken_sites(sites))
    ]


def _broken_host(
    sites: Sequence[Mapping[str, Any]], host: Mapping[str, Any], facts: Mapping[str, Any]
) -> Iterator[Broken]:
    release = facts.get("distribution_major_version")
    if facts.get("distribution") != "Debian" or release not in SUPPORTED:
        yield (
            "ansible_distribution",
            f"{facts.get('distribution')} {facts.get('distribution_version')}",
            "the loadbalancer role is built for and tested on Debian 12 and 13 alone.",
            "Use a host with one of these.",
        )
    for name, (least, most) in RANGES.items():
        if not least <= int(host[name]) <= most:
            yield name, host[name], f"it must be a number from {least} to {most}.", "Choose one."
    address = host["listen_address"]
    try:
        ipaddress.ip_address(address or "::")
    except ValueError:
        yield (
            "listen_address",
            address,
            "it is no IP address.",
            "Write one of the host's addresses, or leave it empty for all of them.",
        )
    for status in host["error_messages"]:
        if int(status) not in STATUSES:
            yield (
                "error_messages",
                status,
                "HAProxy makes no such answer itself.",
                f"Use one of {', '.join(map(str, sorted(STATUSES)))}.",
            )
    secure = [site for site in sites if site["tls"]]
    if len({site["http2"] for site in secure}) > 1:
        yield (
            "http2",
            ", ".join(f"{site['name']}: {site['http2']}" for site in secure),
            "the sites share one port, where HTTP/2 is offered or not.",
            "Set https.http2 of each site alike.",
        )


def _broken_sites(sites: Sequence[Mapping[str, Any]]) -> Iterator[Broken]:
    owners: dict[str, str] = {}
    for site in sites:
        of = f"(site {site['name']})"
        for name in [site["server_name"], *site["server_aliases"]]:
            if not HOST.fullmatch(name):
                yield "server_name", name, "it is no host name.", f"Write lab.example.org. {of}"
            owner = owners.setdefault(name.lower(), site["name"])
            if owner != site["name"]:
                yield "server_name", name, f"the site {owner} has it.", f"Choose another. {of}"
        if site["server_name"].startswith("*."):
            yield (
                "server_name",
                site["server_name"],
                "it is no name that a web host could be asked for.",
                f"Write the name that visitors type, and the wildcard into server_aliases. {of}",
            )
        if not site["servers"]:
            yield "servers", [], "there is no web host to lead visitors to.", f"Name one. {of}"
        names = [server["name"] for server in site["servers"]]
        for server in site["servers"]:
            if not (SERVER.fullmatch(server["name"]) and ADDRESS.fullmatch(server["address"])):
                yield (
                    "servers",
                    server,
                    "a server has a name of letters, digits, dots and hyphens, and an address with a port.",
                    f'Write {{name: web1, address: "10.0.0.11:80"}}. {of}',
                )
            if server.get("tls") and not HOST.fullmatch(server["name"]):
                yield (
                    "servers",
                    server,
                    "no certificate can have its name.",
                    f"Use letters, digits, dots and hyphens. {of}",
                )
        if len(set(names)) < len(names):
            yield "servers", names, "two have the same name.", f"Give each its own. {of}"
        paths = {name: [site[name]] for name in ("health_path", "websocket_health_path")}
        paths["websocket_paths"] = site["websocket_paths"]
        for variable, values in paths.items():
            for path in values:
                if not PATH.fullmatch(path):
                    yield (
                        variable,
                        path,
                        "it is no path.",
                        f"Begin it with a slash, and encode what is no ASCII. {of}",
                    )
        if site["tls"] and site["tls_stapling"]:
            yield (
                "tls_stapling",
                True,
                "HAProxy 2.6 of Debian 12 has no means to ask an OCSP responder.",
                f"Set https.stapling to false. {of}",
            )


def loadbalancer_pages(messages: Mapping[Any, str]) -> dict[int, str]:
    """Return each page that a visitor reads where the balancer itself refuses or fails, quoted."""
    return {
        int(status): _quoted(
            "<!DOCTYPE html><html lang=en><meta name=viewport content='width=device-width'>"
            f"<title>{status}</title><h1>{status}</h1><p>{escape(str(text), quote=False)}</p></html>"
        )
        for status, text in messages.items()
    }


def _quoted(text: str) -> str:
    """Return a text as one word (HAProxy's configuration manual, 2.2)."""
    return "'" + text.replace("'", r"'\''").replace("\n", " ") + "'"


def loadbalancer_names(sites: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Return how HAProxy matches each name (``str``, or ``end`` of a wildcard), the name, and its site.

    The last that matches counts: longer wildcards come after shorter ones, and whole names after all of them.
    """
    names = [
        (name, site["name"])
        for site in sites
        for name in (site["server_name"].lower(), *map(str.lower, site["server_aliases"]))
    ]
    wildcards = [("end", name[1:], site) for name, site in names if name.startswith("*.")]
    return [
        *sorted(wildcards, key=lambda wildcard: len(wildcard[1])),
        *(("str", name, site) for name, site in names if not name.startswith("*.")),
    ]


def loadbalancer_keys(sites: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the links by which HAProxy finds the key of each certificate: beside it, with ``.key`` at the end."""
    return [
        {"path": f"{site['tls_certificate']}.key", "state": "link", "target": site["tls_key"]}
        for site in sites
        if site["tls"]
    ]


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "loadbalancer_keys": loadbalancer_keys,
            "loadbalancer_names": loadbalancer_names,
            "loadbalancer_pages": loadbalancer_pages,
            "loadbalancer_rules": loadbalancer_rules,
        }
