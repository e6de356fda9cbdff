#!/usr/bin/python
"""Spread the replicas of all partitions over the brokers of a Kafka cluster, or empty some of these."""

from __future__ import annotations

import struct
import time
from collections import Counter
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_client import LoginRefused, login_of
from ansible.module_utils.kafka_move import Brokers, Move, left
from ansible.module_utils.kafka_plan import Layout, Part, spread

DOCUMENTATION = r"""
---
module: kafka_reassign
short_description: Spread Kafka's replicas over the brokers
description:
  - Moves replicas of all topics, Kafka's own included, until each broker has as many as the others of each topic and of
    all, and leads as many partitions. Replicas of a partition stand in as many racks as there are. A partition keeps
    the number of its replicas, unless I(replicas) is more, and no more of them move than that takes.
  - A reassignment that is under way is taken up. Nothing begins while a broker is away or a partition lacks a replica.
  - At the end it takes the throttle away, lets the first replica of each partition lead it, and has looked at all of
    that again.
  - Called by its action plugin it goes on until the end and says how far it is. Alone it ends after I(wait) seconds.
options:
  bootstrap_servers: {description: "The broker to ask first, as C(host:port).", type: str, required: true}
  config:
    description: A file of client properties, by which to log in; without such a file nobody does.
    type: path
    default: ""
  brokers: {description: The numbers of the brokers that the cluster has., type: list, elements: int, required: true}
  empty: {description: The numbers of brokers that shall have no replica., type: list, elements: int, default: []}
  replicas: {description: How many replicas a partition gets where it has fewer., type: int, default: 0}
  throttle:
    description: Bytes a second that each broker sends, and takes, for what moves; 0 is no limit.
    type: int
    default: 0
  begun: {description: Whether the throttle is set already., type: bool, default: false}
  awaited: {description: C(awaited) as the run before has returned it., type: list, elements: list, default: []}
  wait: {description: Seconds after which it ends with what is left., type: int, default: 10}
  timeout: {description: Seconds within which the brokers have to answer and be whole., type: int, default: 60}
  patience:
    description: Seconds without progress after which the action plugin gives up; Kafka itself goes on.
    type: int
    default: 600
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Empty broker 4
  kafka_reassign:
    bootstrap_servers: 10.0.0.1:9092
    config: /etc/kafka/admin.properties
    brokers: [1, 2, 3, 4]
    empty: [4]
    throttle: 20000000
"""

RETURN = r"""
finished: {description: Whether nothing is left to be done., type: bool, returned: success}
awaited:
  description: Partitions that moved, each with its topic, its number and the brokers that are to be told of it.
  type: list
  returned: success
moving: {description: How many partitions are on their way., type: int, returned: success}
copying: {description: How many bytes are still to be copied., type: int, returned: success}
has:
  description: For each broker how many replicas it has, and how many partitions it leads.
  type: dict
  returned: success
"""
PAUSE = 1.0  # seconds between two looks


class Refused(Exception):
    """It can't be done; the text names the variable, its value and the remedy."""


class NotYet(Refused):
    """It can't be done now, and perhaps soon."""


def listing(numbers: Any) -> str:
    """Return numbers or names as a text."""
    return ", ".join(map(str, sorted(numbers)))


def flat(topics: dict[str, dict[int, Any]]) -> dict[Part, Any]:
    """Return the partitions of all topics, each as `kafka_client.Connection.layout` tells of it."""
    return {(name, number): one for name, some in topics.items() for number, one in some.items()}


def arrived(parts: dict[Part, Any], moves: dict[Part, Move]) -> Layout:
    """Return who has each partition once what moves has arrived."""
    return {
        part: moves[part].replicas if part in moves else replicas
        for part, (_, replicas, _) in parts.items()
    }


def refuse(
    told: dict[str, Any], moves: dict[Part, Move], brokers: list[int], empty: list[int]
) -> None:
    """Refuse what can't be moved.

    Args:
        told: as `kafka_client.Connection.layout` returns it.
        moves: what is under way.
        brokers: those of the inventory.
        empty: those that are to be emptied.

    Raises:
        Refused: with a sentence.
    """
    parts = flat(told["topics"])
    have = {one for _, replicas, _ in parts.values() for one in replicas}
    stay = set(brokers) - set(empty)
    whole = f"kafka_brokers is {listing(brokers)}"
    if strangers := have - stay - set(empty):
        raise Refused(
            f"{whole}: broker {listing(strangers)} has replicas and is not among them. Put it back into the "
            f"inventory, or let it be emptied with -e kafka_empty={min(strangers)}."
        )
    after = arrived(parts, moves)
    if wide := {name for (name, _), replicas in after.items() if len(replicas) > len(stay)}:
        raise Refused(
            f"kafka_empty is {listing(empty) or 'empty'}: {len(stay)} brokers would be left ({listing(stay)}), and the "
            f"topics {listing(wide)} have more replicas than that. Leave as many brokers as a topic has replicas."
        )
    if lacking := stay - told["brokers"].keys():
        raise NotYet(
            f"{whole}: broker {listing(lacking)} is not there, so nothing is moved. Look at `journalctl -u kafka` on "
            "its host. Where it is lost for good, put another host in its place under its number, or take it out of "
            f"the inventory and let others have its replicas with -e kafka_empty={min(lacking)}."
        )
    if headless := {name for (name, _), (leader, _, _) in parts.items() if leader < 0}:
        raise NotYet(
            f"{whole}: partitions of {listing(headless)} have no leader to copy from. Start the brokers that have "
            "their records (docs/cluster.md)."
        )


def behind(told: dict[str, Any], moves: dict[Part, Move], empty: list[int]) -> list[str]:
    """Return the topics of which a partition lacks a replica, but for what moves and brokers that are to be emptied."""
    return sorted(
        name
        for name, parts in told["topics"].items()
        if any(
            set(replicas) - set(synced) - set(empty)
            for number, (_, replicas, synced) in parts.items()
            if (name, number) not in moves
        )
    )


def agreed(now: Layout, moves: dict[Part, Move], options: dict[str, Any]) -> None:
    """Raise NotYet while brokers tell what is no longer so: what has just moved is still told with who has left it.

    A plan on top of that would keep one replica too many. So the first look is taken twice, and a partition that was
    on its way counts as there once it is told as it was to be.
    """
    awaited: Layout = options["awaited"]
    stale = {
        part
        for part in awaited
        if part not in moves and now.get(part, awaited[part]) != awaited[part]
    }
    awaited.update({part: move.replicas for part, move in moves.items()})
    if stale or (not options["begun"] and options.get("seen") != now):
        options["seen"] = now
        raise NotYet(
            f"brokers tell of {listing({name for name, _ in stale}) or 'all topics'} what they did not a moment ago: "
            "somebody else moves replicas too, or one broker lags behind. Run this again when that is over."
        )
    for part in awaited.keys() - moves.keys():
        del awaited[part]


def has(layout: Layout, brokers: set[int]) -> dict[int, dict[str, int]]:
    """Return how many replicas each broker has, and how many partitions it leads or is to lead."""
    replicas = Counter(one for some in layout.values() for one in some)
    leads = Counter(some[0] for some in layout.values() if some)
    return {one: {"replicas": replicas[one], "leads": leads[one]} for one in sorted(brokers)}


def shown(layout: Layout, parts: Layout, brokers: set[int]) -> str:
    """Return what a diff shows: each broker's share, and the brokers of the partitions that change."""
    lines = [
        f"broker {number}: {told['replicas']} replicas, leads {told['leads']}"
        for number, told in has(layout, brokers).items()
    ]
    lines += [
        f"{name}-{number}: {', '.join(map(str, layout[name, number]))}"
        for name, number in sorted(parts)
    ]
    return "".join(f"{line}\n" for line in lines)


def step(cluster: Brokers, options: dict[str, Any], check: bool) -> dict[str, Any]:
    """Look, and do what is next; return what the module does, without what it adds."""
    moves, brokers, empty = cluster.moves(), options["brokers"], options["empty"]
    parts = flat(cluster.topics)
    now = arrived(parts, moves)
    agreed(now, moves, options)
    refuse(cluster.told, moves, brokers, empty)
    stay = set(brokers) - set(empty)
    if options["replicas"] > len(stay):
        raise Refused(
            f"kafka_move_replicas is {options['replicas']}: there are {len(stay)} brokers, and each has one replica of "
            f"a partition at most. Set it to {len(stay)}, or add brokers."
        )
    wanted = spread(now, {one: cluster.alive[one][1] for one in stay}, options["replicas"])
    if wanted and (late := behind(cluster.told, moves, empty)):
        raise NotYet(
            f"kafka_brokers is {listing(brokers)}: replicas are behind in {', '.join(late)}, so nothing is moved. Look "
            "at `journalctl -u kafka` of the brokers, and run this again."
        )
    leaders = {part: leader for part, (leader, _, _) in parts.items()}
    sizes = cluster.sizes() if moves or empty else {}
    kept = any(sizes.get(one) for one in empty)
    throttled = cluster.throttled() if check or not (moves or wanted or kept) else ([], [])
    unled = any(leaders[part] != now[part][0] for part in parts if part not in moves)
    changed = bool(wanted or moves or kept or unled or any(throttled))
    after = {**now, **wanted}
    result = {
        "changed": changed,
        "finished": not changed,
        "moving": len(moves.keys() | wanted.keys()),
        "copying": left(moves, leaders, sizes),
        "has": has(now, {*brokers, *empty}),
        "diff": {
            "before": shown(now, wanted, {*brokers, *empty}),
            "after": shown(after, wanted, {*brokers, *empty}),
        },
    }
    if check:
        return result
    if wanted or (moves and not options["begun"]):
        coming = dict(moves)
        for part, new in wanted.items():
            there = parts[part][1]
            coming[part] = Move(
                new,
                [one for one in new if one not in there],
                [one for one in there if one not in new],
            )
        if options["throttle"]:
            cluster.throttle(options["throttle"], coming)
        else:
            cluster.release(*cluster.throttled())  # that of a run before
        options["begun"] = True
    if wanted:
        cluster.move(wanted)
        options["awaited"].update(wanted)
    elif not moves and not kept:
        cluster.release(*throttled)
        if unled:
            cluster.elect()
    return result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "bootstrap_servers": {"type": "str", "required": True},
            "config": {"type": "path", "default": ""},
            "brokers": {"type": "list", "elements": "int", "required": True},
            "empty": {"type": "list", "elements": "int", "default": []},
            "replicas": {"type": "int", "default": 0},
            "throttle": {"type": "int", "default": 0},
            "begun": {"type": "bool", "default": False},
            "awaited": {"type": "list", "elements": "list", "default": []},
            "wait": {"type": "int", "default": 10},
            "timeout": {"type": "int", "default": 60},
            "patience": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    options = dict(module.params)  # what is noted there is none of Ansible's business
    options["awaited"] = {
        (name, int(part)): list(map(int, some)) for name, part, some in options["awaited"]
    }
    login = login_of(options["config"]) if options["config"] else {}
    began = well = time.monotonic()
    first: dict[str, Any] = {}
    while True:
        try:
            with Brokers(options["bootstrap_servers"], login, 30) as cluster:
                told = step(cluster, options, module.check_mode)
            well, why = time.monotonic(), ""
            first = first or told
            if told["finished"] or module.check_mode or time.monotonic() - began > options["wait"]:
                kept = {key: first[key] for key in ("changed", "diff")}
                awaited = [[*part, some] for part, some in sorted(options["awaited"].items())]
                module.exit_json(**{**told, **kept, "awaited": awaited})
        except NotYet as error:
            why = str(error)
        except (Refused, LoginRefused) as error:
            module.fail_json(msg=str(error))
        except (OSError, ValueError, struct.error) as error:
            why = (
                f"{options['bootstrap_servers']} does not answer ({error or type(error).__name__}). Look at "
                "`journalctl -u kafka` of the brokers, and run this again, which takes up what is under way."
            )
        if why and time.monotonic() - well > options["timeout"]:
            module.fail_json(msg=why)
        time.sleep(PAUSE)  # until it is finished, or one of the times is over


if __name__ == "__main__":
    main()
