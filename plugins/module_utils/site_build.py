"""A release of a Django site, built beside the running one and proven before anybody is served by it."""

from __future__ import annotations

import grp
import gzip
import hashlib
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
from ansible.module_utils.site_project import Project, last_lines
from ansible.module_utils.site_serving import expected

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


def compress(folder: str) -> None:
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


def ran(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command as root; what it makes may be read by everybody."""
    return subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        umask=0o022,
        check=False,
    )


# What Python runs when it starts in the environment (site, "import" lines): a process goes on importing from the one
# that it began with, although /srv/<site>/current leads to another by now.
PINNED = "import os, sys; sys.path[:] = [each and os.path.realpath(each) for each in sys.path]\n"


class Release(Project):
    """One release of one site, built on this host; ``before_migrate`` may refuse the database that it is given."""

    before_migrate: Callable[[], None] = staticmethod(lambda: None)

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

    def virtualenv(self) -> None:
        """Make the virtual environment of the locked requirements, or take the one that is there."""
        requirements = self.project / self.params["requirements"]
        version = subprocess.run(
            [self.params["python"], "-VV"], capture_output=True, check=True
        ).stdout
        key = hashlib.sha256(
            requirements.read_bytes()
            + version
            + " ".join([*self.params["pip_args"], PINNED]).encode()
        ).hexdigest()[:12]
        path = self.home / "venvs" / key
        if not (path / ".complete").exists():
            shutil.rmtree(path, ignore_errors=True)
            path.parent.mkdir(exist_ok=True)
            hashes = ["--require-hashes"] if self.params["require_hashes"] else []
            made = ran([self.params["python"], "-m", "venv", str(path)])
            if not made.returncode:
                made = self.pip(path / "bin" / "python", *hashes, requirements=requirements)
            if made.returncode:
                shutil.rmtree(path, ignore_errors=True)
                raise Refused(
                    f"django_requirements is {self.params['requirements']}: pip could not install it. "
                    "Correct the lock, or make the package index reachable from this host. "
                    f"The running release is untouched. It said:\n{last_lines(made.stdout)}"
                )
            packages = next((path / "lib").glob("python3*/site-packages"))
            (packages / "switchboard.pth").write_text(PINNED, encoding="utf-8")
            (path / ".complete").touch()
        (self.path / "venv").symlink_to(os.path.relpath(path, self.path))

    def pip(
        self, python: Path, *words: str, requirements: Path
    ) -> subprocess.CompletedProcess[str]:
        """Let a Python's pip install what a file names, with the site's own arguments."""
        quiet = ["install", "--no-input", "--disable-pip-version-check", "--quiet"]
        more = [*words, *self.params["pip_args"], "-r", str(requirements)]
        return ran([str(python), "-m", "pip", *quiet, *more])

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

    def collect(self, pretend: bool = False) -> None:
        """Collect the static files as the site's user, then take them from it: nobody may change them.

        With ``pretend`` only try whether they could be.
        """
        account = pwd.getpwnam(self.site)
        if not pretend:
            self.static.mkdir()
            os.chmod(self.static, 0o755)  # noqa: S103 - Apache serves it
        if not self.params["static_root_variable"]:
            return
        if not pretend:
            os.chown(self.static, account.pw_uid, account.pw_gid)
        self.run(
            self.manage("collectstatic", "--noinput", "--verbosity", "0", *["--dry-run"] * pretend),
            "django_static_root_variable",
            self.params["static_root_variable"],
            "`manage.py collectstatic` failed.",
            "Let the settings read STATIC_ROOT from that environment variable, or leave it empty.",
        )
        if pretend:
            return
        take(self.static)
        compress(self.static)

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

    def linter(self) -> Path:
        """Return the folder of django-migration-linter, which is installed when it is first needed."""
        text = self.params["linter"]
        path = Path(self.params["linter_dir"]) / hashlib.sha256(text.encode()).hexdigest()[:12]
        if not path.is_dir():
            draft = path.with_suffix(".new")
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            lock = draft / "linter.txt"
            lock.write_text(text, encoding="utf-8")
            words = ["--no-deps", "--require-hashes", "--target", str(draft)]
            result = self.pip(self.python, *words, requirements=lock)
            if result.returncode:
                shutil.rmtree(draft, ignore_errors=True)
                raise Refused(
                    "django_unsafe_migrations is refuse: pip could not install django-migration-linter, which tells. "
                    "Make the package index reachable from this host, or set it to allow. "
                    f"It said:\n{last_lines(result.stdout)}"
                )
            os.replace(draft, path)
        return path

    def migrate(self) -> None:
        """Bring the database up to the release, and run the commands that come after it."""
        with self.stage("migrate"):
            self.before_migrate()
            if self.params["migrate"]:
                self.judge_migrations()
                self.run(
                    self.manage("migrate", "--noinput"),
                    "django_migrate",
                    "true",
                    "`manage.py migrate` failed.",
                    "Fix the migration; the database may hold those that came before it.",
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
        with self.stage("requirements"):
            self.virtualenv()
            subprocess.run(
                [str(self.python), "-m", "compileall", "-q", str(self.path / "app")], check=False
            )
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
