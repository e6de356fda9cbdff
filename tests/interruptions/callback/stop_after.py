"""Kill the run (SIGKILL) as soon as a task has changed something: SWITCHBOARD_STOP_AFTER names it, as "role : task"."""

from __future__ import annotations

import os
import signal
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: stop_after
type: aggregate
short_description: Kill the run when a task has changed something
description: SWITCHBOARD_STOP_AFTER names the task, as it is printed. Tests alone enable this.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible ships no types
    """Ends the process group of the run, which the test has made for it."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "stop_after"
    CALLBACK_NEEDS_ENABLED = True

    def v2_runner_on_ok(self, result: Any) -> None:
        """Look at each task that went through."""
        if result.task.get_name() == os.environ["SWITCHBOARD_STOP_AFTER"] and result.is_changed():
            os.killpg(0, signal.SIGKILL)
