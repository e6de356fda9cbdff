"""A release of a Django site, built beside the running one and proven before anybody is served by it."""

from __future__ import annotations

import grp
import gzip
import hashlib
import json
import os
import pwd
import secrets
import shlex
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.module_utils.site_environment import parse, read
from ansible.module_utils.site_history import Refused, Releases
from ansible.module_utils.site_programs import MIGRATIONS, PROVE, TRY
from ansible.module_utils.site_serving import expected

LITTLE_DISK = 256 * 1024 * 1024  # bytes free below which a failed build is not kept

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
            # The folder is the site's, and this is root: no link is followed, nothing is overwritten.
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                whole = file.read()
            # No time and no name in it: the same file gives the same bytes.
            small = gzip.compress(whole, mtime=0)
            if len(whole) >= LEAST_COMPRESSED and len(small) < len(whole):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                with open(os.open(path + ".gz", flags, 0o644), "wb") as file:
                    file.write(small)


def last_lines(text: str, count: int = 12) -> str:
    """Return the last lines of a program's output, where a Python traceback says what is wrong."""
    return "\n".join(text.strip().splitlines()[-count:])


class Release:
    """One release of one site, on this host.

    ``params`` are the options of the module site_release. What a release is tried and served with are the environment's
    texts in ``files``, whether they are written yet or not.
    """

    def __init__(self, params: dict[str, Any], releases: Releases) -> None:
        self.params, self.releases = params, releases
        self.site: str = params["site"]
        self.id: str = params["id"]
        self.home = Path(params["home"])
        self.path = releases.path(self.id)
        self.ready = self.path / ".ready"
        self.project = self.path / "app" / params["project_dir"]
        self.python = self.path / "venv" / "bin" / "python"
        self.static = self.path / "static"
        self.folder = Path(params["environment_dir"])
        self.files = {
            "settings.env": params["settings"],
            "secrets.env": params["secrets"],
            "secret_key.env": self.with_key(params["secret_key"]),
        }
        self.environment = read(self.folder, self.files) if self.folder.is_dir() else {}
        self.step = ""
        self.seconds: dict[str, float] = {}

    def with_key(self, text: str) -> str:
        """Return the text of secret_key.env, with the host's own key where the text names none."""
        for name, value in parse(text).items():
            if not value:
                path = self.folder / "secret_key.env"
                known = (
                    list(parse(path.read_text(encoding="utf-8")).values()) if path.is_file() else []
                )
                key = (known or [""])[0] or secrets.token_hex(32)
                text = text.replace(f'{name}=""', f'{name}="{key}"')
        return text

    def hide(self, text: str) -> str:
        """Take the values of the site's environment that are or could be secrets out of a text."""
        secret = [
            *parse(self.files["secrets.env"]).values(),
            *parse(self.files["secret_key.env"]).values(),
            *(
                value
                for name, value in self.environment.items()
                if any(word in name.upper() for word in ("SECRET", "PASSWORD", "TOKEN", "KEY"))
            ),
        ]
        for value in sorted(secret, key=len, reverse=True):
            if len(value) >= 4:  # a shorter one would take letters out of every word
                text = text.replace(value, "********")
        return text

    @contextmanager
    def stage(self, step: str) -> Iterator[None]:
        """Do a step between the project's own commands for before and after it, and note its seconds."""
        self.step, began = step, time.monotonic()
        self.hook(f"before_{step}")
        yield
        self.hook(f"after_{step}")
        self.seconds[step] = round(time.monotonic() - began, 1)

    def hook(self, name: str) -> None:
        """Run the project's own commands of one place."""
        for command in self.params["hooks"].get(name, []):
            self.run(
                shlex.split(command),
                f"django_hooks.{name}",
                command,
                "it failed.",
                "Correct the command, or take it out.",
            )

    def program(self, text: str, job: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        """Run one of the programs above in the project as the site's user."""
        return self.started([str(self.python), "-c", text], json.dumps(job))

    def started(
        self, command: list[str], text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the project as the site's user, with its environment and a text as its input."""
        environment = {
            "PATH": f"{self.path}/venv/bin:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.environment,
        }
        if self.params["static_root_variable"]:
            environment[self.params["static_root_variable"]] = str(self.static)
        return subprocess.run(
            command,
            cwd=self.project,
            env=environment,
            user=self.site,
            group=self.site,
            extra_groups=[],
            umask=0o027,
            input=text or "",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )

    def said(self, result: subprocess.CompletedProcess[str]) -> str:
        """Return the end of what a command printed, without the site's secrets."""
        return self.hide(last_lines(result.stdout))

    def run(self, command: list[str], variable: str, value: object, why: str, remedy: str) -> str:
        """Run a command in the project as the site's user; raise Refused when it fails."""
        try:
            result = self.started(command)
        except OSError as error:
            result = subprocess.CompletedProcess(command, 127, str(error))
        if result.returncode:
            raise Refused(f"{variable} is {value}: {why} {remedy} It said:\n{self.said(result)}")
        return result.stdout

    def manage(self, *words: str) -> list[str]:
        """Return the command line of a manage.py command."""
        return [str(self.python), "manage.py", *words]

    def changed_files(self) -> list[str]:
        """Return the names of the environment files whose text, owner or mode is not as wanted."""
        try:
            group = grp.getgrnam(self.site).gr_gid
        except KeyError:  # a check of a host that lacks the site
            return list(self.files)
        wrong = []
        for name, text in self.files.items():
            path = self.folder / name
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                wrong.append(name)
                continue
            found = path.stat()
            if (found.st_uid, found.st_gid, found.st_mode & 0o7777) != (0, group, 0o640):
                wrong.append(name)
        return wrong

    def write_environment(self, names: list[str]) -> None:
        """Replace environment files, each in one step, for root and the site's group alone."""
        group = grp.getgrnam(self.site).gr_gid
        for name in names:
            draft = self.folder / f".{name}.new"
            draft.unlink(missing_ok=True)
            with open(
                os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
            ) as file:
                file.write(self.files[name])
                os.fchown(file.fileno(), 0, group)
                os.fchmod(file.fileno(), 0o640)
            os.replace(draft, self.folder / name)

    def written(self) -> dict[str, str]:
        """Return the texts of the environment files as they are on the host."""
        found = {}
        for name in self.files:
            path = self.folder / name
            if path.is_file():
                found[name] = path.read_text(encoding="utf-8")
        return found

    def restore(self, texts: dict[str, str]) -> None:
        """Put the environment files back to what they were."""
        self.files |= texts
        self.write_environment(list(texts))

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
            requirements.read_bytes() + version + " ".join(self.params["pip_args"]).encode()
        ).hexdigest()[:12]
        path = self.home / "venvs" / key
        if not (path / ".complete").exists():
            shutil.rmtree(path, ignore_errors=True)
            path.parent.mkdir(exist_ok=True)
            for command in (
                [self.params["python"], "-m", "venv", str(path)],
                [
                    str(path / "bin" / "python"),
                    *(
                        "-m",
                        "pip",
                        "install",
                        "--no-input",
                        "--disable-pip-version-check",
                        "--quiet",
                    ),
                    *(["--require-hashes"] if self.params["require_hashes"] else []),
                    *self.params["pip_args"],
                    *("-r", str(requirements)),
                ],
            ):
                result = subprocess.run(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    umask=0o022,
                    check=False,
                )
                if result.returncode:
                    shutil.rmtree(path, ignore_errors=True)
                    raise Refused(
                        f"django_requirements is {self.params['requirements']}: pip could not install it. "
                        "Correct the lock, or make the package index reachable from this host. "
                        f"The running release is untouched. It said:\n{last_lines(result.stdout)}"
                    )
            (path / ".complete").touch()
        (self.path / "venv").symlink_to(os.path.relpath(path, self.path))

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
        compress(self.static)
        for folder, folders, names in os.walk(self.static):
            for name in [".", *folders, *names]:
                entry = os.path.join(folder, name)
                os.chown(entry, 0, 0)
                os.chmod(entry, 0o755 if os.path.isdir(entry) else 0o644)

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
            pip = [
                str(self.python),
                *("-m", "pip", "install", "--no-input", "--quiet", "--no-deps"),
            ]
            pip += ["--disable-pip-version-check", "--require-hashes"]
            result = subprocess.run(
                [*pip, *self.params["pip_args"], "--target", str(draft), "-r", str(lock)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                umask=0o022,
                check=False,
            )
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
            result = self.program(TRY, job)
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
        """Lay the release out with its requirements, and do all that comes before it is tried."""
        with self.stage("requirements"):
            self.unpack()
            self.virtualenv()
            subprocess.run(
                [str(self.python), "-m", "compileall", "-q", str(self.path / "app")], check=False
            )
        self.prove()
        with self.stage("collectstatic"):
            self.collect()
        self.migrate()

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
        os.replace(self.path, failed / self.id)
        return str(failed / self.id)

    def write_script(self, write: bool) -> bool:
        """Tell whether the WSGI script differs from the wanted one, and write it if asked to."""
        path = self.path / "wsgi.py"
        text = self.params["wsgi_script"]
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return False
        if write:
            draft = path.with_suffix(".new")
            draft.write_text(text, encoding="utf-8")
            os.chmod(draft, 0o644)
            os.replace(draft, path)
        return True
