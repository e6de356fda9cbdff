"""Read the locks of uv, pylock.toml (PEP 751) and Poetry as requirements with hashes, which pip installs everywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

# in the order in which a project is looked through
FORMS = ("requirements.txt", "uv.lock", "pylock.toml", "poetry.lock")
UV_SECONDS = 60


def requirements(path: str, files: Mapping[str, bytes], left_out: Iterable[str]) -> str:
    """Return what a lock holds in the format of pip's requirements files.

    Args:
        path: of the lock below the project's root; its name tells the format.
        files: each file of the project by its path.
        left_out: dependency groups whose packages are not wanted; names that the project has not are ignored.

    Raises:
        ValueError: the lock can't be read or holds what has no hash; the text says what and the remedy.
    """
    name = PurePosixPath(path).name
    skip = {_normal(group) for group in left_out}
    try:
        if name == "uv.lock":
            return _of_uv(path, files, skip)
        if name == "poetry.lock":
            return _of_poetry(path, files, skip)
        if re.fullmatch(r"pylock\.([^.]+\.)?toml", name):
            return _of_pylock(_toml(files[path]))
        return files[path].decode(errors="replace")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"it can't be read ({type(error).__name__}: {error}). Lock again."
        ) from error


def _normal(name: str) -> str:
    """Return a name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _toml(data: bytes) -> dict[str, Any]:
    return tomllib.loads(data.decode())


def _pyproject(lock: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    path = str(PurePosixPath(lock).with_name("pyproject.toml"))
    if path not in files:
        raise ValueError(f"there is no {path} beside it. Add the one that it was locked from.")
    return _toml(files[path])


def _line(name: str, version: str, marker: str, hashes: Iterable[str]) -> str:
    """Return one requirement; raise ValueError where no hash would tell what is installed."""
    sums = sorted(set(hashes))
    if not sums:
        raise ValueError(
            f"{name} comes from a folder, a repository or a URL without a hash. "
            "Require a released version of it, or put its code into the project."
        )
    text = f"{name}=={version}" + (f" ; {marker}" if marker else "")
    return " \\\n    ".join([text, *(f"--hash={value}" for value in sums)]) + "\n"


def _of_uv(path: str, files: Mapping[str, bytes], skip: set[str]) -> str:
    """Let uv export its lock; the lock is taken as it stands, and nothing is fetched."""
    project = _pyproject(path, files)
    groups = set(project.get("dependency-groups", {}))
    if "dev-dependencies" in project.get("tool", {}).get("uv", {}):
        groups.add("dev")
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if not uv:
        raise ValueError("the control node has no uv to read it with. Install it: pip install uv.")
    command = [uv, "export", "--quiet", "--frozen", "--offline", "--no-emit-workspace"]
    command += ["--no-header", "--no-annotate", "--format=requirements-txt"]
    command += [f"--no-group={group}" for group in sorted(groups) if _normal(group) in skip]
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            if PurePosixPath(name).name == "pyproject.toml" or name == path:
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / name).write_bytes(data)
        try:
            done = subprocess.run(
                command,
                cwd=(Path(folder) / path).parent,
                env={**os.environ, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_CONFIG": "1"},
                capture_output=True,
                text=True,
                check=False,
                timeout=UV_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ValueError(
                f"uv could not read it ({error}). Try `uv export --frozen`."
            ) from error
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"uv ended with {done.returncode}"
        raise ValueError(f"uv could not read it ({said}). Lock again with `uv lock`.")
    for line in done.stdout.replace("\\\n", " ").splitlines():
        if line.strip() and "--hash=" not in line:
            raise ValueError(
                f"{line.strip()} has no hash. "
                "Require a released version of it, or put its code into the project."
            )
    return done.stdout


def _of_poetry(path: str, files: Mapping[str, bytes], skip: set[str]) -> str:
    """Read a lock of Poetry 2, which says for each package which groups and extras want it."""
    lock = _toml(files[path])
    version = str(lock.get("metadata", {}).get("lock-version", "?"))
    if not version.startswith("2.") or version == "2.0":
        raise ValueError(
            f"its format is {version}, which does not say which group a package belongs to. "
            "Lock again with Poetry 2, or export it: poetry export > requirements.txt."
        )
    project = _pyproject(path, files)
    tables = project.get("tool", {}).get("poetry", {}).get("group", {})
    skip = skip | {_normal(name) for name, table in tables.items() if table.get("optional")}
    lines = []
    for package in lock["package"]:
        wanted = [group for group in package["groups"] if _normal(group) not in skip]
        if not wanted or package.get("optional"):
            continue
        markers = package.get("markers", "")
        if isinstance(markers, dict):
            each = [markers.get(group, "") for group in wanted]
            markers = (
                "" if "" in each else " or ".join(f"({marker})" for marker in sorted(set(each)))
            )
        if package.get("source", {}).get("type", "legacy") != "legacy":
            package = package | {"files": []}
        hashes = [file["hash"] for file in package.get("files", [])]
        lines.append(_line(package["name"], package["version"], markers, hashes))
    return "".join(lines)


def _of_pylock(lock: Mapping[str, Any]) -> str:
    """Read a lock of PEP 751, which has no groups unless its tool writes them as markers."""
    lines = []
    for package in lock["packages"]:
        name, marker = package["name"], package.get("marker", "")
        if re.search(r"\b(extras|dependency_groups)\b", marker):
            raise ValueError(
                f"{name} is for some extras or groups alone ({marker}), which pip can't tell apart. "
                "Write one lock for the server, such as with `uv export --no-dev -o pylock.toml`."
            )
        if "directory" in package and package["directory"].get("editable"):
            continue  # the project itself
        parts = [*package.get("wheels", []), package.get("sdist", {})]
        hashes = [
            f"{kind}:{value}"
            for part in parts
            for kind, value in part.get("hashes", {}).items()
            if kind in ("sha256", "sha384", "sha512")
        ]
        lines.append(_line(name, package.get("version", ""), marker, hashes))
    return "".join(lines)
