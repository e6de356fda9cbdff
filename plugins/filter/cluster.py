"""What hosts that work together must know of one another, worked out of the groups and each host's private address."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

ADDRESS = "switchboard_address"
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")  # a name that a certificate can have
NUMBERS = {"zookeeper": "zookeeper_id", "kafka": "kafka_node_id"}
# Groups whose hosts are, or are clients of, services that show a certificate of the own CA.
TRUSTING = ("zookeeper", "kafka", "database", "web")


def members(
    groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any], group: str, number: str
) -> dict[str, dict[str, Any]]:
    """Return the hosts of a group that work together: those with a private address, where there are several.

    Args:
        groups: the inventory's groups.
        hostvars: the variables of each host.
        group: the name of the group.
        number: the variable with a host's number; without it its place in the group counts, from 1.

    Returns:
        ``{id, host}`` of each, by the inventory's name.
    """
    hosts = [name for name in groups.get(group, []) if hostvars[name].get(ADDRESS)]
    if len(hosts) < 2:
        return {}
    return {
        name: {"id": int(hostvars[name].get(number, place)), "host": hostvars[name][ADDRESS]}
        for place, name in enumerate(hosts, 1)
    }


def peers_of(
    groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any], host: str
) -> list[dict[str, Any]]:
    """Return the services of a host that others talk to, as ``certificates_peers`` takes them."""
    own = hostvars[host]
    names = [own.get(ADDRESS), *filter(HOST.fullmatch, [host])]
    derived = [
        {"name": group, "group": group, "names": names}
        for group, number in NUMBERS.items()
        if host in members(groups, hostvars, group, number)
    ]
    return list(own.get("certificates_peers", derived))


def cluster_settings(
    groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any], host: str
) -> dict[str, Any]:
    """Return the roles' variables of one host that follow from who else is in its groups.

    What the inventory says of such a variable itself is taken as it is. A host without a private address
    (``switchboard_address``), or the only one with it in its group, works alone.
    """
    own = hostvars[host]
    folder = f"{own.get('certificates_dir', '/etc/switchboard/certificates')}/peers/zookeeper"
    servers = members(groups, hostvars, "zookeeper", "zookeeper_id")
    trusting = dict.fromkeys(name for group in TRUSTING for name in groups.get(group, []))
    derived = {
        "certificates_peers": peers_of(groups, hostvars, host),
        "certificates_peers_ca": host in trusting
        and any(peers_of(groups, hostvars, name) for name in trusting),
        "zookeeper_secure_client_port_address": servers.get(host, {}).get("host", ""),
        "zookeeper_tls_ca": f"{folder}/ca.pem" if host in servers else "",
        "zookeeper_tls_keystore": f"{folder}/keystore.pem" if host in servers else "",
        "zookeeper_id": servers.get(host, {"id": 1})["id"],
        "zookeeper_servers": list(servers.values()) if host in servers else [],
    }
    return {name: own.get(name, value) for name, value in derived.items()}


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {"cluster_settings": cluster_settings}
