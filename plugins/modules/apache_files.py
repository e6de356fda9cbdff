#!/usr/bin/python
"""Replace files and modules of Apache's configuration together, and only when Apache accepts the result."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: apache_files
short_description: Write and enable files and modules of Debian's Apache after a test of the whole
description:
  - Copies the configuration folder aside, makes the wanted changes in the copy and lets Apache test
    the copy. Only when Apache accepts it are the files themselves replaced. A refused candidate
    leaves every file as it was.
  - In check mode nothing is tested, since modules and users that the files need may not be there.
options:
  server_root:
    description: The configuration folder.
    type: path
    default: /etc/apache2
  files:
    description: The files that shall be there, owned by root with mode 0644.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The path below C(server_root).
        type: str
        required: true
      content:
        description: The whole content.
        type: str
        required: true
  enabled:
    description: >-
      Files of C(conf-available) and C(sites-available), such as C(sites-available/lab.conf), that
      shall be enabled, as a2enconf and a2ensite do it.
    type: list
    elements: str
    default: []
  disabled:
    description: >-
      Files of C(conf-available), C(sites-available) and C(mods-available) that shall not be enabled.
      Without its C(.conf) a module is on all the same.
    type: list
    elements: str
    default: []
  absent:
    description: Files and links that shall not be there, as paths below C(server_root).
    type: list
    elements: str
    default: []
  modules:
    description: Modules that shall be on, with those that they depend on, as a2enmod switches them on.
    type: list
    elements: str
    default: []
  modules_off:
    description: Modules that shall be off, as a2dismod switches them off.
    type: list
    elements: str
    default: []
  remedy:
    description: What to look at where Apache refuses the configuration; it ends the error message.
    type: str
    default: Read what Apache says and correct it.
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Write the site
  apache_files:
    files:
      - path: sites-available/lab.conf
        content: "{{ lookup('ansible.builtin.template', 'lab.conf.j2') }}"
    enabled: [sites-available/lab.conf]
    disabled: [sites-available/000-default.conf]
    modules: [headers, rewrite]
"""

RETURN = r"""
paths:
  description: The paths that were changed, or would be in check mode.
  type: list
  elements: str
  returned: success
"""

MODE = 0o644


FOLDERS = ("conf-available", "sites-available")


def link_of(path: str, folders: tuple[str, ...] = FOLDERS) -> tuple[str, str]:
    """Return the link that enables an available file, below the server root, and its target."""
    folder, _, name = path.partition("/")
    if folder not in folders or not name or "/" in name:
        raise ValueError(f"{path} is in none of {', '.join(folders)}")
    return f"{folder.replace('-available', '-enabled')}/{name}", f"../{path}"


def read(path: Path) -> str | None:
    """Return a file's text, or None where there is no such file."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_as_wanted(path: Path, content: str) -> bool:
    """Tell whether a file has the content, the mode and the owner that it shall have."""
    if path.is_symlink() or read(path) != content:
        return False
    status = path.stat()
    return (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (MODE, 0, 0)


def is_link_to(path: Path, target: str) -> bool:
    """Tell whether a path is a symbolic link with that very target."""
    return path.is_symlink() and str(path.readlink()) == target


def is_there(path: Path) -> bool:
    """Tell whether a path is there, be it a link to nowhere."""
    return path.is_symlink() or path.exists()


def write(path: Path, content: str) -> None:
    """Replace a file in one step: a reader sees the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".switchboard-")
    with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as target:
        target.write(content)
        os.fchmod(target.fileno(), MODE)
    Path(temporary).replace(path)


def link(path: Path, target: str) -> None:
    """Make a symbolic link, in the place of whatever is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def switch_on(root: Path, module: str) -> None:
    """Enable a module and those it depends on below ``root``, as a2enmod does.

    Raises ``ValueError`` where Debian has no such module.
    """
    load = root / "mods-available" / f"{module}.load"
    text = read(load)
    if text is None:
        raise ValueError(f"there is no module {module} in {load.parent.name}")
    for suffix in (".load", ".conf"):
        if (load.parent / f"{module}{suffix}").exists():
            target = f"../mods-available/{module}{suffix}"
            link(root / "mods-enabled" / f"{module}{suffix}", target)
    for line in text.splitlines():
        if line.startswith("# Depends:"):
            for needed in line.partition(":")[2].split():
                if not is_there(root / "mods-enabled" / f"{needed}.load"):
                    switch_on(root, needed)


def switch_off(root: Path, module: str) -> None:
    """Disable a module below ``root``."""
    for suffix in (".load", ".conf"):
        (root / "mods-enabled" / f"{module}{suffix}").unlink(missing_ok=True)


def apply(root: Path, files: dict[str, str], links: dict[str, str], unwanted: list[str]) -> None:
    """Make the changes below ``root``."""
    for path, content in files.items():
        write(root / path, content)
    for path, target in links.items():
        link(root / path, target)
    for path in unwanted:
        (root / path).unlink(missing_ok=True)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "server_root": {"type": "path", "default": "/etc/apache2"},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "content": {"type": "str", "required": True},
                },
            },
            "enabled": {"type": "list", "elements": "str", "default": []},
            "disabled": {"type": "list", "elements": "str", "default": []},
            "absent": {"type": "list", "elements": "str", "default": []},
            "modules": {"type": "list", "elements": "str", "default": []},
            "modules_off": {"type": "list", "elements": "str", "default": []},
            "remedy": {"type": "str", "default": "Read what Apache says and correct it."},
        },
        supports_check_mode=True,
    )
    root = Path(module.params["server_root"])
    try:
        wanted_links = dict(link_of(path) for path in module.params["enabled"])
        folders = (*FOLDERS, "mods-available")
        unwanted = [link_of(path, folders)[0] for path in module.params["disabled"]]
    except ValueError as error:
        module.fail_json(msg=f"{error}. Only these folders hold files that are enabled.")
    unwanted += module.params["absent"]
    wanted_files = {file["path"]: file["content"] for file in module.params["files"]}

    files = {
        path: content
        for path, content in wanted_files.items()
        if not is_as_wanted(root / path, content)
    }
    links = {
        path: target for path, target in wanted_links.items() if not is_link_to(root / path, target)
    }
    removed = [path for path in unwanted if is_there(root / path)]
    state = {
        name: is_there(root / "mods-enabled" / f"{name}.load")
        for name in (*module.params["modules"], *module.params["modules_off"])
    }
    on = [name for name in dict.fromkeys(module.params["modules"]) if not state[name]]
    off = [name for name in dict.fromkeys(module.params["modules_off"]) if state[name]]
    switched = [f"mods-enabled/{name}.load" for name in (*on, *off)]
    paths = [str(root / path) for path in sorted([*files, *links, *removed, *switched])]
    diff = [
        {
            "before_header": str(root / path),
            "after_header": str(root / path),
            "before": read(root / path) or "",
            "after": content,
        }
        for path, content in files.items()
    ]
    diff += [{"prepared": f"link {root / path} -> {target}\n"} for path, target in links.items()]
    diff += [{"prepared": f"no {root / path}\n"} for path in removed]
    diff += [{"prepared": f"module {name} on\n"} for name in on]
    diff += [{"prepared": f"module {name} off\n"} for name in off]
    result = {"changed": bool(paths), "paths": paths, "diff": diff}
    if not paths or module.check_mode:
        module.exit_json(**result)

    stage = tempfile.mkdtemp(prefix="switchboard-apache-", dir=module.tmpdir)
    candidate = Path(stage) / "apache2"
    try:
        shutil.copytree(root, candidate, symlinks=True)
        for name in on:
            switch_on(candidate, name)
        for name in off:
            switch_off(candidate, name)
        apply(candidate, files, links, unwanted)
        # envvars names the user and the folders; -d makes relative paths those of the copy
        test = '. "$1/envvars" && exec /usr/sbin/apache2 -t -d "$1" -f "$1/apache2.conf"'
        code, out, err = module.run_command(["/bin/sh", "-c", test, "sh", str(candidate)])
    except ValueError as error:
        module.fail_json(
            msg=f"Apache lacks a module, so no file was changed: {error}. {module.params['remedy']}",
            paths=paths,
        )
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    if code != 0:
        told = (err + out).replace(str(candidate), str(root)).strip()
        module.fail_json(
            msg="Apache refuses the new configuration, so no file was changed: "
            f"{told}\n{module.params['remedy']}",
            paths=paths,
        )
    # Debian's own programs keep in mind that an administrator has wished it
    if on:
        module.run_command(["a2enmod", "--quiet", *on], check_rc=True)
    if off:
        module.run_command(["a2dismod", "--quiet", "--force", *off], check_rc=True)
    apply(root, files, links, unwanted)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
