#!/usr/bin/python
"""Let those of Kafka's brokers have a say in who leads that the cluster has."""

from __future__ import annotations

import base64
import struct
import time
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_client import Connection, login_of
from ansible.module_utils.kafka_quorum import Member, change, lacking, members, step

DOCUMENTATION = r"""
---
module: kafka_quorum
short_description: Keep Kafka's controllers those of the brokers that a cluster has
description:
  - For brokers that agree among themselves on who leads (KRaft), where the list of controllers is not fixed
    (C(kraft.version) 1). A controller of a broker that the cluster no longer has loses its say, one that came back with
    an empty disk is taken for what it is, and new ones get a say as long as their number is odd, five at most.
  - One changes after the other. It waits until enough of I(brokers) are there, and fails where they do not come.
options:
  bootstrap_servers: {description: "The broker to ask, as C(host:port).", type: str, required: true}
  config:
    description: A file of client properties, by which to log in; without such a file nobody does.
    type: path
    default: ""
  places:
    description: Where the controllers of the cluster's brokers listen, each as C(id@host:port).
    type: list
    elements: str
    required: true
  timeout: {description: Seconds to wait for the brokers and for each change., type: int, default: 60}
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Let three brokers agree on who leads
  kafka_quorum:
    bootstrap_servers: "10.0.0.1:9092"
    config: /etc/kafka/admin.properties
    places: ["1@10.0.0.1:9093", "2@10.0.0.2:9093", "3@10.0.0.3:9093"]
"""

RETURN = r"""
controllers: {description: The brokers that have a say., type: list, elements: int, returned: success}
"""
ATTEMPT = 10.0  # seconds for one question
PAUSE = 0.5  # seconds between two
CHANGES = 12  # more than any cluster needs


def lines(found: Sequence[Member]) -> str:
    """Return the controllers as the difference shows them."""
    some = sorted((one.number, one.disk) for one in found if one.votes)
    return "".join(
        f"{number} (disk {base64.urlsafe_b64encode(disk).decode().rstrip('=')})\n"
        for number, disk in some
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "bootstrap_servers": {"type": "str", "required": True},
            "config": {"type": "path", "default": ""},
            "places": {"type": "list", "elements": "str", "required": True},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    options = module.params
    login = login_of(options["config"]) if options["config"] else {}
    places = {
        int(number): place for number, _, place in (one.partition("@") for one in options["places"])
    }
    brokers, server = list(places), options["bootstrap_servers"]
    end, changes = time.monotonic() + options["timeout"], 0
    before: list[Member] | None = None
    found: list[Member] = []

    def told(**more: Any) -> None:
        header = "controllers of Kafka"
        diff = {
            "before_header": header,
            "after_header": header,
            "before": lines(before or []),
            "after": lines(found),
        }
        voters = sorted(one.number for one in found if one.votes)
        module.exit_json(changed=changes > 0, controllers=voters, diff=diff, **more)

    while True:
        said, missing = "", brokers
        try:
            with Connection(server, login, ATTEMPT + options["timeout"]) as connection:
                leader, found = members(connection)
                before = found if before is None else before
                missing, due = lacking(found, brokers), step(leader, found, brokers)
                if due and module.check_mode:
                    changes = 1
                    told(would=f"{'remove' if due.votes else 'add'} {due.number}")
                if due and changes < CHANGES:
                    change(connection, due, places.get(due.number, ""), options["timeout"])
                    changes, end = changes + 1, time.monotonic() + options["timeout"]
                    continue
                if not due and not missing:
                    told()
        except (OSError, ValueError, struct.error) as error:
            said = str(error) or type(error).__name__
        if module.check_mode:  # of brokers that are to be made, or to be asked in another way
            told()
        if time.monotonic() >= end:
            module.fail_json(
                msg=f"kafka_brokers is {', '.join(options['places'])}: "
                + (f"the controllers could not be changed: {said}. " if said else "")
                + (
                    f"without {', '.join(map(str, missing))} not enough of them agree on who leads. "
                    if missing and not said
                    else ""
                )
                + "Look at `journalctl -u kafka` there, and run this again."
            )
        time.sleep(PAUSE)  # until the brokers are there, or the time is over


if __name__ == "__main__":
    main()
