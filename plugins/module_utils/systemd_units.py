"""Units of systemd: stopped, restarted, enabled and started in order, each until it runs."""

from __future__ import annotations

import fnmatch
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

PROPERTIES = "LoadState,ActiveState,SubState,UnitFileState,NRestarts,NeedDaemonReload,TriggeredBy"
PLAIN: dict[str, Any] = {
    "group": None,
    "paths": [],
    "stamp": None,
    "reload": False,
    "restart": True,
    "code": False,
}
# systemd enables nothing of these; a template's instance and a generated unit are none.
ENABLED = {"enabled", "enabled-runtime", "static", "generated", "transient", "indirect", "alias"}
STEPS = ("stopped", "read", "reloaded", "restarted", "started")
RESTARTS = 2  # more than these while a task waits is a unit that does not stay up
LINES = 60


class Broken(Exception):
    """A unit does not run; the text says which, and why."""


def command(words: list[str], environ_update: dict[str, str]) -> tuple[int, str, str]:
    """Run a command as AnsibleModule.run_command does, in any thread."""
    done = subprocess.run(
        words, env=os.environ | environ_update, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


class Systemd:
    """systemd of this host, asked through an AnsibleModule's run_command, or what is like it."""

    def __init__(self, run_command: Callable[..., tuple[int, str, str]]) -> None:
        self.run_command = run_command

    def run(self, *words: str) -> tuple[int, str]:
        """Run a command; return its exit code and what it printed."""
        code, out, err = self.run_command([*words], environ_update={"LC_ALL": "C"})
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


def bring_up(
    systemd: Systemd, plan: dict[str, list[str]], timeout: int, steady: int, anew: bool = False
) -> None:
    """Stop, restart and start what is to be, in order.

    ``plan`` has lists of units: ``stopped`` for good, ``read`` anew by systemd alone, ``paused`` until they are
    restarted, ``reloaded``, ``restarted`` and ``started``. With ``anew`` systemd reads its files in any case: it
    does not notice a folder of drop-ins that is a new one.
    """
    for unit in plan["stopped"]:
        systemd.act("disable", unit)
        systemd.act("stop", unit)
    told = systemd.shown([*plan["read"], *plan["reloaded"], *plan["restarted"], *plan["started"]])
    stale = ("not-found", "yes")
    if anew or any(
        unit.get("LoadState") in stale or unit.get("NeedDaemonReload") in stale
        for unit in told.values()
    ):
        systemd.reload()
    for unit in plan["reloaded"]:
        systemd.act("reload", unit)
    for unit in plan["paused"]:
        systemd.act("stop", unit)
    for unit in plan["restarted"]:
        systemd.act("restart", unit)
        systemd.wait(unit, timeout)
    for unit in plan["started"]:
        if told[unit].get("UnitFileState") not in ENABLED:
            systemd.act("enable", unit)
        if told[unit].get("ActiveState") != "active" and unit not in plan["restarted"]:
            # an attempt that began with older files would fail, and take a start with it
            old = told[unit].get("NeedDaemonReload") == "yes"
            trying = told[unit].get("ActiveState") == "activating"
            systemd.act("restart" if old and trying else "start", unit)
            systemd.wait(unit, timeout)
    if steady:
        time.sleep(steady)  # for a command that ends at once to have ended
        for unit in [*plan["restarted"], *plan["started"]]:
            systemd.wait(unit, timeout)


def sockets_of(systemd: Systemd, units: list[str]) -> list[dict[str, Any]]:
    """Return the sockets that units are started by, as services of this module.

    A socket whose unit was changed and read anew by systemd has lost what it listened on; a service that is restarted
    gets nothing from it then, and fails.
    """
    found: dict[str, list[str]] = {}
    for unit, told in systemd.shown(units).items():
        for socket in told.get("TriggeredBy", "").split():
            if socket.endswith(".socket"):
                found.setdefault(socket, []).append(unit)
    return [
        {"name": socket, "unit": socket, "stop_first": served, **PLAIN}
        for socket, served in found.items()
    ]


def renews(service: dict[str, Any]) -> bool:
    """Say whether a service begins anew where it runs code that an upgrade has replaced."""
    wanted = service["code"] if service["code"] is not None else not service["reload"]
    return bool(wanted and service["restart"])


def older(unit: str, files: dict[str, str]) -> str:
    """Return why a unit begins anew, of which ``files`` has a replaced file."""
    return f"{unit} runs with {files[unit]} as it was before an upgrade"


def with_older_code(services: list[dict[str, Any]], files: dict[str, str]) -> dict[str, str]:
    """Return the services that begin anew for code that an upgrade has replaced: names, and a sentence for each.

    ``files`` has a replaced file of each unit that runs with one.
    """
    return {
        service["name"]: older(service["unit"], files)
        for service in services
        if service["unit"] in files and renews(service)
    }


def upgraded(units: list[str], patterns: list[str]) -> list[str]:
    """Return the units that match, in the order of the patterns."""
    return [unit for pattern in patterns for unit in fnmatch.filter(units, pattern)]


def renewed(plan: dict[str, list[str]], services: list[dict[str, Any]]) -> list[str]:
    """Return the units that run what is on the disk once a plan is carried out."""
    reloads = [service["unit"] for service in services if service["reload"] and renews(service)]
    return [*plan["restarted"], *(unit for unit in plan["reloaded"] if unit in reloads)]


def planned(systemd: Systemd, options: dict[str, Any], late: list[str]) -> dict[str, list[str]]:
    """Return what is to be done with which units; ``late`` are the names of the services that are behind."""
    services = [service for service in options["services"] if service["name"] in late]
    paused = [unit for service in services for unit in service.get("stop_first", [])]
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
    told = systemd.shown([*options["stopped"], *options["started"]])
    return {
        "stopped": [unit for unit in options["stopped"] if running(told[unit])],
        "read": read,
        "paused": paused,
        "reloaded": reloaded,
        "restarted": restarted,
        "started": [unit for unit in options["started"] if lacking(told[unit])],
    }
