"""The control node's half of the module host_files: one list of files for each of several things, in one trip."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


def in_one_line(file: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file with what is secret in one line.

    A module notes its arguments in the host's journal. Ansible hides there what is secret if it finds the text, which
    it does not where lines end within it.
    """
    found = dict(file)
    if (secret := found.pop("secret_content", None)) is not None:
        found["secret_base64"] = base64.b64encode(str(secret).encode()).decode()
    return found


class ActionModule(ActionBase):
    """Put together what the host is to have, and send it."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Resolve the variable `each_files` once for each `item` of `each`, then run the module.

        Arguments of the task, beside the module's `files`:
            each: a list, of the sites for example.
            each_files: the name of the variable that lists the files of one of them, in terms of `item`.
        """
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        name, items = arguments.pop("each_files", None), arguments.pop("each", None) or []
        files = list(arguments.get("files") or [])
        variables = self._templar.available_variables
        if items and name not in variables:
            raise AnsibleActionFail(f"each_files is {name!r}: there is no variable of that name.")
        for item in items:
            templar = self._templar.copy_with_new_env(
                available_variables={**variables, "item": item}
            )
            files += templar.template(variables[name])
        files = [in_one_line(file) for file in files]
        return result | self._execute_module(
            module_name="host_files", module_args={**arguments, "files": files}, task_vars=task_vars
        )
