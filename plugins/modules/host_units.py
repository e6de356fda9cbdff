#!/usr/bin/python
"""Stop, restart, enable and start units in one trip, each until it runs, and say from the journal why one does not."""

from __future__ import annotations

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.service_current import OPTIONS, behind

DOCUMENTATION = r"""
---
module: host_units
short_description: Stop, restart, enable and start systemd units, each until it runs
description:
  - In this order it stops and disables what is named in I(stopped), restarts those of I(services) that run with older
    files than those on the disk, and what is named in I(restarted), one after another, and enables and starts what is
    named in I(started). Each has to be active before the next one's turn comes; one that fails, or starts again and
    again, ends the task with the last lines of its journal.
  - A service runs with older files when systemd has not read its unit anew (C(NeedDaemonReload)), or when its unit
    below C(/etc) or C(/run), or one of its paths, changed (st_ctime) after it began. So a run that was interrupted
    between a file and the restart that the file needs is finished by the next one. What does not run is never behind.
  - The socket of a unit in I(restarted) is restarted before it where its own unit changed.
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
      stop_first:
        description: Units that are stopped before it is restarted, as a socket needs it, and started after it.
        type: list
        elements: str
        default: []
  pending:
    description: Paths that this run has changed, or would in check mode; a running service that reads one is behind.
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
"""

PROPERTIES = "LoadState,ActiveState,SubState,UnitFileState,NRestarts,NeedDaemonReload,TriggeredBy"
PLAIN: dict[str, Any] = {
    "group": None,
    "paths": [],
    "stamp": None,
    "reload": False,
    "restart": True,
}
# systemd enables nothing of these; a template's instance and a generated unit are none.
ENABLED = {"enabled", "enabled-runtime", "static", "generated", "transient", "indirect", "alias"}
STEPS = ("stopped", "read", "reloaded", "restarted", "started")
RESTARTS = 2  # more than these while a task waits is a unit that does not stay up
LINES = 60


class Broken(Exception):
    """A unit does not run; the text says which, and why."""


class Host:
    """systemd, as the module asks it."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module

    def run(self, *words: str) -> tuple[int, str]:
        """Run a command; return its exit code and what it printed."""
        code, out, err = self.module.run_command([*words], environ_update={"LC_ALL": "C"})
        return code, f"{out}{err}".strip()

    def shown(self, units: list[str]) -> dict[str, dict[str, str]]:
        """Return the properties of each unit."""
        if not units:
            return {}
        _, out = self.run("systemctl", "show", f"--property=Id,{PROPERTIES}", *units)
        blocks = [
            dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            for block in out.split("\n\n")
        ]
        return dict(zip(units, blocks, strict=True))

    def reload(self) -> None:
        """Let systemd read its files anew."""
        code, said = self.run("systemctl", "daemon-reload")
        if code:
            raise Broken(f"systemd could not read its units: {said}")

    def act(self, verb: str, unit: str) -> None:
        """Run a command of systemctl on a unit; raise Broken with its journal where that fails."""
        code, said = self.run("systemctl", verb, unit)
        if code:
            raise Broken(f"{unit} could not be {PAST[verb]}: {said}\n{self.journal(unit)}")

    def journal(self, unit: str) -> str:
        """Return the last lines of a unit's journal."""
        return self.run(
            *("journalctl", "--no-pager", f"--lines={LINES}", "--output=cat", f"--unit={unit}")
        )[1]

    def wait(self, unit: str, seconds: int) -> None:
        """Wait until a unit is active; raise Broken where it fails, restarts again and again, or takes too long."""
        end = time.monotonic() + seconds
        first = None
        while True:
            told = self.shown([unit])[unit]
            restarts = int(told.get("NRestarts") or 0)
            first = restarts if first is None else first
            if told["ActiveState"] == "active":
                return
            state = f"{told['ActiveState']} ({told['SubState']})"
            if told["ActiveState"] in ("failed", "inactive") or restarts - first > RESTARTS:
                raise Broken(f"{unit} does not stay up: {state}\n{self.journal(unit)}")
            if time.monotonic() > end:
                raise Broken(f"{unit} is {state} after {seconds} s\n{self.journal(unit)}")
            time.sleep(1)  # until it is active; the time-out above raises


PAST = {
    "enable": "enabled",
    "start": "started",
    "restart": "restarted",
    "reload": "reloaded",
    "disable": "disabled",
    "stop": "stopped",
}


def lacking(told: dict[str, str]) -> bool:
    """Say whether a unit that shall run is not enabled or not active."""
    return told.get("UnitFileState") not in ENABLED or told.get("ActiveState") != "active"


def running(told: dict[str, str]) -> bool:
    """Say whether a unit that shall not run is enabled or active."""
    return told.get("UnitFileState") == "enabled" or told.get("ActiveState") == "active"


def bring_up(host: Host, plan: dict[str, list[str]], timeout: int, steady: int) -> None:
    """Stop, restart and start what is to be, in order.

    ``plan`` has lists of units: ``stopped`` for good, ``read`` anew by systemd alone, ``paused`` until they are
    restarted, ``reloaded``, ``restarted`` and ``started``.
    """
    for unit in plan["stopped"]:
        host.act("disable", unit)
        host.act("stop", unit)
    told = host.shown([*plan["read"], *plan["reloaded"], *plan["restarted"], *plan["started"]])
    stale = ("not-found", "yes")
    if any(
        unit.get("LoadState") in stale or unit.get("NeedDaemonReload") in stale
        for unit in told.values()
    ):
        host.reload()
    for unit in plan["reloaded"]:
        host.act("reload", unit)
    for unit in plan["paused"]:
        host.act("stop", unit)
    for unit in plan["restarted"]:
        host.act("restart", unit)
        host.wait(unit, timeout)
    for unit in plan["started"]:
        if told[unit].get("UnitFileState") not in ENABLED:
            host.act("enable", unit)
        if told[unit].get("ActiveState") != "active" and unit not in plan["restarted"]:
            host.act("start", unit)
            host.wait(unit, timeout)
    if steady:
        time.sleep(steady)  # for a command that ends at once to have ended
        for unit in [*plan["restarted"], *plan["started"]]:
            host.wait(unit, timeout)


def sockets_of(host: Host, units: list[str]) -> list[dict[str, Any]]:
    """Return the sockets that units are started by, as services of this module.

    A socket whose unit was changed and read anew by systemd has lost what it listened on; a service that is restarted
    gets nothing from it then, and fails.
    """
    found: dict[str, list[str]] = {}
    for unit, told in host.shown(units).items():
        for socket in told.get("TriggeredBy", "").split():
            if socket.endswith(".socket"):
                found.setdefault(socket, []).append(unit)
    return [
        {"name": socket, "unit": socket, "stop_first": served, **PLAIN}
        for socket, served in found.items()
    ]


def planned(host: Host, options: dict[str, Any], late: list[str]) -> dict[str, list[str]]:
    """Return what is to be done with which units; ``late`` are the names of the services that are behind."""
    services = [service for service in options["services"] if service["name"] in late]
    paused = [unit for service in services for unit in service["stop_first"]]
    read = [service["unit"] for service in services if not service["restart"]]
    restarted = [
        service["unit"] for service in services if service["restart"] and not service["reload"]
    ]
    reloaded = [
        service["unit"]
        for service in services
        if service["reload"] and service["unit"] not in restarted  # which has read all of it
    ]
    restarted = list(dict.fromkeys([*restarted, *paused, *options["restarted"]]))
    told = host.shown([*options["stopped"], *options["started"]])
    return {
        "stopped": [unit for unit in options["stopped"] if running(told[unit])],
        "read": read,
        "paused": paused,
        "reloaded": reloaded,
        "restarted": restarted,
        "started": [unit for unit in options["started"] if lacking(told[unit])],
    }


def main() -> None:
    """Run the module."""
    service = {name: option for name, option in OPTIONS.items() if name != "group"} | {
        "unit": {"type": "str", "required": True},
        "reload": {"type": "bool", "default": False},
        "restart": {"type": "bool", "default": True},
        "stop_first": {"type": "list", "elements": "str", "default": []},
    }
    units: dict[str, Any] = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "services": {"type": "list", "elements": "dict", "default": [], "options": service},
            "pending": units,
            "stopped": units,
            "started": units,
            "restarted": units,
            "timeout": {"type": "int", "default": 90},
            "steady": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    host, options = Host(module), module.params
    named = [service["unit"] for service in options["services"]]
    options["services"] = [
        socket for socket in sockets_of(host, options["restarted"]) if socket["unit"] not in named
    ] + options["services"]
    reasons = behind(options["services"], options["pending"], module.run_command)
    plan = planned(host, options, list(reasons))
    touched = list(dict.fromkeys(unit for step in STEPS for unit in plan[step]))
    if touched and not module.check_mode:
        try:
            bring_up(host, plan, options["timeout"], options["steady"])
        except Broken as error:
            module.fail_json(msg=str(error), units=touched)
    module.exit_json(
        changed=bool(touched),
        units=touched,
        restarted=plan["restarted"],
        diff={"prepared": "".join(f"{text}\n" for text in reasons.values())},
    )


if __name__ == "__main__":
    main()
