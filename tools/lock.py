"""Resolve requirements/*.in for each Python into locks with hashes and without addresses."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.common import ROOT, environment, main_guard, run, say
from tools.setup import PYTHONS, find_python, lock_of, pinned

NAMES = ("control", "bench")
OPTIONS = (
    "--quiet",
    "--upgrade",
    "--generate-hashes",
    "--strip-extras",
    "--allow-unsafe",
    "--no-header",
    # Else the lock would repeat how pip is configured on this machine.
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--no-emit-trusted-host",
)


def compile_locks(version: str) -> None:
    """Write the locks of one Python, with pip-tools at the version that the present lock names."""
    interpreter, _ = find_python(version)
    with tempfile.TemporaryDirectory() as folder:
        run([interpreter, "-m", "venv", folder])
        tools = pinned(lock_of("3.13"), "pip-tools").split(" ")[0]
        run([f"{folder}/bin/pip", "install", "-q", tools])
        for name in NAMES:
            target = lock_of(version, name)
            run(
                ["pip-compile", *OPTIONS, "--output-file", target.name, f"{name}.in"],
                env=environment(Path(folder)),
                cwd=target.parent,
            )
            say(f"{target.relative_to(ROOT)}: written")


def main() -> int:
    """Write all locks at once."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(compile_locks, PYTHONS))
    return 0


if __name__ == "__main__":
    main_guard(main)
