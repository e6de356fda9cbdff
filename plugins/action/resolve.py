"""What the control node works out once for several tasks, as the answer of a task: a value, or why there is none."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Answer with the arguments, of which a filter makes `failed` and `msg` where it refuses something."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the arguments; nothing is asked of the host."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        return result | {"changed": False} | self._task.args
