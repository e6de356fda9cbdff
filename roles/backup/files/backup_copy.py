"""What is read of a site while it goes on writing: its SQLite databases, and the definitions of its topics.

As a program it copies the databases below a folder, FOLDER TARGET, and prints what it copied as JSON.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

# https://www.sqlite.org/fileformat.html, "The Database Header"
SQLITE = b"SQLite format 3\0"
SUFFIXES = (".sqlite3", ".sqlite", ".db")
KAFKA_SECONDS = 10


class Damaged(Exception):
    """A database can't be copied; the text says which, and why."""


def copied(path: str, copy: Path) -> str:
    """Copy one database, and return what SQLite says of the copy: ok, or what is wrong with it."""
    source = sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, timeout=60)
    with contextlib.closing(source), contextlib.closing(sqlite3.connect(copy)) as sink:
        source.backup(sink)
        sink.execute("PRAGMA journal_mode = DELETE")  # all is in the one file
        return " ".join(str(sink.execute("PRAGMA quick_check(1)").fetchone()[0]).split())


def copy_databases(data: str, target: str) -> list[dict[str, Any]]:
    """Copy each SQLite database below a folder while others write to it; return the path of each and its copy's sum.

    It runs as the site's user, who may have put links anywhere: with no more rights than that user has.
    """
    found: list[dict[str, Any]] = []
    for folder, folders, names in os.walk(data):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if not name.endswith(SUFFIXES) or not os.path.isfile(path) or os.path.islink(path):
                continue
            with open(path, "rb") as file:
                if file.read(len(SQLITE)) != SQLITE:
                    continue
            copy = Path(target) / str(len(found))
            try:
                said = copied(path, copy)
            except sqlite3.Error as error:
                # the first byte is the kind; what follows says more of it (sqlite3's result codes)
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                    raise Damaged(
                        f"{path}: {error}. Look at the disk with {target}, and who holds a lock on the file."
                    ) from error
                said = str(error)
            if said != "ok":
                raise Damaged(f"{path}: {said}. Restore it from a snapshot before it was damaged.")
            mode = os.stat(path).st_mode & 0o777
            found.append(
                {
                    "path": os.path.relpath(path, data),
                    "copy": copy.name,
                    "sha256": digest(copy),
                    "mode": mode,
                }
            )
    return found


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
        print(json.dumps(copy_databases(sys.argv[1], sys.argv[2])))
    except (Damaged, OSError, sqlite3.Error) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
