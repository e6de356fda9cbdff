#!/usr/bin/python
"""Let mod_wsgi's daemon processes of a site load its code anew, one after another."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: wsgi_renew
short_description: Restart the processes of a WSGIDaemonProcess one after another
description:
  - Asks each process of the group to end at a moment without a request (SIGUSR1, mod_wsgi's
    C(graceful-timeout)), and waits until Apache has put another one in its place and that one has
    loaded the project. The others serve meanwhile, so that no visitor waits for Django to start.
  - Apache itself is not reloaded. Where it does not run, or has no such group, nothing is done.
options:
  group: {description: The name of the process group., type: str, required: true}
  timeout: {description: Seconds to wait for each process and for the one in its place., type: int, default: 60}
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Load the new code of the site lab
  wsgi_renew:
    group: lab
"""

RETURN = r"""
renewed: {description: How many processes there were., type: int, returned: always}
"""

PROC = Path("/proc")
# A process has loaded the project when mod_wsgi has started its threads, which it does after that. The one before
# may have had some more, which the project started later (a Kafka producer's).
LATER_THREADS = 6
PAUSE = 0.05  # seconds between two looks


def processes(group: str, proc: Path = PROC) -> list[int]:
    """Return the processes of a group by the name that mod_wsgi gives them (display-name=%{GROUP})."""
    name = f"(wsgi:{group})".encode()
    found = []
    for entry in proc.iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(name):
                found.append(int(entry.name))
        except OSError:
            continue  # it has ended
    return sorted(found)


def threads(pid: int, proc: Path = PROC) -> int:
    """Return how many threads a process has, 0 for one that has ended."""
    try:
        return len(os.listdir(proc / str(pid) / "task"))
    except OSError:
        return 0


def renew(group: str, pid: int, timeout: float) -> bool:
    """Replace one process and tell whether another one serves in its place in time."""
    before, count = set(processes(group)), threads(pid)
    until = time.monotonic() + timeout
    os.kill(pid, signal.SIGUSR1)
    while time.monotonic() < until:
        now = set(processes(group))
        ready = [new for new in now - before if threads(new) >= count - LATER_THREADS]
        if pid not in now and ready:
            return True
        time.sleep(PAUSE)  # between two looks
    return False


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "group": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    group, timeout = module.params["group"], module.params["timeout"]
    found = processes(group)
    if not module.check_mode:
        for pid in found:
            try:
                served = renew(group, pid, timeout)
            except ProcessLookupError:
                continue  # it ended by itself, and the one in its place has the new code
            if not served:
                module.fail_json(
                    msg=(
                        f"The group {group} of mod_wsgi: in the place of process {pid} none served within {timeout} s. "
                        f"See /var/log/apache2/{group}/error.log; `systemctl restart apache2` starts all anew."
                    )
                )
    module.exit_json(changed=bool(found), renewed=len(found))


if __name__ == "__main__":
    main()
