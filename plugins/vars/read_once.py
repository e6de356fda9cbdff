"""Read what a run is told once, before Ansible reads the playbooks.

Ansible keeps no file of `vars_files`: it parsed playbooks/vars/wiring.yml at each task, and at each role and file of
tasks that a playbook imports, 229 times before the first task of site.yml. It copies a role's files word by word
wherever the role is imported, though a word can't change. And Python looks for garbage after each 700 new objects, of
which reading makes some hundred thousand. Together these were half of what a run cost before its first task.

A plugin of variables is the first of this project's that Ansible loads.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from ansible.module_utils._internal import _datatag
from ansible.plugins.vars import BaseVarsPlugin

DOCUMENTATION = """
name: read_once
short_description: Read files of variables once a run
description:
  - Gives no variables. It makes each playbook quicker.
options:
  stage:
    description: With the inventory, which comes first.
    type: str
    default: inventory
"""
KEPT = Path(__file__).resolve().parents[2] / "playbooks" / "vars" / "wiring.yml"
# Text and numbers with tags, and the tags, which say where something stands: none of them can change.
UNCHANGING = ("_AnsibleTaggedStr", "_AnsibleTaggedInt", "_AnsibleTaggedFloat", "AnsibleDatatagBase")
GARBAGE_AFTER = 100_000  # new objects


def share_unchanging() -> list[str]:
    """Let a copy of what can't change be the thing itself, as Python does with its own text and numbers.

    Returns:
        The types; none where this version of Ansible has others, which is slower and changes nothing else.
    """
    types = [getattr(_datatag, name) for name in UNCHANGING if hasattr(_datatag, name)]
    for kind in types:
        kind.__deepcopy__ = lambda self, memo: self
    return [kind.__name__ for kind in types]


class VarsModule(BaseVarsPlugin):  # type: ignore[misc]  # Ansible ships no types
    """Keeps the file where Ansible looks first."""

    def __init__(self) -> None:
        super().__init__()
        share_unchanging()
        gc.set_threshold(GARBAGE_AFTER, *gc.get_threshold()[1:])

    def get_vars(self, loader: Any, path: str, entities: Any, cache: bool = True) -> dict[str, Any]:
        """Keep it; as it is `vars_files` that ask for it, it is trusted, and shared by those who read it."""
        loader.load_from_file(str(KEPT), unsafe=True, trusted_as_template=True)
        return {}
