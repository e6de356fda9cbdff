#!/usr/bin/python
"""Write a role's files, folders and links together, in one trip, all of them or none."""

from __future__ import annotations

import base64
import grp
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.host_guard import arm, armed, disarm

DOCUMENTATION = r"""
---
module: host_files
short_description: Write files, folders and links together, all of them or none
description:
  - Compares everything with what is there, validates the new files in a folder of their own, and only then
    replaces what differs, each file in one step. Where a validation or a write fails, all is as it was.
options:
  files:
    description: What shall be there, in order; the folder of a file comes before it.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: The absolute path.
        type: path
        required: true
      content:
        description: The whole text of a file.
        type: str
      secret_content:
        description: In the place of C(content), what neither a difference nor a log may show.
        type: str
      secret_base64:
        description: What the control node makes of C(secret_content), in one line, as a host's journal hides it.
        type: str
      state:
        description: What the path shall be.
        type: str
        choices: [file, directory, link, absent]
        default: file
      target:
        description: Where a link leads, as it stands in the link.
        type: str
      owner:
        description: The owner, a name.
        type: str
        default: root
      group:
        description: The group, a name.
        type: str
        default: root
      mode:
        description: The mode of a file or folder, in octal; without it 0644 of a file and 0755 of a folder.
        type: str
      validate:
        description: >-
          A command that must succeed before anything is replaced; C(%s) stands for a file of the same name in a
          folder with all files of this call that have a validation.
        type: str
  prove:
    description: >-
      A command that must succeed with all files in their places, where none of them can be judged alone; else all is
      put back. What reads them must not do so by itself.
    type: str
  guard:
    description:
      - A change that may lock its user out. Before anything is replaced, the state is kept and a timer is started that
        brings it back, unless the module host_guard confirms the change over a new connection.
    type: dict
    suboptions:
      name: {description: The name of the guard., type: str, required: true}
      timeout: {description: Seconds until the state is brought back., type: int, default: 60}
      before:
        description: Shell commands that run before the files are brought back.
        type: list
        elements: str
        default: []
      after:
        description: Shell commands that run after it.
        type: list
        elements: str
        default: []
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Write the unit and its folder
  host_files:
    files:
      - {path: /srv/lab, state: directory, owner: lab}
      - path: /etc/systemd/system/lab.service
        content: "{{ lookup('ansible.builtin.template', 'lab.service.j2') }}"
        validate: systemd-analyze verify %s
  notify: Restart lab
"""

RETURN = r"""
paths:
  description: The paths that were changed, or would be in check mode.
  type: list
  elements: str
  returned: success
"""

Entry = dict[str, Any]
TEXTS: dict[str, Any] = {"type": "list", "elements": "str", "default": []}
GUARD: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "timeout": {"type": "int", "default": 60},
    "before": TEXTS,
    "after": TEXTS,
}


def mode_of(entry: Entry) -> int:
    """Return the mode that a file or folder shall have."""
    default = "0755" if entry["state"] == "directory" else "0644"
    return int(entry["mode"] or default, 8)


def identity(entry: Entry) -> tuple[int, int] | None:
    """Return the numbers of the owner and the group; None where the host has no such account."""
    try:
        return pwd.getpwnam(entry["owner"]).pw_uid, grp.getgrnam(entry["group"]).gr_gid
    except KeyError:
        return None


def kind(path: Path) -> str:
    """Return what a path is: file, directory, link, absent, or other."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    if stat.S_ISLNK(mode):
        return "link"
    return "directory" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def read(path: Path) -> str:
    """Return a file's text, empty where there is none."""
    if kind(path) != "file":
        return ""
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def rights(path: Path) -> str:
    """Return the mode, owner and group of what is there, as a line of a difference."""
    status = path.stat()
    return f"mode {status.st_mode & 0o7777:04o}, owner {status.st_uid}, group {status.st_gid}"


def difference(entry: Entry) -> dict[str, str] | None:
    """Return what differs from what is wanted, as Ansible shows it; None where nothing does."""
    path, state = Path(entry["path"]), entry["state"]
    there = kind(path)
    header = {"before_header": str(path), "after_header": str(path)}
    if state == "absent":
        return None if there == "absent" else {"prepared": f"remove {path}\n"}
    if state == "link":
        if there == "link" and str(path.readlink()) == entry["target"]:
            return None
        return {"prepared": f"link {path} -> {entry['target']}\n"}
    if there != state:
        if state == "directory":
            return {"prepared": f"folder {path}\n"}
        before, after = read(path), entry["content"]
        return header | hidden(entry, before, after)
    if state == "file" and read(path) != entry["content"]:
        return header | hidden(entry, read(path), entry["content"])
    wanted, status = identity(entry), path.stat()
    if wanted == (status.st_uid, status.st_gid) and status.st_mode & 0o7777 == mode_of(entry):
        return None
    after = f"mode {mode_of(entry):04o}, owner {entry['owner']}, group {entry['group']}"
    return header | {"before": f"{rights(path)}\n", "after": f"{after}\n"}


def hidden(entry: Entry, before: str, after: str) -> dict[str, str]:
    """Return a difference, without the content where that is secret."""
    if entry["secret_content"] is not None:
        return {"before": "hidden\n" if before else "", "after": "other content, hidden\n"}
    return {"before": before, "after": after}


def give(path: Path, owner: tuple[int, int], mode: int) -> None:
    """Give a file or folder its owner and mode; never what a link leads to, which another user may have put there."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.fchown(handle, *owner)
        os.fchmod(handle, mode)
    finally:
        os.close(handle)


def put(entry: Entry) -> None:
    """Bring one path to what it shall be; a reader of a file sees the old one or the new one."""
    path, state = Path(entry["path"]), entry["state"]
    there = kind(path)
    if there != "absent" and (state in ("absent", "link") or there not in (state, "link", "file")):
        if there == "directory":
            shutil.rmtree(path)
        else:
            path.unlink()
    if state == "absent":
        return
    if state == "link":
        path.symlink_to(entry["target"])
        return
    owner = identity(entry)
    if owner is None:
        raise LookupError(
            f"{path}: the host has no user {entry['owner']} or group {entry['group']}"
        )
    if state == "directory":
        if there in ("file", "link"):
            path.unlink()
        path.mkdir(parents=True, exist_ok=True)
        give(path, owner, mode_of(entry))
        return
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".switchboard-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as target:
            target.write(entry["content"])
            os.fchown(target.fileno(), *owner)
            os.fchmod(target.fileno(), mode_of(entry))
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def undo_of(entry: Entry) -> Callable[[], None]:
    """Return what brings a path back to what it is now; a folder that is replaced or removed does not come back."""
    path = Path(entry["path"])
    there = kind(path)
    if there == "link":
        back = entry | {"state": "link", "target": str(path.readlink())}
        return lambda: put(back)
    if there == "absent":
        return lambda: put(entry | {"state": "absent"})
    status = path.stat()
    content = read(path)

    def restore() -> None:
        if there == "file":
            path.write_text(content, encoding="utf-8", errors="surrogateescape")
        give(path, (status.st_uid, status.st_gid), status.st_mode & 0o7777)

    return restore


def validate(module: AnsibleModule, entries: list[Entry]) -> None:
    """Let the files that differ be judged before any of them is in its place."""
    with tempfile.TemporaryDirectory(prefix="switchboard-", dir=module.tmpdir) as stage:
        for entry in entries:
            (Path(stage) / Path(entry["path"]).name).write_text(entry["content"], encoding="utf-8")
        for entry in entries:
            name = str(Path(stage) / Path(entry["path"]).name)
            words = [word.replace("%s", name) for word in entry["validate"].split()]
            code, out, err = module.run_command(words)
            if code != 0:
                told = (err + out).replace(stage, str(Path(entry["path"]).parent)).strip()
                module.fail_json(msg=f"{entry['path']} is refused, so no file was changed: {told}")


def main() -> None:
    """Run the module."""
    option: dict[str, Any] = {
        "path": {"type": "path", "required": True},
        "content": {"type": "str"},
        "state": {"choices": ["file", "directory", "link", "absent"], "default": "file"},
        "target": {"type": "str"},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
        "mode": {"type": "str"},
        "validate": {"type": "str"},
        "secret_content": {"type": "str", "no_log": True},
        "secret_base64": {"type": "str", "no_log": True},
    }
    contents = ("content", "secret_content", "secret_base64")
    needs = [("state", "file", contents, True), ("state", "link", ["target"])]
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": option,
                "required_if": needs,
                "mutually_exclusive": [contents],
            },
            "prove": {"type": "str"},
            "guard": {"type": "dict", "options": GUARD},
        },
        supports_check_mode=True,
    )
    entries: list[Entry] = module.params["files"]
    for entry in entries:
        if entry["secret_base64"] is not None:
            entry["secret_content"] = base64.b64decode(entry["secret_base64"]).decode()
            module.no_log_values |= {entry["secret_content"]} - {""}
        if entry["content"] is None:
            entry["content"] = entry["secret_content"]
    for path in (Path(entry["path"]) for entry in entries if entry["state"] == "directory"):
        if path.is_symlink():
            module.fail_json(
                msg=f"{path} is a link to {path.readlink()}, and is to be a folder: what it leads to would be out of "
                "sight. Mount that there instead (mount --bind). No file was changed."
            )
    found = [(entry, told) for entry in entries if (told := difference(entry)) is not None]
    result: dict[str, Any] = {
        "changed": bool(found),
        "paths": [entry["path"] for entry, _ in found],
        "diff": [told for _, told in found],
    }
    if module.check_mode or not found:
        module.exit_json(**result)
    judged = [entry for entry in entries if entry["validate"] and entry["state"] == "file"]
    if any(entry in judged for entry, _ in found):
        validate(module, judged)
    os.umask(0o022)  # of folders above one that is wanted
    fresh = (
        ""  # the guard that nobody needs where all is put back; an earlier one is another change's
    )
    if guard := module.params["guard"]:
        kept = [entry["path"] for entry in entries if entry["state"] != "directory"]
        name, seconds = guard["name"], guard["timeout"]
        texts = {"before": guard["before"], "after": guard["after"]}
        fresh = "" if name in armed() else name
        try:
            arm(name, kept, seconds, module.run_command, **texts)
        except OSError as error:
            module.fail_json(msg=f"The change can't be guarded, so no file was changed: {error}")
    undo: list[Callable[[], None]] = []
    try:
        for entry, _ in found:
            undo.append(undo_of(entry))
            put(entry)
        if command := module.params["prove"]:
            code, out, err = module.run_command(command)
            if code != 0:
                raise OSError(f"{command} refuses them: {(err + out).strip()}")
    except (OSError, LookupError) as error:
        for step in reversed(undo):
            step()
        if fresh:
            disarm(fresh, module.run_command)
        names = ", ".join(result["paths"])
        module.fail_json(
            msg=f"{names} could not be put in place, so all files are as they were: {error}"
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
