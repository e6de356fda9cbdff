"""Filters of the kafka role for brokers that agree among themselves on who leads: what their disks say, and shall."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

VOTERS, SERVERS = "controller.quorum.voters", "controller.quorum.bootstrap.servers"
MOST = 5  # controllers; each change waits for more than half of them


def _lines(host: Mapping[str, Any], name: str) -> Mapping[str, str]:
    """Return what the preflight has seen of one file of a host, nothing without it; of two, that with the shorter path.

    The longer one is in the folder that playbooks/leave_zookeeper.yml has put aside.
    """
    settings = host.get("__looked", {}).get("kafka", {}).get("settings", {})
    paths = sorted((path for path in settings if path.endswith(f"/{name}")), key=len)
    return settings[paths[0]] if paths else {}


def _members(
    hosts: Iterable[Mapping[str, Any]], brokers: Sequence[Any], name: str
) -> dict[str, Mapping[str, Any]]:
    """Return a host and, where its cluster has several brokers, the others of it that are in the run."""
    return {
        host["inventory_hostname"]: host
        for host in hosts
        if "__looked" in host
        and (
            host["inventory_hostname"] == name
            or (len(brokers) > 1 and host.get("__kafka_settings", {}).get("brokers") == brokers)
        )
    }


def _uuid(seed: str) -> str:
    """Return an id as Kafka writes it, always the same for a text."""
    digest = bytearray(hashlib.sha256(f"switchboard kafka {seed}".encode()).digest()[:16])
    digest[0] &= 0x7F  # so that it begins with a letter, not with a hyphen as an option does
    return base64.urlsafe_b64encode(bytes(digest)).decode().rstrip("=")


def kafka_cluster_id(hosts: Iterable[Mapping[str, Any]], brokers: Sequence[Any], name: str) -> str:
    """Return the id of the cluster: that of a broker that has one, else one made of who they are, so that all agree.

    Args:
        hosts: the variables of each host of the run.
        brokers: those of the cluster; empty for a broker that is alone.
        name: the host's in the inventory.
    """
    settings = [
        host["__looked"].get("kafka", {}).get("settings", {})
        for host in _members(hosts, brokers, name).values()
    ]
    found = [
        (len(path), lines["cluster.id"])
        for paths in settings
        for path, lines in paths.items()
        if path.endswith("/meta.properties") and lines
    ]
    if found:
        return min(found, key=lambda one: one[0])[1]  # the longer path is of a folder put aside
    return _uuid(json.dumps(brokers if len(brokers) > 1 else name, sort_keys=True, default=str))


def _fixed(host: Mapping[str, Any]) -> bool:
    """Say whether the controllers of a broker's cluster are a fixed list, by its disk."""
    state = _lines(host, "quorum-state")
    if not _lines(host, "meta.properties") or state.get("data_version") == "1":
        return False
    # one that has only begun to ask the others has 0 too, and an empty list
    told = state.get("currentVoters", "[]") != "[]"
    return told or VOTERS in _lines(host, "server.properties")


def kafka_quorum(
    hosts: Iterable[Mapping[str, Any]], brokers: Sequence[Any], name: str, places: Sequence[str]
) -> dict[str, Any]:
    """Return how the brokers come to know who of them has a say in who leads (KIP-853).

    Args:
        hosts: the variables of each host of the run.
        brokers: those of the cluster; empty for a broker that is alone.
        name: the host's in the inventory.
        places: ``id@host:port`` of each broker.

    Returns:
        ``fixed``, whether their file says it once and for all, as it did before Kafka 3.9; and ``format``, the options
        by which Kafka prepares an empty disk: the first controllers of a cluster know one another, all others ask.
    """
    hosts = list(hosts)
    members = _members(hosts, brokers, name)
    fixed = any(_fixed(host) for host in members.values())
    if fixed:
        return {"fixed": True, "format": []}
    begun = any(_lines(host, "quorum-state") for host in members.values())
    cluster = kafka_cluster_id(hosts, brokers, name)
    first = places[: controllers(len(places))]
    disks = {one.partition("@")[0]: f"{one}:{_uuid(f'{cluster} {one}')}" for one in first}
    own = str(members[name]["__kafka_settings"]["id"]) if name in members else ""
    if begun or own not in disks:
        return {"fixed": False, "format": ["--no-initial-controllers"]}
    return {"fixed": False, "format": ["--initial-controllers", ",".join(disks.values())]}


def controllers(brokers: int) -> int:
    """Return how many of some brokers have a say: an odd number, for one more would bear no more losses."""
    return min(brokers - (brokers + 1) % 2, MOST)


def voters(lines: Mapping[str, Any]) -> dict[str, str]:
    """Return the controllers that server.properties names, host:port by their numbers."""
    told = lines.get(VOTERS) or []
    some = told.split(",") if isinstance(told, str) else told
    return {number: place for number, _, place in (str(one).partition("@") for one in some)}


def kafka_voters_fault(running: Mapping[str, str], wanted: Mapping[str, Any]) -> str:
    """Return why the controllers can not be those that are wanted, or an empty text.

    One that is alone under another number is seen by its disk.

    Args:
        running: what the host's server.properties says; nothing where there is none.
        wanted: what it shall say.
    """
    servers = running.get(SERVERS, "").split(",")
    if len(servers) > 1 and len(wanted.get(SERVERS, servers)) == 1:
        return (
            f"this broker agrees on who leads with those at {', '.join(servers)}, and would look for nobody "
            "from now on, whether it has a say or not."
        )
    before, after = voters(running), voters(wanted)
    if not before or not after or before.keys() == after.keys() or len(before) == len(after) == 1:
        return ""
    return (
        f"the brokers that agree on who leads are {', '.join(sorted(before))} since their first start, and would be "
        f"{', '.join(sorted(after))}."
    )


def kafka_disk_rules(
    hosts: Iterable[Mapping[str, Any]], brokers: Sequence[Any], name: str, mode: str, folder: str
) -> list[dict[str, Any]]:
    """Return why a broker can not begin with what is on its disk, as a rule that does not hold, or nothing.

    Args:
        hosts: as `kafka_cluster_id` takes them.
        brokers: those of the cluster; empty for a broker that is alone.
        name: the host's in the inventory.
        mode: kafka_mode.
        folder: kafka_data_dir.
    """
    members = _members(hosts, brokers if mode == "kraft" else [], name)
    disks = {host: _lines(told, "meta.properties") for host, told in members.items()}
    own = disks.get(name, {})
    found = {"0": "zookeeper", "1": "kraft"}.get(own.get("version", ""), mode)

    def broken(variable: str, value: str, why: str, remedy: str) -> list[dict[str, Any]]:
        rule = {"variable": f"kafka_{variable}", "value": value, "why": why, "remedy": remedy}
        return [{"that": False, **rule}]

    if found != mode:
        return broken(
            "mode",
            mode,
            f"the records in {folder} were written in the mode {found}.",
            f"Set kafka_mode to {found}, or take them along by playbooks/leave_zookeeper.yml (docs/kafka.md)"
            + (", with -e back=true." if found == "kraft" else "."),
        )
    if mode != "kraft" or len(brokers) < 2:
        return []
    ids = {host: told.get("cluster.id", "") for host, told in disks.items()}
    known, empty = set(ids.values()) - {""}, [host for host, told in ids.items() if not told]
    value = ", ".join(str(one["host"]) for one in brokers)
    if len(known) > 1:
        said = "; ".join(f"{host}: {told}" for host, told in ids.items() if told)
        return broken(
            "brokers",
            value,
            f"their disks are of different clusters ({said}), which do not talk to one another.",
            f"Move {folder} away on those whose records are to be given up, or correct kafka_brokers.",
        )
    if not own and len(disks) < len(brokers):
        return broken(
            "brokers",
            value,
            f"{name} is new, and {len(disks)} of these {len(brokers)} are in this run ({', '.join(disks)}), so that "
            "nobody knows what the others have.",
            "Run it without --limit, with all of them reachable.",
        )
    # where the list is not fixed, new ones ask those that have a say, and never agree without them
    if known and 2 * len(empty) > len(brokers) and any(_fixed(host) for host in members.values()):
        return broken(
            "brokers",
            value,
            f"{', '.join(empty)} have no data, and would agree without the others on a cluster without topics.",
            f"Bring back the disk of enough of them, or move {folder} away on all to start with empty ones.",
        )
    return []


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "kafka_quorum": kafka_quorum,
            "kafka_voters_fault": kafka_voters_fault,
            "kafka_cluster_id": kafka_cluster_id,
            "kafka_disk_rules": kafka_disk_rules,
        }
