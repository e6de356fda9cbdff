"""What is read of a site while it goes on writing: its SQLite databases, and the definitions of its topics.

As a program it copies the databases below a folder, FOLDER TARGET EXCLUDE NAMED, and prints what it copied as JSON.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import posixpath
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

# https://www.sqlite.org/fileformat.html, "The Database Header"
SQLITE = b"SQLite format 3\0"
SUFFIXES = (".sqlite3", ".sqlite", ".db")
KAFKA_SECONDS = 10
# What copies leave free of the disk, in bytes, or half of what is free where that is less.
RESERVE = 2**30
LOCK_SECONDS = 60
# Outside of WAL mode nobody writes while pages are read: so many of them at a time, and that often from the beginning,
# where somebody wrote between two times.
PAGES = 1000
RESTARTS = 5
PAUSE_SECONDS = 0.01
LARGE = 2**26  # bytes of a database whose copy is felt

# What SQLite says of a file's content, whoever wrote it: no lock and no disk is at fault.
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def size(count: float) -> str:
    """Return a number of bytes for people."""
    return f"{count / 2**20:.1f} MiB" if count < 2**30 else f"{count / 2**30:.1f} GiB"


def room(folder: str | Path) -> int:
    """Return how many bytes may be written into a folder for a while: others need the disk, too."""
    free = shutil.disk_usage(folder).free
    return max(free // 2, free - RESERVE)


def no_room(folder: str | Path) -> str:
    """Say that copies find no room, and the remedy."""
    return (
        f"The disk with {folder} has room for {size(room(folder))} of copies, and not for all of them. Make room, or "
        "name a folder of another disk as backup_stage_dir."
    )


class Failed(Exception):
    """A database can't be copied; the text says which, and why."""


class Restarted(Exception):
    """Somebody writes a database too often to copy it in steps."""


class Steps:
    """What happens after each step of a copy: others get their turn, and neither they nor a lock last for ever."""

    def __init__(self) -> None:
        self.restarts, self.left = 0, sys.maxsize

    def __call__(self, status: int, left: int, _: int) -> None:
        """Raise Restarted, or OperationalError where a lock has outlasted the connection's timeout."""
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise sqlite3.OperationalError("database is locked")
        self.restarts += left >= self.left
        self.left = left
        if self.restarts > RESTARTS:
            raise Restarted
        if left:
            time.sleep(PAUSE_SECONDS)  # so that who waits for the lock gets it


def copied(path: str, copy: Path) -> tuple[str, bool]:
    """Copy one database.

    Returns:
        What SQLite says of the copy, ok or what is wrong with it, and whether the database is in WAL mode.
    """
    where = f"file:{quote(os.fsencode(path))}?mode=rw"
    source = sqlite3.connect(where, uri=True, timeout=LOCK_SECONDS)
    with contextlib.closing(source):
        wal = source.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        try:
            with contextlib.closing(sqlite3.connect(copy)) as sink:
                source.backup(sink, pages=-1 if wal else PAGES, progress=Steps())
        except Restarted:
            # the lock is held for as long as the file takes; a file that this process closes would end it
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master")
            subprocess.run(["cp", "--reflink=auto", "--", path, copy], check=True)
    with contextlib.closing(sqlite3.connect(copy)) as sink:
        sink.text_factory = lambda text: text.decode(errors="replace")
        sink.execute("PRAGMA journal_mode = DELETE")  # all is in the one file
        said = str(sink.execute("PRAGMA quick_check(1)").fetchone()[0])
        return " ".join(said.split()), wal


def leaves_out(pattern: str, path: str) -> bool:
    """Say whether a pattern of restic leaves a file out; no, where it has more than `*`, `?` and `**`."""
    if re.search(r"[\\\[]|^!", pattern):
        return False
    plain = {"*": "[^/]*", "?": "[^/]"}
    parts = posixpath.normpath(pattern).strip("/").split("/")
    said = "".join(
        "(?:/[^/]+)*" if part == "**" else "/" + "".join(plain.get(c, re.escape(c)) for c in part)
        for part in parts
    )
    look = re.match if pattern.startswith("/") else re.search
    return bool(look(f"{said}(?:/|\\Z)", path, re.DOTALL))


def stays(path: str, exclude: Collection[str], named: Collection[str]) -> bool:
    """Say whether a database is to be copied: one that the environment names unless a whole path leaves it out."""
    if any(pattern.startswith("!") for pattern in exclude):
        return True  # one that takes another back: restic alone knows
    return not any(
        leaves_out(pattern, path)
        for pattern in exclude
        if path not in named or pattern.startswith("/")
    )


def copy_databases(
    data: str, target: str, exclude: Collection[str] = (), named: Collection[str] = ()
) -> dict[str, Any]:
    """Copy each SQLite database below a folder while others write to it.

    It runs as the site's user, who may have put links anywhere: with no more rights than that user has.

    Args:
        data: the folder.
        target: the folder that gets the copies.
        exclude: restic's patterns for what is left out.
        named: the files that the site's environment names.

    Returns:
        ``sqlite``, the path of each below the folder and its copy's sum; ``damaged``, which maps the others to what
        SQLite says of them, since a visitor may have uploaded such a file; ``slow``, which maps the large ones that are
        not in WAL mode to their size.
    """
    found: list[dict[str, Any]] = []
    damaged: dict[str, str] = {}
    slow: dict[str, str] = {}
    paths = [path for path in databases(data) if stays(path, exclude, named)]
    if sum(map(needed, paths)) > room(target):
        raise Failed(no_room(target))
    for path in paths:
        copy = Path(target) / str(len(found))
        try:
            said, wal = copied(path, copy)
        except UnicodeDecodeError:  # of SQLite's own message
            said = "a name in it is no UTF-8"
        except sqlite3.Error as error:
            # the first byte is the kind; what follows says more of it (sqlite3's result codes)
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in DAMAGED:
                raise Failed(
                    f"{shown(path)}: {error}. Look at the disk with {target}, and who holds a lock on the file."
                ) from error
            said = str(error)
        if said != "ok":
            damaged[os.path.relpath(path, data)] = said
            for end in ("", "-journal"):
                Path(f"{copy}{end}").unlink(missing_ok=True)
            continue
        if not wal and (bytes_ := copy.stat().st_size) >= LARGE:
            slow[os.path.relpath(path, data)] = size(bytes_)
        mode = os.stat(path).st_mode & 0o777
        found.append(
            {
                "path": os.path.relpath(path, data),
                "copy": copy.name,
                "sha256": digest(copy),
                "mode": mode,
            }
        )
    return {"sqlite": found, "damaged": damaged, "slow": slow}


def databases(data: str) -> Iterator[str]:
    """Yield the files below a folder that look like SQLite databases."""
    for folder, folders, names in os.walk(data):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if not name.endswith(SUFFIXES) or not os.path.isfile(path) or os.path.islink(path):
                continue
            with open(path, "rb") as file:
                if file.read(len(SQLITE)) == SQLITE:
                    yield path


def needed(path: str) -> int:
    """Return the bytes that the copy of a database may have: what is in its log may come to it."""
    log = f"{path}-wal"
    return os.path.getsize(path) + (os.path.getsize(log) if os.path.exists(log) else 0)


def shown(path: str) -> str:
    """Return a path for people, also where its name is no UTF-8."""
    return os.fsencode(path).decode(errors="backslashreplace")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def topics(brokers: str, prefix: str, login: str = "") -> dict[str, Any] | None:
    """Return the definitions of a site's topics; None where nobody tells them: they stand in the inventory, too."""
    try:
        from confluent_kafka.admin import (
            AdminClient,
            ConfigResource,
        )  # a host without Kafka lacks it
        from kafka_client import login_of  # beside this file, where switchboard_backup has looked

        settings = login_of(login) if login else {}
        client = AdminClient({**settings, "bootstrap.servers": brokers, "log_level": 0})
        found = client.list_topics(timeout=KAFKA_SECONDS).topics
        told = {name: topic for name, topic in found.items() if name.startswith(prefix)}
        if not told:
            return {}
        asked = client.describe_configs(
            [ConfigResource(ConfigResource.Type.TOPIC, name) for name in told],
            request_timeout=KAFKA_SECONDS,
        )
        own = {
            resource.name: {
                key: entry.value for key, entry in future.result().items() if entry.source == 1
            }
            for resource, future in asked.items()
        }
    except Exception:  # whatever it is, the data are worth more
        return None
    return {
        name: {
            "partitions": len(topic.partitions),
            "replication_factor": len(topic.partitions[0].replicas),
            "config": own[name],
        }
        for name, topic in told.items()
    }


if __name__ == "__main__":
    try:
        told = copy_databases(sys.argv[1], sys.argv[2], *map(json.loads, sys.argv[3:]))
        print(json.dumps(told))
    except (Failed, OSError, sqlite3.Error, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
