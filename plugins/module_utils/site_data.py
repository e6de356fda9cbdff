"""Files that a site wrote, as parts that change places with what a snapshot had, and back."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from ansible.module_utils.site_history import Refused, put


def aside(path: Path, stamp: str) -> Path:
    """Return where something is kept that a restore replaced."""
    return path.with_name(f"{path.name}.before-restore-{stamp}")


def own(folder: Path, ids: tuple[int, int], former: tuple[int, int] | None = None) -> None:
    """Give everything below a folder that nobody else reaches to a user and a group.

    With ``former`` only what belonged to these, on the host that made the snapshot.
    """
    for place, folders, names in os.walk(folder):
        for name in (".", *folders, *names):
            path = os.path.join(place, name)
            told = os.lstat(path)
            uid = ids[0] if former is None or told.st_uid == former[0] else told.st_uid
            gid = ids[1] if former is None or told.st_gid == former[1] else told.st_gid
            os.chown(path, uid, gid, follow_symlinks=False)
            if stat.S_ISREG(told.st_mode):  # chown(2) clears what it may not keep
                os.chmod(path, stat.S_IMODE(told.st_mode) & 0o1777)


def mounted_below(folder: Path) -> str:
    """Return a folder below another one that is on another file system, or an empty text."""
    device = folder.stat().st_dev
    for place, folders, _ in os.walk(folder):
        for name in folders:
            path = os.path.join(place, name)
            if os.lstat(path).st_dev != device:
                return path
    return ""


@dataclass
class Place:
    """A file or folder that another one replaces: ``new`` becomes ``path``, and what was there ``kept``.

    A folder that is there stays, and its entries change places: Apache's sandbox has it mounted (ReadWritePaths), and
    such a mount follows a folder to its new name.
    """

    path: Path
    new: Path
    kept: Path
    came: list[str] = field(default_factory=list)  # the entries of the new one
    inside: bool = False  # whether entries change places
    emptied: bool = False  # whether all that was there is in `kept`

    def prepare(self) -> None:
        """Bring the new one onto the file system of the place, so that each part is taken in one step."""
        if os.path.ismount(self.path):
            raise Refused(
                f"{self.path} is a file system of its own, and what is there could not be kept beside it. Mount it "
                "one folder above."
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.inside = self.path.is_dir() and self.new.is_dir() and not self.path.is_symlink()
        if self.inside and (mount := mounted_below(self.path)):
            raise Refused(
                f"{mount} is a file system of its own, which can't change places. Unmount it, restore, move what came "
                "for it aside, mount it again, and copy from there what you miss in it. Nothing was changed."
            )
        if self.new.lstat().st_dev != self.path.parent.stat().st_dev:
            self.copy_near()
        if self.inside:
            self.came = sorted(os.listdir(self.new))

    def copy_near(self) -> None:
        """Copy the new one beside the place."""
        draft = self.path.with_name(f".{self.path.name}.restore")
        shutil.rmtree(draft, ignore_errors=True)
        words = ["cp", "-a", "--", str(self.new), str(draft)]
        copied = subprocess.run(words, capture_output=True, text=True, check=False)
        if copied.returncode:
            shutil.rmtree(draft, ignore_errors=True)
            raise Refused(f"{self.path} can't be restored: {copied.stderr.strip()[-300:]}")
        self.new = draft

    def take(self) -> None:
        """Let the new one take its place."""
        if not self.inside:
            if os.path.lexists(self.path):
                self.path.rename(self.kept)
            self.new.rename(self.path)
            return
        told = self.path.stat()
        self.kept.mkdir(mode=0o700)
        os.chown(self.kept, told.st_uid, told.st_gid)
        for name in os.listdir(self.path):
            (self.path / name).rename(self.kept / name)
        self.emptied = True
        for name in self.came:
            (self.new / name).rename(self.path / name)

    def back(self) -> None:
        """Let the former one have its place again, however far the change had come."""
        if not self.inside:
            if os.path.lexists(self.path) and not os.path.lexists(self.new):
                self.path.rename(self.new)
            if os.path.lexists(self.kept):
                self.kept.rename(self.path)
            return
        if not self.kept.is_dir():
            return
        # what the site has made since then is new, too
        former = set(os.listdir(self.kept))
        taken = self.emptied and not any(os.path.lexists(self.new / name) for name in self.came)
        for name in os.listdir(self.path):
            arrived = name in self.came and not os.path.lexists(self.new / name)
            if arrived or name in former or taken:
                (self.path / name).rename(self.new / name)
        for name in former:
            (self.kept / name).rename(self.path / name)
        self.kept.rmdir()


@dataclass
class Secret:
    """A file of the site's environment, for root and the site's group alone."""

    path: Path
    text: str
    group: int
    kept: Path
    former: str | None = None

    def prepare(self) -> None:
        """See what there is."""
        self.former = self.path.read_text(encoding="utf-8") if self.path.is_file() else None

    def take(self) -> None:
        """Write it, and keep the one that was there."""
        if self.former not in (None, self.text):
            put(self.kept, self.former, 0o600, group=0)
        put(self.path, self.text, 0o640, self.group)

    def back(self) -> None:
        """Write the former one again."""
        if self.former is None:
            self.path.unlink(missing_ok=True)
        else:
            put(self.path, self.former, 0o640, self.group)
            self.kept.unlink(missing_ok=True)
