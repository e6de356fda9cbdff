"""Which of the bundle's units run with programs and libraries that an upgrade has replaced.

The kernel says " (deleted)" of a file that a process has mapped and that its path no longer leads to
(proc_pid_maps(5)): dpkg puts the new file in the place of the old one. What counts is code below /usr, where packages
have it: what is mapped as executable, and the archives that a Java machine has open, which it does not map. Data,
/tmp, /run, memory of no file, /srv and /opt do not count.

This needs CAP_SYS_PTRACE for processes of other users (ptrace(2), PTRACE_MODE_READ). The standard library alone, since
the metrics of a host, the window of upgrades and `make verify` run this file as it is.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
# Units that a run restarts, or that playbooks/restart.yml does when it is told to.
OURS = re.compile(
    r"(apache2|haproxy|kafka|zookeeper|prometheus(-[a-z-]+)?|switchboard-[a-z-]+|systemd-(journald|timesyncd)"
    r"|(postgresql|valkey|daphne|django)[-@].+)\.service"
)
# A reload lets its main process begin anew with what is on the disk; the others end with their connections.
ENDING = ("haproxy.service",)
CODE = re.compile(r"\S+ ..x\S* \S+ \S+ \S+ +(/(?:usr|lib\w*)/.+) \(deleted\)")
ARCHIVE = re.compile(r"(/(?:usr|lib\w*)/.+\.jar) \(deleted\)")


def unit_of(process: Path) -> str:
    """Return the service of the system that a process belongs to (cgroups(7)); an empty text where there is none."""
    try:
        told = (process / "cgroup").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return ""  # it has ended
    for line in told.splitlines():
        parts = line.split(":", 2)[2].split("/")
        found = [part for part in parts if part.endswith(".service")]
        if found and "user.slice" not in parts:
            return found[-1]
    return ""


def files_of(process: Path) -> Iterator[str]:
    """Yield the files that a process runs with, and that have been replaced since."""
    text = (process / "maps").read_bytes()
    if b" (deleted)\n" in text:
        lines = text.decode("utf-8", "surrogateescape").splitlines()
        yield from (found[1] for line in lines if (found := CODE.fullmatch(line)))
    if b"/libjvm.so" in text:
        for descriptor in (process / "fd").iterdir():
            if found := ARCHIVE.fullmatch(os.readlink(descriptor)):
                yield found[1]


def parent_of(process: Path) -> Path:
    """Return the parent of a process, in the same folder."""
    text = (process / "stat").read_text(encoding="utf-8", errors="surrogateescape")
    return process.parent / text.rpartition(")")[2].split()[1]


def replaced(proc: Path = PROC) -> tuple[dict[str, list[str]], list[str]]:
    """Return the replaced files of each of the bundle's units that runs, and those that could not be looked at.

    A unit that runs with what is on the disk has an empty list.
    """
    found: dict[str, set[str]] = {}
    unseen = set()
    for process in sorted(proc.iterdir()):
        if not process.name.isdigit():
            continue
        unit = unit_of(process)
        if not OURS.fullmatch(unit):
            continue
        try:
            files = found.setdefault(unit, set())
            if unit not in ENDING or unit_of(parent_of(process)) != unit:
                files.update(files_of(process))
        except PermissionError:
            unseen.add(unit)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
    return {unit: sorted(files) for unit, files in sorted(found.items())}, sorted(unseen)


if __name__ == "__main__":
    print(json.dumps(replaced()))
