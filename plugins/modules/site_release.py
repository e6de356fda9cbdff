#!/usr/bin/python
"""Build a release of a Django site beside the running one and switch to it when all has passed."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.site_environment import read as read_environment

DOCUMENTATION = r"""
---
module: site_release
short_description: Build, prove and switch to a release of a Django site
description:
  - Unpacks the archive to C(releases/<id>/app), makes the virtual environment of its locked
    requirements (shared by releases with the same lock), imports the settings and the applications,
    runs C(check --deploy), C(collectstatic) and C(migrate) as the site's user, and only then moves
    the link C(current). A failure before that leaves the running release as it was.
  - A release that is current already is left alone. Check mode tells whether the link would move.
options:
  site: {description: 'The site''s name, also its user and group.', type: str, required: true}
  id: {description: The release id., type: str, required: true}
  archive: {description: The pack on this host., type: path, required: true}
  home: {description: The site's home., type: path, required: true}
  environment_dir: {description: The folder of the site's environment files., type: path, required: true}
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
  migrate: {description: Whether to run migrate., type: bool, default: true}
  commands: {description: 'More manage.py commands, run after migrate.', type: list, elements: str, default: []}
  keep: {description: How many releases stay on the host., type: int, default: 5}
author:
  - The Switchboard authors
"""

RETURN = r"""
previous: {description: 'The release id before, or an empty text.', type: str, returned: success}
release: {description: The release id now., type: str, returned: success}
"""


class Refused(Exception):
    """The release can't be served; the text names the variable, its value and the mend."""


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
        self.environment = read_environment(params["environment_dir"])

    def previous(self) -> str:
        """Return the id of the current release, or an empty text."""
        return os.path.basename(os.readlink(self.current)) if self.current.is_symlink() else ""

    def hide(self, text: str) -> str:
        """Take the values of the site's environment that could be secrets out of a text."""
        for name, value in self.environment.items():
            if len(value) >= 8 and any(
                word in name.upper() for word in ("SECRET", "PASSWORD", "TOKEN", "KEY")
            ):
                text = text.replace(value, "********")
        return text

    def run(self, command: list[str], variable: str, value: object, why: str, mend: str) -> str:
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
                f"{variable} is {value}: {why} {mend} The running release is untouched. It said:\n{output}"
            )
        return result.stdout

    def manage(self, *words: str) -> list[str]:
        """Return the command line of a manage.py command."""
        return [str(self.python), "manage.py", *words]

    def unpack(self) -> None:
        """Lay the project out, readable by the site's group alone."""
        shutil.rmtree(self.path, ignore_errors=True)
        (self.path / "app").mkdir(parents=True)
        os.chmod(self.path, 0o755)  # noqa: S103 - Apache passes through to static and wsgi.py
        group = grp.getgrnam(self.site).gr_gid
        with tarfile.open(self.params["archive"]) as archive:
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
            self.manage("check", "--deploy", "--fail-level", level),
            "django_check_fail_level",
            level,
            "`manage.py check --deploy` found what that level refuses.",
            "Mend what it names, or silence it in the project's settings.",
        )

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
        for folder, folders, names in os.walk(self.static):
            for name in [".", *folders, *names]:
                entry = os.path.join(folder, name)
                os.chown(entry, 0, 0)
                os.chmod(entry, 0o755 if os.path.isdir(entry) else 0o644)

    def build(self) -> None:
        """Do all that comes before the switch. Remove the half-made release on failure."""
        try:
            self.unpack()
            self.virtualenv()
            subprocess.run(
                [str(self.python), "-m", "compileall", "-q", str(self.path / "app")], check=False
            )
            self.prove()
            self.collect()
            if self.params["migrate"]:
                self.run(
                    self.manage("migrate", "--noinput"),
                    "django_migrate",
                    "true",
                    "`manage.py migrate` failed.",
                    "Mend the migration; the database may hold those that came before it.",
                )
            for command in self.params["commands"]:
                self.run(
                    self.manage(*shlex.split(command)),
                    "django_commands",
                    command,
                    "`manage.py` failed with it.",
                    "Correct the command.",
                )
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)
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
                (self.home / "archives" / f"{path.name}.tar.gz").unlink(missing_ok=True)
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
    diff = {
        "before": f"{release.current} -> {previous}\n",
        "after": f"{release.current} -> {release.id}\n",
    }
    answer = {
        "changed": moves or rewrites,
        "previous": previous,
        "release": release.id,
        "diff": diff,
    }
    if module.check_mode or not answer["changed"]:
        module.exit_json(**answer)
    try:
        if not release.ready.exists():
            release.build()
        release.write_script(write=True)
        if moves:
            release.switch()
            release.prune(previous)
    except Refused as error:
        module.fail_json(msg=f"Site {release.site}: {error}")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
