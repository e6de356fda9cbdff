"""Keep a record of each playbook run, so that tests can compare what runs predicted and did.

Enabled by the test scenarios alone (`ANSIBLE_CALLBACKS_ENABLED=run_record`). Each run adds one
numbered JSON file to the folder that SWITCHBOARD_RUN_RECORDS names:

    {"playbook": "converge.yml", "check": false,
     "tasks": [{"host": …, "task": …, "path": "roles/kafka/tasks/install.yml:12",
                "action": "apt", "changed": …, "failed": …, "unknown": …}, …],
     "processes": [{<host>: {<unit>: "<pid> <start, µs since boot>"}}, …]}

`unknown` marks a task that check mode could not try ("would have run"). `processes` holds what the
tasks tagged `record_processes` saw, in the order of the run.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: run_record
type: aggregate
short_description: Keep a record of each playbook run
description:
  - Writes which tasks changed which hosts, one JSON file a run, for tests that compare runs.
requirements:
  - SWITCHBOARD_RUN_RECORDS names the folder of the records; without it nothing is written.
"""

PROCESSES_TAG = "record_processes"
PASSING = ("systemd-", "user@")


def parse_units(text: str) -> dict[str, str]:
    """Read `systemctl show` for several units: blocks of Key=value, parted by empty lines.

    Returns:
        Unit name to "<main pid> <start>". Units without a main process are left out, and
        those that come and go by themselves: jobs, services that the bus starts on demand, what a
        sign-in brings.
    """
    units = {}
    for block in text.strip().split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        fleeting = values.get("Type") in {"oneshot", "dbus"} or values.get("Id", "").startswith(
            PASSING
        )
        if values.get("MainPID", "0") != "0" and not fleeting:
            start = values.get("ExecMainStartTimestampMonotonic", "")
            units[values["Id"]] = f"{values['MainPID']} {start}"
    return units


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible ships no types
    """Collects results while a playbook runs and writes them at its end."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "run_record"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        folder = os.environ.get("SWITCHBOARD_RUN_RECORDS")
        self.folder = Path(folder) if folder else None
        self.playbook = ""
        self.tasks: list[dict[str, Any]] = []
        self.processes: list[dict[str, dict[str, str]]] = []
        self.plays: dict[str, int] = {}

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Note the playbook's file name."""
        self.playbook = Path(playbook._file_name).name

    def _add(self, result: Any, *, failed: bool = False) -> None:
        # ansible-core 2.19 and newer name these without the underscore and warn about the old.
        task = getattr(result, "task", None) or result._task
        host = (getattr(result, "host", None) or result._host).get_name()
        values = getattr(result, "result", None)
        if values is None:
            values = result._result
        if PROCESSES_TAG in task.tags and not failed:
            play = str(task._parent._play._uuid)
            index = self.plays.setdefault(play, len(self.plays))
            if index == len(self.processes):
                self.processes.append({})
            self.processes[index][host] = parse_units(str(values.get("stdout", "")))
        items = values.get("results") if isinstance(values.get("results"), list) else [values]
        unknown = any(
            isinstance(item, dict) and "if not in check mode" in str(item.get("msg", ""))
            for item in items
        )
        path = task.get_path() or ""
        root = str(Path(__file__).resolve().parents[2]) + "/"
        self.tasks.append(
            {
                "host": host,
                "task": task.get_name(),
                "path": path.removeprefix(root),
                "action": task.action.rsplit(".", 1)[-1],
                "changed": bool(values.get("changed", False)),
                "failed": failed,
                "unknown": unknown,
            }
        )

    def v2_runner_on_ok(self, result: Any) -> None:
        """Record a task that went through."""
        self._add(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Record a skipped task: check mode skips what it cannot try."""
        self._add(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Record a failed task."""
        self._add(result, failed=not ignore_errors)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Record a host that could not be reached."""
        self._add(result, failed=True)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Write the record."""
        if self.folder is None or not self.tasks:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        record = {
            "playbook": self.playbook,
            "check": bool(context.CLIARGS.get("check", False)),
            "tasks": self.tasks,
            "processes": self.processes,
        }
        number = len(list(self.folder.glob("*.json"))) + 1
        target = self.folder / f"{number:03d}.json"
        target.write_text(json.dumps(record, indent=1), encoding="utf-8")
