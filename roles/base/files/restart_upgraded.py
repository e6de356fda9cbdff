#!/usr/bin/python3
"""Begin anew the bundle's units that run code which an upgrade has replaced, one after another.

The last step of apt-daily-upgrade.service where base_upgrades_window names an hour, at which restarts may be noticed.
Nothing is done where a reboot follows. The first unit that does not come back ends it, and the others stay as they are.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LIBRARY = "/usr/local/lib/switchboard"
sys.path.insert(0, LIBRARY)
from replaced_files import ENDING, replaced  # noqa: E402 - it stands there

REBOOT = Path("/run/reboot-required")
# What others need comes before these; Apache is the last, so that its pages find all of them.
ORDER = (
    "zookeeper",
    "kafka",
    "postgresql@",
    "valkey-",
    "",
    "django-",
    "daphne-",
    "haproxy",
    "apache2",
)
SECONDS = 600


def place(unit: str) -> int:
    """Return the place of a unit among the others."""
    named = [at for at, name in enumerate(ORDER) if name and unit.startswith(name)]
    return named[0] if named else ORDER.index("")


def main() -> int:
    """Restart what is due; return 1 where a unit does not come back or cannot be looked at."""
    if REBOOT.exists():
        print("A reboot follows, which begins all of them anew.")
        return 0
    found, unseen = replaced()
    for unit in sorted((unit for unit, files in found.items() if files), key=place):
        verb = "try-reload-or-restart" if unit in ENDING else "try-restart"
        print(f"{verb} {unit}: {', '.join(found[unit])}", flush=True)
        done = subprocess.run(["systemctl", verb, unit], check=False, timeout=SECONDS)
        if done.returncode:
            print(f"{unit} does not come back; the others stay as they are.", file=sys.stderr)
            return 1
    for unit in unseen:
        print(f"{unit}: its processes cannot be looked at", file=sys.stderr)
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
