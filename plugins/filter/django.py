"""The units of the sites' services and timers, and what is told of releases."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

STOP_SECONDS = 30  # that a service has to end its work where it does not say


def _number(value: Any, default: int) -> int:
    """Return a value that is a whole number, or a text of one, or the default; the rules refuse all others."""
    return (
        int(value)
        if isinstance(value, (int, str)) and re.fullmatch("[0-9]{1,9}", str(value))
        else default
    )


def django_units(sites: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the units of the sites' services and timers, sorted, each a mapping.

    ``file`` is the unit that says how ``command`` runs, below the virtual environment's programs; ``units`` are the
    services that run by it, one or its instances; ``timer`` starts it, empty for a service, as is ``on_calendar``. A
    site's name has no dot, so no two of them share a unit.
    """
    found: list[dict[str, Any]] = []
    for site in sites:
        services = {
            name: wanted if isinstance(wanted, Mapping) else {"command": wanted}
            for name, wanted in site["services"].items()
        }
        for name, wanted in sorted({**services, **site["timers"]}.items()):
            stem = f"django-{site['name']}.{name}"
            told = wanted if isinstance(wanted, Mapping) else {}
            when, several = told.get("on_calendar", ""), "instances" in told
            numbers = range(1, _number(told.get("instances"), 0) + 1)
            program = told.get("program") or f"python manage.py {told.get('command') or ''}"
            command = (
                str(program)
                .replace("{site}", site["name"])
                # systemd would put values of its own for %n and $NAME
                .replace("%", "%%")
                .replace("$", "$$")
                .replace("{instance}", "%i" if several else "1")
                .strip()
            )
            found.append(
                {
                    "site": site["name"],
                    "name": name,
                    "title": " ".join(
                        command.removeprefix("python ").split()[: 1 if told.get("program") else 2]
                    ),
                    "command": command,
                    "on_calendar": str(when),
                    "file": f"{stem}@.service" if several else f"{stem}.service",
                    "units": [f"{stem}@{n}.service" for n in numbers] or [f"{stem}.service"],
                    "timer": f"{stem}.timer" if when else "",
                    "stop_timeout": _number(told.get("stop_timeout"), STOP_SECONDS),
                    "project_dir": site["project_dir"],
                    "write_paths": site["write_paths"],
                }
            )
    return found


def django_unwanted(
    sites: Sequence[Mapping[str, Any]], units: Sequence[Mapping[str, Any]], host: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Return what the sites have on a host and want no longer: ``units`` to stop, timers first, and ``files``.

    Args:
        sites: the sites.
        units: what they want, as `django_units` tells it.
        host: ``units`` (the files) and ``enabled``, as the module host_look has seen them.
    """
    stems = tuple(f"django-{site['name']}." for site in sites)
    files = {name for name in host["units"] if name.startswith(stems)}
    there = files | {name for name in host["enabled"] if name.startswith(stems)}
    files -= {name for unit in units for name in (unit["file"], unit["timer"])}
    there -= {name for unit in units for name in (*unit["units"], unit["timer"])}
    # a template is no unit itself
    stopped = sorted((name for name in there if not name.endswith("@.service")), reverse=True)
    return {"units": stopped, "files": sorted(files)}


def django_units_of(services: Sequence[Mapping[str, Any]], site: str) -> list[str]:
    """Return the units of one site among those of `django_units`."""
    return [name for unit in services if unit["site"] == site for name in unit["units"]]


def django_ports(sites: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the ports of the sites' services, as the module host_look takes them.

    A port under the name of a service that the site does not have is another site's.
    """
    return [
        {
            "variable": f"django_service_ports.{name} (site {site['name']})",
            "port": port,
            "address": "127.0.0.1",
            "unit": f"django-{site['name']}.{name}.service",
        }
        for site in sites
        for name, port in sorted(site["service_ports"].items())
        if name in site["services"]
    ]


def django_unit_inputs(units: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the units of the sites' commands, as the module host_units takes them.

    A command that a timer starts is never restarted: that would run it at another time.
    """
    found = []
    for unit in units:
        paths = [f"/etc/switchboard/{unit['site']}/*.env", f"/srv/{unit['site']}/current/venv"]
        found += [
            {"name": name, "unit": name, "paths": paths, "restart": not unit["timer"]}
            for name in unit["units"]
        ]
        if unit["timer"]:
            found.append({"name": unit["timer"], "unit": unit["timer"]})
    return found


def release_lines(releases: Sequence[Mapping[str, str]]) -> list[str]:
    """Return releases, as the module site_releases tells of them, as the lines of a table."""
    if not releases:
        return ["no release yet"]
    lines = [f"{'release':14}{'state':13}{'when (UTC)':22}{'commit':16}by"]
    for one in releases:
        line = (
            f"{one['release']:14}{one['state']:13}{one['at']:22}{one['commit'][:15]:16}{one['by']}"
        )
        lines.append(line.rstrip())
        if one["state"] == "failed":
            lines.append(f"{'':14}at step {one['step']}: {one['why']}")
    return lines


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "django_units": django_units,
            "django_units_of": django_units_of,
            "django_unwanted": django_unwanted,
            "release_lines": release_lines,
            "django_ports": django_ports,
            "django_unit_inputs": django_unit_inputs,
        }
