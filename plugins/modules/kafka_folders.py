#!/usr/bin/python
"""Look at Kafka's data folder and what was put aside of it, put it aside, bring it back, or remove it."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.host_storage import free_mb, stored

DOCUMENTATION = r"""
---
module: kafka_folders
short_description: Keep what Kafka wrote with ZooKeeper beside what it writes without
description:
  - The folder of the records that were written with ZooKeeper is I(data_dir) with C(.zookeeper) behind it while another
    one is in its place, and the records that are on their way lie in one with C(.records) behind it.
  - Kafka must not run while a folder is renamed.
options:
  data_dir: {description: Where Kafka has its records., type: path, required: true}
  state:
    description: >-
      C(looked) changes nothing; C(aside) puts the folder aside; C(back) brings it back, and puts the one that was in
      its place aside, with the time in its name; C(forgotten) removes what was put aside. C(back) removes the records
      too, and C(forgotten) leaves them, since they say that there is something to finish.
    type: str
    choices: [looked, aside, back, forgotten]
    default: looked
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Put the records aside
  kafka_folders: {data_dir: /var/lib/kafka/data, state: aside}
"""

RETURN = r"""
mode: {description: "In which mode the folder was written, or an empty text.", type: str, returned: success}
aside: {description: Whether there is one that was put aside., type: bool, returned: success}
records: {description: "Of the records on their way: C(whole), C(written).", type: dict, returned: success}
mounted: {description: Whether the folder is a file system of its own., type: bool, returned: success}
size_mb: {description: What its files have., type: int, returned: success}
free_mb: {description: What is free beside it., type: int, returned: success}
"""
MODES = {"0": "zookeeper", "1": "kraft"}
PLAN = "cluster.json"


def mode(folder: Path) -> str:
    """Return in which mode a folder was written, an empty text without one."""
    try:
        text = (folder / "meta.properties").read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return MODES.get(stored(text, "version") or "", "")


def size_mb(folder: Path) -> int:
    """Return how many MiB the files below a folder have; a broker that runs may remove some meanwhile."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(where, name)).st_size
    return total >> 20


def renamed(old: Path, new: Path) -> None:
    """Rename a folder, and bring that to the disk."""
    old.rename(new)
    handle = os.open(new.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def change(state: str, data: Path, aside: Path, records: Path) -> list[tuple[str, str]]:
    """Return which folder becomes which, an empty text being none; nothing is done yet."""
    steps = []
    if state == "aside" and not aside.exists():
        steps = [(str(data), str(aside))]
    elif state == "back" and aside.exists():
        if data.exists():
            steps = [(str(data), f"{data}.kraft-{time.strftime('%Y%m%dT%H%M%S')}")]
        steps += [(str(aside), str(data))]
    removed = {"back": [records], "forgotten": [aside]}.get(state, [])
    return steps + [(str(folder), "") for folder in removed if folder.exists()]


def main() -> None:
    """Run the module."""
    states = ["looked", "aside", "back", "forgotten"]
    module = AnsibleModule(
        {
            "data_dir": {"type": "path", "required": True},
            "state": {"type": "str", "choices": states, "default": "looked"},
        },
        supports_check_mode=True,
    )
    data, state = Path(module.params["data_dir"]), module.params["state"]
    aside, records = (
        data.with_name(f"{data.name}.zookeeper"),
        data.with_name(f"{data.name}.records"),
    )
    steps = change(state, data, aside, records)
    if not module.check_mode:
        for old, new in steps:
            if new:
                renamed(Path(old), Path(new))
            else:
                shutil.rmtree(old)
    told: dict[str, Any] = {}
    if state == "looked":
        plan = records / PLAN
        known = json.loads(plan.read_text(encoding="utf-8")) if plan.exists() else {}
        told = {
            "mode": mode(data),
            "aside": aside.exists(),
            "records": {key: bool(known.get(key)) for key in ("whole", "written")},
            "mounted": os.path.ismount(data),
            "size_mb": size_mb(data),
            "free_mb": free_mb(str(data)),
        }
    module.exit_json(
        changed=bool(steps),
        **told,
        diff=[{"before": f"{old}\n", "after": f"{new}\n" if new else ""} for old, new in steps],
    )


if __name__ == "__main__":
    main()
