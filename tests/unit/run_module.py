"""Modules as Ansible runs them: a process of their own, arguments in, JSON out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
UTILS = str(ROOT / "plugins" / "module_utils")
# Reads Ansible's part once, then forks for each line that it is told; the tests' own process has threads.
PROGRAM = f"""
import importlib, json, os, sys
import ansible.module_utils, ansible.module_utils.basic
from ansible.module_utils.testing import patch_module_args
ansible.module_utils.__path__.append({UTILS!r})
for line in sys.stdin:
    name, arguments, output, environment = json.loads(line)
    child = os.fork()
    if child == 0:
        os.environ.clear()
        os.environ.update(environment)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number in (1, 2):
            os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND), number)
        module = importlib.import_module("plugins.modules." + name)
        with patch_module_args(arguments):
            module.main()
        sys.exit("no module ends in this way")
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


@cache
def _server() -> subprocess.Popen[str]:
    """Start the process that forks for each module; it ends with the tests."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)


def run_module(name: str, arguments: dict[str, Any], *, check: bool = False) -> dict[str, Any]:
    """Run a module of plugins/modules and return what it answers."""
    server = _server()
    assert server.stdin
    assert server.stdout
    with tempfile.NamedTemporaryFile("r") as said:
        given = {**arguments, "_ansible_check_mode": check}
        server.stdin.write(json.dumps([name, given, said.name, dict(os.environ)]) + "\n")
        server.stdin.flush()
        assert server.stdout.readline() == "ended\n"
        lines = said.read().strip().splitlines()
    assert lines, f"{name} said nothing"
    assert lines[-1].startswith("{"), "\n".join(lines)
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer
