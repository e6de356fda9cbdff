#!/usr/bin/python
"""Build a release of a Django site beside the running one and switch to it when all has passed."""

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
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.site_environment import parse, read

DOCUMENTATION = r"""
---
module: site_release
short_description: Build, prove and switch to a release of a Django site
description:
  - Unpacks the archive to C(releases/<id>/app), makes the virtual environment of its locked
    requirements (shared by releases with the same lock), imports the settings and the applications,
    runs C(check --deploy), C(collectstatic) and C(migrate) as the site's user, and only then writes
    the site's environment files and moves the link C(current). A failure before that leaves the
    running release and its environment as they were.
  - A current release whose environment changes is proven with the new one before it is written.
  - What is as wanted already is left alone. Check mode tells what would change.
options:
  site: {description: 'The site''s name, also its user and group.', type: str, required: true}
  id: {description: The release id., type: str, required: true}
  archive: {description: The pack on this host., type: path, required: true}
  home: {description: The site's home., type: path, required: true}
  environment_dir: {description: The folder of the site's environment files., type: path, required: true}
  settings: {description: The text of C(settings.env)., type: str, required: true}
  secrets: {description: The text of C(secrets.env)., type: str, required: true}
  secret_key:
    description:
      - The text of C(secret_key.env). Where its variable is empty, the value on the host is kept, or
        made if there is none.
    type: str
    required: true
  wsgi_script: {description: The text of the WSGI script that Apache loads., type: str, required: true}
  project_dir: {description: The folder of manage.py below the archive's root., type: str, default: .}
  requirements: {description: 'The locked requirements, relative to project_dir.', type: str, default: requirements.txt}
  require_hashes: {description: Whether pip demands a hash of each requirement., type: bool, default: true}
  pip_args: {description: More arguments of pip install., type: list, elements: str, default: []}
  python: {description: The Python of the virtual environment., type: path, default: /usr/bin/python3}
  settings_module: {description: The settings module., type: str, required: true}
  wsgi_module: {description: The module of the WSGI application., type: str, required: true}
  wsgi_callable: {description: The name of the WSGI application in its module., type: str, default: application}
  asgi_module: {description: 'The module of the ASGI application, or an empty text.', type: str, default: ''}
  asgi_callable: {description: The name of the ASGI application in its module., type: str, default: application}
  static_root_variable:
    description: The environment variable of STATIC_ROOT; empty skips collectstatic.
    type: str
    default: ''
  check_fail_level: {description: 'The level at which check --deploy refuses.', type: str, default: WARNING}
  checks_silenced:
    description: Ids of checks that check --deploy leaves out, beside those of the project's own SILENCED_SYSTEM_CHECKS.
    type: list
    elements: str
    default: []
  migrate: {description: Whether to run migrate., type: bool, default: true}
  commands: {description: 'More manage.py commands, run after migrate.', type: list, elements: str, default: []}
  keep: {description: How many releases stay on the host., type: int, default: 5}
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Release the site lab
  site_release:
    site: lab
    id: 0123456789ab
    archive: /srv/lab/archives/0123456789ab.tar.gz
    home: /srv/lab
    environment_dir: /etc/switchboard/lab
    settings: "LAB_DEBUG=\"0\"\n"
    secrets: "LAB_TOKEN=\"a secret\"\n"
    secret_key: "LAB_KEY=\"\"\n"
    wsgi_script: "from lab.wsgi import application\n"
    settings_module: lab.settings
    wsgi_module: lab.wsgi
"""

RETURN = r"""
previous: {description: 'The release id before, or an empty text.', type: str, returned: success}
release: {description: The release id now., type: str, returned: success}
"""

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


# `manage.py` with more checks silenced than the project's settings silence; arguments: those, then the command.
CHECK = """
import json, sys, django
from django.conf import settings
from django.core.management import execute_from_command_line
silenced = json.loads(sys.argv[1])
django.setup()
settings.SILENCED_SYSTEM_CHECKS = [*settings.SILENCED_SYSTEM_CHECKS, *silenced]
execute_from_command_line(sys.argv[2:])
"""


class Refused(Exception):
    """The release can't be served; the text names the variable, its value and the remedy."""


def last_lines(text: str, count: int = 12) -> str:
    """Return the last lines of a program's output, where a Python traceback says what is wrong."""
    return "\n".join(text.strip().splitlines()[-count:])


class Release:
    """One release of one site, on this host."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.site: str = params["site"]
        self.id: str = params["id"]
        self.home = Path(params["home"])
        self.path = self.home / "releases" / self.id
        self.current = self.home / "current"
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

    def previous(self) -> str:
        """Return the id of the current release, or an empty text."""
        return os.path.basename(os.readlink(self.current)) if self.current.is_symlink() else ""

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

    def run(self, command: list[str], variable: str, value: object, why: str, remedy: str) -> str:
        """Run a command in the project as the site's user; raise Refused when it fails."""
        environment = {
            "PATH": f"{self.path}/venv/bin:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.environment,
        }
        if self.params["static_root_variable"]:
            environment[self.params["static_root_variable"]] = str(self.static)
        result = subprocess.run(
            command,
            cwd=self.project,
            env=environment,
            user=self.site,
            group=self.site,
            extra_groups=[],
            umask=0o027,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if result.returncode:
            output = self.hide(last_lines(result.stdout))
            raise Refused(
                f"{variable} is {value}: {why} {remedy} The running release is untouched. It said:\n{output}"
            )
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
        self.run(
            [str(self.python), "-c", "import django; django.setup()"],
            "django_settings_module",
            self.params["settings_module"],
            "it does not import.",
            "Correct it, or what django_environment gives it.",
        )
        for kind in ("wsgi", "asgi"):
            module, name = self.params[f"{kind}_module"], self.params[f"{kind}_callable"]
            if module:
                self.run(
                    [
                        str(self.python),
                        "-c",
                        f"import importlib; importlib.import_module({module!r}).{name}",
                    ],
                    f"django_{kind}_module",
                    module,
                    f"importing {name} from it fails.",
                    "Correct the module or the name.",
                )
        level = self.params["check_fail_level"]
        self.run(
            [
                str(self.python),
                "-c",
                CHECK,
                json.dumps(self.params["checks_silenced"]),
                *("manage.py", "check", "--deploy", "--fail-level", level),
            ],
            "django_check_fail_level",
            level,
            "`manage.py check --deploy` found what that level refuses.",
            "Fix what it names, or silence it in the project's settings.",
        )

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

    def migrate(self) -> None:
        """Bring the database up to the release, and run the commands that come after it."""
        if self.params["migrate"]:
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

    def build(self) -> None:
        """Do all that comes before the switch. On failure remove the half-made release and its pack."""
        try:
            self.unpack()
            self.virtualenv()
            subprocess.run(
                [str(self.python), "-m", "compileall", "-q", str(self.path / "app")], check=False
            )
            self.prove()
            self.collect()
            self.migrate()
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)
            Path(self.params["archive"]).unlink(missing_ok=True)
            raise
        self.ready.touch()

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

    def switch(self) -> None:
        """Point the link at this release in one step (rename(2) is atomic)."""
        draft = self.home / ".current.new"
        draft.unlink(missing_ok=True)
        draft.symlink_to(os.path.join("releases", self.id))
        os.replace(draft, self.current)

    def prune(self, previous: str) -> None:
        """Remove releases beyond the newest ``keep``, and the packs and environments nobody uses."""
        releases = sorted(
            (path for path in (self.home / "releases").iterdir() if (path / ".ready").exists()),
            key=lambda path: (path / ".ready").stat().st_mtime,
            reverse=True,
        )
        for path in releases[self.params["keep"] :]:
            if path.name not in (self.id, previous):
                shutil.rmtree(path)
        for archive in (self.home / "archives").glob("*.tar.gz"):
            if not (self.home / "releases" / archive.name.removesuffix(".tar.gz")).is_dir():
                archive.unlink()
        used = {os.path.realpath(path / "venv") for path in (self.home / "releases").iterdir()}
        for path in (self.home / "venvs").iterdir():
            if os.path.realpath(path) not in used:
                shutil.rmtree(path)


def main() -> None:
    """Run the module."""
    text, flag = {"type": "str", "required": True}, {"type": "bool", "default": True}
    module = AnsibleModule(
        argument_spec={
            "site": text,
            "id": text,
            "archive": {"type": "path", "required": True},
            "home": {"type": "path", "required": True},
            "environment_dir": {"type": "path", "required": True},
            "settings": text,
            # only the whole text is hidden from the output; run() hides each value
            "secrets": {"type": "str", "required": True, "no_log": True},
            "secret_key": {"type": "str", "required": True, "no_log": True},
            "wsgi_script": text,
            "project_dir": {"type": "str", "default": "."},
            "requirements": {"type": "str", "default": "requirements.txt"},
            "require_hashes": flag,
            "pip_args": {"type": "list", "elements": "str", "default": []},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "settings_module": text,
            "wsgi_module": text,
            "wsgi_callable": {"type": "str", "default": "application"},
            "asgi_module": {"type": "str", "default": ""},
            "asgi_callable": {"type": "str", "default": "application"},
            "static_root_variable": {"type": "str", "default": ""},
            "check_fail_level": {"type": "str", "default": "WARNING"},
            "checks_silenced": {"type": "list", "elements": "str", "default": []},
            "migrate": flag,
            "commands": {"type": "list", "elements": "str", "default": []},
            "keep": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    release = Release(module.params)
    previous = release.previous()
    moves = previous != release.id or not release.ready.exists()
    rewrites = release.write_script(write=False)
    files = release.changed_files()
    answer = {
        "changed": bool(moves or rewrites or files),
        "previous": previous,
        "release": release.id,
        "diff": differences(release, previous, files),
    }
    if module.check_mode or not answer["changed"]:
        module.exit_json(**answer)
    try:
        if not release.ready.exists():
            release.build()
        else:
            release.prove()
            if files:  # they may name another database, or STATIC_ROOT no longer
                release.collect(pretend=True)
                release.migrate()
    except Refused as error:
        module.fail_json(msg=f"Site {release.site}: {error}")
    release.write_environment(files)
    release.write_script(write=True)
    if moves:
        release.switch()
        release.prune(previous)
    module.exit_json(**answer)


def differences(release: Release, previous: str, files: list[str]) -> list[dict[str, str]]:
    """Return what changes, for the diff; of secrets it names the file alone."""
    found = [
        {
            "before": f"{release.current} -> {previous}\n",
            "after": f"{release.current} -> {release.id}\n",
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


if __name__ == "__main__":
    main()
