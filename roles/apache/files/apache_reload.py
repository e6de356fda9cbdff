#!/usr/bin/python3
"""Reload Apache, and make room for the new children first where old ones fill it (ExecReload of apache2.service).

A child that holds WebSockets lives on after a reload until the last of them is closed, and keeps its place in
ServerLimit. When all places are taken a reload starts no child, and every page hangs. Before that happens Daphne's
instances are restarted, one after another: their sockets close, the old children end, and the browsers connect anew.
Killing the children would not do: Apache replaces one that dies by a signal at once, beyond its limit, and such a
child misses the next reload and serves on with the configuration of before.

    apache_reload.py <ServerLimit> <children that a reload starts>
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

PROC = Path("/proc")
PID_FILE = Path("/run/apache2/apache2.pid")
PATIENCE = 15.0  # seconds that the old children get to end


def children(main: int) -> int:
    """Count Apache's children; processes of mod_wsgi and of logs are none."""
    count = 0
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended
        count += parent == main and command.startswith(b"/usr/sbin/apache2")
    return count


def instances() -> list[str]:
    """Return the units of Daphne that run."""
    command = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active"]
    told = subprocess.run(
        [*command, "daphne-*@*.service"], capture_output=True, text=True, check=True
    )
    return [line.split()[0] for line in told.stdout.splitlines()]


def make_room(main: int, room: int) -> bool:
    """Close the WebSockets and tell whether no more children than `room` are left."""
    print(
        "Old children fill ServerLimit: restarting Daphne closes their WebSockets.", file=sys.stderr
    )
    for unit in instances():
        subprocess.run(["systemctl", "restart", unit], check=True)
    until = time.monotonic() + PATIENCE
    while children(main) > room and time.monotonic() < until:
        time.sleep(0.2)  # between two looks
    return children(main) <= room


def main() -> int:
    """Make room where it is needed, and reload; refuse where there is none."""
    limit, wanted = int(sys.argv[1]), int(sys.argv[2])
    apache = int(PID_FILE.read_text())
    if children(apache) > limit - wanted and not make_room(apache, limit - wanted):
        print(
            f"Not reloaded: {children(apache)} children are there, and {wanted} more would pass ServerLimit {limit}. "
            "`systemctl restart apache2` ends them.",
            file=sys.stderr,
        )
        return 1
    began = time.time()
    code = subprocess.run(["/usr/sbin/apachectl", "graceful"], check=False).returncode
    if code == 0:
        # for the next run of the playbook: what was written before is read
        stamp = PID_FILE.with_name("switchboard-read")
        stamp.touch()
        os.utime(stamp, (began, began))
    return code


if __name__ == "__main__":
    sys.exit(main())
