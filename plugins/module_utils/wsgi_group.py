"""The daemon processes of a mod_wsgi process group: which there are, since when, and others in their place."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

PROC = Path("/proc")
# The name that a process has when it has loaded the project, by the site's WSGI script (proc(5), comm).
LOADED = "wsgi-loaded"
# Of a release whose script is older: mod_wsgi has started its threads, which it does after that. The process before
# may have had some more, which the project started later (a Kafka producer's).
LATER_THREADS = 6
PAUSE = 0.05  # seconds between two looks
# mod_wsgi writes a process's name over its first argument, /usr/sbin/apache2, and cuts it off at the end of that.
TITLE_LENGTH = len("/usr/sbin/apache2")


class Stuck(Exception):
    """No process serves in the place of another; the text says which, and what to do."""


def title(group: str) -> str:
    """Return the name that the processes of a group show, of 17 bytes at most, or it would be cut."""
    whole = f"(wsgi:{group})"
    if len(whole) <= TITLE_LENGTH:
        return whole
    mark = f"~{hashlib.sha256(group.encode()).hexdigest()[:4]})"
    return f"{whole[: TITLE_LENGTH - len(mark)]}{mark}"


def processes(group: str, proc: Path = PROC) -> list[int]:
    """Return the processes of a group by the name that mod_wsgi gives them (display-name)."""
    name = title(group).encode()
    found = []
    for entry in proc.iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(name):
                found.append(int(entry.name))
        except OSError:
            continue  # it has ended
    return sorted(found)


def began(group: str, proc: Path = PROC) -> float:
    """Return when the oldest process of a group began, in seconds since the epoch; 0 without one."""
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    found = []
    for pid in processes(group, proc):
        try:
            ticks = int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
        except OSError:
            continue  # it has ended
        found.append(boot + ticks / os.sysconf("SC_CLK_TCK"))
    return min(found, default=0.0)


def threads(pid: int, proc: Path = PROC) -> int:
    """Return how many threads a process has, 0 for one that has ended."""
    try:
        return len(os.listdir(proc / str(pid) / "task"))
    except OSError:
        return 0


def loaded(pid: int, wanted: int, proc: Path = PROC) -> bool:
    """Say whether a process has loaded the project: by its name, or by the number of its threads."""
    try:
        named = (proc / str(pid) / "comm").read_text().strip() == LOADED
    except OSError:
        named = False  # it has ended
    return named or threads(pid, proc) >= wanted


def replace(group: str, pid: int, timeout: float) -> bool:
    """Replace one process and tell whether another one serves in its place in time."""
    before, count = set(processes(group)), threads(pid)
    until = time.monotonic() + timeout
    os.kill(pid, signal.SIGUSR1)
    while time.monotonic() < until:
        now = set(processes(group))
        if pid not in now and any(
            loaded(new, max(2, count - LATER_THREADS)) for new in now - before
        ):
            return True
        time.sleep(PAUSE)  # between two looks
    return False


def renew(group: str, timeout: float) -> int:
    """Replace each process of a group in turn, and return how many there were; raise Stuck where none takes a place."""
    found = processes(group)
    for pid in found:
        try:
            served = replace(group, pid, timeout)
        except ProcessLookupError:
            continue  # it ended by itself, and the one in its place has the new code
        if not served:
            raise Stuck(
                f"The group {group} of mod_wsgi: in the place of process {pid} none served within {timeout:g} s. "
                f"See /var/log/apache2/{group}/error.log; `systemctl restart apache2` starts all anew."
            )
    return len(found)
