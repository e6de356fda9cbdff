#!/usr/bin/python
"""Ask a Kafka broker how its cluster is: who is there, who controls it, and which partitions lack a replica."""

from __future__ import annotations

import struct
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_client import Connection, LoginRefused, counted, login_of
from ansible.module_utils.kafka_quorum import LATE

DOCUMENTATION = r"""
---
module: kafka_state
short_description: Ask a Kafka broker whether its cluster is whole
description:
  - Asks for the brokers, the controller, the replicas of all partitions and C(min.insync.replicas) of all topics, and
    changes nothing. It waits, for I(timeout) seconds at most, until it was told I(polls) times in a row that all of
    I(brokers) are there and no partition lacks a replica. It does not fail where that does not come.
options:
  bootstrap_servers: {description: "The broker to ask, as C(host:port).", type: str, required: true}
  config:
    description: A file of client properties, by which to log in; without such a file nobody does.
    type: path
    default: ""
  brokers: {description: The numbers of the brokers that are to be there., type: list, elements: int, required: true}
  quorum:
    description:
      - Whether the brokers agree among themselves on who leads (KRaft). The controller is the one that leads their
        quorum then.
    type: bool
    default: false
  polls: {description: How often the cluster has to be whole in a row., type: int, default: 3}
  timeout: {description: Seconds to wait; 0 asks once., type: int, default: 0}
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Wait until the cluster of three is whole
  kafka_state: {bootstrap_servers: "10.0.0.1:9092", config: /etc/kafka/admin.properties, brokers: [1, 2, 3]}
  register: state
"""

RETURN = r"""
lacking: {description: The brokers that are not there., type: list, elements: int, returned: success}
controller: {description: "The controller's number, -1 for none.", type: int, returned: success}
behind:
  description: Topics of which a partition lacks a replica or a leader.
  type: list
  elements: str
  returned: success
tight:
  description: Topics of which a partition takes no record with C(acks=all) while one more of its replicas is away.
  type: list
  elements: str
  returned: success
late:
  description: Controllers of a quorum that are not there, or behind the one that leads.
  type: list
  elements: int
  returned: success
others:
  description: Brokers beside I(brokers), by number, with C(address), which is empty where one is away, and C(topics).
  type: dict
  returned: success
refused: {description: Whether the broker let the log-in not in., type: bool, returned: success}
said: {description: Why there is no answer., type: str, returned: success}
"""
ATTEMPT = 10.0  # seconds for one question
PAUSE = 0.5  # seconds between two
Partitions = dict[str, list[tuple[int, int, int]]]


def behind(topics: Partitions) -> list[str]:
    """Return the topics of which a partition lacks a replica or a leader."""
    return sorted(
        name
        for name, partitions in topics.items()
        if any(leader < 0 or synced < replicas for leader, replicas, synced in partitions)
    )


def tight(topics: Partitions, minimum: dict[str, int]) -> list[str]:
    """Return the topics of which a partition has fewer replicas in sync than it needs, or would with one less."""
    return sorted(
        name
        for name, partitions in topics.items()
        if any(synced - 1 < minimum.get(name, 1) for _, _, synced in partitions)
    )


def others(told: dict[str, Any], brokers: list[int]) -> dict[int, dict[str, Any]]:
    """Return the brokers beside some that are there or have replicas: their addresses, and the topics of these."""
    having: dict[int, set[str]] = {number: set() for number in told["brokers"]}
    for name, parts in told["topics"].items():
        for _, replicas, _ in parts.values():
            for number in replicas:
                having.setdefault(number, set()).add(name)
    return {
        number: {"address": told["brokers"].get(number, ("", ""))[0], "topics": sorted(topics)}
        for number, topics in sorted(having.items())
        if number not in brokers
    }


def late(voters: dict[int, int]) -> list[int]:
    """Return the controllers that are not there or behind, of how many ms each is."""
    return sorted(who for who, behind in voters.items() if not 0 <= behind <= LATE)


def state(
    address: str, login: dict[str, str], brokers: list[int], quorum: bool = False
) -> dict[str, Any]:
    """Return what the broker says now, without what the module adds."""
    nothing = {
        "lacking": brokers,
        "controller": -1,
        "behind": [],
        "tight": [],
        "late": [],
        "others": {},
    }
    try:
        with Connection(address, login, ATTEMPT) as connection:
            told = connection.layout(all_topics=True)
            words = connection.settings(list(told["topics"]), "min.insync.replicas")
            leader, voters = connection.quorum() if quorum else (told["controller"], {})
    except LoginRefused as error:
        return {**nothing, "refused": True, "said": str(error)}
    except (OSError, ValueError, struct.error) as error:
        return {**nothing, "refused": False, "said": str(error) or type(error).__name__}
    topics = counted(told["topics"])
    return {
        "lacking": sorted(set(brokers) - told["brokers"].keys()),
        "controller": leader,
        "behind": behind(topics),
        "tight": tight(topics, {name: int(word) for name, word in words.items()}),
        "late": late(voters),
        "others": others(told, brokers),
        "refused": False,
        "said": "",
    }


def whole(told: dict[str, Any]) -> bool:
    """Say whether nothing is lacking."""
    lacking = any(told.get(key) for key in ("said", "lacking", "behind", "late"))
    return not lacking and told["controller"] >= 0


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "bootstrap_servers": {"type": "str", "required": True},
            "config": {"type": "path", "default": ""},
            "brokers": {"type": "list", "elements": "int", "required": True},
            "quorum": {"type": "bool", "default": False},
            "polls": {"type": "int", "default": 3},
            "timeout": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    options = module.params
    login = login_of(options["config"]) if options["config"] else {}
    end, good = time.monotonic() + options["timeout"], 0
    while True:
        told = state(options["bootstrap_servers"], login, options["brokers"], options["quorum"])
        good = good + 1 if whole(told) else 0
        if good >= options["polls"] or time.monotonic() >= end:
            module.exit_json(changed=False, **told)
        time.sleep(PAUSE)  # until the cluster is whole, or the time is over


if __name__ == "__main__":
    main()
