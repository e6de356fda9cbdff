"""What happened to the releases of a site: its history, its lock, and the releases that are on the host."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LINES = 1000  # events that the history keeps
RECENT = 3600  # seconds in which a pack may wait for its release, and a release for its switch
WAITS = ".waits"  # in a release that is built and was never switched to
PAUSED = ".paused.json"  # in the home of a site that is closed here while another host restores it
PAUSE = 0.5  # seconds between two attempts to take the lock


class Refused(Exception):
    """The release can't be served; the text names the variable or the step, its value and the remedy."""


def attempts(*parts: Callable[[], object]) -> str:
    """Do each part, whatever becomes of the others; return what went wrong, or an empty text."""
    wrong = []
    for part in parts:
        try:
            part()
        except Exception as error:
            wrong.append(str(error) or type(error).__name__)
    return "; ".join(wrong)


def in_one_line(text: str) -> str:
    """Return a refusal as a list shows it: its first line and, where that introduces what a command said, its end."""
    first, *more = text.strip().splitlines() or [""]
    last = next((line.strip() for line in reversed(more) if line.strip()), "")
    return (f"{first} {last}" if first.endswith("It said:") and last else first)[:500]


def now() -> str:
    """Return the time of the clock, UTC, as ISO 8601 writes it, in seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def put(path: Path, text: str, mode: int, group: int | None = None) -> None:
    """Write a file in one step, for root and, where one is named, a group."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        if group is not None:
            os.fchown(file.fileno(), 0, group)
        os.fchmod(file.fileno(), mode)
    os.replace(draft, path)


@contextmanager
def locked(home: Path, who: str, seconds: float) -> Iterator[None]:
    """Hold the lock of a site's releases; it ends with the process, however that ends.

    Raises:
        Refused: another process has held it for ``seconds``; the text says whose it is and since when.
    """
    with open(os.open(home / ".release.lock", os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        end = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    holder = file.read().strip() or "somebody"
                    raise Refused(
                        f"{holder} changes this site's release and has not ended in {seconds:g} s. Wait for it, "
                        "and try again."
                    ) from None
                time.sleep(PAUSE)  # until the lock is free; the time-out above raises
        file.truncate(0)
        file.write(f"{who} (since {now()})")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


class Waiting:
    """How far a release is that waits for its switch, until it is built and tried on all hosts of its site.

    Args:
        folder: the release's.
        options: what it is built with; what was built with others does not count.
        seconds: the age from which on what was done does not count either.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any], seconds: float) -> None:
        self.file = folder / WAITS
        # a digest of secrets too, for root alone
        self.of = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()
        told = self.told(folder)
        self.built = told.get("of") == self.of and time.time() - self.file.stat().st_mtime < seconds
        self.tried = self.built and bool(told["tried"])
        self.seconds: dict[str, float] = told["seconds"] if self.built else {}

    @staticmethod
    def told(folder: Path) -> dict[str, Any]:
        """Return what was noted of a release that waits: of, tried, seconds, at, by and commit."""
        file = folder / WAITS
        found: dict[str, Any] = (
            json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        )
        return found

    def keep(self, **more: Any) -> None:
        """Note how far it is: tried, seconds, by and commit."""
        put(self.file, json.dumps({"of": self.of, "at": now(), **more}), 0o600)

    def end(self) -> None:
        """Note that it waits no longer."""
        self.file.unlink(missing_ok=True)


class Releases:
    """The releases of a site, on this host.

    Args:
        home: the site's home.
        hashed: a regular expression for the static files whose names carry a hash of their content; empty, none do.
    """

    def __init__(self, home: Path, hashed: str = "") -> None:
        self.home, self.hashed = home, hashed
        self.current = home / "current"
        self.history = home / "history.jsonl"
        # there while a rollback has taken migrations back and has not ended: the release that is served lacks them
        self.reversing = home / ".reversing"

    def path(self, release: str) -> Path:
        """Return the folder of a release."""
        return self.home / "releases" / release

    def live(self) -> str:
        """Return the id of the release that is served, or an empty text."""
        return os.path.basename(os.readlink(self.current)) if self.current.is_symlink() else ""

    def ready(self, release: str) -> bool:
        """Say whether a release is built and passed its checks."""
        return (self.path(release) / ".ready").exists()

    def taken_back(self, release: str) -> bool:
        """Say whether somebody rolled back from this release."""
        return (self.path(release) / ".rolled-back").exists()

    def mark(self, release: str) -> None:
        """Note that somebody rolled back from a release."""
        (self.path(release) / ".rolled-back").touch()

    def unmark(self, release: str) -> None:
        """Forget that somebody rolled back from a release."""
        (self.path(release) / ".rolled-back").unlink(missing_ok=True)

    def kept(self) -> list[str]:
        """Return the ids of the releases that can serve, the one deployed last first."""
        folder = self.home / "releases"
        found = [
            path for path in (folder.iterdir() if folder.is_dir() else ()) if self.ready(path.name)
        ]
        found.sort(key=lambda path: (path / ".ready").stat().st_mtime_ns, reverse=True)
        return [path.name for path in found]

    def waiting(self) -> list[str]:
        """Return the ids of the releases that are built and wait for their switch."""
        marks = (self.home / "releases").glob(f"*/{WAITS}")
        return sorted(mark.parent.name for mark in marks if not self.ready(mark.parent.name))

    def discard(self, but: str) -> None:
        """Remove the releases that wait for their switch, except one, with what they have lent."""
        for release in self.waiting():
            if release != but:
                self.take_back(release)
                shutil.rmtree(self.path(release))

    def before(self, release: str) -> str:
        """Return the id of the release to roll back to from another, or an empty text.

        It is the one that was deployed before it and that nobody rolled back from.
        """
        kept = self.kept()
        older = kept[kept.index(release) + 1 :] if release in kept else kept
        return next((name for name in older if not self.taken_back(name)), "")

    def switch(self, release: str) -> None:
        """Point the link at a release in one step (rename(2) is atomic)."""
        with suppress(OSError):  # without room for it the way back must be open all the same
            self.lend(release)
        draft = self.home / ".current.new"
        draft.unlink(missing_ok=True)
        draft.symlink_to(os.path.join("releases", release))
        os.replace(draft, self.current)

    def lend(self, release: str) -> None:
        """Let a release have the hashed static files of the others: pages name them that were made before the switch.

        Others are those that are kept, and those that wait for their switch, which another host may serve already.
        What it has from others is listed in ``.lent`` of its folder and is not handed on, so that a file ends with the
        releases around its own.
        """
        folder, listed = self.path(release) / "static", self.path(release) / ".lent"
        if not self.hashed or not folder.is_dir():
            return
        lent = {
            name: path
            for other in [*self.kept(), *self.waiting()]
            if other != release
            for name, path in self.own(other)
        }
        missing = {name: path for name, path in lent.items() if not os.path.lexists(folder / name)}
        if missing:
            # before the first link: what a killed run has lent is known as such
            names = sorted({*self.lent(release), *missing})
            put(listed, "".join(f"{name}\n" for name in names), 0o644)
        self.link(missing, folder)

    def link(self, files: Mapping[str, Path], folder: Path) -> None:
        """Link static files into a folder of them, under their names there, as far as they can be."""
        for name, path in files.items():
            # no room, or the release has a file where the other has a folder
            with suppress(OSError):
                for place in reversed(Path(name).parents):
                    if not (folder / place).is_dir():
                        (folder / place).mkdir()
                        (folder / place).chmod(0o755)  # Apache serves it, whatever the umask
                os.link(path, folder / name, follow_symlinks=False)

    def take_back(self, release: str) -> None:
        """Remove what a release that nobody was served by has lent to the one that is served."""
        live = self.live()
        lent = set(self.lent(live))
        for name, path in self.own(release):
            there = self.path(live) / "static" / name
            if name in lent and there.exists() and there.samefile(path):
                there.unlink()

    def lent(self, release: str) -> list[str]:
        """Return the static files that a release has from others, relative to its folder of them."""
        listed = self.path(release) / ".lent"
        return listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []

    def own(self, release: str) -> Iterator[tuple[str, Path]]:
        """Return the hashed static files that a release has collected itself, with their compressed copies."""
        lent = set(self.lent(release))
        found = self.hashed_of(self.path(release) / "static")
        yield from ((name, path) for name, path in found if name not in lent)

    def hashed_of(self, folder: Path) -> Iterator[tuple[str, Path]]:
        """Return the hashed files in a folder of static files."""
        hashed = re.compile(self.hashed)
        for place, _, names in os.walk(folder) if self.hashed else ():
            for name in names:
                path = Path(place, name)
                known = str(path.relative_to(folder))
                if hashed.search(f"/{known.removesuffix('.gz')}"):
                    yield known, path

    def events(self) -> list[dict[str, Any]]:
        """Return what happened, the oldest first; a line that a crash cut off is left out."""
        found = []
        if self.history.exists():
            for line in self.history.read_text(encoding="utf-8").splitlines():
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue
        return found

    def proven(self) -> str:
        """Return the id of the release that was last served with all steps done, or an empty text."""
        served = [told["release"] for told in self.events() if told["event"] != "refused"]
        return str(served[-1]) if served else ""

    def note(self, event: str, release: str, **more: Any) -> None:
        """Add a line to the history: ``event`` is released, refused or rolled back; ``more`` has no secret."""
        line = {"at": now(), "event": event, "release": release}
        line |= {key: value for key, value in more.items() if value}
        line |= {"why": in_one_line(line["why"])} if "why" in line else {}
        lines = [json.dumps(old) for old in self.events()[1 - LINES :]] + [json.dumps(line)]
        put(self.history, "".join(f"{text}\n" for text in lines), 0o640)

    def prune(self, keep: int, *used: str) -> None:
        """Remove releases beyond the newest ``keep``, and the packs and environments that nobody uses."""
        kept = self.kept()
        unfinished = [
            path.name for path in (self.home / "releases").iterdir() if path.name not in kept
        ]
        # nobody builds meanwhile: the lock is held
        gone = [name for name in [*kept[keep:], *unfinished] if name not in used]
        for name in gone:
            shutil.rmtree(self.path(name))
        for archive in (self.home / "archives").glob("*.tar.gz"):
            name = archive.name.removesuffix(".tar.gz")
            # one that is no release yet may wait for the end of this one
            waits = name not in gone and time.time() - archive.stat().st_mtime < RECENT
            if not self.path(name).is_dir() and not waits:
                archive.unlink()
        folders = [*(self.home / "releases").iterdir(), *(self.home / "failed").glob("*")]
        needed = {os.path.realpath(path / "venv") for path in folders}
        for path in (self.home / "venvs").iterdir():
            if os.path.realpath(path) not in needed:
                shutil.rmtree(path)

    def table(self) -> list[dict[str, str]]:
        """Return what is on the host, the newest first: id, state, and of what the history knows at, by, commit, why.

        The state is waiting, which is a build that nobody was served by yet, live, kept, rolled back, or failed, which
        is a build that was refused and is there for a look.
        """
        known: dict[str, dict[str, Any]] = {}
        for event in self.events():
            if event["event"] != "rolled back":
                known[event["release"]] = event
        live = self.live()
        rows = [(name, "waiting") for name in self.waiting()]
        known |= {name: Waiting.told(self.path(name)) for name, _ in rows}
        for name in self.kept():
            state = "rolled back" if self.taken_back(name) else "kept"
            rows.append((name, "live" if name == live else state))
        rows += [(path.name, "failed") for path in sorted((self.home / "failed").glob("*"))]
        keys = ("at", "by", "commit", "step", "why")
        return [
            {"release": name, "state": state}
            | {key: str(known.get(name, {}).get(key, "")) for key in keys}
            for name, state in rows
        ]
