"""The units of the sites' instances of Valkey, and what the valkey role refuses before it changes anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SUPPORTED = ("12", "13")
LEAST_MIB = 16


def valkey_units(sites: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the name of each site's unit."""
    return [f"valkey-{site['name']}.service" for site in sites]


def valkey_inputs(sites: Sequence[Mapping[str, Any]], program: str) -> list[dict[str, Any]]:
    """Return the sites' units with what each reads when it begins, for the module host_units.

    A restart forgets what is not persistent, so an upgraded library alone is no reason for it.
    """
    return [
        {"name": unit, "unit": unit, "paths": [program], "code": False}
        for unit in valkey_units(sites)
    ]


def valkey_absent(units: Sequence[str]) -> list[dict[str, str]]:
    """Return the files of units that shall not be there, as the module host_files takes them."""
    return [{"path": f"/etc/systemd/system/{unit}", "state": "absent"} for unit in units]


def valkey_rules(
    sites: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], percent: int
) -> list[dict[str, Any]]:
    """Return what can't work, as rules that do not hold; empty when all is well.

    Args:
        sites: the sites with an instance, each with name and memory_mb (MiB).
        facts: Ansible's facts of the host.
        percent: the part of the host's memory that all instances may hold together.

    Returns:
        Mappings of variable, value, why and remedy.
    """
    rules: list[dict[str, Any]] = []

    def refuse(variable: str, value: Any, why: str, remedy: str) -> None:
        rules.append({"variable": variable, "value": value, "why": why, "remedy": remedy})

    if not 1 <= percent <= 90:
        refuse(
            "valkey_memory_percent",
            percent,
            "it is no part of the memory that leaves some to the other services.",
            "Use 1 to 90; 25 is the default.",
        )
    if not sites:
        return rules
    release = str(facts.get("distribution_major_version", ""))
    if facts.get("distribution") != "Debian" or release not in SUPPORTED:
        refuse(
            "ansible_distribution",
            f"{facts.get('distribution')} {facts.get('distribution_version')}",
            "the valkey role is built for and tested on Debian 12 and 13 alone.",
            "Use a host with one of these.",
        )
    for site in sites:
        if site["memory_mb"] < LEAST_MIB:
            refuse(
                "valkey_memory_mb",
                site["memory_mb"],
                "an instance needs some of it for itself.",
                f"Use {LEAST_MIB} or more; 64 is the default. (site {site['name']})",
            )
    total, wanted = int(facts.get("memtotal_mb", 0)), sum(site["memory_mb"] for site in sites)
    budget = total * percent // 100
    if wanted > budget:
        largest = max(sites, key=lambda site: site["memory_mb"])
        refuse(
            "valkey_memory_mb",
            largest["memory_mb"],
            f"the instances of all sites may hold {wanted} MiB together, and {percent} % of this host's {total} MiB "
            f"are {budget} MiB.",
            f"Lower it, or raise valkey_memory_percent, or give the host more. (site {largest['name']})",
        )
    return rules


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "valkey_units": valkey_units,
            "valkey_inputs": valkey_inputs,
            "valkey_absent": valkey_absent,
            "valkey_rules": valkey_rules,
        }
