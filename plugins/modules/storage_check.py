#!/usr/bin/python
"""Refuse a data folder that lacks room, or that was written by another member of the cluster."""

from __future__ import annotations

import os

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: storage_check
short_description: Refuse a data folder that lacks room or belongs to another server
description:
  - Looks at the file system that a data folder is on, or will be on, and at the identity that a
    service left in it. It fails before anything is changed and changes nothing.
options:
  path:
    description: The data folder. It need not exist yet.
    type: path
    required: true
  path_variable:
    description: The variable that the folder comes from, named in the error.
    type: str
    required: true
  minimum_mb:
    description: Free space in MiB that the file system must have.
    type: int
    required: true
  minimum_variable:
    description: The variable that the minimum comes from, named in the error.
    type: str
    required: true
  expect:
    description: What files in the folder must say, where they exist.
    type: list
    elements: dict
    default: []
    suboptions:
      file: {description: 'The file, relative to the folder.', type: str, required: true}
      key: {description: 'The key of a properties file; without it, the whole file is the value.', type: str}
      value: {description: The value that is wanted., type: str, required: true}
      variable: {description: 'The variable that the value comes from, named in the error.', type: str, required: true}
  look_for:
    description: Files to look for; the answer is in C(present).
    type: list
    elements: path
    default: []
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Refuse a disk that is too full for Kafka, or another broker's data
  storage_check:
    path: /var/lib/kafka
    path_variable: kafka_data_dir
    minimum_mb: 2048
    minimum_variable: kafka_disk_minimum_mb
    expect:
      - {file: meta.properties, key: broker.id, value: "1", variable: kafka_node_id}
"""

RETURN = r"""
free_mb: {description: Free space of the file system in MiB., type: int, returned: success}
present: {description: 'For each path of look_for, whether it exists.', type: dict, returned: success}
"""


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


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "path_variable": {"type": "str", "required": True},
            "minimum_mb": {"type": "int", "required": True},
            "minimum_variable": {"type": "str", "required": True},
            "expect": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "file": {"type": "str", "required": True},
                    "key": {"type": "str", "no_log": False},
                    "value": {"type": "str", "required": True},
                    "variable": {"type": "str", "required": True},
                },
            },
            "look_for": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    room = free_mb(wanted["path"])
    errors = []
    if room < wanted["minimum_mb"]:
        errors.append(
            f"{wanted['path_variable']} is {wanted['path']}: its file system has {room} MiB free, fewer than the "
            f"{wanted['minimum_mb']} of {wanted['minimum_variable']}. Free some, choose a folder on another file "
            f"system, or lower {wanted['minimum_variable']}."
        )
    errors += differences(wanted["path"], wanted["expect"])
    if errors:
        module.fail_json(msg=" ".join(errors))
    module.exit_json(
        changed=False,
        free_mb=room,
        present={path: os.path.lexists(path) for path in wanted["look_for"]},
    )


if __name__ == "__main__":
    main()
