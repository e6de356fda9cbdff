"""Read a Django project from a folder, a git repository with all that belongs to it, or an archive."""

from __future__ import annotations

import fnmatch
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

from ansible.module_utils.urls import open_url

GIT_SECONDS = 300
LINKS = "Lead it to a file or folder of the project, or add its name to django_exclude."
LFS = b"version https://git-lfs.github.com/spec/v1\n"

# each file's content and whether it is executable, by its path
Files = dict[str, tuple[bytes, bool]]


class Refused(Exception):
    """The project can't be served; the text names the variable, its value and the remedy."""


def refuse(variable: str, value: object, why: str, remedy: str = "") -> Refused:
    """Build the refusal of one variable's value."""
    return Refused(f"{variable} is {value}: {why} {remedy}".rstrip())


def read_project(want: dict[str, Any], cache: Path) -> Files:
    """Return the files of the project that the options ``want`` name; raise Refused where there is none."""
    exclude = want["exclude"]
    if want["source"] == "directory":
        folder = Path(want["directory"])
        if not folder.is_dir():
            raise refuse(
                "django_directory",
                folder,
                "the control node has no such directory.",
                "Name your project's folder.",
            )
        try:
            files = read_directory(folder, exclude)
        except ValueError as error:
            raise refuse("django_directory", folder, f"{error}.", LINKS) from error
        check_submodules(folder, files, exclude)
        return files
    if want["source"] == "git":
        return fetch_git(want["repository"], want["version"], bare_copy(want, cache), exclude)
    digest = want["archive_sha256"]
    data = fetch_archive(want["archive"], digest, cache / f"{want['site']}-{digest[:12]}.archive")
    try:
        files = follow_links(*read_tar(data), exclude)
    except (ValueError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError) as error:
        raise refuse(
            "django_archive",
            want["archive"],
            f"it can't be unpacked: {error}.",
            "Pack the project as a tar archive with plain relative paths.",
        ) from error
    tops = {name.split("/")[0] for name in files}
    if len(tops) == 1 and all("/" in name for name in files):
        files = {name.split("/", 1)[1]: value for name, value in files.items()}
    return files


def bare_copy(want: dict[str, Any], cache: Path) -> Path:
    """Return the folder of the copy that a site's repository is fetched to."""
    name = hashlib.sha256(want["repository"].encode()).hexdigest()[:12]
    return cache / f"{want['site']}-{name}.git"


def commit_of(want: dict[str, Any], cache: Path) -> str:
    """Return what a person knows the source by: its commit, or the archive's SHA-256; empty for a mere folder."""
    if want["source"] == "archive":
        return str(want["archive_sha256"][:12])
    words = ["describe", "--always", "--abbrev=12"]
    if want["source"] == "git":
        version = want["version"]
        words += ["refs/remote/HEAD" if version == "HEAD" else version]
        words = ["-C", str(bare_copy(want, cache)), *words]
    else:
        words = ["-C", str(want["directory"]), *words, "--dirty"]
    try:
        return git(*words).decode().strip()
    except ValueError:
        return ""


def read_directory(root: Path, exclude: list[str]) -> Files:
    """Return each file below ``root`` by its relative path, as (content, executable).

    Links are followed, each to a file or to a folder. Raises ValueError where one leads nowhere or round in a circle.
    """
    files: Files = {}

    def read(folder: Path, above: tuple[Path, ...]) -> None:
        real = folder.resolve()
        if real in above:
            raise ValueError(f"{folder.relative_to(root)} is a link to a folder that it lies in")
        for path in sorted(folder.iterdir()):
            if excluded(path.name, exclude):
                continue
            if path.is_dir():
                read(path, (*above, real))
            elif path.is_file():
                executable = os.access(path, os.X_OK)
                files[path.relative_to(root).as_posix()] = (path.read_bytes(), executable)
            elif path.is_symlink():
                raise ValueError(f"{path.relative_to(root)} is a link that leads nowhere")

    read(root, ())
    return files


def check_submodules(folder: Path, files: Files, exclude: list[str]) -> None:
    """Refuse a folder with a submodule that was not checked out."""
    for path in [name for name in files if PurePosixPath(name).name == ".gitmodules"]:
        try:
            listed = git(
                "config", "--file", str(folder / path), "--get-regexp", r"\.path$"
            ).decode()
        except ValueError:  # it lists none
            continue
        for line in listed.splitlines():
            inner = str(PurePosixPath(path).parent / line.split(" ", 1)[1])
            if not reached(inner, files) and not excluded(inner, exclude):
                raise refuse(
                    "django_directory",
                    folder,
                    f"its submodule {inner} is empty.",
                    "Check it out: git submodule update --init --recursive.",
                )


def read_tar(data: bytes) -> tuple[Files, dict[str, str]]:
    """Return the files of a tar archive, and where each link in it leads; `/` is outside.

    Raises ValueError for a path that leaves the archive.
    """
    files: Files = {}
    links: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts:
                raise ValueError(f"it holds the path {member.name}, which leaves the archive")
            if member.issym():
                to = os.path.normpath(name.parent / member.linkname)
                links[str(name)] = "/" if to.startswith(("/", "..")) else to
            elif member.islnk():
                links[str(name)] = os.path.normpath(member.linkname)
            elif source := archive.extractfile(member):
                files[str(name)] = (source.read(), bool(member.mode & 0o100))
    return files, links


def follow_links(files: Files, links: dict[str, str], exclude: list[str]) -> Files:
    """Return the files with what each link leads to in its place, a file or a folder of ``files``.

    Raises ValueError where a link leads to neither, or round in a circle; a name that ``exclude`` matches is left out.
    """
    found = dict(files)
    left = {name: to for name, to in links.items() if not excluded(name, exclude)}
    for _ in range(len(left)):
        for name, to in left.items():
            if to != "/" and not f"{name}/".startswith(f"{to}/"):
                below = {p: v for p, v in found.items() if f"{p}/".startswith(f"{to}/")}
                found.update({name + path[len(to) :]: value for path, value in below.items()})
        left = {name: to for name, to in left.items() if not reached(name, found)}
        if not left:
            break
    for name, to in left.items():
        outside = "out of the project" if to == "/" else f"to {to}, where nothing is"
        raise ValueError(f"{name} is a link that leads {outside}")
    return found


def excluded(path: str, exclude: list[str]) -> bool:
    """Tell whether a pattern matches the name of a file or of a folder above it."""
    parts = PurePosixPath(path).parts
    return any(fnmatch.fnmatchcase(name, pattern) for name in parts for pattern in exclude)


def reached(path: str, files: Files) -> bool:
    """Tell whether a path is a file or a folder of ``files``."""
    return any(f"{name}/".startswith(f"{path}/") for name in files)


def git(*words: str) -> bytes:
    """Run git, which asks nobody for a password; raise ValueError with what it said where it fails."""
    environment = {
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=10",
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_LFS_SKIP_SMUDGE": "1",  # fetch_large_files looks after these
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


def fetch_git(repository: str, version: str, copy: Path, exclude: list[str]) -> Files:
    """Return the tree of a branch, tag or commit with its submodules, fetched through a bare copy.

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
        commit = git(*at, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").decode().strip()
    except ValueError as error:
        raise refuse(
            "django_version",
            version,
            f"{repository} has no such branch, tag or commit ({error}).",
            "Name one that it has; `git ls-remote` lists them.",
        ) from error
    files, links = read_tar(git(*at, "archive", "--format=tar", commit))
    fetch_large_files(repository, commit, copy, files)
    for path, (address, recorded) in submodules(copy, commit, repository).items():
        name = hashlib.sha256(address.encode()).hexdigest()[:12]
        try:
            below = fetch_git(address, recorded, copy.parent / f"submodule-{name}.git", exclude)
        except Refused as error:
            raise refuse(
                "django_repository",
                repository,
                f"its submodule {path} can't be taken at {recorded[:12]}: {error}",
            ) from error
        files.update({f"{path}/{inner}": value for inner, value in below.items()})
    try:
        return follow_links(files, links, exclude)
    except ValueError as error:
        raise refuse("django_repository", repository, f"{error}.", LINKS) from error


def submodules(copy: Path, commit: str, repository: str) -> dict[str, tuple[str, str]]:
    """Return the address and the recorded commit of each submodule, by its path.

    Raises Refused for one that .gitmodules gives no address, or one that this machine's files would answer for
    a repository from elsewhere.
    """
    at = ("-C", str(copy))
    tree = git(*at, "ls-tree", "-r", "-z", commit).decode(errors="replace").split("\0")
    recorded = {
        line.split("\t", 1)[1]: line.split()[2] for line in tree if line.startswith("160000 ")
    }
    if not recorded:
        return {}
    settings: dict[str, dict[str, str]] = {}
    try:
        text = git(*at, "config", "--blob", f"{commit}:.gitmodules", "--null", "--list").decode()
    except ValueError:
        text = ""
    for entry in text.split("\0"):
        key, _, value = entry.partition("\n")
        section, _, option = key.rpartition(".")
        settings.setdefault(section, {})[option] = value
    addresses = {each["path"]: each.get("url", "") for each in settings.values() if "path" in each}
    found = {}
    for path, hash_ in recorded.items():
        address = addresses.get(path, "")
        if address.startswith(("./", "../")):
            address = relative_to(repository, address)
        local = re.match(r"/|\.|file:", address) and not re.match(r"/|\.|file:", repository)
        if not address or local or re.match(r"-|\w+::", address):
            raise refuse(
                "django_repository",
                repository,
                f"its submodule {path} has the address '{address}' in .gitmodules.",
                "Give it one that the control node can fetch.",
            )
        found[path] = (address, hash_)
    return found


def relative_to(repository: str, address: str) -> str:
    """Return a submodule's relative address as git resolves it, against that of its repository."""
    base = repository.rstrip("/")
    while address.startswith(("./", "../")):
        step, _, address = address.partition("/")
        if step == "..":
            base = re.sub(r"[/:][^/:]*$", "", base)
    return f"{base}/{address}"


def pointer(content: bytes) -> str:
    """Return the SHA-256 that a Git LFS pointer names, empty where the file is none."""
    if len(content) >= 1024 or not content.startswith(LFS):
        return ""
    match = re.search(rb"^oid sha256:([0-9a-f]{64})$", content, re.M)
    return match.group(1).decode() if match else ""


def fetch_large_files(repository: str, commit: str, copy: Path, files: Files) -> None:
    """Put what Git LFS keeps in the place of its pointers, where the control node has git-lfs."""
    pointers = {path: sum_ for path, (data, _) in files.items() if (sum_ := pointer(data))}
    if not pointers:
        return
    at = ("-C", str(copy))
    try:
        git(*at, "config", "remote.origin.url", repository)
        git(*at, "lfs", "fetch", "origin", commit)
    except ValueError:
        return  # check_large_files names the pointers that are left
    for path, sum_ in pointers.items():
        kept = copy / "lfs" / "objects" / sum_[:2] / sum_[2:4] / sum_
        if kept.is_file():
            files[path] = (kept.read_bytes(), files[path][1])


def check_large_files(files: Files, want: dict[str, Any]) -> None:
    """Refuse a project with pointers of Git LFS in the place of its files."""
    left = sorted(path for path, (content, _) in files.items() if pointer(content))
    if left:
        variable = {"git": "repository"}.get(want["source"], want["source"])
        raise refuse(
            f"django_{variable}",
            want[variable],
            f"{', '.join(left[:3])} {'is a pointer' if len(left) == 1 else 'are pointers'} of Git LFS, not the file.",
            "Install git-lfs on the control node and let it reach the store; in a directory, run `git lfs pull` too.",
        )


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
