"""What hosts that work together must know of one another, worked out of the groups and each host's private address."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

ADDRESS = "switchboard_address"
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")  # a name that a certificate can have
# What the connections of a web host's sites are counted by.
SIZES = ("apache_wsgi_processes", "apache_wsgi_threads", "daphne_instances")
NUMBERS = {"zookeeper": "zookeeper_id", "kafka": "kafka_node_id"}
# Groups whose hosts are, or are clients of, services that show a certificate of the own CA.
TRUSTING = ("zookeeper", "kafka", "database", "web")
READERS = {
    "postgresql": "postgres"
}  # the group that reads a service's key, where it has another name


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


def _server(
    groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any], web: str
) -> tuple[str, str]:
    """Return the host with the PostgreSQL of a web host's sites, empty for the web host itself, and what is wrong."""
    there = list(groups.get("database", []))
    together = [name for name in there if hostvars[name].get(ADDRESS)]
    if web in there:
        if hostvars[web].get(ADDRESS) and len(together) > 1:
            return "", (
                f"{', '.join(together)} are in the group database, and each would have rows of its own. "
                "Leave one of them there (hosts.yml)."
            )
        return "", ""
    if len(there) != 1:
        return "", (
            f"{web} is not in the group database, and {', '.join(there) or 'no host'} is. Add one host to it "
            "(hosts.yml): the web host itself, or the one that has PostgreSQL for all."
        )
    for name, other in ((there[0], web), (web, there[0])):
        if not hostvars[name].get(ADDRESS):
            return "", (
                f"switchboard_address of {name} is empty, and {other} is to know it by its private address. "
                "Set it in hosts.yml."
            )
    return there[0], ""


def _visitors(
    groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any], host: str
) -> list[str]:
    """Return the web hosts that have sites with their rows in the PostgreSQL of another host."""
    sites = hostvars[host].get("sites")
    entries = sites.values() if isinstance(sites, Mapping) else ()
    if not any(isinstance(one, Mapping) and one.get("database") == "postgresql" for one in entries):
        return []
    return [name for name in groups.get("web", []) if _server(groups, hostvars, name)[0] == host]


def peers_of(
    groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any], host: str
) -> list[dict[str, Any]]:
    """Return the services of a host that others talk to, as ``certificates_peers`` takes them."""
    own = hostvars[host]
    names = [own.get(ADDRESS), *filter(HOST.fullmatch, [host])]
    services = [
        group
        for group, number in NUMBERS.items()
        if host in members(groups, hostvars, group, number)
    ]
    services += ["postgresql"] if _visitors(groups, hostvars, host) else []
    derived = [
        {"name": name, "group": READERS.get(name, name), "names": names} for name in services
    ]
    return list(own.get("certificates_peers", derived))


def site_database(
    groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any], host: str
) -> dict[str, Any]:
    """Return where PostgreSQL is for the sites of a host, and who comes to the one that the host has.

    Returns:
        ``host``, the inventory's name of another one that has it, empty for the host itself; its ``address`` and
        ``port``; ``ca``, the file by which the host knows it; ``fault``, why there is none; ``served``, whether any web
        host comes in from elsewhere; ``webs``, the settings of each web host whose sites use the one of this host; and
        ``newer``, whether its Debian is a newer one than the host's, as far as both have been looked at.
    """
    name, fault = _server(groups, hostvars, host) if host in groups.get("web", []) else ("", "")
    own, server = hostvars[host], hostvars[name or host]
    served = _visitors(groups, hostvars, host)
    webs = [host] if host in groups.get("web", []) and not name else []
    releases = [
        int(one.get("ansible_facts", {}).get("distribution_major_version", 0) or 0)
        for one in (server, own)
    ]
    folder = own.get("certificates_dir") or "/etc/switchboard/certificates"
    return {
        "host": name,
        "address": server.get(ADDRESS, "") if name else "",
        "port": server.get("postgresql_port", 5432),
        "ca": own.get("switchboard_database_ca") or f"{folder}/peers/ca.pem",
        "fault": fault,
        "served": bool(name or served),
        "webs": [
            {key: hostvars[web][key] for key in SIZES if key in hostvars[web]}
            for web in (*webs, *served)
        ],
        "newer": bool(name) and 0 < releases[1] < releases[0],
    }


def cluster_settings(
    groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any], host: str
) -> dict[str, Any]:
    """Return the roles' variables of one host that follow from who else is in its groups.

    What the inventory says of such a variable itself is taken as it is. A host without a private address
    (``switchboard_address``), or the only one with it in its group, works alone.
    """
    own = hostvars[host]
    peers = f"{own.get('certificates_dir') or '/etc/switchboard/certificates'}/peers"
    folder, database = f"{peers}/zookeeper", f"{peers}/postgresql"
    visitors = _visitors(groups, hostvars, host)
    servers = members(groups, hostvars, "zookeeper", "zookeeper_id")
    trusting = dict.fromkeys(name for group in TRUSTING for name in groups.get(group, []))
    derived = {
        "certificates_peers": peers_of(groups, hostvars, host),
        "certificates_peers_ca": host in trusting
        and any(peers_of(groups, hostvars, name) for name in trusting),
        "postgresql_address": own[ADDRESS] if visitors else "",
        "postgresql_clients": [hostvars[name][ADDRESS] for name in visitors],
        "postgresql_tls_certificate": f"{database}/fullchain.pem" if visitors else "",
        "postgresql_tls_key": f"{database}/privkey.pem" if visitors else "",
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
        return {"cluster_settings": cluster_settings, "site_database": site_database}
