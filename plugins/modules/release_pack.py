#!/usr/bin/python
"""Pack a Django project on the control node, and refuse one that can't be served."""

from __future__ import annotations

import getpass
import gzip
import hashlib
import io
import os
import re
import socket
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.project_lock import FORMS, requirements
from ansible.module_utils.project_source import (
    Files,
    Refused,
    check_large_files,
    commit_of,
    read_project,
    refuse,
    store,
)

DOCUMENTATION = r"""
---
module: release_pack
short_description: Pack a Django project for release
description:
  - Runs on the control node. Fetches a project from a directory, a git repository or an archive,
    makes one reproducible archive of it and names that by its content, so that the same code always
    has the same release id. Looks into the project before any server is touched.
  - It writes to C(cache) alone, in check mode too, and never reports a change.
options:
  site: {description: The site's name., type: str, required: true}
  source: {description: Where the project comes from., type: str, choices: [directory, git, archive], required: true}
  directory: {description: 'For directory, the project''s folder on the control node.', type: path, default: ''}
  repository: {description: 'For git, the repository''s address.', type: str, default: ''}
  version: {description: 'For git, the branch, tag or commit.', type: str, default: HEAD}
  archive: {description: 'For archive, the URL; a file:// path is allowed.', type: str, default: ''}
  archive_sha256: {description: 'For archive, its SHA-256 in hexadecimal digits.', type: str, default: ''}
  cache: {description: The directory that packs and fetched projects are kept in., type: path, required: true}
  exclude: {description: Shell patterns of names to leave out., type: list, elements: str, default: []}
  project_dir: {description: The folder of manage.py below the source's root., type: str, default: .}
  requirements:
    description:
      - The locked requirements, relative to project_dir; requirements.txt, uv.lock, pylock.toml or poetry.lock.
        The first of these in project_dir or the source's root where it is empty. What pip does not read is packed as
        a file of requirements beside it.
    type: str
    default: ''
  exclude_groups:
    description: The dependency groups of uv.lock or poetry.lock to leave out.
    type: list
    elements: str
    default: []
  require_hashes: {description: Whether each requirement must carry a hash., type: bool, default: true}
  settings_module: {description: The settings module., type: str, required: true}
  wsgi_module: {description: The module of the WSGI application., type: str, required: true}
  asgi_module: {description: 'The module of the ASGI application, or an empty text.', type: str, default: ''}
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Pack the project in a folder of the control node
  release_pack:
    site: lab
    source: directory
    directory: ../lab
    cache: .cache/releases
    settings_module: lab.settings
    wsgi_module: lab.wsgi
  delegate_to: localhost
  become: false
"""

RETURN = r"""
id: {description: 'The release id, 12 hexadecimal digits of the content''s SHA-256.', type: str, returned: success}
archive: {description: The path of the pack on the control node., type: str, returned: success}
requirements:
  description: The file of requirements for pip in the pack, relative to project_dir.
  type: str
  returned: success
commit:
  description: What a person knows the source by, its commit mostly; empty for a mere folder.
  type: str
  returned: success
by: {description: The user and the control node., type: str, returned: success}
"""


EXPORTED = "switchboard-requirements.txt"


def requirement_names(text: str) -> dict[str, bool]:
    """Map each required distribution (its name normalised, PEP 503) to whether it carries a hash."""
    joined = text.replace("\\\n", " ")
    names: dict[str, bool] = {}
    for line in joined.splitlines():
        match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", line)
        if match and not line.lstrip().startswith("#"):
            names[re.sub(r"[-_.]+", "-", match.group(1)).lower()] = "--hash=" in line
    return names


def check_project(files: Files, want: dict[str, Any]) -> None:
    """Refuse a project which lacks what the site's variables name. ``want`` holds those variables."""
    prefix = PurePosixPath(want["project_dir"])

    def at(path: str) -> str:
        return str(prefix / path)

    if at("manage.py") not in files:
        raise refuse(
            "django_project_dir",
            want["project_dir"],
            "there is no manage.py in it.",
            "Name its folder.",
        )
    for variable in ("settings_module", "wsgi_module", "asgi_module"):
        module = want[variable]
        if not module and variable == "asgi_module":
            continue
        path = module.replace(".", "/")
        if at(f"{path}.py") not in files and at(f"{path}/__init__.py") not in files:
            remedy = f"The project has no {path}.py; name the module as Python imports it"
            remedy += (
                ", or leave it empty for a project without WebSockets."
                if variable == "asgi_module"
                else "."
            )
            raise refuse(f"django_{variable}", module, "the project has no such module.", remedy)


def lock_requirements(files: Files, want: dict[str, Any]) -> tuple[str, str]:
    """Return the project's lock, as a path below the source's root, and what it requires, in pip's words."""
    prefix = PurePosixPath(want["project_dir"])
    named = want["requirements"]
    places = [str(prefix / name) for name in ([named] if named else FORMS)]
    places += [] if named else list(FORMS)
    path = next((place for place in places if place in files), "")
    if not path:
        raise refuse(
            "django_requirements",
            named or "not set",
            f"the project has no {named or ', '.join(FORMS[:-1]) + ' or ' + FORMS[-1]}.",
            "Name the locked requirements: a requirements.txt with hashes, uv.lock, pylock.toml or poetry.lock.",
        )
    plain = {name: content for name, (content, _) in files.items()}
    try:
        return path, requirements(path, plain, want["exclude_groups"])
    except ValueError as error:
        raise refuse("django_requirements", path, str(error)) from error


def check_requirements(path: str, text: str, want: dict[str, Any]) -> None:
    """Refuse requirements that lack what the bundle runs, or a hash."""
    names = requirement_names(text)
    needed = ["django"] + (["channels", "daphne"] if want["asgi_module"] else [])
    missing = [name for name in needed if name not in names]
    if missing:
        raise refuse(
            "django_requirements",
            path,
            f"it lacks {' and '.join(missing)}.",
            "Add it and lock again"
            + (", or leave django_asgi_module empty." if missing != ["django"] else "."),
        )
    unlocked = sorted(name for name, hashed in names.items() if not hashed)
    if want["require_hashes"] and unlocked:
        raise refuse(
            "django_requirements",
            path,
            f"{', '.join(unlocked[:5])} has no hash.",
            "Lock it with `pip-compile --generate-hashes`, bring uv.lock, pylock.toml or poetry.lock, "
            "or set django_require_hashes to false.",
        )


def content_id(files: Files) -> str:
    """Return 12 hexadecimal digits that name this content: paths, executable bits and bytes."""
    digest = hashlib.sha256()
    for name in sorted(files):
        content, executable = files[name]
        digest.update(f"{name}\0{int(executable)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def pack(files: Files) -> bytes:
    """Return a gzipped tar of the files, the same bytes for the same files on any machine."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(files):
            content, executable = files[name]
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755 if executable else 0o644
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), mtime=0)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "site": {"type": "str", "required": True},
            "source": {"type": "str", "required": True, "choices": ["directory", "git", "archive"]},
            "directory": {"type": "path", "default": ""},
            "repository": {"type": "str", "default": ""},
            "version": {"type": "str", "default": "HEAD"},
            "archive": {"type": "str", "default": ""},
            "archive_sha256": {"type": "str", "default": ""},
            "cache": {"type": "path", "required": True},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "project_dir": {"type": "str", "default": "."},
            "requirements": {"type": "str", "default": ""},
            "exclude_groups": {"type": "list", "elements": "str", "default": []},
            "require_hashes": {"type": "bool", "default": True},
            "settings_module": {"type": "str", "required": True},
            "wsgi_module": {"type": "str", "required": True},
            "asgi_module": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    want = module.params
    cache = Path(want["cache"])
    try:
        files = read_project(want, cache)
        check_large_files(files, want)
        check_project(files, want)
        lock, text = lock_requirements(files, want)
        check_requirements(lock, text, want)
    except Refused as error:
        module.fail_json(msg=f"Site {want['site']}: {error}")
    name = os.path.relpath(lock, want["project_dir"])
    if name.startswith("../") or PurePosixPath(lock).name.endswith((".lock", ".toml")):
        name = EXPORTED
        files[str(PurePosixPath(want["project_dir"]) / name)] = (text.encode(), False)
    release = content_id(files)
    target = cache / f"{want['site']}-{release}.tar.gz"
    if not target.exists():
        store(target, pack(files))
    module.exit_json(
        changed=False,
        id=release,
        archive=str(target),
        requirements=name,
        commit=commit_of(want, cache),
        by=f"{getpass.getuser()}@{socket.gethostname()}",
    )


if __name__ == "__main__":
    main()
