"""The mutations of mutations.yml as commands."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

KEPT = "/root/mutations"


@dataclass(frozen=True)
class Mutation:
    """One thing that is broken, by a shell command of root's, and how that is undone."""

    kind: str
    name: str
    apply: str
    undo: str
    mark: str
    batch: str
    short: bool = False
    beyond: str = ""

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Mutation:
        """Return one entry of the file as commands; keys that no mutation has raise TypeError."""
        entry = dict(entry)
        after = f" && {entry.pop('after')}" if "after" in entry else ""
        if "edit" in entry:
            path, program = entry.pop("edit"), entry.pop("sed")
            kept = f"{KEPT}/{hashlib.sha256((path + program).encode()).hexdigest()[:16]}"
            changed = f"sed -i -E {shlex.quote(program)} {path} && ! cmp -s {path} {kept}"
            entry["apply"] = f"mkdir -p {KEPT} && cp -a {path} {kept} && {changed}"
            entry["undo"] = f"cp -a {kept} {path} && rm {kept}"
        elif "write" in entry:
            path, text = entry.pop("write"), shlex.quote(entry.pop("text"))
            entry["apply"] = f"mkdir -p $(dirname {path}) && printf %s {text} > {path}"
            entry["undo"] = f"rm {path}; rmdir --ignore-fail-on-non-empty $(dirname {path})"
        elif "chmod" in entry:
            path, mode = entry.pop("path"), entry.pop("chmod")
            kept = f"{KEPT}/{hashlib.sha256(path.encode()).hexdigest()[:16]}"
            entry["apply"] = f"mkdir -p {KEPT} && stat -c %a {path} > {kept} && chmod {mode} {path}"
            entry["undo"] = f"chmod $(cat {kept}) {path} && rm {kept}"
        return cls(**entry | {"apply": entry["apply"] + after, "undo": entry["undo"] + after})


MUTATIONS = [
    Mutation.of(entry)
    for entry in yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))
]
