"""Filters of the zookeeper role: who may ask, as Java reads it, and in which order an ensemble is restarted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

USER = re.compile(r"[A-Za-z0-9._-]{1,64}")
ENTRY = re.compile(r'^  user_([^=]+)="(.*)";?$', re.M)
PASSWORD = re.compile(r"[^$\\\"'\x00-\x1f\x7f]+")  # Java puts something else in the place of ${…}


def zookeeper_users_fault(users: Mapping[str, Any]) -> str:
    """Return what is wrong with the users, without a password in it, or an empty text."""
    for name, password in users.items():
        if not USER.fullmatch(str(name)):
            return f"{name!r} is no name."
        if not isinstance(password, str) or not PASSWORD.fullmatch(password):
            return f"the password of {name} is empty, no text, or has a quote, a dollar, a backslash or a line break."
    return ""


def zookeeper_changed(known: str, users: Mapping[str, str]) -> list[str]:
    """Return the users whose password is another than the servers know; ``known`` is their file of log-ins."""
    before = dict(ENTRY.findall(known))
    return [name for name, password in users.items() if before.get(name, password) != password]


def zookeeper_jaas(users: Mapping[str, str]) -> str:
    """Return a server's file of log-ins (JAAS, DigestLoginModule) with the password of each user."""
    lines = [f'  user_{name}="{password}"' for name, password in sorted(users.items())]
    body = "\n".join(["  org.apache.zookeeper.server.auth.DigestLoginModule required", *lines])
    return f"// Ansible managed\nServer {{\n{body};\n}};\n"


def _of(
    hosts: Iterable[Mapping[str, Any]], servers: Sequence[Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """Return the hosts of a run that are servers of one ensemble, by their names in the inventory."""
    return {
        host["inventory_hostname"]: host
        for host in hosts
        if host.get("__zookeeper_settings", {}).get("servers") == servers
    }


def zookeeper_turn(
    hosts: Iterable[Mapping[str, Any]], servers: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """Return whose turn it is to be restarted, and why nobody may be.

    The leader comes last, so that one election does for the whole, and nobody's turn comes unless all are
    there: a server that is restarted while another is away takes the majority with it.

    Args:
        hosts: the variables of each host of the run; ``__zookeeper_mode`` is what it answered, and ``__zookeeper_roll``
            says whether it is ``due`` to be restarted.
        servers: the servers of the ensemble.

    Returns:
        ``next``, the inventory's name of the host or an empty text, and ``fault``, a sentence or an empty text.
    """
    found = {name: host for name, host in _of(hosts, servers).items() if "__zookeeper_mode" in host}
    modes = {name: host["__zookeeper_mode"] for name, host in found.items()}
    if len(modes) < len(servers):
        fault = (
            f"{len(modes)} of these {len(servers)} servers are in this run ({', '.join(modes)}), and each has to be "
            "asked before one is restarted. Run it without --limit, with all of them reachable."
        )
        return {"next": "", "fault": fault}
    leaders = [told["synced"] for told in modes.values() if told["mode"] == "leader"]
    follow = sum(told["mode"] == "follower" for told in modes.values())
    if leaders != [follow] or follow != len(servers) - 1:
        seen = "; ".join(
            f"{name}: {told['mode'] or told['said'] or 'no answer'}"
            + (f" of {told['synced']}" if told["mode"] == "leader" else "")
            for name, told in modes.items()
        )
        fault = (
            f"the ensemble is not whole ({seen}), and one server less could cost the majority, so nothing more is "
            "restarted. Look at `journalctl -u zookeeper` there, start it, and run this again."
        )
        return {"next": "", "fault": fault}
    due = [name for name, host in found.items() if host["__zookeeper_roll"]["due"]]
    due.sort(key=lambda name: modes[name]["mode"] == "leader")
    return {"next": due[0] if due else "", "fault": ""}


def zookeeper_switch_fault(running: Mapping[str, str], wanted: Mapping[str, Any]) -> str:
    """Return why servers and clients with the old and the new configuration would not work together, or an empty text.

    Args:
        running: what the host's zoo.cfg says of its ensemble (``sslQuorum``, ``server.*``), of log-ins
            (``enforce.auth.enabled``) and of ``dataDir``; nothing where there is none.
        wanted: what it shall say.
    """
    before, after = (
        {key: str(value).lower() for key, value in lines.items() if _of_ensemble(key)}
        for lines in (running, wanted)
    )
    changed = sorted(key for key in before | after if before.get(key) != after.get(key))
    if not running or not changed:
        return ""
    shown = "; ".join(
        f"{key} is {before.get(key, 'not there')} where the server runs, and is to be {after.get(key, 'taken away')}"
        for key in changed
    )
    return f"{shown}, and servers and brokers that differ in that do not work together."


def _of_ensemble(key: str) -> bool:
    return key in {"sslQuorum", "enforce.auth.enabled"} or key.startswith("server.")


def zookeeper_empty_fault(
    hosts: Iterable[Mapping[str, Any]], servers: Sequence[Mapping[str, Any]], path: str
) -> str:
    """Return why servers without data would win over one that has some, or an empty text.

    Args:
        hosts: the variables of each host of the run, with what was seen of it.
        servers: the servers of the ensemble.
        path: what was asked for: it is there on a host with data.
    """
    data = {
        name: host["__looked"]["zookeeper"]["present"].get(path, False)
        for name, host in _of(hosts, servers).items()
        if "zookeeper" in host.get("__looked", {})
    }
    empty = [name for name, some in data.items() if not some]
    if len(servers) < 2 or len(empty) <= len(servers) // 2:
        return ""
    if len(empty) == len(data) == len(servers):
        return ""  # a first run
    others = [name for name in data if name not in empty]
    whose = (
        f"without {', '.join(others)}" if others else "without the servers that are not in this run"
    )
    return (
        f"{', '.join(empty)} have no data and are the majority, so they would agree {whose}, and what is there would "
        "be given up."
    )


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "zookeeper_changed": zookeeper_changed,
            "zookeeper_empty_fault": zookeeper_empty_fault,
            "zookeeper_jaas": zookeeper_jaas,
            "zookeeper_switch_fault": zookeeper_switch_fault,
            "zookeeper_turn": zookeeper_turn,
            "zookeeper_users_fault": zookeeper_users_fault,
        }
