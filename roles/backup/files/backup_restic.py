"""restic as switchboard-backup asks it: the repository of this host, and what restic says in plain words."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shlex
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ETC = Path("/etc/switchboard")
STATE = Path("/var/lib/switchboard/backup")
CACHE = Path("/var/cache/switchboard-backup")
# What restic says, and what that means to somebody who never used it.
MEANINGS = (
    (
        "wrong password or no key found",
        "backup_password does not open it. Take the one that it was made with.",
    ),
    (
        "unable to open config file|Is there a repository|repository does not exist",
        "there is no repository, or it lost its file config. Correct backup_repository, or make one: "
        "`switchboard-backup open`.",
    ),
    (
        "contains errors|error walking|ReadFull|invalid data returned|hash does not match|ciphertext verif",
        'its data are damaged. Take a copy of it, and see "Troubleshooting" in restic\'s documentation.',
    ),
    (
        "already locked",
        "another restic is at work there. Wait for it; `switchboard-backup restic unlock` ends the lock of a dead one.",
    ),
    (
        "Host key verification failed|No .* host key is known",
        "its host key is none of backup_ssh_known_hosts. Compare it, then add the line that `ssh-keyscan` prints.",
    ),
    (
        "Permission denied \\(publickey|Too many authentication failures",
        "it does not let backup_ssh_key in. Add the public half to the account's authorized_keys.",
    ),
    (
        "no space left|SSH_FX_FAILURE|quota exceeded",
        "it takes no more data. Make room there.",
    ),
)


class Refused(Exception):
    """What was asked for can't be done; the text says why, and the remedy."""


def now() -> str:
    """Return the time, UTC, as ISO 8601 writes it, in seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def last_line(text: str) -> str:
    """Return the last line of a program's output that says something; of a JSON object its message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else "it said nothing"
    if last.startswith("{"):
        with contextlib.suppress(ValueError):
            return str(json.loads(last).get("message", last))
    return last


class Restic:
    """restic, with the repository and the secrets of this host."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        secret = ETC / "backup.environment.json"
        given = json.loads(secret.read_text(encoding="utf-8")) if secret.exists() else {}
        self.environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": "/root",
            "RESTIC_REPOSITORY": config["repository"],
            "RESTIC_PASSWORD_FILE": str(ETC / "backup.password"),
            "RESTIC_CACHE_DIR": str(CACHE),
            "RESTIC_PROGRESS_FPS": "0.02",  # a line of progress a minute
            **{name: str(value) for name, value in given.items()},
        }

    def command(self, *words: str) -> list[str]:
        """Return the command line; over SFTP with a key and known hosts of its own (restic 0.14 has no sftp.args)."""
        repository = str(self.config["repository"])
        if not repository.startswith("sftp:"):
            return ["restic", *words]
        where = urlsplit(repository if "://" in repository else "")
        # an address of IPv6 has brackets in the URL alone
        login = unquote(f"{where.username}@{where.hostname}")
        if not where.netloc:
            login = repository.removeprefix("sftp:").split(":")[0]
        port = ["-p", str(where.port)] if where.port else []
        options = [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "ConnectTimeout=20",
            "ServerAliveInterval=30",
        ]
        options += [f"UserKnownHostsFile={ETC}/backup.known_hosts", "StrictHostKeyChecking=yes"]
        ssh = ["ssh", "-F", "none", "-i", f"{ETC}/backup.ssh-key", *port]
        ssh += [word for option in options for word in ("-o", option)]
        return ["restic", "-o", f"sftp.command={shlex.join([*ssh, login, '-s', 'sftp'])}", *words]

    def run(self, *words: str, good: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
        """Run restic; raise Refused with what went wrong as one sentence."""
        done = subprocess.run(
            self.command(*words),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode not in good:
            raise Refused(self.meaning(words[0], done.stderr or done.stdout))
        return done

    def meaning(self, verb: str, said: str) -> str:
        """Return what restic said as a sentence with a remedy."""
        about = f"backup_repository is {self.config['repository']}"
        errors = [line for line in said.splitlines() if "error for" in line]
        if verb == "restore" and errors:
            first = errors[0].strip()[:300]
            return f"{about}: not all of the snapshot came back ({len(errors)} errors). {first}"
        for pattern, meaning in MEANINGS:
            if re.search(pattern, said, re.I):
                return f"{about}: {meaning} (restic: {last_line(said)[:300]})"
        return f"{about}: restic failed. {last_line(said)[:600]}"

    def open(self) -> str:
        """Open the repository, or make it; return what was done."""
        try:
            self.run("cat", "config", "--no-lock")
            done = "opened"
        except Refused as error:
            if "there is no repository" not in str(error):
                raise
            self.run("init")
            done = "made"
        marker = hashlib.sha256(self.config["repository"].encode()).hexdigest()[:12]
        (STATE / f"opened-{marker}").touch(mode=0o644)
        return done

    def snapshots(self, site: str = "", host: str = "") -> list[dict[str, Any]]:
        """Return the snapshots of one site, or of each, of a host, the oldest first."""
        words = ["--host", host or self.config["host"]]
        words += ["--tag", f"switchboard,site:{site}" if site else "switchboard"]
        told = json.loads(self.run("snapshots", "--json", "--no-lock", *words).stdout or "[]")
        found = [
            {
                "id": one["id"][:8],
                "at": when(one["time"]).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "site": next(tag[5:] for tag in one["tags"] if tag.startswith("site:")),
                "host": one["hostname"],
                "whole": one["id"],
                "paths": one["paths"],
            }
            for one in told or []
        ]
        return sorted(found, key=lambda one: one["at"])


def when(text: str) -> datetime:
    """Return a time; one without a zone is UTC. More digits of a second than Python takes are cut (RFC 3339)."""
    found = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text.strip()))
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def chosen(found: list[dict[str, Any]], at: str, site: str) -> dict[str, Any]:
    """Return the snapshot that `at` names: latest, the beginning of an id, or a time: the last one before it."""
    if not found:
        raise Refused(
            f"site is {site}: the repository has no snapshot of it from this host. Name the host that made it with "
            "-e restore_from=, or another site; `make backups` lists them."
        )
    if at in ("", "latest"):
        return found[-1]
    known = f"`make backups` lists them, from {found[0]['at']} to {found[-1]['at']}."
    if re.fullmatch("[0-9a-f]{6,64}", at):
        for one in found:
            if one["whole"].startswith(at):
                return one
        raise Refused(f"at is {at}: {site} has no such snapshot. {known}")
    try:
        wanted = when(at)
    except ValueError:
        raise Refused(
            f"at is {at}: that is neither a snapshot nor a time. Write an id, or a time of UTC such as "
            f"2026-11-28T18:00. {known}"
        ) from None
    before = [one for one in found if when(one["at"]) <= wanted]
    if not before:
        raise Refused(f"at is {at}: no snapshot of {site} is that old. {known}")
    return before[-1]
