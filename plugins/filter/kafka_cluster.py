"""Filters of the kafka role for a cluster: who is restarted next, and what brokers can not bear beside the others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# What server.properties says of how brokers talk to one another.
BETWEEN = ("listener.security.protocol.map", "inter.broker.listener.name", "listeners")
VOTERS = "controller.quorum.voters"
LOGGED_IN = "zookeeper.set.acl"  # where the broker logs in to ZooKeeper


def kafka_turn(
    hosts: Iterable[Mapping[str, Any]],
    brokers: Sequence[Mapping[str, Any]],
    through_gaps: bool = False,
) -> dict[str, str]:
    """Return whose turn it is to be restarted, and why nobody may be.

    The controller comes last, so that one election does for the whole, and nobody's turn comes unless all brokers tell
    that all are there and no partition lacks a replica.

    Args:
        hosts: the variables of each host of the run; ``__kafka_state`` is what its broker says of the cluster, and
            ``__kafka_roll`` says whether it is ``due`` to be restarted.
        brokers: those of the cluster.
        through_gaps: whether topics may take no records for the time of a restart.

    Returns:
        ``next``, the inventory's name of the host or an empty text, and ``fault``, a sentence or an empty text.
    """
    found = {
        host["inventory_hostname"]: host
        for host in hosts
        if host.get("__kafka_settings", {}).get("brokers") == brokers and "__kafka_state" in host
    }
    if len(found) < len(brokers):
        return fault(
            f"{len(found)} of these {len(brokers)} brokers are in this run ({', '.join(found)}), and each has to be "
            "asked before one is restarted. Run it without --limit, with all of them reachable."
        )
    states = {name: host["__kafka_state"] for name, host in found.items()}
    if any(told["refused"] for told in states.values()):
        return fault(
            "brokers that run refuse the log-in of kafka_broker_user. Where kafka_broker_password is another now, run "
            "playbooks/messaging.yml with -e kafka_rolling=false: all brokers stop for a moment, and begin with it."
        )
    seen = [f"{name}: {what}" for name, told in states.items() if (what := lacks(told))]
    controllers = {told["controller"] for told in states.values()}
    if not seen and len(controllers) > 1:
        seen = [f"{name}: the controller is {told['controller']}" for name, told in states.items()]
    if seen:
        return fault(
            f"the cluster is not whole ({'; '.join(seen)}), and one broker less could cost records, so nothing more "
            "is restarted. Look at `journalctl -u kafka` there, and run this again."
        )
    due = [name for name, host in found.items() if host["__kafka_roll"]["due"]]
    topics = sorted({topic for told in states.values() for topic in told["tight"]})
    if due and topics and not through_gaps:
        return fault(
            f"the topics {', '.join(topics)} have no replica more than min.insync.replicas, so they would take no "
            "records for the time of a restart. Give them more replicas, or accept that with "
            "-e kafka_rolling_gaps=true."
        )
    due.sort(key=lambda name: found[name]["__kafka_settings"]["id"] in controllers)
    return {"next": due[0] if due else "", "fault": ""}


def kafka_emptied(
    wanted: Any, hosts: Iterable[Mapping[str, Any]], brokers: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return which brokers are to be emptied, and which host asks the cluster to do it.

    Args:
        wanted: their numbers, or the inventory's names of their hosts: a list, or a text with commas between them.
        hosts: the variables of each host of the run.
        brokers: those of the cluster.

    Returns:
        ``numbers``; ``asks``, the inventory's name of the first host whose broker stays; and ``unknown``, what is
        neither a number nor the name of a host of the run.
    """
    words = wanted if isinstance(wanted, (list, tuple)) else str(wanted).split(",")
    names = {
        host["inventory_hostname"]: int(host["__kafka_settings"]["id"])
        for host in hosts
        if host.get("__kafka_settings", {}).get("brokers") == brokers
    }
    given = [str(word).strip() for word in words if str(word).strip()]
    numbers = [
        names[word] if word in names else int(word)
        for word in given
        if word in names or word.isdigit()
    ]
    return {
        "numbers": sorted(set(numbers)),
        "asks": next((name for name, number in names.items() if number not in numbers), ""),
        "unknown": [word for word in given if word not in names and not word.isdigit()],
    }


def kafka_protocol(
    hosts: Iterable[Mapping[str, Any]],
    brokers: Sequence[Mapping[str, Any]],
    path: str,
    newest: str,
    finalize: bool = False,
) -> str:
    """Return how brokers are to talk to one another (``inter.broker.protocol.version``).

    Brokers with another binary understand those before them as long as they talk as those do. So what a cluster has is
    kept, the oldest of it where hosts differ, until it is to be raised.

    Args:
        hosts: the variables of each host of the run; ``__looked`` is what is on its disk.
        brokers: those of the cluster.
        path: of server.properties.
        newest: what the program that is installed can.
        finalize: whether it is to be raised to that.
    """
    found = []
    for host in hosts:
        looked = host.get("__looked", {}).get("kafka")
        if not looked or host.get("__kafka_settings", {}).get("brokers") != brokers:
            continue
        if any(there for at, there in looked["present"].items() if at.endswith("/meta.properties")):
            found.append(looked["settings"].get(path, {}).get("inter.broker.protocol.version"))
    older = [version for version in found if version]
    if finalize or not older:
        return newest
    return min(older, key=lambda version: [int(part) for part in re.findall(r"\d+", version)])


def kafka_share(item: Mapping[str, Any]) -> str:
    """Return what one broker has, of an entry of what the module kafka_reassign returns as ``has``."""
    told = item["value"]
    return f"broker {item['key']}: {told['replicas']} replicas, leads {told['leads']} partitions"


def fault(text: str) -> dict[str, str]:
    """Return that it is nobody's turn, and why."""
    return {"next": "", "fault": text}


def lacks(told: Mapping[str, Any]) -> str:
    """Return what one broker says that the cluster lacks, or an empty text."""
    if told["said"]:
        return str(told["said"])
    if told["lacking"]:
        return f"without {', '.join(map(str, told['lacking']))}"
    if told["controller"] < 0:
        return "no controller"
    if told["behind"]:
        return f"replicas are behind in {', '.join(told['behind'])}"
    if late := told.get("late"):
        return f"without the controllers {', '.join(map(str, late))}, or these are behind"
    return ""


def between(lines: Mapping[str, Any]) -> tuple[str, str]:
    """Return the listener by which brokers talk to one another, and its protocol, out of server.properties."""
    values = {
        key: value if isinstance(value, str) else ",".join(value)
        for key, value in lines.items()
        if key in BETWEEN
    }
    name = values.get("inter.broker.listener.name") or "PLAINTEXT"
    pairs = values.get("listener.security.protocol.map", "").split(",")
    protocols = dict(pair.split(":", 1) for pair in pairs if ":" in pair)
    return name, protocols.get(name, name)


def kafka_switch_fault(running: Mapping[str, str], wanted: Mapping[str, Any]) -> str:
    """Return why brokers with the old and the new configuration would not understand one another, or an empty text.

    Args:
        running: what the host's server.properties says; nothing where there is none.
        wanted: what it shall say.
    """
    before, after = between(running), between(wanted)
    was, shall = running.get(VOTERS, ""), wanted.get(VOTERS, [])
    if was and shall and {*was.split(",")} != {*shall}:
        return (
            f"controllers know one another as {was}, and would as {','.join(shall)}, where "
            "those that are not restarted yet do not look for them."
        )
    if running and LOGGED_IN in wanted and LOGGED_IN not in running:
        return "brokers log in to ZooKeeper from now on, and those that are not restarted yet would be shut out there."
    if not running or before == after:
        return ""
    return (
        f"brokers talk to one another by {before[0]} ({before[1]}), and would by {after[0]} ({after[1]}), which those "
        "that are not restarted yet do not understand."
    )


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "kafka_turn": kafka_turn,
            "kafka_switch_fault": kafka_switch_fault,
            "kafka_emptied": kafka_emptied,
            "kafka_protocol": kafka_protocol,
            "kafka_share": kafka_share,
        }
