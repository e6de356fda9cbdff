#!/usr/bin/python
"""Stop, restart, enable and start units in one trip, each until it runs, and say from the journal why one does not."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.replaced_files import replaced
from ansible.module_utils.service_current import OPTIONS, behind
from ansible.module_utils.systemd_units import (
    STEPS,
    Broken,
    Systemd,
    bring_up,
    older,
    planned,
    renewed,
    sockets_of,
    upgraded,
    with_older_code,
)

DOCUMENTATION = r"""
---
module: host_units
short_description: Stop, restart, enable and start systemd units, each until it runs
description:
  - In this order it stops and disables what is named in I(stopped), restarts those of I(services) that run with older
    files than those on the disk, what matches I(upgraded), and what is named in I(restarted), one after another, and
    enables and starts what is named in I(started). Each has to be active before the next one's turn comes; one that
    fails, or starts again and again, ends the task with the last lines of its journal.
  - A service runs with older files when systemd has not read its unit anew (C(NeedDaemonReload)), or when its unit
    below C(/etc) or C(/run), or one of its paths, changed (st_ctime) after it began. So a run that was interrupted
    between a file and the restart that the file needs is finished by the next one. What does not run is never behind.
  - A service also runs with older files when it runs code of Debian's packages that an upgrade has replaced since, such
    as a library. What is not restarted for that is told in C(waiting).
  - A socket by which systemd starts such a unit is one more of I(services). Where its own unit changed, the units are
    stopped, the socket is restarted, and they are started after it.
  - systemd reads its files anew where a unit needs it.
  - In check mode a unit that is not there yet is predicted to be enabled and started.
options:
  services:
    description: Units that are restarted where they run with older files.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: What the caller calls it, type: str, required: true}
      unit: {description: The unit., type: str, required: true}
      paths:
        description:
          - Files and patterns of them that the service reads when it begins. Of a path through symbolic links each
            link counts. A folder counts where the path ends with a slash, for what was added to it or taken away.
        type: list
        elements: str
        default: []
      stamp: {description: A file that was last modified when the service last read its files anew., type: path}
      reload: {description: Reload it instead., type: bool, default: false}
      restart: {description: Without it systemd alone reads its unit anew., type: bool, default: true}
      code:
        description:
          - Restart it, or reload it where I(reload) says so, when it runs code that an upgrade has replaced. A reload
            has to begin the main process anew for that. The default is to restart and not to reload for it.
        type: bool
  pending:
    description: Paths that this run has changed, or would in check mode; a running service that reads one is behind.
    type: list
    elements: str
    default: []
  upgraded:
    description: Patterns of units; those that run code which an upgrade has replaced are restarted, in this order.
    type: list
    elements: str
    default: []
  stopped:
    description: Units that shall be neither enabled nor active.
    type: list
    elements: str
    default: []
  started:
    description: Units that shall be enabled and active.
    type: list
    elements: str
    default: []
  restarted:
    description: Units that are restarted, whatever their state.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds that one unit has until it is active.
    type: int
    default: 90
  steady:
    description: >-
      Seconds after which units that were started or restarted are looked at once more; a command that ends at once
      has started all the same.
    type: int
    default: 0
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Let Kafka run, with what is written
  host_units:
    services: [{name: kafka, unit: kafka.service, paths: [/etc/kafka/server.properties, /opt/kafka/current]}]
    pending: "{{ kafka_files.paths }}"
    started: [kafka.service]

- name: Start the relay, which has to stay up
  host_units:
    started: [lab-relay.service]
    steady: 4
"""

RETURN = r"""
units:
  description: The units that were stopped, started, restarted or reloaded.
  type: list
  elements: str
  returned: success
restarted: {description: Those of them that were restarted., type: list, elements: str, returned: success}
waiting:
  description: >-
    Of the units in I(services), those that go on with code which an upgrade has replaced, and its first file.
  type: dict
  returned: success
"""


def main() -> None:
    """Run the module."""
    service = {name: option for name, option in OPTIONS.items() if name != "group"} | {
        "unit": {"type": "str", "required": True},
        "reload": {"type": "bool", "default": False},
        "restart": {"type": "bool", "default": True},
        "code": {"type": "bool"},
    }
    units: dict[str, Any] = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "services": {"type": "list", "elements": "dict", "default": [], "options": service},
            "pending": units,
            "upgraded": units,
            "stopped": units,
            "started": units,
            "restarted": units,
            "timeout": {"type": "int", "default": 90},
            "steady": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    systemd, options = Systemd(module.run_command), module.params
    files = {unit: paths[0] for unit, paths in replaced()[0].items() if paths}
    asked = upgraded(list(files), options["upgraded"])
    options["restarted"] = [*options["restarted"], *asked]
    named = [service["unit"] for service in options["services"]]
    lasting = {service["unit"] for service in options["services"] if service["restart"]}
    options["services"] = [
        *sockets_of(systemd, [*named, *options["restarted"]]),
        *options["services"],
    ]
    reasons = with_older_code(options["services"], files)
    reasons |= behind(options["services"], options["pending"], module.run_command)
    plan = planned(systemd, options, list(reasons))
    reasons |= {unit: older(unit, files) for unit in asked}
    waiting = sorted(lasting & set(files) - set(renewed(plan, options["services"])))
    touched = list(dict.fromkeys(unit for step in STEPS for unit in plan[step]))
    if touched and not module.check_mode:
        try:
            anew = any(path.startswith("/etc/systemd/system/") for path in options["pending"])
            bring_up(systemd, plan, options["timeout"], options["steady"], anew)
        except Broken as error:
            module.fail_json(msg=str(error), units=touched)
    module.exit_json(
        changed=bool(touched),
        units=touched,
        restarted=plan["restarted"],
        waiting={unit: files[unit] for unit in waiting},
        diff={"prepared": "".join(f"{text}\n" for text in reasons.values())},
    )


if __name__ == "__main__":
    main()
