#!/usr/bin/python
"""Let those of Kafka's brokers have a say in who leads that the cluster has."""

from __future__ import annotations

import base64
import struct
import time
from collections.abc import Sequence

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_client import Connection, LoginRefused, login_of
from ansible.module_utils.kafka_quorum import Member, change, changed, lacking, members, step

DOCUMENTATION = r"""
---
module: kafka_quorum
short_description: Keep Kafka's controllers those of the brokers that a cluster has
description:
  - For brokers that agree among themselves on who leads (KRaft), where the list of controllers is not fixed
    (C(kraft.version) 1). A controller of a broker that the cluster no longer has loses its say, one that came back with
    an empty disk is taken for what it is, and new ones get a say as long as their number is odd, five at most.
  - One changes after the other. It waits until enough of I(expected) are there, and fails where they do not come.
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
  expected:
    description: The numbers of the brokers that run; the others are not waited for.
    type: list
    elements: int
    required: true
  timeout: {description: Seconds to wait for the brokers and what they agree on., type: int, default: 120}
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Let three brokers agree on who leads
  kafka_quorum:
    bootstrap_servers: "10.0.0.1:9092"
    config: /etc/kafka/admin.properties
    places: ["1@10.0.0.1:9093", "2@10.0.0.2:9093", "3@10.0.0.3:9093"]
    expected: [1, 2, 3]
"""

RETURN = r"""
controllers: {description: The brokers that have a say., type: list, elements: int, returned: success}
"""
ATTEMPT = 10.0  # seconds for one question
PAUSE = 0.5  # seconds between two
REFUSED = (
    "kafka_broker_password is hidden: brokers that run refuse the log-in of kafka_broker_user. Where it is another, "
    "run playbooks/messaging.yml with -e kafka_rolling=false: all brokers stop for a moment, and begin with it."
)


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
            "expected": {"type": "list", "elements": "int", "required": True},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    options = module.params
    login = login_of(options["config"]) if options["config"] else {}
    pairs = (place.partition("@") for place in options["places"])
    places = {int(number): place for number, _, place in pairs}
    end = time.monotonic() + options["timeout"]
    before: list[Member] | None = None
    found: list[Member] = []
    named = ", ".join(options["places"])
    patience = ATTEMPT + options["timeout"]
    while True:
        try:
            with Connection(options["bootstrap_servers"], login, patience) as connection:
                leader, found = members(connection)
                before = found if before is None else before
                due = step(leader, found, [*places])
                missing = lacking(found, [*places], options["expected"])
                if due and not module.check_mode:
                    change(connection, due, places.get(due.number, ""), options["timeout"])
                elif not due and not missing:
                    break
                numbers = ", ".join(map(str, missing))
                said = f"without {numbers}, or these are behind" if missing else "it took too long"
        except LoginRefused:
            if not module.check_mode:
                module.fail_json(msg=REFUSED)
        except (OSError, ValueError, struct.error) as error:
            said = str(error) or type(error).__name__
        if module.check_mode:  # of brokers that are to be made, or to be asked in another way
            while found and (due := step(leader, found, [*places])):
                found = changed(found, due)
            break
        if time.monotonic() >= end:
            module.fail_json(
                msg=f"kafka_brokers is {named}: the controllers can't be those of these: {said}. "
                "Look at `journalctl -u kafka` there, and run this again."
            )
        time.sleep(PAUSE)  # until the brokers are there, or the time is over
    was, now = lines(before or []), lines(found)
    header = "controllers of Kafka"
    module.exit_json(
        changed=was != now,
        controllers=sorted(one.number for one in found if one.votes),
        diff={"before_header": header, "after_header": header, "before": was, "after": now},
    )


if __name__ == "__main__":
    main()
