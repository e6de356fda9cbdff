#!/usr/bin/python
"""Wait until no other program installs packages, and say which one does."""

from __future__ import annotations

import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.host_packages import LOCKS, holder

DOCUMENTATION = r"""
---
module: package_lock
short_description: Wait for the locks of dpkg and APT
description:
  - A server that has just booted may install its upgrades, and holds these locks for minutes meanwhile. This
    module waits until nobody holds them. It takes none of them and changes nothing.
options:
  timeout:
    description: Seconds to wait. 0 looks once, and is no failure where somebody holds them.
    type: int
    default: 0
  timeout_variable:
    description: The variable that the time comes from, named in the error.
    type: str
    default: timeout
  paths:
    description: The files that are locked.
    type: list
    elements: path
    default: [/var/lib/dpkg/lock-frontend, /var/lib/dpkg/lock, /var/lib/apt/lists/lock]
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Wait for whoever installs packages
  package_lock:
    timeout: 600
"""

RETURN = r"""
holder:
  description: Who holds a lock, such as C(unattended-upgr (process 512)); empty without one.
  type: str
  returned: always
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "timeout": {"type": "int", "default": 0},
            "timeout_variable": {"type": "str", "default": "timeout"},
            "paths": {
                "type": "list",
                "elements": "path",
                "default": list(LOCKS),
            },
        },
        supports_check_mode=True,
    )
    wanted = module.params
    end = time.monotonic() + wanted["timeout"]
    while True:
        holders = [told for told in map(holder, wanted["paths"]) if told]
        if not holders or not wanted["timeout"]:
            module.exit_json(changed=False, holder=holders[0] if holders else "")
        if time.monotonic() > end:
            module.fail_json(
                msg=f"{wanted['timeout_variable']} is {wanted['timeout']}: {holders[0]} installs packages on this host "
                "for longer than that many seconds. Let it end (`systemctl list-jobs`, "
                f"/var/log/unattended-upgrades), or raise {wanted['timeout_variable']}.",
                holder=holders[0],
            )
        time.sleep(1)


if __name__ == "__main__":
    main()
