"""What PostgreSQL's files say: sizes from the host's memory and the connections, settings, who may come in."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

RESERVED = 13  # connections: 3 of superuser_reserved_connections, 10 for backups, exporters and the administrator
CONNECTIONS = 20  # of a database that does not say


def _between(low: int, value: int, high: int) -> int:
    return max(low, min(value, high))


def postgresql_sizes(
    memory: int, databases: Sequence[Mapping[str, Any]], shared_buffers: int = 0
) -> dict[str, Any]:
    """Return the settings that follow from the host, in MiB where they are memory or disk.

    PostgreSQL documentation, "Resource Consumption": a quarter of the memory for shared_buffers on a server of its own;
    here others share the host, so it is an eighth.

    Args:
        memory: of the host, in MiB.
        databases: the role's postgresql_databases.
        shared_buffers: what the inventory says, in MiB; 0 to work it out.
    """
    connections = sum(int(one.get("connections") or CONNECTIONS) for one in databases) + RESERVED
    return {
        "max_connections": connections,
        "shared_buffers": shared_buffers or _between(128, memory // 8, 8192),
        "share": "as postgresql_shared_buffers_mb says" if shared_buffers else "an eighth",
        "effective_cache_size": max(128, memory // 2),
        "work_mem": _between(4, memory // 8 // connections, 64),
        "maintenance_work_mem": _between(64, memory // 32, 1024),
        "temp_file_limit": _between(1024, memory, 16384),
    }


def postgresql_parameters(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return settings as postgresql.conf writes them: on and off, numbers as they are, texts in quotes."""
    found = {}
    for name, value in parameters.items():
        if isinstance(value, bool):
            text = "on" if value else "off"
        elif isinstance(value, (int, float)):
            text = str(value)
        else:
            text = "'" + str(value).replace("\\", "\\\\").replace("'", "''") + "'"
        if not re.fullmatch(r"[A-Za-z_][\w.]*", str(name)) or "\n" in text:
            raise ValueError(
                f"postgresql_parameters.{name} is {value!r}: that is no setting. Write it on one line."
            )
        found[str(name)] = text
    return found


def postgresql_networks(clients: Sequence[str]) -> list[str]:
    """Return addresses and networks as pg_hba.conf has them: ``10.0.0.11/32``, ``10.0.0.0/24``."""
    return [str(ipaddress.ip_network(client, strict=False)) for client in clients]


def postgresql_no_networks(clients: Sequence[str]) -> list[str]:
    """Return those that are neither an address nor a network."""
    found = []
    for client in clients:
        try:
            ipaddress.ip_network(client, strict=False)
        except ValueError:
            found.append(client)
    return found


def without_passwords(databases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the databases as they may be shown."""
    return [{key: value for key, value in one.items() if key != "password"} for one in databases]


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "postgresql_sizes": postgresql_sizes,
            "postgresql_parameters": postgresql_parameters,
            "postgresql_networks": postgresql_networks,
            "postgresql_no_networks": postgresql_no_networks,
            "without_passwords": without_passwords,
        }
