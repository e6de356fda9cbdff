"""What is installed on this host, and who installs something now."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock")
STATUS = Path("/var/lib/dpkg/status")

# struct flock of a 64-bit Linux (fcntl(2)): type, whence, start, length, process
FLOCK = "hhqqi"


def holder(path: str) -> str:
    """Return which process holds a lock of a file, or an empty text."""
    try:
        with open(path, "rb") as file:
            asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, process = struct.unpack(FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))
    except OSError:
        return ""
    if kind == fcntl.F_UNLCK:
        return ""
    try:
        with open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as file:
            return f"{file.read().strip()} (process {process})"
    except OSError:
        return "a process that is not to be seen here"


def installed(status: Path = STATUS) -> list[str]:
    """Return the names of the installed packages (deb-substvars(5) has the form of dpkg's status)."""
    found: list[str] = []
    if not status.exists():
        return found  # no Debian; the roles refuse it
    for block in status.read_text(encoding="utf-8", errors="replace").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines()[:6] if ": " in line)
        if fields.get("Status", "").endswith(" ok installed"):
            found.append(fields["Package"])
    return found
