#!/usr/bin/python3
"""Back up the sites of this host with restic, and fetch what was backed up.

    switchboard-backup open                       open the repository, or make it
    switchboard-backup run [SITE]                 one snapshot of each site, or of one
    switchboard-backup check                      let restic check the repository, and read some of its data
    switchboard-backup list [SITE]                the snapshots of this host as JSON, the newest last
    switchboard-backup fetch SITE AT FOLDER       lay a snapshot out in a new folder: data, environment, dumps
    switchboard-backup restic WORDS               restic itself, with the repository and the password of this host

It runs as root. /etc/switchboard/backup.json says what belongs to each site; the password, the SSH key and what
else restic needs stand beside it in files that root alone reads. What goes wrong is one sentence on stderr and an
exit status of 1. Another run is waited for as long as --wait of run and check says, in seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LIBRARY = "/usr/local/lib/switchboard"
sys.path.insert(0, LIBRARY)
from backup_copy import digest, size  # noqa: E402 - it stands there
from backup_restic import (  # noqa: E402 - it stands there
    ETC,
    STATE,
    Refused,
    Restic,
    chosen,
    last_line,
    now,
)
from backup_stage import prepare, replace, stage_of  # noqa: E402 - it stands there

STATUS = STATE / "status.json"
BESIDE = ("", "-wal", "-shm", "-journal")


@contextlib.contextmanager
def locked(seconds: float = 0) -> Iterator[None]:
    """Let nobody else back up meanwhile; the lock ends with the process, however that ends.

    Raise Refused where somebody else has it for longer than so many seconds.
    """
    until = time.monotonic() + seconds
    with open(os.open(STATE / ".lock", os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise Refused(
                        f"another run is at work: {file.read().strip()}. Wait for it, and try again."
                    ) from None
            time.sleep(
                0.5
            )  # between two tries, until the time above is over: flock(2) itself waits for ever
        file.truncate(0)
        file.write(f"process {os.getpid()}, since {now()}")
        file.flush()
        yield


def escaped(path: str) -> str:
    """Return a path as a pattern of restic that matches it alone."""
    return re.sub(r"([\\*?\[])", r"\\\1", path)


def unreadable(said: str) -> str:
    """Return the first error of `restic backup --json` but for files that were removed meanwhile, or an empty text."""
    for line in said.splitlines():
        if '"message_type":"error"' in line and not re.search(r'no such file|"Err":2\b', line):
            told = json.loads(line)
            return f"{told.get('item')}: {told['error'].get('message') or told['error']}"
    return ""


def left_out(restic: Restic, snapshot: str, stage: Path, manifest: dict[str, Any]) -> str:
    """Return the first file of the stage that a snapshot lacks, or an empty text: a pattern matches anywhere."""
    words = ("ls", "--json", "--no-lock", "--recursive", snapshot, str(stage))
    told = [json.loads(line) for line in restic.run(*words).stdout.splitlines() if line.strip()]
    there = {one.get("path") for one in told}
    needed = ["manifest.json", *(["postgresql.dump"] if manifest["postgresql"] else [])]
    needed += [f"sqlite/{one['copy']}" for one in manifest["sqlite"]]
    return next((name for name in needed if f"{stage}/{name}" not in there), "")


def back_up(restic: Restic, site: dict[str, Any]) -> dict[str, Any]:
    """Make one snapshot of a site; return what is to be known of it."""
    config, began = restic.config, time.monotonic()
    stage = Path(config["stage"]) / site["name"]
    stage.mkdir()
    stage.chmod(0o711)  # the site's user passes through to its own part
    try:
        manifest = prepare(restic, site, stage)
        live = [os.path.join(site["data"], one["path"]) for one in manifest["sqlite"]]
        words = ["backup", "--json", "--host", config["host"]]
        words += ["--tag", "switchboard", "--tag", f"site:{site['name']}"]
        words += [f"--exclude={escaped(path + end)}" for path in live for end in BESIDE]
        words += [f"--exclude={pattern}" for pattern in site["exclude"]]
        places = [site["data"], site["environment"], *site["paths"]]
        lacking = [path for path in places if not os.path.exists(path)]
        if lacking:
            raise Refused(
                f"there is no {lacking[0]}. Take it out of the inventory, or run site.yml."
            )
        if links := [path for path in places if os.path.islink(path)]:
            raise Refused(
                f"{links[0]} is a link, and a snapshot would have the link alone. Mount there what it leads to "
                "(mount --bind), or name that."
            )
        done = restic.run(*words, "--", *places, str(stage), good=(0, 3))
        told = json.loads(last_line(done.stdout))
        if unread := unreadable(done.stderr):
            with contextlib.suppress(Refused):
                restic.run("forget", told["snapshot_id"])  # nobody is to restore it
            raise Refused(f"not all of it could be read. {unread}")
        if lost := left_out(restic, told["snapshot_id"], stage, manifest):
            with contextlib.suppress(Refused):
                restic.run("forget", told["snapshot_id"])
            raise Refused(
                f"backup.exclude takes {lost} away, without which nothing can be restored. Begin each of its patterns "
                f"with {site['data']}/."
            )
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return {
        "good": True,
        "at": manifest["at"],
        "seconds": round(time.monotonic() - began, 1),
        "snapshot": told["snapshot_id"][:8],
        "bytes": told["total_bytes_processed"],
        "added": told["data_added"],
        "release": manifest["release"],
        "manifest": manifest["sha256"],
        "notes": manifest["notes"],
        "why": "",
    }


def read_status() -> dict[str, Any]:
    """Return what the runs before this one have noted."""
    try:
        status: dict[str, Any] = json.loads(STATUS.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"sites": {}}
    return status


def run(config: dict[str, Any], only: str) -> int:
    """Back up one site or each; one that fails keeps no other from its snapshot."""
    sites = [site for site in config["sites"] if only in ("", site["name"])]
    if not config["sites"] and not only:
        print("this host backs up no site; another one of its sites' hosts does")
        return 0
    if not sites:
        raise Refused(
            f"site is {only}: this host backs up {', '.join(one['name'] for one in config['sites'])}."
        )
    restic, status, began = Restic(config), read_status(), time.monotonic()
    known = {site["name"] for site in config["sites"]}
    status["sites"] = {name: told for name, told in status["sites"].items() if name in known}
    status |= {"began": now(), "good": True, "why": ""}
    wrong = []
    with contextlib.suppress(Refused):
        restic.run("unlock")  # what a killed run left: restic judges that it is nobody's any more
    stage = Path(config["stage"])
    stage.mkdir(parents=True, exist_ok=True)
    stage.chmod(0o711)
    for name in known:  # a run that was killed has left it, and it takes room
        shutil.rmtree(stage / name, ignore_errors=True)
    for site in sites:
        name = site["name"]
        before = status["sites"].get(name, {})
        try:
            told = back_up(restic, site)
            told["last_good"] = {key: told[key] for key in ("at", "snapshot", "bytes")}
            added = f"{size(told['bytes'])}, {size(told['added'])} of it new"
            print(f"{name}: snapshot {told['snapshot']}, {added}, {told['seconds']} s")
            for note in told["notes"]:
                print(f"{name}: {note}")
        except (Refused, OSError, ValueError, KeyError) as error:
            told = {"good": False, "at": now(), "why": str(error) or repr(error)}
            told["last_good"] = before.get("last_good")
            wrong.append(f"{name}: {told['why']}")
        status["sites"][name] = told
    try:
        if good := [site["name"] for site in sites if status["sites"][site["name"]]["good"]]:
            forget(restic, good)
    except Refused as error:
        wrong.append(f"old snapshots stay: {error}")
    status |= {"ended": now(), "seconds": round(time.monotonic() - began, 1)}
    status |= {"good": not wrong, "why": "; ".join(wrong)}
    replace(STATUS, json.dumps(status, indent=2) + "\n", 0o644)
    for text in wrong:
        print(text, file=sys.stderr)
    return 1 if wrong else 0


def forget(restic: Restic, sites: list[str]) -> None:
    """Let go of the snapshots that nobody wants to keep, and of their data; each of the last day stays."""
    words = ["--host", restic.config["host"], "--group-by", "host,tags", "--keep-within", "1d"]
    words += [word for name in sites for word in ("--tag", f"switchboard,site:{name}")]
    for span, count in restic.config["keep"].items():
        words += [f"--keep-{span}", str(count)] if count else []
    restic.run("forget", "--prune", *words)


def check(config: dict[str, Any]) -> int:
    """Let restic check the repository; note how that went."""
    if not config["sites"]:
        print("this host backs up no site; another one of its sites' hosts does")
        return 0
    began, why = time.monotonic(), ""
    try:
        Restic(config).run("check", f"--read-data-subset={config['check_subset']}")
    except Refused as error:
        why = str(error)
    status = read_status()
    status["check"] = {
        "at": now(),
        "good": not why,
        "why": why,
        "seconds": round(time.monotonic() - began, 1),
    }
    replace(STATUS, json.dumps(status, indent=2) + "\n", 0o644)
    print(
        why or f"the repository is sound: {status['check']['seconds']} s",
        file=sys.stderr if why else sys.stdout,
    )
    return 1 if why else 0


def fetch(config: dict[str, Any], name: str, at: str, folder: Path, host: str) -> dict[str, Any]:
    """Lay a snapshot of a site out in a folder that is not there yet, each database in its place."""
    site = next((one for one in config["sites"] if one["name"] == name), None)
    if site is None:
        raise Refused(
            f"site is {name}: this host backs up {', '.join(one['name'] for one in config['sites'])}."
        )
    restic, began = Restic(config), time.monotonic()
    one = chosen(restic.snapshots(name, host), at, name)
    needed = json.loads(restic.run("stats", "--json", "--no-lock", one["whole"]).stdout)[
        "total_size"
    ]
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise Refused(
            f"{folder.parent} has room for {size(free)}, and the snapshot {one['id']} has {size(needed)}. Make room."
        )
    folder.mkdir(mode=0o700)
    try:
        whole = folder / "whole"
        restic.run("restore", "--no-lock", one["whole"], "--target", str(whole))
        told = laid_out(one, site, whole)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return told | {
        "port": config["postgresql_port"],
        "bytes": needed,
        "seconds": round(time.monotonic() - began, 1),
    }


def laid_out(one: dict[str, Any], site: dict[str, Any], whole: Path) -> dict[str, Any]:
    """Look whether a snapshot came back whole, and put each database in its place; return where all is."""

    def inside(path: str | Path) -> Path:
        return whole / str(path).lstrip("/")

    stage, data = inside(stage_of(one, site)), inside(site["data"])
    about = f"the snapshot {one['id']} is not whole:"
    if not (stage / "manifest.json").is_file() or data.is_symlink() or not data.is_dir():
        raise Refused(f"{about} it has no manifest or no data. Take another one.")
    manifest: dict[str, Any] = json.loads((stage / "manifest.json").read_text(encoding="utf-8"))
    for told in manifest["sqlite"]:
        path = Path(told["path"])
        # the site's own user has made the copies, and said what they are
        if (
            not re.fullmatch("[0-9]+", told["copy"])
            or path.is_absolute()
            or ".." in path.parts
            or (stage / "sqlite" / told["copy"]).is_symlink()
        ):
            raise Refused(f"{about} {told['path']} is none of its files. Take another one.")
        copy, target = stage / "sqlite" / told["copy"], data / path
        # a link in the way would lead out of the folder
        if target.parent.resolve() != data.resolve() / path.parent:
            raise Refused(f"{about} a link stands in the way of {told['path']}. Take another one.")
        if not copy.is_file() or digest(copy) != told["sha256"]:
            raise Refused(f"{about} {told['path']} differs. Take another one.")
        copy.chmod(told["mode"] & 0o777)
        target.parent.mkdir(parents=True, exist_ok=True)  # the folder may have been left out
        copy.replace(target)
    dump = stage / "postgresql.dump"
    if manifest["postgresql"] and not (dump.is_file() and digest(dump) == manifest["dump"]):
        raise Refused(f"{about} PostgreSQL's dump differs. Take another one.")
    return {
        **{key: manifest[key] for key in ("release", "postgresql", "topics")},
        "snapshot": one["id"],
        "at": one["at"],
        "data": str(data),
        "environment": str(inside(site["environment"])),
        "now": site["postgresql"],
        "dump": str(dump) if manifest["postgresql"] else "",
        "paths": {path: str(inside(path)) for path in manifest["paths"] if inside(path).exists()},
    }


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="switchboard-backup", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    words = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in ("open", "check"):
        words.add_parser(verb)
    for verb in ("run", "list"):
        words.add_parser(verb).add_argument("site", nargs="?", default="")
    for verb in ("run", "check"):
        words.choices[verb].add_argument("--wait", type=float, default=0, metavar="SECONDS")
    some = words.add_parser("fetch")
    for name in ("site", "at", "folder"):
        some.add_argument(name)
    for verb in ("list", "fetch"):
        words.choices[verb].add_argument("--host", default="")
    words.choices["list"].add_argument("--at", default="")
    words.add_parser("restic").add_argument("words", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    os.umask(0o077)
    config = json.loads((ETC / "backup.json").read_text(encoding="utf-8"))
    restic = Restic(config)
    if given.verb == "restic":
        command = restic.command(*given.words[given.words[:1] == ["--"] :])
        os.execvpe(command[0], command, restic.environment)  # noqa: S606 - no shell is wanted
    if given.verb == "list":
        found = restic.snapshots(given.site, given.host)
        print(json.dumps([chosen(found, given.at, given.site)] if given.at else found, indent=2))
        return 0
    with locked(getattr(given, "wait", 0)):
        if given.verb == "open":
            print(restic.open())
            return 0
        if given.verb == "fetch":
            print(json.dumps(fetch(config, given.site, given.at, Path(given.folder), given.host)))
            return 0
        return run(config, given.site) if given.verb == "run" else check(config)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Refused, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
