"""The room of a data folder, and whose data it holds."""

from __future__ import annotations

import os
from typing import Any


def nearest(path: str) -> str:
    """Return the path itself, or its nearest parent that exists."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def free_mb(path: str) -> int:
    """Return the space in MiB that an unprivileged user may still write where the path is (statvfs(3))."""
    numbers = os.statvfs(nearest(path))
    return numbers.f_bavail * numbers.f_frsize // 2**20


def stored(text: str, key: str | None) -> str | None:
    """Return a key's value in the text of a properties file, or the whole text; None when the key is not there."""
    if not key:
        return text.strip()
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if separator and name.strip() == key:
            return value.strip()
    return None


def differences(folder: str, expect: list[dict[str, str]]) -> list[str]:
    """Return one sentence for each file that says something else than expected."""
    errors = []
    for entry in expect:
        path = os.path.join(folder, entry["file"])
        try:
            with open(path, encoding="utf-8", errors="replace") as source:
                value = stored(source.read(), entry.get("key"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        if value not in (None, entry["value"]):
            errors.append(
                f"{entry['variable']} is {entry['value']}: {path} was written by the server with the id {value}. "
                f"Set {entry['variable']} to {value}, or move {folder} away to start with an empty one."
            )
    return errors


def storage_faults(wanted: dict[str, Any]) -> list[str]:
    """Return one sentence for each reason why a service cannot keep its data in a folder.

    Args:
        wanted: path (it need not exist yet), path_variable, minimum_mb (MiB), minimum_variable, and perhaps expect:
            mappings of file (in the folder), key (of a properties file; the whole file without one), value, variable.
    """
    minimum = str(wanted["minimum_mb"])
    room = free_mb(wanted["path"])
    errors = []
    if minimum.isdecimal() and room < int(minimum):
        errors.append(
            f"{wanted['path_variable']} is {wanted['path']}: its file system has {room} MiB free, fewer than the "
            f"{minimum} of {wanted['minimum_variable']}. Free some, choose a folder on another file "
            f"system, or lower {wanted['minimum_variable']}."
        )
    return errors + differences(wanted["path"], wanted.get("expect", []))
