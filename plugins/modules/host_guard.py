#!/usr/bin/python
"""Confirm a change that the host would take back otherwise."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.host_guard import armed, disarm

DOCUMENTATION = r"""
---
module: host_guard
short_description: Confirm a guarded change over a new connection
description:
  - A task of the module host_files with a C(guard) keeps what was there and starts a timer that brings it back. This
    task closes the connection of the run, opens a new one, becomes root with it, and only then stops the timer.
  - Where no new connection can be had, it waits until the host has taken the change back, and fails.
options:
  name:
    description: The name of the guard.
    type: str
    required: true
  timeout:
    description: Seconds in which a new connection has to be had; the guard's own time.
    type: int
    default: 60
  variables:
    description: The variables that the change comes from, named in the error.
    type: str
    default: ''
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Confirm the rules over a new connection
  host_guard:
    name: firewall
    variables: firewall_allow
  when: firewall_written.changed
"""

RETURN = r"""
confirmed: {description: Whether the change was there to be confirmed., type: bool, returned: success}
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 60},
            "variables": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    name = module.params["name"]
    there = name in armed() if module.check_mode else disarm(name, module.run_command)
    module.exit_json(changed=False, confirmed=there)


if __name__ == "__main__":
    main()
