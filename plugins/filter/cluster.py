"""What hosts that work together must know of one another, worked out of the groups and each host's private address."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.loader import filter_loader

ADDRESS = "switchboard_address"
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")  # a name that a certificate can have
# What the connections of a web host's sites are counted by.
SIZES = ("apache_wsgi_processes", "apache_wsgi_threads", "daphne_instances")
NUMBERS = {"zookeeper": "zookeeper_id", "kafka": "kafka_node_id"}
# Whose hosts are clients of a group: one host alone is reached from others too where these are others.
CLIENTS = {"zookeeper": "kafka", "kafka": "web"}
# Groups whose hosts are, or are clients of, services that show a certificate of the own CA.
TRUSTING = ("zookeeper", "kafka", "database", "web", "loadbalancer")
# The group that reads a service's key, where it has another name.
READERS = {"postgresql": "postgres", "apache": "root"}
# The group whose Prometheus hears of all hosts; those that send to it know it by the CA.
CENTRAL = "monitoring"
Groups = Mapping[str, Sequence[str]]


def reached(groups: Groups, hostvars: Mapping[str, Any], group: str) -> list[str]:
    """Return the hosts of a group that are reached from others: those with a private address.

    There are some where the group has several, or where its clients are on other hosts. A broker whose servers of
    ZooKeeper are elsewhere counts too, since these ask it for a certificate.
    """
    hosts = [name for name in groups.get(group, []) if hostvars[name].get(ADDRESS)]
    others = [CLIENTS[group], *(["zookeeper"] if group == "kafka" else [])]
    outside = {name for one in others for name in groups.get(one, [])} - set(groups.get(group, []))
    return hosts if len(hosts) > 1 or outside else []


def members(groups: Groups, hostvars: Mapping[str, Any], group: str) -> dict[str, dict[str, Any]]:
    """Return the hosts of a group that are reached from others, with their numbers.

    Args:
        groups: the inventory's groups.
        hostvars: the variables of each host.
        group: one of NUMBERS. Without the variable that is named there a host's place in the group counts, from 1.

    Returns:
        ``{id, host}`` of each, by the inventory's name.
    """
    return {
        name: {
            "id": int(hostvars[name].get(NUMBERS[group], place)),
            "host": hostvars[name][ADDRESS],
        }
        for place, name in enumerate(reached(groups, hostvars, group), 1)
    }


def ports(
    some: Mapping[str, Mapping[str, Any]], hostvars: Mapping[str, Any], variable: str, usual: int
) -> str:
    """Return host:port of each member, with commas between them."""
    found = []
    for name, told in some.items():
        host = f"[{told['host']}]" if ":" in told["host"] else told["host"]
        found.append(f"{host}:{hostvars[name].get(variable, usual)}")
    return ",".join(found)


def _server(groups: Groups, hostvars: Mapping[str, Any], web: str) -> tuple[str, str]:
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


def _visitors(groups: Groups, hostvars: Mapping[str, Any], host: str) -> list[str]:
    """Return the web hosts that have sites with their rows in the PostgreSQL of another host."""
    sites = hostvars[host].get("sites")
    entries = sites.values() if isinstance(sites, Mapping) else ()
    if not any(isinstance(one, Mapping) and one.get("database") == "postgresql" for one in entries):
        return []
    return [name for name in groups.get("web", []) if _server(groups, hostvars, name)[0] == host]


def _central(groups: Groups, hostvars: Mapping[str, Any]) -> list[str]:
    """Return the hosts whose Prometheus hears of all others."""
    return [name for name in groups.get(CENTRAL, []) if hostvars[name].get(ADDRESS)]


def kafka_asks(groups: Groups, hostvars: Mapping[str, Any], host: str) -> bool:
    """Say whether a host's sites log in to Kafka, where the inventory does not: to any broker that it has for them."""
    return host in groups.get("kafka", []) or bool(reached(groups, hostvars, "kafka"))


def zookeeper_asks(groups: Groups, hostvars: Mapping[str, Any]) -> bool:
    """Say whether servers that others reach let Kafka in by a password that a run makes, and nobody else."""
    servers, brokers = (members(groups, hostvars, group) for group in ("zookeeper", "kafka"))
    all_log_in = brokers.keys() == set(
        groups.get("kafka", [])
    )  # one without an address asks elsewhere
    return bool(servers and brokers and all_log_in) and not any(
        "zookeeper_users" in hostvars[name]
        or "kafka_zookeeper_user" in hostvars[name]
        or hostvars[name].get("kafka_authentication") is False
        for name in {*brokers, *servers}
    )


def peers_of(groups: Groups, hostvars: Mapping[str, Any], host: str) -> list[dict[str, Any]]:
    """Return the services of a host that others talk to, as ``certificates_peers`` takes them."""
    own = hostvars[host]
    names = [own.get(ADDRESS), *filter(HOST.fullmatch, [host])]
    services = [group for group in NUMBERS if host in reached(groups, hostvars, group)]
    services += ["postgresql"] if _visitors(groups, hostvars, host) else []
    services += ["prometheus"] if host in _central(groups, hostvars) else []
    # of another file, which this one can't import
    by_tls = filter_loader.get("balanced_tls").j2_function
    services += ["apache"] if by_tls(groups, hostvars, host) else []
    derived = [
        {"name": name, "group": READERS.get(name, name), "names": names} for name in services
    ]
    return list(own.get("certificates_peers", derived))


def site_database(groups: Groups, hostvars: Mapping[str, Any], host: str) -> dict[str, Any]:
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


def cluster_settings(groups: Groups, hostvars: Mapping[str, Any], host: str) -> dict[str, Any]:
    """Return the roles' variables of one host that follow from who else is in its groups.

    What the inventory says of such a variable itself is taken as it is. A host without a private address
    (``switchboard_address``), or the only one with it in its group, works alone.
    """
    some = (*TRUSTING, "switchboard") if groups.get(CENTRAL) else TRUSTING
    trusting = dict.fromkeys(name for group in some for name in groups.get(group, []))
    hostvars = {name: hostvars[name] for name in [*trusting, host]}  # each look at one is expensive
    own = hostvars[host]
    folder = f"{own.get('certificates_dir') or '/etc/switchboard/certificates'}/peers"
    visitors = _visitors(groups, hostvars, host)
    servers = members(groups, hostvars, "zookeeper")
    derived = {
        "certificates_peers": peers_of(groups, hostvars, host),
        "certificates_peers_ca": host in trusting
        and any(peers_of(groups, hostvars, name) for name in trusting),
        "postgresql_address": own[ADDRESS] if visitors else "",
        "postgresql_clients": [hostvars[name][ADDRESS] for name in visitors],
        "postgresql_tls_certificate": f"{folder}/postgresql/fullchain.pem" if visitors else "",
        "postgresql_tls_key": f"{folder}/postgresql/privkey.pem" if visitors else "",
        **_zookeeper(servers, host, f"{folder}/zookeeper"),
        **_kafka(groups, hostvars, host, folder),
        "zookeeper_asks": host in {*servers, *groups.get("kafka", [])}
        and zookeeper_asks(groups, hostvars),
    }
    return {name: own.get(name, value) for name, value in derived.items()}


def _zookeeper(servers: dict[str, dict[str, Any]], host: str, folder: str) -> dict[str, Any]:
    return {
        "zookeeper_secure_client_port_address": servers.get(host, {}).get("host", ""),
        "zookeeper_tls_ca": f"{folder}/ca.pem" if host in servers else "",
        "zookeeper_tls_keystore": f"{folder}/keystore.pem" if host in servers else "",
        "zookeeper_id": servers.get(host, {"id": 1})["id"],
        "zookeeper_servers": list(servers.values()) if host in servers else [],
    }


def _kafka(groups: Groups, hostvars: Mapping[str, Any], host: str, folder: str) -> dict[str, Any]:
    brokers, servers = (members(groups, hostvars, group) for group in ("kafka", "zookeeper"))
    own, member, tls = hostvars[host], host in brokers, f"{folder}/kafka"
    local = f"127.0.0.1:{own.get('zookeeper_client_port', 2181)}"
    secure = member and bool(servers)
    # the servers' own, also where they are in a group of variables that this host is not in
    users = hostvars[next(iter(servers))].get("zookeeper_users") or {} if secure else {}
    named = "kafka" in users or (secure and zookeeper_asks(groups, hostvars))
    return {
        "kafka_brokers": list(brokers.values()) if member else [],
        "kafka_node_id": brokers.get(host, {"id": 1})["id"],
        "kafka_address": brokers.get(host, {"host": "127.0.0.1"})["host"],
        "kafka_authentication": kafka_asks(groups, hostvars, host),
        "kafka_tls_certificate": f"{tls}/fullchain.pem" if member else "",
        "kafka_tls_key": f"{tls}/privkey.pem" if member else "",
        "kafka_tls_ca": f"{tls if member else folder}/ca.pem" if brokers else "",
        "kafka_zookeeper_connect": ports(servers, hostvars, "zookeeper_secure_client_port", 2281)
        if secure
        else local,
        "kafka_zookeeper_tls_keystore": f"{tls}/keystore.pem" if secure else "",
        "kafka_zookeeper_user": "kafka" if named else "",
        "kafka_zookeeper_password": users.get("kafka", ""),
        "switchboard_kafka": ports(brokers, hostvars, "kafka_port", 9092)
        or f"127.0.0.1:{own.get('kafka_port', 9092)}",
    }


def kafka_zookeeper_fault(
    groups: Groups, hostvars: Mapping[str, Any], connect: str, user: str, password: str
) -> str:
    """Return why servers of ZooKeeper that the inventory has would not let Kafka in, or an empty text.

    Args:
        groups: the inventory's groups.
        hostvars: the variables of each host.
        connect: where Kafka looks for ZooKeeper (``kafka_zookeeper_connect``).
        user: as whom, empty for nobody.
        password: with which password; it is not shown.
    """
    asked = {
        server.rpartition(":")[0].strip("[]") for server in connect.partition("/")[0].split(",")
    }
    own = [name for name in groups.get("zookeeper", []) if hostvars[name].get(ADDRESS) in asked]
    if len({str(hostvars[name].get("zookeeper_servers")) for name in own}) > 1:
        return f"{connect} are servers of several ensembles, which know nothing of one another"
    for name in own:
        users = hostvars[name].get("zookeeper_users") or {}
        if not users:
            continue
        if not user:
            return f"zookeeper_users of {name} lets {', '.join(map(str, users))} in and nobody else"
        if user not in users:
            return f"zookeeper_users of {name} has no {user}"
        if str(users[user]) != password:
            return f"zookeeper_users of {name} has another password for {user} than kafka_zookeeper_password"
    return ""


def watched_hosts(
    groups: Groups, hostvars: Mapping[str, Any], host: str, watched: int = 2
) -> list[dict[str, str]]:
    """Return the hosts that one host asks for a sign of life, each with name and address.

    The hosts with a private address stand in a ring, in the order of the inventory, and each asks those before it: so
    each is asked by as many others, however many there are.
    """
    ring = [name for name in groups.get("all", []) if hostvars[name].get(ADDRESS)]
    if host not in ring:
        return []
    place, count = ring.index(host), min(watched, len(ring) - 1)
    names = [ring[place - step] for step in range(1, count + 1)]
    return [{"name": name, "address": str(hostvars[name][ADDRESS])} for name in names]


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "cluster_settings": cluster_settings,
            "kafka_zookeeper_fault": kafka_zookeeper_fault,
            "site_database": site_database,
            "watched_hosts": watched_hosts,
        }
