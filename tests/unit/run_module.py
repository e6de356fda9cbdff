"""Modules as Ansible runs them: a process of their own, arguments in, JSON out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
UTILS = str(ROOT / "plugins" / "module_utils")
PROGRAM = f"""
import importlib, json, sys
import ansible.module_utils
from ansible.module_utils.testing import patch_module_args
ansible.module_utils.__path__.append({UTILS!r})
module = importlib.import_module("plugins.modules." + sys.argv[1])
with patch_module_args(json.load(sys.stdin)):
    module.main()
"""


def run_module(name: str, arguments: dict[str, Any], *, check: bool = False) -> dict[str, Any]:
    """Run a module of plugins/modules and return what it answers."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name],
        input=json.dumps({**arguments, "_ansible_check_mode": check}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip(), done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer
