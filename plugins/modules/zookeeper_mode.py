#!/usr/bin/python
"""Ask a ZooKeeper server what it does in its ensemble: leader, follower, or nothing."""

from __future__ import annotations

import re
import socket
import time

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: zookeeper_mode
short_description: Ask a ZooKeeper server whether it leads or follows
description:
  - Sends C(srvr), and C(mntr) to a leader, and changes nothing. It waits, for I(timeout) seconds at most, until the
    server follows, or leads with I(followers) followers that have all of its data. It does not fail where that does not
    come.
options:
  address: {description: The address of the port for clients., type: str, required: true}
  port: {description: The port for clients without TLS., type: int, required: true}
  followers: {description: The followers of a leader that is waited for., type: int, default: 0}
  timeout: {description: Seconds to wait; 0 asks once., type: int, default: 0}
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Wait until the ensemble of three is whole
  zookeeper_mode: {address: 127.0.0.1, port: 2181, followers: 2, timeout: 60}
  register: mode
"""

RETURN = r"""
mode: {description: "leader, follower, standalone, or empty where it serves nobody.", type: str, returned: success}
synced: {description: The followers of a leader that have all of its data., type: int, returned: success}
said: {description: What it answered otherwise., type: str, returned: success}
"""
ATTEMPT = (
    3.0  # seconds for one question: what came while the server was starting may never be answered
)


def ask(address: str, port: int, command: str) -> str:
    """Send a four-letter command and return the answer; OSError where there is none in time."""
    with socket.create_connection((address, port), timeout=ATTEMPT) as connection:
        connection.sendall(command.encode("ascii"))
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    return answer.decode("utf-8", "replace")


def state(address: str, port: int) -> dict[str, str | int]:
    """Return what the server does now: ``mode``, ``synced`` and ``said``."""
    try:
        said = ask(address, port, "srvr")
        found = re.search(r"^Mode: (\w+)$", said, re.M)
        if not found:
            return {"mode": "", "synced": 0, "said": said.strip()}
        numbers = ask(address, port, "mntr") if found[1] == "leader" else ""
    except OSError as error:
        return {"mode": "", "synced": 0, "said": str(error)}
    synced = re.search(r"^zk_synced_followers\s+(\d+)", numbers, re.M)
    return {"mode": found[1], "synced": int(synced[1]) if synced else 0, "said": ""}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "followers": {"type": "int", "default": 0},
            "timeout": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    end = time.monotonic() + wanted["timeout"]
    while True:
        told = state(wanted["address"], wanted["port"])
        good = told["mode"] and (
            told["mode"] != "leader" or int(told["synced"]) >= wanted["followers"]
        )
        if good or time.monotonic() >= end:
            module.exit_json(changed=False, **told)
        time.sleep(0.5)  # until it serves, or the time is over


if __name__ == "__main__":
    main()
