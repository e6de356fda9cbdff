"""The units of Daphne's sites, and what the daphne role refuses before it changes anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def daphne_units(sites: Sequence[Mapping[str, Any]], kind: str) -> list[str]:
    """Return the names of the sites' units: one ``socket`` a site, or one ``service`` an instance."""
    if kind == "socket":
        return [f"daphne-{site['name']}.socket" for site in sites]
    return [
        f"daphne-{site['name']}@{n}.service"
        for site in sites
        for n in range(1, site["instances"] + 1)
    ]


def daphne_ports(sites: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the ports of the sites' sockets, as the module port_check takes them."""
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


def daphne_rules(sites: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rules that each site must keep: mappings of that, variable, value, why and mend."""
    rules: list[dict[str, Any]] = []

    def add(site: Mapping[str, Any], key: str, that: bool, why: str, mend: str) -> None:
        rules.append(
            {
                "that": that,
                "variable": f"daphne_{key}",
                "value": site[key],
                "why": why,
                "mend": f"{mend} (site {site['name']})",
            }
        )

    for site in sites:
        add(
            site,
            "instances",
            site["instances"] >= 1,
            "a site with WebSockets needs a process.",
            "Use 1 or more.",
        )
        add(
            site,
            "health_path",
            site["health_path"].startswith("/"),
            "that is no path.",
            "Begin it with a slash.",
        )
        add(
            site,
            "ping_interval",
            site["ping_interval"] >= 1,
            "without pings idle sockets are cut by the proxy.",
            "Use 1 second or more; 20 is the default.",
        )
        add(
            site,
            "limit_nofile",
            site["limit_nofile"] >= 64,
            "a process without file descriptors holds no socket.",
            "Use at least the sockets you expect and 64 more.",
        )
    return rules


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "daphne_units": daphne_units,
            "daphne_ports": daphne_ports,
            "daphne_rules": daphne_rules,
        }
