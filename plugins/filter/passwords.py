"""Where the passwords lie that runs make, one file each, on the control node."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def password_files(paths: Iterable[str], kept: bool) -> list[str]:
    """Return from where Ansible's lookup ``password`` takes each.

    It makes the file that is not there. Only a run that tells the service of a new password may leave one: a later
    release would take it for the service's. For others ``/dev/null`` stands for it, and nothing stays.
    """
    return [path if kept or Path(path).exists() else "/dev/null" for path in paths]


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {"password_files": password_files}
