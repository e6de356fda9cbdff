"""A site's project on this host: its release's folder, its environment, and commands run in it as the site's user."""

from __future__ import annotations

import grp
import json
import os
import secrets
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.module_utils.site_environment import parse, postgresql_of, read
from ansible.module_utils.site_history import Refused, Releases

LOCKED = "LockNotAvailable"  # what psycopg calls an error 55P03 of PostgreSQL
LOCK_TRIES = 3
LOCK_PAUSE = 5  # seconds
FALLBACKS = "_FALLBACKS"  # the end of the name of a variable with earlier keys, commas between them


def last_lines(text: str, count: int = 12) -> str:
    """Return the last lines of a program's output, where a Python traceback says what is wrong."""
    return "\n".join(text.strip().splitlines()[-count:])


class Project:
    """The project of one release of one site.

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
        """Return the text of secret_key.env with the key, and with those before it that are accepted still.

        A text without a key gets the host's own, with ``rotate_key`` the ``next_key``, or a new one. A key that gives
        way to another is kept under the name with ``_FALLBACKS`` (Django's SECRET_KEY_FALLBACKS) until
        ``forget_keys``; before ``rotate_key`` the ``next_key`` is there too.
        """
        path = self.folder / "secret_key.env"
        known = parse(path.read_text(encoding="utf-8")) if path.is_file() else {}
        # of a file as it is on the host: what follows is worked out anew
        lines = text.splitlines(keepends=True)
        text = "".join(line for line in lines if not line.partition("=")[0].endswith(FALLBACKS))
        for name, value in parse(text).items():
            earlier = known.get(f"{name}{FALLBACKS}", "").split(",")
            first = [old for key, old in known.items() if not key.endswith(FALLBACKS)]
            current = next(filter(None, [known.get(name, ""), *first]), "")
            following = self.params.get("next_key") or ""
            made = following if self.params.get("rotate_key") else current
            key = value or made or secrets.token_hex(32)
            text = text if value else text.replace(f'{name}=""', f'{name}="{key}"')
            kept = [other for other in [following, current, *earlier] if other and other != key]
            if kept and not self.params.get("forget_keys"):
                text += f'{name}{FALLBACKS}="{",".join(dict.fromkeys(kept))}"\n'
        return text

    def hide(self, text: str) -> str:
        """Take the values of the site's environment that are or could be secrets out of a text."""
        given = parse(self.files["secrets.env"]).values()
        secret = [
            *given,
            *((postgresql_of({"DATABASE_URL": url}) or {}).get("PGPASSWORD", "") for url in given),
            *",".join(parse(self.files["secret_key.env"]).values()).split(","),
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

    def program(
        self, text: str, job: dict[str, Any], timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the programs of site_programs in the project as the site's user."""
        return self.started([str(self.python), "-c", text], json.dumps(job), timeout)

    def surroundings(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the whole environment of a command: what each needs, and the site's own."""
        return {
            "PATH": f"{self.path}/venv/bin:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        }

    def started(
        self,
        command: list[str],
        text: str | None = None,
        timeout: float | None = None,
        more: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the project as the site's user, its environment, more variables and a text as input."""
        environment = self.surroundings({**self.environment, **(more or {})})
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
            timeout=timeout,
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

    def run_migrate(self, *words: str, variable: str, value: object, why: str, remedy: str) -> None:
        """Run `migrate`, with a limit for the time that it waits for a lock of PostgreSQL; raise Refused when it fails.

        Behind a statement that waits for a table all others wait that come for it later: the pages.
        """
        seconds, own = self.params["lock_timeout"], self.environment.get("PGOPTIONS", "")
        more = {"PGOPTIONS": f"-c lock_timeout={seconds}s {own}".rstrip()} if seconds else {}
        for attempt in range(LOCK_TRIES):
            time.sleep(LOCK_PAUSE if attempt else 0)  # who had to wait goes on meanwhile
            result = self.started(self.manage("migrate", "--noinput", *words), more=more)
            locked = LOCKED in result.stdout
            if not (result.returncode and locked):
                break
        if result.returncode and locked:
            variable, value = "django_lock_timeout", seconds
            why = (
                f"a migration waited {seconds} s for a lock of PostgreSQL, {LOCK_TRIES} times: a backup, a long "
                "request or a session that somebody left open has it."
            )
            remedy = (
                "Try again when it has ended (pg_stat_activity shows it), or wait longer with -e django_lock_timeout=, "
                "as do the visitors who need that table."
            )
        if result.returncode:
            raise Refused(f"{variable} is {value}: {why} {remedy} It said:\n{self.said(result)}")

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
        drafts = {name: self.folder / f".{name}.new" for name in names}
        for name, draft in drafts.items():
            draft.unlink(missing_ok=True)
            with open(
                os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
            ) as file:
                file.write(self.files[name])
                os.fchown(file.fileno(), 0, group)
                os.fchmod(file.fileno(), 0o640)
        for name, draft in drafts.items():  # all of them are on the disk
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
