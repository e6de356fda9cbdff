#!/usr/bin/python
"""Pack a Django project on the control node, and refuse one that can't be served."""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import io
import lzma
import os
import re
import subprocess
import tarfile
import tempfile
import zlib
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url

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
"""


GIT_SECONDS = 300


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


def git(*words: str) -> bytes:
    """Run git, which asks nobody for a password; raise ValueError with what it said where it fails."""
    environment = {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": os.environ.get(
            "GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=10"
        ),
    }
    try:
        result = subprocess.run(
            ["git", *words],
            capture_output=True,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=GIT_SECONDS,
        )
    except FileNotFoundError:
        raise ValueError("the control node has no git; install it") from None
    except subprocess.TimeoutExpired:
        raise ValueError(f"git did not end within {GIT_SECONDS} seconds") from None
    if result.returncode:
        said = result.stderr.decode(errors="replace").strip()
        raise ValueError(" ".join(said.splitlines()) or f"git ended with {result.returncode}")
    return result.stdout


def fetch_git(repository: str, version: str, copy: Path) -> bytes:
    """Return the tree of a branch, tag or commit as a tar archive, fetched through a bare copy.

    Raises Refused, naming the repository where it can't be fetched, or the version that it lacks.
    """
    at = ("-C", str(copy))
    try:
        copy.mkdir(parents=True, exist_ok=True)
        git(*at, "init", "--quiet", "--bare")
        wanted = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
        wanted += ["+HEAD:refs/remote/HEAD"] if version == "HEAD" else []
        git(*at, "fetch", "--quiet", "--force", "--prune", "--no-tags", "--", repository, *wanted)
    except ValueError as error:
        raise refuse(
            "django_repository",
            repository,
            f"it can't be fetched: {error}.",
            "Correct the address, or let this control node reach it and read it without a password.",
        ) from error
    try:
        if re.fullmatch("[0-9a-f]{40}([0-9a-f]{24})?", version):
            try:
                git(*at, "cat-file", "-e", f"{version}^{{commit}}")
            except ValueError:  # a commit that no branch and no tag leads to
                git(*at, "fetch", "--quiet", "--", repository, version)
        name = "refs/remote/HEAD" if version == "HEAD" else version
        return git(*at, "archive", "--format=tar", f"{name}^{{commit}}")
    except ValueError as error:
        raise refuse(
            "django_version",
            version,
            f"{repository} has no such branch, tag or commit ({error}).",
            "Name one that it has; `git ls-remote` lists them.",
        ) from error


def fetch_archive(url: str, digest: str, copy: Path) -> bytes:
    """Return the bytes of an archive whose SHA-256 is ``digest``, from ``copy`` where that has them.

    Raises Refused, naming the URL where it can't be fetched, or the sum that is another.
    """
    if copy.is_file() and hashlib.sha256(data := copy.read_bytes()).hexdigest() == digest:
        return data
    try:
        with open_url(url if "://" in url else Path(url).resolve().as_uri(), timeout=30) as answer:
            data = answer.read()
    except (OSError, ValueError, HTTPException) as error:
        raise refuse(
            "django_archive",
            url,
            f"it can't be fetched: {error}.",
            "Correct the URL, or let this control node reach it.",
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise refuse(
            "django_archive_sha256",
            digest,
            f"{url} has the SHA-256 {found}.",
            "Take the sum from a source that you trust; if this one is right, somebody changed the archive.",
        )
    store(copy, data)
    return data


def store(path: Path, data: bytes) -> None:
    """Write a file of the cache in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as draft:
        draft.write(data)
    os.replace(draft.name, path)


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


def read_project(want: dict[str, Any], cache: Path) -> dict[str, tuple[bytes, bool]]:
    """Return the files of the project that the options ``want`` name; raise Refused where there is none."""
    if want["source"] == "directory":
        folder = Path(want["directory"])
        if not folder.is_dir():
            raise refuse(
                "django_directory",
                folder,
                "the control node has no such directory.",
                "Name your project's folder.",
            )
        return read_directory(folder, want["exclude"])
    if want["source"] == "git":
        variable, value = "django_version", want["version"]
        name = hashlib.sha256(want["repository"].encode()).hexdigest()[:12]
        data = fetch_git(want["repository"], value, cache / f"{want['site']}-{name}.git")
    else:
        variable, value = "django_archive", want["archive"]
        digest = want["archive_sha256"]
        data = fetch_archive(value, digest, cache / f"{want['site']}-{digest[:12]}.archive")
    try:
        return read_tar(data)
    except (ValueError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError) as error:
        raise refuse(
            variable,
            value,
            f"it can't be unpacked: {error}.",
            "Pack the project as a tar archive with plain relative paths.",
        ) from error


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
            "directory": {"type": "path", "default": ""},
            "repository": {"type": "str", "default": ""},
            "version": {"type": "str", "default": "HEAD"},
            "archive": {"type": "str", "default": ""},
            "archive_sha256": {"type": "str", "default": ""},
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
    cache = Path(want["cache"])
    try:
        files = read_project(want, cache)
        check_project(files, want, want["require_hashes"])
    except Refused as error:
        module.fail_json(msg=f"Site {want['site']}: {error}")
    release = content_id(files)
    target = cache / f"{want['site']}-{release}.tar.gz"
    if not target.exists():
        store(target, pack(files))
    module.exit_json(changed=False, id=release, archive=str(target))


if __name__ == "__main__":
    main()
