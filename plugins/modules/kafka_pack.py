#!/usr/bin/python
"""Put one verified archive of Kafka into the control node's cache, whatever it comes from."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url

DOCUMENTATION = r"""
---
module: kafka_pack
short_description: Fetch or build the archive of Kafka that brokers are installed from
description:
  - Runs on the control node. C(maven) resolves a pinned POM with C(mvn), holds each file against a lock of
    coordinates and SHA-256 sums, and packs them with the layout of Apache's archive; the same lock always
    gives the same bytes. C(archive) downloads Apache's archive and holds it against its SHA-512. C(local)
    takes a file that is there already.
  - It does so once; after that the cache answers. It writes to C(cache) alone, in check mode too, and never
    reports a change.
options:
  source: {description: Where Kafka comes from., type: str, choices: [maven, archive, local], required: true}
  version: {description: Kafka's version., type: str, required: true}
  scala_version: {description: The Scala version in Kafka's name., type: str, default: '2.13'}
  cache: {description: The directory of packs., type: path, required: true}
  pom: {description: 'For maven, the POM.', type: path}
  lock: {description: 'For maven, the lock: a coordinate and a SHA-256 a line.', type: path}
  write_lock:
    description: For maven, write the lock anew from what is resolved, instead of checking it.
    type: bool
    default: false
  mvn: {description: The Maven command., type: str, default: mvn}
  url: {description: 'For archive, its address.', type: str}
  sha512: {description: 'For archive, its SHA-512.', type: str}
  path: {description: 'For local, the file.', type: path}
author:
  - The Switchboard authors
"""

RETURN = r"""
archive: {description: The path of the pack on the control node., type: str, returned: success}
sha256: {description: The pack's SHA-256., type: str, returned: success}
"""

# Every entry of a pack carries this time, so that the same jars give the same bytes.
EPOCH = 0


class Refused(Exception):
    """No pack can be had; the text names the variable, its value and the remedy."""


def digest(path: Path, algorithm: str) -> str:
    """Return a file's digest in hexadecimal."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, algorithm).hexdigest()


def parse_lock(text: str) -> dict[str, str]:
    """Return {coordinate: SHA-256} of a lock; empty lines and lines that begin with # are left out.

    Raises:
        Refused: a line is no coordinate (group:artifact:version) and SHA-256.
    """
    lock = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(
            r"([\w.-]+:[\w.-]+:[\w.-]+(?::[\w.-]+)?) sha256:([0-9a-f]{64})", line.strip()
        )
        if not match:
            raise Refused(f"line {number} is no coordinate and SHA-256: {line.strip()}")
        lock[match.group(1)] = match.group(2)
    return lock


def file_name(coordinate: str) -> str:
    """Return the name of a coordinate's file: artifact-version.jar, or artifact-version-classifier.jar."""
    _group, artifact, *rest = coordinate.split(":")
    return "-".join([artifact, *rest]) + ".jar"


def parse_list(text: str) -> list[str]:
    """Return the coordinates in the output of Maven's dependency:list.

    Its lines are group:artifact:type:version:scope or group:artifact:type:classifier:version:scope, some
    with the name of a Java module behind.
    """
    coordinates = []
    for line in text.splitlines():
        fields = re.sub(r"\x1b\[[0-9;]*m", "", line).strip().split(" ")[0].split(":")
        if len(fields) == 5:
            coordinates.append(":".join([fields[0], fields[1], fields[3]]))
        elif len(fields) == 6:
            coordinates.append(":".join([fields[0], fields[1], fields[4], fields[3]]))
    return sorted(coordinates)


def differences(lock: dict[str, str], found: dict[str, str]) -> list[str]:
    """Return one sentence for each file name that the lock and the resolved files disagree about."""
    wanted = {file_name(coordinate): (coordinate, value) for coordinate, value in lock.items()}
    errors = [
        f"{coordinate} was not resolved"
        for name, (coordinate, _) in wanted.items()
        if name not in found
    ]
    errors += [f"{name} is not in the lock" for name in sorted(found.keys() - wanted.keys())]
    errors += [
        f"{coordinate} has the SHA-256 {found[name]}, the lock says {value}"
        for name, (coordinate, value) in wanted.items()
        if name in found and found[name] != value
    ]
    return errors


def pack(jars: list[Path], top: str, target: Path) -> None:
    """Write a tar archive with ``<top>/libs/<jar>``; the same jars give the same bytes."""
    with (
        target.open("wb") as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name in (top, f"{top}/libs"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o755, EPOCH
            archive.addfile(folder)
        for jar in sorted(jars, key=lambda path: path.name):
            data = jar.read_bytes()
            entry = tarfile.TarInfo(f"{top}/libs/{jar.name}")
            entry.size, entry.mode, entry.mtime = len(data), 0o644, EPOCH
            archive.addfile(entry, io.BytesIO(data))


def resolve(mvn: str, pom: Path, folder: Path) -> tuple[list[str], list[Path]]:
    """Let Maven resolve a POM into a folder; return the coordinates and the files."""
    if shutil.which(mvn) is None:
        raise Refused(
            "kafka_source is maven: the control node has no `mvn`. Install it (`sudo apt install maven`), or set "
            "kafka_source to archive or local."
        )
    # a copy, so that nothing is written beside the original
    shutil.copy(pom, folder / "pom.xml")
    plugin = "dependency"
    command = [
        *(mvn, "--batch-mode", "--no-transfer-progress", "--file", str(folder / "pom.xml")),
        *(f"{plugin}:copy-dependencies", f"{plugin}:list", "-DincludeScope=runtime"),
        *(f"-DoutputDirectory={folder / 'libs'}", f"-DoutputFile={folder / 'list.txt'}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stdout.splitlines() if line.startswith("[ERROR]")]
        said = (
            (errors or [done.stderr.strip() or done.stdout.strip()])[0]
            .removeprefix("[ERROR]")
            .strip()
        )
        raise Refused(
            f"kafka_source is maven: mvn could not resolve {pom}: {said} "
            "Fix that (a proxy or a mirror goes into ~/.m2/settings.xml), or set kafka_source to archive or local."
        )
    return parse_list((folder / "list.txt").read_text(encoding="utf-8")), sorted(
        (folder / "libs").iterdir()
    )


def from_maven(options: dict[str, object], cache: Path) -> Path:
    """Return the pack of a lock, made of what Maven resolves if the cache does not have it."""
    pom, lock = Path(str(options["pom"])), Path(str(options["lock"]))
    for variable, path in (("kafka_maven_pom", pom), ("kafka_maven_lock", lock)):
        if not path.is_file() and not (path == lock and options["write_lock"]):
            raise Refused(f"{variable} is {path}: there is no such file. Correct the path.")
    top = f"kafka_{options['scala_version']}-{options['version']}"
    if not options["write_lock"]:
        text = lock.read_text(encoding="utf-8")
        try:
            wanted = parse_lock(text)
        except Refused as error:
            raise Refused(
                f"kafka_maven_lock is {lock}: {error}. Write the lock anew (see the head of the POM)."
            ) from None
        name = f"{top}-{hashlib.sha256((top + text).encode()).hexdigest()[:16]}.tar"
        if (cache / name).is_file():
            return cache / name
    with tempfile.TemporaryDirectory(dir=cache, prefix=".maven-") as work:
        coordinates, jars = resolve(str(options["mvn"]), pom, Path(work))
        found = {jar.name: digest(jar, "sha256") for jar in jars}
        if options["write_lock"]:
            lines = [
                f"{coordinate} sha256:{found[file_name(coordinate)]}" for coordinate in coordinates
            ]
            lock.write_text(
                "# Made from the POM beside it, which says how.\n" + "\n".join(lines) + "\n",
                encoding="utf-8",
            )
            return from_maven({**options, "write_lock": False}, cache)
        errors = differences(wanted, found)
        if errors:
            raise Refused(
                f"kafka_maven_lock is {lock}: {'; '.join(errors[:3])}"
                f"{f'; and {len(errors) - 3} more' if len(errors) > 3 else ''}. Nothing was packed. If you did not "
                "change the POM, distrust the repository or remove the file from ~/.m2 and try again; if you did, "
                "write the lock anew (see the head of the POM)."
            )
        pack(jars, top, Path(work) / name)
        (Path(work) / name).replace(cache / name)
    return cache / name


def from_url(options: dict[str, object], cache: Path) -> Path:
    """Return the archive with a SHA-512, downloaded if the cache does not have it."""
    url, wanted = str(options["url"]), str(options["sha512"]).lower()
    target = cache / f"archive-{wanted[:16]}.tgz"
    if target.is_file() and digest(target, "sha512") == wanted:
        return target
    with tempfile.TemporaryDirectory(dir=cache, prefix=".archive-") as work:
        part = Path(work) / "part"
        try:
            with (
                open_url(url, timeout=60, http_agent="switchboard") as answer,
                part.open("wb") as stream,
            ):
                shutil.copyfileobj(answer, stream)
        except (OSError, ValueError) as error:
            raise Refused(
                f"kafka_archive_url is {url}: it could not be fetched ({error}). Correct the address, or set "
                "kafka_source to maven or local."
            ) from error
        found = digest(part, "sha512")
        if found != wanted:
            raise Refused(
                f"kafka_archive_sha512 is {wanted}: the file at {url} has the SHA-512 {found}. It was thrown away. "
                "Take the sum from the release's own page, and the file from the same release."
            )
        part.replace(target)
    return target


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "str", "choices": ["maven", "archive", "local"], "required": True},
            "version": {"type": "str", "required": True},
            "scala_version": {"type": "str", "default": "2.13"},
            "cache": {"type": "path", "required": True},
            "pom": {"type": "path"},
            "lock": {"type": "path"},
            "write_lock": {"type": "bool", "default": False},
            "mvn": {"type": "str", "default": "mvn"},
            "url": {"type": "str"},
            "sha512": {"type": "str"},
            "path": {"type": "path"},
        },
        required_if=[
            ("source", "maven", ["pom", "lock"]),
            ("source", "archive", ["url", "sha512"]),
            ("source", "local", ["path"]),
        ],
        supports_check_mode=True,
    )
    options = module.params
    cache = Path(
        options["cache"]
    ).absolute()  # Maven takes what is relative from the folder of the POM
    try:
        if options["source"] == "local":
            archive = Path(options["path"])
            if not archive.is_file():
                raise Refused(
                    f"kafka_local_path is {archive}: the control node has no such file. Correct the path."
                )
        else:
            cache.mkdir(parents=True, exist_ok=True)
            # brokers of one cluster ask at the same time; the first makes the pack
            with (cache / ".lock").open("w", encoding="ascii") as guard:
                fcntl.flock(guard, fcntl.LOCK_EX)
                archive = (
                    from_maven(options, cache)
                    if options["source"] == "maven"
                    else from_url(options, cache)
                )
        module.exit_json(
            changed=False, archive=os.path.abspath(archive), sha256=digest(archive, "sha256")
        )
    except Refused as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg=f"kafka_cache is {cache}: {error}. Name a folder on the control node that you may write to."
        )


if __name__ == "__main__":
    main()
