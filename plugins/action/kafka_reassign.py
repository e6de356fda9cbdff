"""The control node's half of the module kafka_reassign: it asks again until nothing is left, and says how far it is."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

LINE = 30  # seconds between two lines of progress
UNITS = ("B", "kB", "MB", "GB")


def size(number: float) -> str:
    """Return a number of bytes as people read it."""
    unit = 0
    while number >= 1000 and unit < len(UNITS) - 1:
        number, unit = number / 1000, unit + 1
    return f"{number:.1f} {UNITS[unit]}" if unit else f"{number:.0f} B"


def progress(told: dict[str, Any]) -> str:
    """Return one line of progress."""
    return f"{told['moving']} partitions on their way, {size(told['copying'])} to copy"


class ActionModule(ActionBase):
    """Run the module until replicas are where they shall be."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return what the module said at last, with the changes of all of its runs."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments: dict[str, Any] = dict(self._task.args)
        first: dict[str, Any] = {}
        patience = int(arguments.get("patience", 600))
        best, well, line = (float("inf"), float("inf")), time.monotonic(), 0.0
        while True:
            told = self._execute_module(
                module_name="kafka_reassign", module_args=arguments, task_vars=task_vars
            )
            first = first or told
            if told.get("failed") or told["finished"] or self._task.check_mode:
                kept = {key: first[key] for key in ("changed", "diff") if key in first}
                return result | told | kept
            now = (told["moving"], told["copying"])
            if now < best:
                best, well = now, time.monotonic()
            if time.monotonic() - line > LINE:
                Display().display(f"  {progress(told)}")
                line = time.monotonic()
            if time.monotonic() - well > patience:
                why = (
                    f"kafka_move_throttle is {arguments.get('throttle', 0)}: {progress(told)}, and no fewer for "
                    f"{patience} seconds. Kafka goes on by itself. Let more bytes a second through than producers "
                    "send (-e kafka_move_throttle=…), and run this again, which takes it up."
                )
                return result | told | {"failed": True, "msg": why}
            arguments |= {"begun": True, "awaited": told["awaited"]}
