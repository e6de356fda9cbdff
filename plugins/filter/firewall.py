"""Filters of the firewall: what may come in as rules of nftables, what is wrong with it, and what a cluster needs."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

KEYS = {"port", "protocol", "from", "comment"}
PROTOCOLS = ("tcp", "udp")
PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
COMMENT = re.compile(r"[^\"\\\n]{0,100}")
EXAMPLE = "{port: 8000, protocol: tcp, from: [192.0.2.0/24]}"

# Ports of a cluster, by the group whose hosts listen on them: the variable and its default.
CLUSTER = {
    "zookeeper": {
        "zookeeper_client_port": 2181,
        "zookeeper_peer_port": 2888,
        "zookeeper_election_port": 3888,
    },
    "kafka": {"kafka_port": 9092},
}
# The groups whose hosts connect to them.
CLIENTS: dict[str, tuple[str, ...]] = {
    "zookeeper": ("zookeeper", "kafka"),
    "kafka": ("kafka", "web"),
}
# More of them, of hosts that share a private network.
SECURE = {"zookeeper": {"zookeeper_secure_client_port": 2281}}
# Those by which brokers without ZooKeeper agree on who leads; for one another alone.
KRAFT = {"kafka_controller_port": 9093}
# Ports that are for everybody.
PUBLIC = {
    "web": {"apache_http_port": 80, "apache_https_port": 443},
    "loadbalancer": {"loadbalancer_http_port": 80, "loadbalancer_https_port": 443},
}
# What a balancer alone may reach, where there is one: of web hosts, and of the other balancer.
# Apache listens at one of the two, at both while balancers change from one to the other.
BALANCED = {
    "web": {"apache_http_port": 80, "apache_https_port": 443},
    "loadbalancer": {"loadbalancer_acme_port": 8402},
}


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Return an address or a network, or raise ValueError."""
    return ipaddress.ip_network(str(text).strip(), strict=False)


def network_fault(text: Any) -> str:
    """Return why a text is no address and no network, or an empty text."""
    try:
        network(text)
    except ValueError:
        return f"{text} is neither an address nor a network. Write one such as 192.0.2.0/24 or 2001:db8::/32."
    return ""


def port_fault(port: Any) -> str:
    """Return why a value is neither a port nor a range of ports, or an empty text."""
    found = PORTS.fullmatch(str(port))
    if not found or isinstance(port, bool):
        return f"the port {port} is neither a number nor a range. Write 8000 or 8000-8010."
    first, last = int(found[1]), int(found[2] or found[1])
    if not 1 <= first <= last <= 65535:
        return f"the port {port} is not within 1 to 65535, from the lower one to the higher one. Correct it."
    return ""


def entry_fault(entry: Any) -> str:
    """Return what is wrong with one entry, or an empty text."""
    if not isinstance(entry, Mapping) or "port" not in entry:
        return f"an entry is a mapping with a port. Write it as {EXAMPLE}."
    if unknown := sorted(set(entry) - KEYS):
        return f"there is no key {unknown[0]}. Use {', '.join(sorted(KEYS))}."
    if entry.get("protocol", "tcp") not in PROTOCOLS:
        return (
            f"the protocol {entry['protocol']} is none of {', '.join(PROTOCOLS)}. Use one of these."
        )
    sources = entry.get("from") or []
    if isinstance(sources, (str, Mapping)) or not isinstance(sources, Sequence):
        return "`from` is no list. Write one address or network a line."
    if not COMMENT.fullmatch(str(entry.get("comment", ""))):
        return 'the comment has a ", a \\, a line break, or more than 100 characters. Shorten it.'
    return port_fault(entry["port"]) or next(filter(None, map(network_fault, sources)), "")


def firewall_rules(variables: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a rule that is broken for each entry that nftables could not take.

    Args:
        variables: lists of entries, and of networks where the name ends with ``_from``, by the variable's name.

    Returns:
        Mappings of variable, value, and why, which ends with the remedy.
    """
    broken = []
    for name, values in variables.items():
        judge: Callable[[Any], str] = network_fault if name.endswith("_from") else entry_fault
        if name.endswith("_ports"):
            judge = port_fault
        broken += [
            {"variable": name, "value": value, "why": why}
            for value in values
            if (why := judge(value))
        ]
    return broken


def firewall_lines(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the rules of nftables for some entries, one for each family of addresses, without repetition."""
    lines = []
    for entry in entries:
        what = f"{entry.get('protocol', 'tcp')} dport {entry['port']} accept"
        if entry.get("comment"):
            what += f' comment "{entry["comment"]}"'
        sources = [network(text) for text in entry.get("from") or []]
        if not sources:
            lines.append(what)
        for version, family in ((4, "ip"), (6, "ip6")):
            some = ipaddress.collapse_addresses(
                source
                for source in sources
                if source.version == version  # type: ignore[type-var]
            )
            names = [str(one).removesuffix("/32" if version == 4 else "/128") for one in some]
            if names:
                lines.append(f"{family} saddr {{ {', '.join(names)} }} {what}")
    return list(dict.fromkeys(lines))


def firewall_ssh(ports: Iterable[Any], sources: Sequence[str]) -> list[dict[str, Any]]:
    """Return the ports of SSH as entries of ``firewall_allow``."""
    return [{"port": port, "from": sources, "comment": "SSH"} for port in ports]


def address_of(name: str, variables: Mapping[str, Any]) -> list[str]:
    """Return the addresses that a host of the inventory comes from; AnsibleFilterError where it has none."""
    stated = (
        variables.get("firewall_addresses")
        or variables.get("switchboard_address")
        or variables.get("ansible_host", name)
    )
    addresses = [stated] if isinstance(stated, str) else list(stated)
    for address in addresses:
        if network_fault(address):
            raise AnsibleFilterError(
                f"firewall_addresses of {name} is not set, and its ansible_host is {address}: that is no address, so "
                f"the firewalls of the other hosts can't let it in. Set firewall_addresses of {name} to its addresses."
            )
    return addresses


def firewall_services(
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Any],
    host: str,
    clients: Sequence[str] = (),
    readers: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Return what the services of this bundle on one host must be reached by, as entries of ``firewall_allow``.

    HTTP and HTTPS are for everybody, of web hosts behind balancers for these alone, the ports of a cluster for the
    other hosts that connect to them, that of PostgreSQL for its ``clients`` alone, addresses or networks. That of a
    Prometheus for several hosts, ``port`` of ``readers``, is for its ``hosts`` and ``from``, addresses or networks.
    """
    own = hostvars[host]
    balancers = groups.get("loadbalancer", [])
    found = [
        {"port": own.get(variable, default), "comment": f"{variable}, for everybody"}
        for group, ports in PUBLIC.items()
        for variable, default in ports.items()
        if host in groups.get(group, []) and not (group == "web" and balancers)
    ]
    sources = [
        address
        for name in balancers
        if name != host
        for address in address_of(name, hostvars[name])
    ]
    found += [
        {
            "port": own.get(variable, default),
            "from": sources,
            "comment": f"{variable}, for balancers",
        }
        for group, ports in BALANCED.items()
        for variable, default in ports.items()
        if sources and host in groups.get(group, [])
    ]
    between = [
        (group, ports, CLIENTS[group])
        for table in (CLUSTER, SECURE if own.get("switchboard_address") else {})
        for group, ports in table.items()
    ]
    if own.get("kafka_mode") == "kraft":
        between.append(("kafka", KRAFT, ("kafka",)))
    for group, ports, visitors in between:
        others = dict.fromkeys(name for one in visitors for name in groups.get(one, []))
        others.pop(host, None)
        if host not in groups.get(group, []) or not others:
            continue
        addresses = [address for name in others for address in address_of(name, hostvars[name])]
        found += [
            {
                "port": own.get(variable, default),
                "from": addresses,
                "comment": f"{variable}, for hosts of {' and '.join(visitors)}",
            }
            for variable, default in ports.items()
        ]
    if clients and host in groups.get("database", []):
        port = own.get("postgresql_port", 5432)
        found.append(
            {
                "port": port,
                "from": list(clients),
                "comment": "postgresql_port, for postgresql_clients",
            }
        )
    told = readers or {"hosts": [], "from": []}
    sources = [one for name in told["hosts"] for one in address_of(name, hostvars[name])]
    if sources := [*sources, *told["from"]]:
        found.append(
            {
                "port": told["port"],
                "from": sources,
                "comment": "monitoring_central_port, for hosts that are watched and monitoring_central_readers",
            }
        )
    return found


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "firewall_lines": firewall_lines,
            "firewall_rules": firewall_rules,
            "firewall_services": firewall_services,
            "firewall_ssh": firewall_ssh,
        }
