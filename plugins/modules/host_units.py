#!/usr/bin/python
"""Enable, start and restart units in one trip, each until it runs, and say from the journal why one does not."""

from __future__ import annotations

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: host_units
short_description: Enable, start and restart systemd units, each until it runs
description:
  - Restarts what is named in I(restarted), in order, one after another; then enables and starts what is named in
    I(started). Each has to be active before the next one's turn comes; one that fails, or starts again and again,
    ends the task with the last lines of its journal.
  - systemd reads its files anew where a unit needs it.
  - In check mode a unit that is not there yet is predicted to be enabled and started.
options:
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
      Seconds after which units that were started are looked at once more; a command that ends at once has started
      all the same.
    type: int
    default: 0
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Start the relay, which has to stay up
  host_units:
    started: [lab-relay.service]
    steady: 4
"""

RETURN = r"""
units: {description: The units that were started or restarted., type: list, elements: str, returned: success}
restarted: {description: Those of them that were restarted., type: list, elements: str, returned: success}
"""

PROPERTIES = "LoadState,ActiveState,SubState,UnitFileState,NRestarts,NeedDaemonReload"
# systemd enables nothing of these; a template's instance and a generated unit are none.
ENABLED = {"enabled", "enabled-runtime", "static", "generated", "transient", "indirect", "alias"}
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


PAST = {"enable": "enabled", "start": "started", "restart": "restarted"}


def lacking(told: dict[str, str]) -> bool:
    """Say whether a unit that shall run is not enabled or not active."""
    return told.get("UnitFileState") not in ENABLED or told.get("ActiveState") != "active"


def bring_up(host: Host, started: list[str], restarted: list[str], options: dict[str, Any]) -> None:
    """Restart and start what is to be, in order."""
    units = [*restarted, *started]
    told = host.shown(units)
    stale = ("not-found", "yes")
    if any(
        unit.get("LoadState") in stale or unit.get("NeedDaemonReload") in stale
        for unit in told.values()
    ):
        host.reload()
    for unit in restarted:
        host.act("restart", unit)
        host.wait(unit, options["timeout"])
    for unit in started:
        if told[unit].get("UnitFileState") not in ENABLED:
            host.act("enable", unit)
        if told[unit].get("ActiveState") != "active":
            host.act("start", unit)
            host.wait(unit, options["timeout"])
    if options["steady"] and started:
        time.sleep(options["steady"])  # for a command that ends at once to have ended
        for unit in started:
            host.wait(unit, options["timeout"])


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "started": {"type": "list", "elements": "str", "default": []},
            "restarted": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 90},
            "steady": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    host = Host(module)
    restarted = list(dict.fromkeys(module.params["restarted"]))
    wanted = [unit for unit in module.params["started"] if unit not in restarted]
    told = host.shown(wanted)
    started = [unit for unit in wanted if lacking(told[unit])]
    units = [*restarted, *started]
    if units and not module.check_mode:
        try:
            bring_up(host, started, restarted, module.params)
        except Broken as error:
            module.fail_json(msg=str(error), units=units)
    module.exit_json(changed=bool(units), units=units, restarted=restarted)


if __name__ == "__main__":
    main()
