#!/usr/bin/python
"""Unpack a release of Kafka, make it the current one, and put its commands on PATH."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: kafka_release
short_description: Install a release of Kafka from an archive
description:
  - Unpacks an archive with the layout of Apache's (one folder with C(libs/)) into a folder of its own, owned by
    root, points the link C(current) at it and writes launchers for the command-line tools. A release that is
    there already is left alone; one that could not be unpacked to its end is never seen under its name.
options:
  name: {description: The name of the release's folder., type: str, required: true}
  root: {description: The folder that holds the releases and the link C(current)., type: path, required: true}
  version: {description: 'Kafka''s version, which the archive must hold.', type: str, required: true}
  scala_version: {description: The Scala version in the name of Kafka's jar., type: str, required: true}
  archive:
    description: The archive on this host; needed when the release is not there. It is removed afterwards.
    type: path
  sha256: {description: The archive's SHA-256., type: str}
  launchers: {description: 'The commands: name and Java class.', type: dict, default: {}}
  gone: {description: 'Commands of another version, which are removed.', type: list, elements: str, default: []}
  launcher: {description: 'The text of a launcher; C(@name@) and C(@class@) are replaced.', type: str, default: ''}
  bin: {description: The folder of the launchers., type: path, default: /usr/local/bin}
author:
  - The Switchboard authors
"""

RETURN = r"""
release: {description: The folder of the release., type: str, returned: success}
release_changed: {description: Whether the release or the link changed., type: bool, returned: success}
"""

MARK = ".complete"


class Refused(Exception):
    """The archive can't be installed; the text says why and what fixes it."""


def check_archive(path: str | None, sha256: str | None) -> None:
    """Refuse an archive that is not there or is not the one that was verified."""
    if not path or not os.path.isfile(path):
        raise Refused(
            f"the archive {path} is not on this host; run the whole role, not a part of it"
        )
    if sha256:
        with open(path, "rb") as source:
            found = hashlib.file_digest(source, "sha256").hexdigest()
        if found != sha256:
            raise Refused(
                f"{path} has the SHA-256 {found} after the transfer, not {sha256}; run the play again"
            )


def safe_members(archive: tarfile.TarFile) -> list[tuple[tarfile.TarInfo, str]]:
    """Return the regular files with their paths below the one top-level folder.

    Raises:
        Refused: a path leads out of the archive, or there is more than one top-level folder.
    """
    members = []
    tops = set()
    for member in archive:
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if member.name.startswith("/") or ".." in parts:
            raise Refused(
                f"the archive holds the path {member.name}, which leads out of it; use Apache's own archive"
            )
        if not parts:
            continue
        tops.add(parts[0])
        if member.isreg() and len(parts) > 1:
            members.append((member, "/".join(parts[1:])))
    if len(tops) != 1:
        raise Refused(
            f"the archive holds {len(tops)} top-level folders, not one; use an archive laid out as Apache's"
        )
    return members


def check_version(names: list[str], version: str, scala_version: str) -> None:
    """Refuse an archive that lacks the jar of the wanted version."""
    if f"libs/kafka_{scala_version}-{version}.jar" in names:
        return
    held = [
        match.group(1)
        for name in names
        if (match := re.fullmatch(r"libs/kafka_([\d.]+-[\d.]+)\.jar", name))
    ]
    raise Refused(
        f"kafka_version is {version}: the archive holds {'Kafka ' + held[0] if held else 'no Kafka'}, not "
        f"{scala_version}-{version}. Correct kafka_version and kafka_scala_version, or the archive"
    )


def unpack(path: str, folder: str, version: str, scala_version: str) -> None:
    """Unpack an archive into a folder that appears under its name only when it is complete."""
    part = f"{folder}.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        archive = tarfile.open(path)  # noqa: SIM115 - closed by the with below
    except tarfile.TarError as error:
        raise Refused(f"{path} is no tar archive ({error})") from error
    with archive:
        members = safe_members(archive)
        check_version([name for _, name in members], version, scala_version)
        os.mkdir(part, 0o755)
        for member, name in members:
            target = os.path.join(part, name)
            os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
            source = archive.extractfile(member)
            assert source is not None  # a regular file always has content
            with source, open(target, "wb") as stream:
                shutil.copyfileobj(source, stream)
            os.chmod(target, 0o755 if member.mode & 0o111 else 0o644)
    for place, _, _ in os.walk(part):
        os.chmod(place, 0o755)  # noqa: S103 - everybody may read Kafka and use its tools
    with open(os.path.join(part, MARK), "w", encoding="ascii"):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(part, folder)


def read(path: str) -> str | None:
    """Return a file's text, or None when it is not there."""
    try:
        with open(path, encoding="utf-8", errors="replace") as source:
            return source.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(path: str, text: str) -> None:
    """Replace a file by an executable one with this text."""
    part = f"{path}.part"
    with open(part, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.chmod(part, 0o755)  # noqa: S103 - a command for everybody
    os.rename(part, path)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "root": {"type": "path", "required": True},
            "version": {"type": "str", "required": True},
            "scala_version": {"type": "str", "required": True},
            "archive": {"type": "path"},
            "sha256": {"type": "str"},
            "launchers": {"type": "dict", "default": {}},
            "gone": {"type": "list", "elements": "str", "default": []},
            "launcher": {"type": "str", "default": ""},
            "bin": {"type": "path", "default": "/usr/local/bin"},
        },
        supports_check_mode=True,
    )
    options = module.params
    folder = os.path.join(options["root"], options["name"])
    link = os.path.join(options["root"], "current")
    missing = not os.path.exists(os.path.join(folder, MARK))
    pointed = os.readlink(link) if os.path.islink(link) else ""
    texts = {
        os.path.join(options["bin"], name): options["launcher"]
        .replace("@name@", name)
        .replace("@class@", java_class)
        for name, java_class in options["launchers"].items()
    }
    stale = {
        path: text
        for path, text in sorted(texts.items())
        if read(path) != text or os.stat(path).st_mode & 0o777 != 0o755
    }
    former = {
        path: read(path) or ""
        for path in (os.path.join(options["bin"], name) for name in options["gone"])
        if os.path.lexists(path)
    }
    release_changed = missing or pointed != options["name"]
    diff = [
        {
            "before_header": link,
            "after_header": link,
            "before": f"{pointed}\n" if pointed else "",
            "after": f"{options['name']}\n",
        }
    ] * release_changed + [
        {"before_header": path, "after_header": path, "before": read(path) or "", "after": text}
        for path, text in stale.items()
    ]
    diff += [
        {"before_header": path, "after_header": path, "before": text, "after": ""}
        for path, text in former.items()
    ]
    if not module.check_mode:
        try:
            if missing:
                check_archive(options["archive"], options["sha256"])
                unpack(options["archive"], folder, options["version"], options["scala_version"])
            if pointed != options["name"]:
                fresh = f"{link}.part"
                if os.path.lexists(fresh):
                    os.remove(fresh)
                os.symlink(options["name"], fresh)
                os.rename(fresh, link)
            for path, text in stale.items():
                write(path, text)
            for path in former:
                os.remove(path)
        except Refused as error:
            module.fail_json(msg=f"{error}.")
        finally:
            shutil.rmtree(f"{folder}.part", ignore_errors=True)
            if options["archive"] and os.path.isfile(options["archive"]):
                os.remove(options["archive"])
    module.exit_json(
        changed=bool(release_changed or stale or former),
        diff=diff,
        release=folder,
        release_changed=release_changed,
    )


if __name__ == "__main__":
    main()
