"""The control node's half of the module host_guard: a new connection, and what to say where there is none."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

PATIENCE = 30  # seconds beyond the guard's time in which the host is back
ATTEMPT = 5  # seconds that one attempt to connect has


class ActionModule(ActionBase):
    """Come back over a new connection and confirm a change."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Try until the host has answered: that it was confirmed, or that it had taken the change back."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._task.check_mode:
            return result | {"changed": False, "skipped": True}
        arguments = self._task.args
        name, seconds = arguments["name"], int(arguments.get("timeout", 60))
        variables = arguments.get("variables", "")
        self.quicken()
        end = time.monotonic() + seconds + PATIENCE
        why, tried = "", False
        while True:
            answer, told = self.attempt(task_vars)
            if answer.get("confirmed"):
                return result | {"changed": False, "confirmed": True}
            if "confirmed" in answer and not tried:
                return result | {
                    "failed": True,
                    "msg": f"{variables}: this run came back later than the {seconds} s in which a change of {name} "
                    "has to be confirmed, as where it waited for another host that does not answer, so the host has "
                    "taken it back. It can be reached: run it again, without that host (--limit).",
                }
            if "confirmed" in answer:
                return result | {
                    "failed": True,
                    "msg": f"{variables}: after this change of {name} the host took no new connection of this run "
                    f"within {seconds} s, so it has taken the change back and is as it was before. Correct what you "
                    f"changed. {why}".strip(),
                }
            why, tried = told or why, True
            if time.monotonic() > end:
                return result | {
                    "failed": True,
                    "msg": f"{variables}: the host takes no connection, {PATIENCE} s after it should have taken back "
                    f"this change of {name}. Look at it from your provider's console. {why}".strip(),
                }
            time.sleep(1)  # between two attempts; the time-out above fails

    def quicken(self) -> None:
        """Let an attempt that nobody answers end soon; a connection that is none of SSH has no such options."""
        for option, value in (("timeout", ATTEMPT), ("reconnection_retries", 0)):
            try:
                self._connection.set_option(option, value)
            except (AnsibleError, KeyError):
                return

    def attempt(self, task_vars: dict[str, Any] | None) -> tuple[dict[str, Any], str]:
        """Connect anew and run the module; return its answer, or none and what the connection said."""
        try:
            if hasattr(self._connection, "reset"):
                self._connection.reset()
            answer = self._execute_module(
                module_name="host_guard", module_args=self._task.args, task_vars=task_vars
            )
        except AnsibleConnectionFailure as error:
            return {}, f"({' '.join(str(error).split())[-200:]})"
        if answer.get("failed"):
            said = answer.get("module_stderr") or answer.get("msg") or ""
            return {}, f"({' '.join(str(said).split())[-200:]})"
        return answer, ""
