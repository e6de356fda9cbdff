#!/usr/bin/python
"""Pack a Django project on the control node, and refuse one that can't be served."""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import io
import os
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: release_pack
short_description: Pack a Django project for release
description:
  - Runs on the control node. Makes one reproducible archive of a project, whether it comes from a
    directory, a git repository or an archive, and names it by its content, so that the same code
    always has the same release id. Looks into the project before any server is touched.
  - It writes to C(cache) alone, in check mode too, and never reports a change.
options:
  site: {description: The site's name., type: str, required: true}
  source: {description: Where the project comes from., type: str, choices: [directory, git, archive], required: true}
  path:
    description: The directory, the bare git repository, or the archive, on the control node.
    type: path
    required: true
  version: {description: 'For git, the branch, tag or commit.', type: str, default: HEAD}
  cache: {description: The directory the pack is written to., type: path, required: true}
  exclude: {description: Shell patterns of names to leave out., type: list, elements: str, default: []}
  project_dir: {description: The folder of manage.py below the source's root., type: str, default: .}
  requirements:
    description: The locked requirements, relative to project_dir.
    type: str
    default: requirements.txt
  require_hashes: {description: Whether each requirement must carry a hash., type: bool, default: true}
  settings_module: {description: The settings module., type: str, required: true}
  wsgi_module: {description: The module of the WSGI application., type: str, required: true}
  asgi_module: {description: 'The module of the ASGI application, or an empty text.', type: str, default: ''}
author:
  - The Switchboard authors
"""

RETURN = r"""
id: {description: 'The release id, 12 hexadecimal digits of the content''s SHA-256.', type: str, returned: success}
archive: {description: The path of the pack on the control node., type: str, returned: success}
"""


class Refused(Exception):
    """The project can't be served; the text names the variable, its value and the mend."""


def refuse(variable: str, value: object, why: str, mend: str) -> Refused:
    """Build the refusal of one variable's value."""
    return Refused(f"{variable} is {value}: {why} {mend}")


def read_directory(root: Path, exclude: list[str]) -> dict[str, tuple[bytes, bool]]:
    """Return each file below ``root`` by its relative path, as (content, executable)."""
    files: dict[str, tuple[bytes, bool]] = {}

    def wanted(name: str) -> bool:
        return not any(fnmatch.fnmatchcase(name, pattern) for pattern in exclude)

    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if wanted(name))
        for name in sorted(names):
            path = Path(folder) / name
            if wanted(name) and path.is_file():
                files[path.relative_to(root).as_posix()] = (
                    path.read_bytes(),
                    os.access(path, os.X_OK),
                )
    return files


def read_tar(data: bytes) -> dict[str, tuple[bytes, bool]]:
    """Return the regular files of a tar archive; a single top-level folder is taken off."""
    files: dict[str, tuple[bytes, bool]] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts:
                raise ValueError(f"it holds the path {member.name}, which leaves the archive")
            source = archive.extractfile(member) if member.isfile() else None
            if source:
                files[str(name)] = (source.read(), bool(member.mode & 0o100))
    tops = {name.split("/")[0] for name in files}
    if len(tops) == 1 and all("/" in name for name in files):
        files = {name.split("/", 1)[1]: value for name, value in files.items()}
    return files


def git_tar(repository: Path, version: str) -> bytes:
    """Return the tree of a commit as a tar archive; raise ValueError where git does not know it."""
    result = subprocess.run(
        ["git", "-C", str(repository), "archive", "--format=tar", version],
        capture_output=True,
        check=False,
    )
    if result.returncode:
        raise ValueError(result.stderr.decode(errors="replace").strip())
    return result.stdout


def requirement_names(text: str) -> dict[str, bool]:
    """Map each required distribution (its name normalised, PEP 503) to whether it carries a hash."""
    joined = text.replace("\\\n", " ")
    names: dict[str, bool] = {}
    for line in joined.splitlines():
        match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", line)
        if match and not line.lstrip().startswith("#"):
            names[re.sub(r"[-_.]+", "-", match.group(1)).lower()] = "--hash=" in line
    return names


def check_project(
    files: dict[str, tuple[bytes, bool]], want: dict[str, str], require_hashes: bool
) -> None:
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
            mend = f"The project has no {path}.py; name the module as Python imports it"
            mend += (
                ", or leave it empty for a project without WebSockets."
                if variable == "asgi_module"
                else "."
            )
            raise refuse(f"django_{variable}", module, "the project has no such module.", mend)
    if at(want["requirements"]) not in files:
        raise refuse(
            "django_requirements",
            want["requirements"],
            "the project has no such file.",
            "Name the locked requirements.",
        )
    names = requirement_names(files[at(want["requirements"])][0].decode(errors="replace"))
    needed = ["django"] + (["channels", "daphne"] if want["asgi_module"] else [])
    missing = [name for name in needed if name not in names]
    if missing:
        raise refuse(
            "django_requirements",
            want["requirements"],
            f"it lacks {' and '.join(missing)}.",
            "Add it and lock again"
            + (", or leave django_asgi_module empty." if missing != ["django"] else "."),
        )
    unlocked = sorted(name for name, hashed in names.items() if not hashed)
    if require_hashes and unlocked:
        raise refuse(
            "django_requirements",
            want["requirements"],
            f"{', '.join(unlocked[:5])} has no hash.",
            "Lock it with `pip-compile --generate-hashes`, or set django_require_hashes to false.",
        )


def content_id(files: dict[str, tuple[bytes, bool]]) -> str:
    """Return 12 hexadecimal digits that name this content: paths, executable bits and bytes."""
    digest = hashlib.sha256()
    for name in sorted(files):
        content, executable = files[name]
        digest.update(f"{name}\0{int(executable)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def pack(files: dict[str, tuple[bytes, bool]]) -> bytes:
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
            "path": {"type": "path", "required": True},
            "version": {"type": "str", "default": "HEAD"},
            "cache": {"type": "path", "required": True},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "project_dir": {"type": "str", "default": "."},
            "requirements": {"type": "str", "default": "requirements.txt"},
            "require_hashes": {"type": "bool", "default": True},
            "settings_module": {"type": "str", "required": True},
            "wsgi_module": {"type": "str", "required": True},
            "asgi_module": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    want = module.params
    path = Path(want["path"])
    variable = {
        "directory": "django_directory",
        "git": "django_version",
        "archive": "django_archive",
    }[want["source"]]
    try:
        if want["source"] == "directory":
            if not path.is_dir():
                raise refuse(
                    variable,
                    path,
                    "the control node has no such directory.",
                    "Name your project's folder.",
                )
            files = read_directory(path, want["exclude"])
        else:
            try:
                files = read_tar(
                    git_tar(path, want["version"]) if want["source"] == "git" else path.read_bytes()
                )
            except (OSError, ValueError, tarfile.TarError) as error:
                value = want["version"] if want["source"] == "git" else path
                raise refuse(
                    variable, value, f"it can't be read: {error}.", "Correct it."
                ) from error
        check_project(files, want, want["require_hashes"])
    except Refused as error:
        module.fail_json(msg=f"Site {want['site']}: {error}")
    release = content_id(files)
    target = Path(want["cache"]) / f"{want['site']}-{release}.tar.gz"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as draft:
            draft.write(pack(files))
        os.replace(draft.name, target)
    module.exit_json(changed=False, id=release, archive=str(target))


if __name__ == "__main__":
    main()
