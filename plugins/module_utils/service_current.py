"""Whether services run with the files that are on the disk, or began before one of these changed."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils import wsgi_group

# The suboptions of `services`, for argument specifications.
OPTIONS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "unit": {"type": "str"},
    "group": {"type": "str"},
    "paths": {"type": "list", "elements": "str", "default": []},
    "stamp": {"type": "path"},
}
SYSTEM = ("/etc/", "/run/")  # units elsewhere are packages', and restarted by these
PROPERTIES = (
    "ActiveState,MainPID,ExecMainStartTimestamp,ActiveEnterTimestamp,StateChangeTimestamp,"
    "NeedDaemonReload,FragmentPath,DropInPaths"
)


def seconds(text: str) -> float:
    """Return the seconds since the epoch of a time as `systemctl --timestamp=us+utc` writes it; 0 for none."""
    if not text or text == "n/a":
        return 0.0
    day = datetime.strptime(text, "%a %Y-%m-%d %H:%M:%S.%f UTC")
    return day.replace(tzinfo=UTC).timestamp()


def links(path: str) -> Iterator[str]:
    """Return the symbolic links on the way to a path, and the path itself where it is a file."""
    for part in [*reversed(Path(path).parents), Path(path)]:
        if part.is_symlink():
            yield str(part)
    if os.path.isfile(path):
        yield os.path.realpath(path)


def latest(paths: list[str]) -> tuple[float, str]:
    """Return when the last of these changed, in seconds since the epoch, and which one it is; (0, "") for none."""
    found = (0.0, "")
    for pattern in paths:
        for path in glob.glob(pattern):
            for part in [path] if path.endswith("/") else links(path):
                found = max(found, (os.lstat(part).st_ctime, part))
    return found


def unit_began(unit: str, told: dict[str, str]) -> float:
    """Return when an active unit began, in seconds since the epoch; 0 for one that is not active."""
    if told["ActiveState"] not in ("active", "reloading"):
        return 0.0
    if not unit.endswith(".service"):
        return seconds(told["ActiveEnterTimestamp"])
    # one without a process has done its work, and does it anew when it is reloaded
    running = told["MainPID"] != "0"
    return seconds(told["ExecMainStartTimestamp" if running else "StateChangeTimestamp"])


def units_of(unit: str) -> list[str]:
    """Return the patterns of the files that say what a unit is: its own, its template's, drop-ins."""
    names = [unit, re.sub("@[^@]*(?=[.][a-z]+$)", "@", unit)]
    return [f"/etc/systemd/system/{name}{rest}" for name in names for rest in ("", ".d/*")]


def waits(service: dict[str, Any], pending: list[str]) -> str:
    """Return the first of the paths that a service reads, or an empty text."""
    patterns = [*service["paths"], *(units_of(service["unit"]) if service["unit"] else [])]
    for path in pending:
        for pattern in patterns:
            if fnmatch.fnmatchcase(path, pattern) or path.startswith(f"{pattern.rstrip('/')}/"):
                return path
    return ""


def reason(service: dict[str, Any], told: dict[str, str], pending: list[str] | None = None) -> str:
    """Return why a service is behind, or an empty text."""
    paths = list(service["paths"])
    if service["unit"]:
        if told.get("NeedDaemonReload") == "yes":
            return f"systemd has not read the files of {service['unit']} anew"
        if not service.get("restart", True):
            return ""
        began = unit_began(service["unit"], told)
        units = [told["FragmentPath"], *told["DropInPaths"].split()]
        paths += [glob.escape(path) for path in units if path.startswith(SYSTEM)]
    else:
        began = wsgi_group.began(service["group"])
    if not began:
        return ""
    path = waits(service, pending or [])
    if path:
        return f"{path} is another than when {service['unit'] or service['group']} began"
    if service["stamp"] and os.path.exists(service["stamp"]):
        began = max(began, os.path.getmtime(service["stamp"]))
    changed, path = latest(paths)
    if changed <= began:
        return ""
    return (
        f"{path} changed {changed - began:.0f} s after {service['unit'] or service['group']} began"
    )


def behind(
    services: list[dict[str, Any]], pending: list[str], run: Callable[..., tuple[int, str, str]]
) -> dict[str, str]:
    """Return the services that run with older files than those on the disk: their names, and a sentence for each.

    Args:
        services: mappings as OPTIONS has them.
        pending: paths that this run has changed, or would in check mode.
        run: AnsibleModule.run_command.
    """
    units = [service["unit"] for service in services if service["unit"]]
    told: dict[str, dict[str, str]] = {}
    if units:
        command = ["systemctl", "show", "--timestamp=us+utc", f"--property=Id,{PROPERTIES}", *units]
        code, out, said = run(command, environ_update={"LC_ALL": "C"})
        if code:
            raise RuntimeError(f"systemctl show: {said}")
        for unit, block in zip(units, out.strip().split("\n\n"), strict=True):
            told[unit] = dict(line.split("=", 1) for line in block.splitlines())
    return {
        service["name"]: text
        for service in services
        if (text := reason(service, told.get(service["unit"], {}), pending))
    }
