"""The stage: where copies of a site's databases are until restic has read them."""

from __future__ import annotations

import grp
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from backup_copy import digest, no_room, room, shown, topics
from backup_restic import Refused, Restic, last_line, now
from site_environment import ASIDE, postgresql_of, read

LIBRARY = "/usr/local/lib/switchboard"


def replace(path: Path, text: str, mode: int) -> None:
    """Write a file in one step."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    draft.replace(path)


def as_user(
    user: str, words: list[str], environment: dict[str, str] | None = None, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command with the rights of a user alone."""
    return subprocess.run(
        words,
        user=user,
        group=user,
        extra_groups=[],
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        **more,
    )


def stage_of(snapshot: dict[str, Any], site: dict[str, Any]) -> str:
    """Return where a snapshot has its stage: the run that made it may have had another folder for it."""
    end = f"/stage/{site['name']}"
    return next(
        (path for path in snapshot["paths"] if path.endswith(end) and path not in site["paths"]), ""
    )


def last_databases(restic: Restic, site: dict[str, Any]) -> set[str]:
    """Return the databases of a site's last snapshot, as paths below its data."""
    found = restic.snapshots(site["name"])
    if not found:
        return set()
    words = ("dump", "--no-lock", found[-1]["whole"], f"{stage_of(found[-1], site)}/manifest.json")
    return {one["path"] for one in json.loads(restic.run(*words).stdout)["sqlite"]}


def prepare(restic: Restic, site: dict[str, Any], stage: Path) -> dict[str, Any]:
    """Put into the stage what must not be read while others write it; return the manifest, which is there too.

    A damaged file is a fault where the environment names it or the last snapshot has it as a database, and a note
    elsewhere.
    """
    config = restic.config
    here = bool(site["postgresql"]) and not site["postgresql_host"]
    environment = read(site["environment"])
    # an empty login is that of this host's socket
    if (postgresql_of(environment) == {}) != here:
        raise Refused(
            "its DATABASE_URL leads to another database than the one that is backed up. Run site.yml."
        )
    databases = stage / "sqlite"
    databases.mkdir()
    os.chown(databases, 0, grp.getgrnam(site["name"]).gr_gid)
    databases.chmod(0o770)
    within = re.escape(site["data"]) + r"/[^\s?#;,'\"]+"
    named = [path for value in environment.values() for path in re.findall(within, value)]
    program = [sys.executable, "-I", f"{LIBRARY}/backup_copy.py", site["data"], str(databases)]
    program += [json.dumps(site["exclude"]), json.dumps(named)]
    done = as_user(site["name"], program, stdout=subprocess.PIPE)
    if done.returncode:
        raise Refused(f"its SQLite databases can't be copied. {last_line(done.stderr)}")
    told, notes = json.loads(done.stdout), []
    known = last_databases(restic, site) if told["damaged"] else set()
    for path, said in told["damaged"].items():
        whole = os.path.join(site["data"], path)
        if path in known or whole in named:
            raise Refused(
                f"its SQLite databases can't be copied. {shown(whole)}: {said}. Restore it from a snapshot before it "
                "was damaged, or leave it out (backup.exclude)."
            )
        notes.append(
            f"{shown(whole)} is no sound database, and is stored as any other file: {said}"
        )
    notes += [
        f"{shown(os.path.join(site['data'], path))} has {bytes_} and is not in WAL mode: writers may wait for its "
        "copy. Set PRAGMA journal_mode = WAL"
        for path, bytes_ in told["slow"].items()
    ]
    current = Path(site["current"])
    manifest = {
        "version": 1,
        "site": site["name"],
        "host": config["host"],
        "at": now(),
        "release": current.resolve().name if current.exists() else "",
        "releases": sorted(path.name for path in current.parent.glob("releases/*")),
        "sqlite": told["sqlite"],
        "postgresql": site["postgresql"],
        "topics": topics(config["kafka"], f"{site['name']}.", config["kafka_login"])
        if config["kafka"]
        else None,
        "paths": site["paths"],
    }
    if site["postgresql"]:
        dump(site, config, stage / "postgresql.dump")
        manifest["dump"] = digest(stage / "postgresql.dump")
    replace(stage / "manifest.json", json.dumps(manifest, indent=2) + "\n", 0o600)
    return {**manifest, "sha256": digest(stage / "manifest.json"), "notes": notes}


def dump(site: dict[str, Any], config: dict[str, Any], target: Path) -> None:
    """Dump the database of a site: by the socket as the administrator, or from another host as the site itself.

    Of another host it leaves out what a restore has put aside there.
    """
    name, words, user = site["postgresql"], ["pg_dump", "-Fc"], "postgres"
    login: dict[str, str] = {}
    if site["postgresql_host"]:
        login, user = postgresql_of(read(site["environment"])) or {}, site["name"]
        if not login:
            raise Refused(
                f"its DATABASE_URL leads to no other host, and PostgreSQL is on {site['postgresql_host']}. "
                "Run site.yml."
            )
        name = login["PGDATABASE"]
        words.append(f"--exclude-schema={ASIDE}*")
    else:
        words += ["-p", str(config["postgresql_port"])]
    limits = ["prlimit", "--core=0", f"--fsize={room(target.parent)}"]
    with open(target, "wb") as file:
        dumped = as_user(user, [*limits, *words, "--", name], login, stdout=file)
    if dumped.returncode == -signal.SIGXFSZ:
        raise Refused(f"PostgreSQL's database {name} can't be dumped. {no_room(target.parent)}")
    if dumped.returncode:
        said = " ".join(dumped.stderr.split())[-600:]
        raise Refused(f"PostgreSQL's database {name} can't be dumped. {said}")
