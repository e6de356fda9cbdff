"""The units of Daphne's sites, and what the daphne role refuses before it changes anything."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
CALLABLE = re.compile(r"[A-Za-z_]\w*")
# what a systemd unit takes as it stands: no %, no $, no quote
PATH = re.compile(r"/[A-Za-z0-9._~/?=&+,:@-]*")
WORD = re.compile(r"[A-Za-z0-9.:\[\]-]+")
SIZE = re.compile(r"infinity|[1-9][0-9]*[KMGT]?|")
FOLDER = re.compile(r"/[A-Za-z0-9._~/@+-]*")


def daphne_units(sites: Sequence[Mapping[str, Any]], kind: str) -> list[str]:
    """Return the names of the sites' units: one ``socket`` a site, or one ``service`` an instance."""
    if kind == "socket":
        return [f"daphne-{site['name']}.socket" for site in sites]
    return [
        f"daphne-{site['name']}@{n}.service"
        for site in sites
        for n in range(1, site["instances"] + 1)
    ]


def daphne_inputs(sites: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the sites' units with the files that each reads when it begins, for the module host_units."""
    return [
        {
            "name": unit,
            "unit": unit,
            "paths": [
                "/usr/local/lib/switchboard/daphne_serve.py",
                site["environment_files"],
                site["project_path"],
                site["virtualenv"],
            ],
        }
        for site in sites
        for unit in daphne_units([site], "service")
    ]


def daphne_ports(sites: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the ports of the sites' sockets, as the module host_look takes them."""
    return [
        {
            "variable": f"daphne_port (site {site['name']})",
            "port": site["port"],
            "address": site["address"],
            "unit": f"daphne-{site['name']}@*.service",
            "socket_activated": True,
        }
        for site in sites
    ]


def daphne_memory_share(sites: Sequence[Mapping[str, Any]], total_mib: int, percent: int) -> str:
    """Return an instance's share of a part of the host's memory, as systemd's MemoryMax, at least 256M.

    Args:
        sites: the sites with WebSockets.
        total_mib: the host's memory in MiB.
        percent: the part of it for all instances.
    """
    count = sum(site["instances"] for site in sites)
    return f"{max(256, int(total_mib) * int(percent) // 100 // max(1, count))}M"


def daphne_bytes(size: str) -> int:
    """Return the bytes of a size in systemd's notation (``512M``); 0 for infinity."""
    if size in ("", "infinity"):
        return 0
    unit = " KMGT".find(size[-1])
    return int(size[:-1]) << 10 * unit if unit > 0 else int(size)


def daphne_rules(
    sites: Sequence[Mapping[str, Any]], memory_percent: int = 25
) -> list[dict[str, Any]]:
    """Return what can't work, as rules that do not hold; empty when all is well.

    ``sites`` are the completed sites with WebSockets, ``memory_percent`` is the part of the host's memory that all
    instances may take. Each rule has ``variable``, ``value``, ``why`` and ``remedy``.
    """
    host = {
        "variable": "daphne_memory_percent",
        "value": memory_percent,
        "why": "it is no part of the memory that leaves some to the other services.",
        "remedy": "Use 1 to 90; 25 is the default.",
    }
    return [host] * (not 1 <= memory_percent <= 90) + [
        {
            "variable": f"daphne_{key}",
            "value": "empty" if site[key] in ("", None) else site[key],
            "why": why,
            "remedy": f"{remedy} (site {site['name']})",
        }
        for site in sites
        for key, why, remedy in _broken_site(site)
    ]


def _broken_site(site: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if site["instances"] < 1:
        yield (
            "instances",
            "a site with WebSockets needs a process.",
            "Use 1 or more, or leave daphne_asgi_module empty.",
        )
    if not MODULE.fullmatch(site["asgi_module"]):
        yield (
            "asgi_module",
            "it is no name of a module.",
            "Name it as Python imports it, with dots and without .py.",
        )
    if not CALLABLE.fullmatch(site["asgi_callable"]):
        yield (
            "asgi_callable",
            "it is no name in a module.",
            "Name the application, which is mostly called application.",
        )
    if not PATH.fullmatch(site["health_path"]):
        yield (
            "health_path",
            "that is no path of plain characters.",
            "Begin it with a slash, and use letters, digits and ._~/?=&+,:@- after it.",
        )
    if not WORD.fullmatch(site["health_host"]):
        yield "health_host", "it is no host name.", "Write the name that visitors type."
    for key in ("project_path", "virtualenv"):
        if not FOLDER.fullmatch(site[key]):
            yield key, "it is no absolute path of plain characters.", "Write the whole path."
    for key, why, remedy in (
        ("backlog", "a socket without a queue takes no connection.", "1024 is the default."),
        ("health_timeout", "no process is ready at once.", "30 seconds is the default."),
        (
            "ping_interval",
            "without pings idle sockets are cut by the proxy.",
            "Use 1 second or more; 20 is the default.",
        ),
        ("ping_timeout", "each socket would be closed at its first ping.", "30 is the default."),
        ("connect_timeout", "no handshake would be in time.", "5 seconds is the default."),
    ):
        if site[key] < 1:
            yield key, why, remedy
    if site["unsent_max"] < 65536:
        yield (
            "unsent_max",
            "a message that is just being sent would drop its socket.",
            "Use at least 65536 bytes; 1048576 is the default.",
        )
    if not SIZE.fullmatch(site["memory_max"]) or 0 < daphne_bytes(site["memory_max"]) < 64 << 20:
        yield (
            "memory_max",
            "it is no size of at least 64M.",
            "Write one such as 512M, or infinity, or leave it empty.",
        )
    if site["limit_nofile"] < 64:
        yield (
            "limit_nofile",
            "a process without file descriptors holds no socket.",
            "Use at least the sockets you expect and 64 more.",
        )


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "daphne_units": daphne_units,
            "daphne_inputs": daphne_inputs,
            "daphne_ports": daphne_ports,
            "daphne_rules": daphne_rules,
            "daphne_memory_share": daphne_memory_share,
            "daphne_bytes": daphne_bytes,
        }
