"""A release of a Django site, built beside the running one and proven before anybody is served by it."""

from __future__ import annotations

import ctypes
import grp
import gzip
import json
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.site_history import Refused, Releases
from ansible.module_utils.site_programs import MIGRATIONS, PROVE, TRY
from ansible.module_utils.site_serving import expected
from ansible.module_utils.site_venv import Environed

TRY_SECONDS = 60  # that a release has to answer the paths of its smoke test
LITTLE_DISK = 256 * 1024 * 1024  # bytes free below which a failed build is not kept


def take(folder: Path) -> None:
    """Take a folder from the user who filled it: all is root's, readable by everybody.

    That user may be at work in it still: from the top down each folder is root's before its entries are looked at, no
    link is followed, and what is neither a folder nor a file is removed.
    """
    os.chown(folder, 0, 0)
    for _, folders, names, at in os.fwalk(folder, follow_symlinks=False):
        os.fchown(at, 0, 0)
        os.fchmod(at, 0o755)
        for name in [*folders, *names]:
            mode = os.stat(name, dir_fd=at, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                os.chown(name, 0, 0, dir_fd=at, follow_symlinks=False)
                continue
            if not stat.S_ISREG(mode):
                os.unlink(name, dir_fd=at)
                continue
            entry = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
            try:
                os.fchown(entry, 0, 0)
                os.fchmod(entry, 0o644)
            finally:
                os.close(entry)


# What is worth compressing: text, from a size at which it no longer fits into one packet anyway.
COMPRESSED = (
    ".css",
    ".html",
    ".ico",
    ".js",
    ".json",
    ".map",
    ".mjs",
    ".svg",
    ".txt",
    ".wasm",
    ".xml",
)
LEAST_COMPRESSED = 1024  # bytes


def compress(folder: Path) -> None:
    """Put a compressed copy beside each static file of text that gets smaller by it; Apache sends it as it is."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            if not name.endswith(COMPRESSED) or os.path.islink(path) or name + ".gz" in names:
                continue
            # No link is followed, nothing is overwritten.
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                whole = file.read()
            # No time and no name in it: the same file gives the same bytes.
            small = gzip.compress(whole, mtime=0)
            if len(whole) >= LEAST_COMPRESSED and len(small) < len(whole):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                with open(os.open(path + ".gz", flags, 0o644), "wb") as file:
                    file.write(small)


def exchange(one: Path, other: Path) -> None:
    """Let two folders change places, in one step where the file system knows how (rename(2), RENAME_EXCHANGE)."""
    libc, here = ctypes.CDLL(None, use_errno=True), -100  # AT_FDCWD
    if libc.renameat2(here, os.fsencode(one), here, os.fsencode(other), 2):
        draft = other.with_name(f".{other.name}.former")
        os.rename(other, draft)
        os.rename(one, other)
        os.rename(draft, one)


class Release(Environed):
    """One release of one site, built on this host; ``before_migrate`` may refuse the database that it is given."""

    before_migrate: Callable[[], None] = staticmethod(lambda: None)
    swapped = False

    @classmethod
    def there(cls, params: Mapping[str, Any], releases: Releases, name: str) -> Release:
        """Return a release that is on the host, with the environment as it is written."""
        folder = Path(params["environment_dir"])
        texts = {
            key: (folder / f"{key}.env").read_text(encoding="utf-8")
            for key in ("settings", "secrets", "secret_key")
        }
        script = (releases.path(name) / "wsgi.py").read_text(encoding="utf-8")
        more = {"id": name, "wsgi_script": script, "hooks": {}}
        return cls({**params, **texts, **more}, releases)

    def unpack(self) -> None:
        """Lay the project out, readable by the site's group alone."""
        shutil.rmtree(self.path, ignore_errors=True)
        (self.path / "app").mkdir(parents=True)
        os.chmod(self.path, 0o755)  # noqa: S103 - Apache passes through to static and wsgi.py
        group = grp.getgrnam(self.site).gr_gid
        with tarfile.open(self.params["archive"]) as archive:
            if hasattr(tarfile, "data_filter"):  # Debian 12's Python may lack it
                archive.extraction_filter = tarfile.data_filter
            archive.extractall(self.path / "app")  # noqa: S202 - made by release_pack: plain files, relative names
        for folder, folders, names in os.walk(self.path / "app"):
            for name in [".", *folders, *names]:
                entry = os.path.join(folder, name)
                os.chown(entry, 0, group)
                os.chmod(
                    entry, 0o750 if os.path.isdir(entry) or os.access(entry, os.X_OK) else 0o640
                )

    def prove(self) -> None:
        """Import the settings and the applications, and run Django's checks."""
        params, level = self.params, self.params["check_fail_level"]
        with self.stage("check"):
            result = self.program(
                PROVE,
                {
                    "wsgi": [params["wsgi_module"], params["wsgi_callable"]],
                    "asgi": [params["asgi_module"], params["asgi_callable"]],
                    "silenced": params["checks_silenced"],
                    "level": level,
                },
            )
            if result.returncode:
                why = {
                    11: (
                        f"django_wsgi_module is {params['wsgi_module']}: importing {params['wsgi_callable']} from it "
                        "fails. Correct the module or the name."
                    ),
                    12: (
                        f"django_asgi_module is {params['asgi_module']}: importing {params['asgi_callable']} from it "
                        "fails. Correct the module or the name."
                    ),
                    13: (
                        f"django_check_fail_level is {level}: `manage.py check --deploy` found what that level "
                        "refuses. Fix what it names, or silence it in the project's settings."
                    ),
                }.get(
                    result.returncode,
                    f"django_settings_module is {params['settings_module']}: it does not import. Correct it, or what "
                    "django_environment gives it.",
                )
                raise Refused(f"{why} It said:\n{self.said(result)}")

    def collect(self) -> None:
        """Collect the static files as the site's user, then take them from it: nobody may change them."""
        account = pwd.getpwnam(self.site)
        self.static.mkdir()
        os.chmod(self.static, 0o755)  # noqa: S103 - Apache serves it
        if not self.params["static_root_variable"]:
            return
        os.chown(self.static, account.pw_uid, account.pw_gid)
        self.run(
            self.manage("collectstatic", "--noinput", "--verbosity", "0"),
            "django_static_root_variable",
            self.params["static_root_variable"],
            "`manage.py collectstatic` failed.",
            "Let the settings read STATIC_ROOT from that environment variable, or leave it empty.",
        )
        take(self.static)
        compress(self.static)

    def recollect(self) -> None:
        """Collect the static files beside those that are served, for another environment: it may name a storage."""
        if not self.params["static_root_variable"]:
            return
        with self.stage("collectstatic"):
            served, self.static = self.path / "static", self.recollected
            shutil.rmtree(self.static, ignore_errors=True)
            self.collect()
            found = self.releases.hashed_of(served)  # pages from before the switch name them
            missing = {name: path for name, path in found if not (self.static / name).exists()}
            self.releases.link(missing, self.static)

    def swap(self) -> None:
        """Let what `recollect` has collected, if it has, change places with what is served."""
        if self.static == self.recollected:
            self.static = self.path / "static"
            exchange(self.recollected, self.static)
            self.swapped = True

    def swap_back(self) -> None:
        """Serve the former static files again, where others have taken their place."""
        if self.swapped:
            exchange(self.recollected, self.static)
            self.swapped = False

    @property
    def recollected(self) -> Path:
        """Where static files are collected again, and where the former ones are until all has passed."""
        return self.path / "static.new"

    def migrations(self, linter: str = "", ask: Sequence[Any] = ()) -> dict[str, Any]:
        """Return the state of the migrations, as MIGRATIONS prints it; ``ask`` names some, each [app, name]."""
        result = self.program(MIGRATIONS, {"linter": linter, "ask": list(ask)})
        if result.returncode:
            raise Refused(
                "django_migrate is true: the database or the migrations can't be read. Correct what it names. "
                f"It said:\n{self.said(result)}"
            )
        found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
        return found

    def judge_migrations(self) -> None:
        """Refuse migrations that the running release could not work with, before they run."""
        if self.params["unsafe_migrations"] == "allow" or not self.releases.live():
            return
        if not self.migrations()["unapplied"]:
            return
        unsafe = self.migrations(str(self.linter()))["unsafe"]
        if unsafe:
            raise Refused(
                f"django_unsafe_migrations is refuse: {'; '.join(unsafe)}. The running release needs what they take "
                "away, or the table is locked meanwhile. Split the change over two releases (docs/releases.md), or let "
                "it through once with -e django_unsafe_migrations=allow."
            )

    def migrate(self) -> None:
        """Bring the database up to the release, and run the commands that come after it."""
        with self.stage("migrate"):
            self.before_migrate()
            if self.params["migrate"]:
                self.judge_migrations()
                self.run_migrate(
                    variable="django_migrate",
                    value="true",
                    why="`manage.py migrate` failed.",
                    remedy="Fix the migration; the database may hold those that came before it.",
                )
            for command in self.params["commands"]:
                self.run(
                    self.manage(*shlex.split(command)),
                    "django_commands",
                    command,
                    "`manage.py` failed with it.",
                    "Correct the command.",
                )

    def attempt(self, url: str, smoke: dict[str, Any]) -> None:
        """Ask the application for the paths of the smoke test, before any visitor does."""
        if not smoke:
            with self.stage("try"):
                return
        scheme, _, host = (url or "http://localhost").partition("://")
        name, _, port = host.partition(":")
        job = {
            "script": self.params["wsgi_script"],
            "path": str(self.path / "wsgi.py"),
            "paths": list(smoke),
            "scheme": scheme,
            "host": host,
            "name": name,
            "port": port or {"http": "80", "https": "443"}[scheme],
        }
        with self.stage("try"):
            try:
                result = self.program(TRY, job, TRY_SECONDS)
            except subprocess.TimeoutExpired:
                raise Refused(
                    f"django_smoke is {smoke}: the release was asked before any visitor was, and did not answer all of "
                    f"it in {TRY_SECONDS} s. Correct the project or the paths."
                ) from None
            try:
                answers = json.loads(result.stdout.splitlines()[-1])
            except (ValueError, IndexError):
                answers = {}
            wrong = [
                f"{path} gives {answers.get(path, 'no answer')}"
                for path, wanted in smoke.items()
                if not expected(answers.get(path, 500), wanted)
            ]
            if wrong:
                raise Refused(
                    f"django_smoke is {smoke}: the release was asked before any visitor was, and {'; '.join(wrong)}. "
                    f"Correct the project or the paths. It said:\n{self.said(result)}"
                )

    def build(self) -> None:
        """Lay the release out with its requirements, and do all that comes before the database is touched."""
        self.step = "requirements"
        self.unpack()
        self.equip()
        self.prove()
        with self.stage("collectstatic"):
            self.collect()

    def keep_for_a_look(self) -> str:
        """Move a refused build out of the way, where somebody can look at it; return where, or an empty text.

        Its pack is removed, and where the disk is nearly full the build too.
        """
        Path(self.params["archive"]).unlink(missing_ok=True)
        failed = self.home / "failed"
        shutil.rmtree(failed, ignore_errors=True)  # one stays
        if not self.path.is_dir() or shutil.disk_usage(self.home).free < LITTLE_DISK:
            shutil.rmtree(self.path, ignore_errors=True)
            return ""
        failed.mkdir(mode=0o755)
        try:
            os.replace(self.path, failed / self.id)
        except OSError:  # it can't be moved
            shutil.rmtree(self.path, ignore_errors=True)
            return ""
        return str(failed / self.id)


def differences(release: Release, previous: str, files: list[str]) -> list[dict[str, str]]:
    """Return what changes, for the diff; of secrets it names the file alone."""
    found = [
        {
            "before": f"{release.releases.current} -> {previous}\n",
            "after": f"{release.releases.current} -> {release.id}\n",
        }
    ]
    for name in files:
        path = release.folder / name
        if name == "settings.env":
            before = path.read_text(encoding="utf-8") if path.is_file() else ""
            header = {"before_header": str(path), "after_header": str(path)}
            found.append({**header, "before": before, "after": release.files[name]})
        else:
            found.append({"prepared": f"{path}: other values\n"})
    return found
