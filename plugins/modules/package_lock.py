#!/usr/bin/python
"""Wait until no other program installs packages, and say which one does."""

from __future__ import annotations

import fcntl
import os
import struct
import time

from ansible.module_utils.basic import AnsibleModule

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

# struct flock of a 64-bit Linux (fcntl(2)): type, whence, start, length, process
FLOCK = "hhqqi"


def holder(path: str) -> str:
    """Return which process holds a lock of a file, or an empty text."""
    try:
        with open(path, "rb") as file:
            asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, process = struct.unpack(FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))
    except OSError:
        return ""
    if kind == fcntl.F_UNLCK:
        return ""
    try:
        with open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as file:
            return f"{file.read().strip()} (process {process})"
    except OSError:
        return "a process that is not to be seen here"


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "timeout": {"type": "int", "default": 0},
            "timeout_variable": {"type": "str", "default": "timeout"},
            "paths": {
                "type": "list",
                "elements": "path",
                "default": [
                    "/var/lib/dpkg/lock-frontend",
                    "/var/lib/dpkg/lock",
                    "/var/lib/apt/lists/lock",
                ],
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
