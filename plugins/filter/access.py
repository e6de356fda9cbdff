"""Filters of SSH: the directives of sshd_config, and whether sshd follows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def written(value: Any) -> str:
    """Return a value as sshd_config(5) writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def sshd_directives(settings: Mapping[str, Any]) -> str:
    """Return directives of sshd_config, a line each in the order of their names; a list is one line for each item."""
    lines = []
    for name in sorted(settings):
        value = settings[name]
        lines += [
            f"{name} {written(item)}\n" for item in (value if isinstance(value, list) else [value])
        ]
    return "".join(lines)


def sshd_addresses(settings: Mapping[str, Any]) -> list[str]:
    """Return the addresses of ListenAddress, or names, without ports and routing domains (sshd_config(5))."""
    found = []
    for name, value in settings.items():
        for item in (value if isinstance(value, list) else [value]) * (
            name.lower() == "listenaddress"
        ):
            address = str(item).split()[0]
            if address.startswith("["):
                address = address[1:].partition("]")[0]
            elif address.count(":") == 1:
                address = address.partition(":")[0]
            found.append(address)
    return found


def sshd_ignores(said: str, settings: Mapping[str, Any]) -> list[str]:
    """Return which directives sshd does not follow.

    Args:
        said: the output of `sshd -T`, in small letters but for values.
        settings: the directives. Algorithms that begin with - + or ^, and lists, are not compared.
    """
    found = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
    # sshd -T has another name for it
    same = {"prohibit-password": "without-password"}
    ignored = []
    for name, value in settings.items():
        text, told = written(value), found.get(name.lower())
        if isinstance(value, list) or text[:1] in "-+^" or told is None:
            continue
        if told.lower() not in (text.lower(), same.get(text.lower())):
            ignored.append(f"{name} is {told}, not {text}")
    return ignored


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "sshd_addresses": sshd_addresses,
            "sshd_directives": sshd_directives,
            "sshd_ignores": sshd_ignores,
        }
