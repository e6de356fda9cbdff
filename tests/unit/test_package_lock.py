"""package_lock sees who holds a lock of fcntl(2), and takes none itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from plugins.module_utils import host_packages

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
input()
"""


def test_the_holder_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    assert host_packages.holder(path) == ""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        told = host_packages.holder(path)
        process.communicate("\n")
    assert told.startswith("python")
    assert told.endswith(f"(process {process.pid})")
    assert host_packages.holder(path) == ""
