#!/usr/bin/python
"""Build a release of a Django site beside the running one and switch to it when all has passed."""

from __future__ import annotations

import contextlib
import math
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.site_build import Release, differences
from ansible.module_utils.site_history import (
    PAUSED,
    RECENT,
    Refused,
    Releases,
    Waiting,
    attempts,
    locked,
)
from ansible.module_utils.site_move import MOVING, Move
from ansible.module_utils.site_serving import SERVING, Serving

DOCUMENTATION = r"""
---
module: site_release
short_description: Build, prove and switch to a release of a Django site
description:
  - Unpacks the archive to C(releases/<id>/app), makes the virtual environment of its locked
    requirements (shared by releases with the same lock), imports the settings and the applications,
    runs C(check --deploy), C(collectstatic) and C(migrate) as the site's user, and asks the application for
    the paths of I(smoke). Only then it writes the site's environment files, moves the link C(current), replaces
    mod_wsgi's processes and restarts the I(units), one at a time, and asks Apache for the same paths.
  - A failure before the switch leaves the running release and its environment as they were. One after it brings
    them back. The build that failed is kept in C(failed/<id>) until the next one, or the next release.
  - With I(until) a release that is new on the host is built and tried and not switched to, so that no host of several
    switches before all have come so far. The release that is served offers its hashed static files meanwhile. The call
    that switches takes it as it is, within an hour.
  - What serves with older code or an older environment than is written, as after a run that was killed, is loaded anew.
  - A lock lets one at a time change a site's release; it ends with the process.
  - A release that was rolled back from is not switched to, unless I(again) says so.
  - A current release whose environment changes is proven with the new one before it is written. One whose virtual
    environment is for another Python than the host's, as after an upgrade of Debian, gets another.
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
        made if there is none. A value that gives way to another stays in the variable with C(_FALLBACKS) in its name.
    type: str
    required: true
  rotate_key: {description: Whether to make a new key in the place of the host's own., type: bool, default: false}
  next_key:
    description:
      - The key that C(rotate_key) takes. Without it, it is accepted beside the key of the host, as several hosts need
        before the first of them signs with it.
    type: str
    default: ""
  forget_keys: {description: Whether earlier keys are accepted no longer., type: bool, default: false}
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
  static_hashed:
    description: A pattern of static files that a release has from those that are kept too; empty, of none.
    type: str
    default: ''
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
  lock_timeout: {description: Seconds that a migration waits for a lock; 0 for no limit., type: int, default: 5}
  commands: {description: 'More manage.py commands, run after migrate.', type: list, elements: str, default: []}
  keep: {description: How many releases stay on the host., type: int, default: 5}
  unsafe_migrations:
    description: >-
      Whether to refuse migrations that the running release can't work with, or that lock a table, as
      django-migration-linter knows them.
    type: str
    choices: [refuse, allow]
    default: refuse
  linter: {description: 'The lock of django-migration-linter, in the words of pip.', type: str, default: ''}
  linter_dir:
    description: Where it is installed when it is first needed.
    type: path
    default: /var/lib/switchboard/linter
  hooks:
    description: >-
      The project's own commands, lists by C(before_<step>) and C(after_<step>); the steps are requirements, check,
      collectstatic, migrate, try, switch, restart and smoke.
    type: dict
    default: {}
  move_database:
    description: >-
      Whether the environment may name another database than the one that is served from: the site is closed, all rows
      are copied from SQLite to PostgreSQL in one transaction and compared, and it opens on the new one. Any difference
      leaves it where it was.
    type: bool
    default: false
  move_program: {description: The text of the program that copies., type: str, default: ''}
  move_without:
    description: Tables in SQLite that no model knows, and that may stay behind.
    type: list
    elements: str
    default: []
  database_empty:
    description: Whether the environment may name another database without its rows.
    type: bool
    default: false
  until:
    description: >-
      The last step of a call that does not switch; C(try) goes on where C(collectstatic) ended. Nothing is done where
      the site has no release yet, or the wanted one was served before.
    type: str
    choices: ['', collectstatic, try]
    default: ''
  again: {description: Whether to switch to a release that was rolled back from., type: bool, default: false}
  alone:
    description: Whether Apache stays as it is. Then no environment is written for an address that it does not serve.
    type: bool
    default: false
  units:
    description: The services that run the code, in the order of their restarts.
    type: list
    elements: str
    default: []
  url: {description: 'The address by which visitors know the site; empty, Apache is not asked.', type: str, default: ''}
  server: {description: 'Where Apache listens on this host, scheme://address:port.', type: str, default: 'http://127.0.0.1:80'}
  smoke:
    description: Paths, each with the status of its answer, or C(any) for all but a server error.
    type: dict
    default: {}
  socket_path: {description: 'A path that answers WebSocket handshakes, or an empty text.', type: str, default: ''}
  maintenance: {description: The file that closes the site., type: str, default: ''}
  commit: {description: 'What the release was made of, for the history.', type: str, default: ''}
  by: {description: 'Who releases, for the history.', type: str, default: ''}
  wait: {description: Seconds to wait for somebody else's release of the same site., type: int, default: 300}
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
due: {description: 'Whether there is something to do, which interrupts visitors.', type: bool, returned: in check mode}
waits: {description: 'The release id that waits for its switch, or an empty text.', type: str, returned: with until}
previous: {description: 'The release id before, or an empty text.', type: str, returned: success}
release: {description: The release id now., type: str, returned: success}
left:
  description: The id that was asked for and left out because somebody rolled back from it.
  type: str
  returned: success
seconds: {description: Seconds that each step took., type: dict, returned: success}
units: {description: The units that were restarted., type: list, elements: str, returned: success}
moved: {description: 'The rows that were moved, by table.', type: dict, returned: success}
unasked: {description: 'Why Apache was not asked for the paths, or an empty text.', type: str, returned: success}
"""


BUILT = "collectstatic"  # the last step of a build
# Options that a release is not built with: those of the run, and the key, which another host may have made.
PASSING = {"until", "again", "alone", "lock_timeout", "secret_key", "commit", *SERVING}


class Change:
    """The way from the release that is served to the one that is wanted."""

    def __init__(self, params: dict[str, Any], releases: Releases, serving: Serving) -> None:
        self.releases, self.serving = releases, serving
        self.previous, self.left = releases.live(), ""
        back = releases.taken_back(params["id"]) and not params["again"]
        keys = params["rotate_key"] or params["next_key"] or params["forget_keys"]
        if self.previous and (back or keys):
            self.left = params["id"] if back and params["id"] != self.previous else ""
            params = {**params, "id": self.previous}
        self.params, self.release, self.until = params, Release(params, releases), params["until"]
        self.new = not self.release.ready.exists()
        self.moves = self.previous != self.release.id or self.new
        built_with = {key: value for key, value in params.items() if key not in PASSING}
        # what a run has left that was killed is proven again by the next
        age = math.inf if self.until == BUILT else RECENT
        self.waiting = Waiting(self.release.path, built_with, age)
        self.release.seconds |= self.waiting.seconds
        self.rewrites = self.release.write_script(write=False)
        self.files = self.release.changed_files()
        self.outlived = not self.new and bool(self.release.outlived())
        self.reversed = releases.reversing.exists()  # a rollback was killed
        self.writes = bool(
            self.moves or self.rewrites or self.files or self.outlived or self.reversed
        )
        # What to go back to: a run that was killed may have switched to a release that nobody has asked for a page.
        self.proven = releases.proven()
        ready = self.proven and releases.ready(self.proven)
        self.former = self.proven if ready else self.previous
        self.unproven = bool(self.proven and not self.moves and self.proven != self.release.id)
        self.move = Move(self.params, self.release, serving)
        self.release.before_migrate = self.move.judge

    def answer(self, changed: bool) -> dict[str, Any]:
        """Return what the module returns whatever it does."""
        if self.until:
            waits = self.release.id if changed else ""
            told = {"previous": self.previous, "release": self.previous, "waits": waits}
            return {"changed": changed, **told}
        return {
            "changed": changed,
            "previous": self.previous,
            "release": self.release.id,
            "left": self.left,
            "seconds": self.release.seconds,
            "units": [],
            "unasked": "",
            "moved": {},
            "diff": differences(self.release, self.previous, self.files),
        }

    def due(self) -> bool:
        """Say whether there is something to do."""
        if self.until:
            return self.new and self.previous not in ("", self.release.id)
        return self.writes or self.unproven or self.move.pending or self.serving.behind()

    def refuse_strange(self) -> None:
        """Refuse an environment for an address that Apache, which no step of this run changes, does not serve yet."""
        others = {*self.files} - {"secret_key.env"}
        if self.params["alone"] and self.previous and others and self.serving.strange():
            site, first = self.release.site, "with the former database first" * self.move.starts
            raise Refused(
                f"sites.{site}.domain and sites.{site}.tls give {self.serving.url}: Apache on this host does not serve "
                "the site there yet, and where it does serve it the new environment may not answer. Run site.yml "
                f"{first or 'in the place of this'}, which changes both."
            )

    def predicted(self) -> dict[str, Any]:
        """Return what `done` would, and change nothing; the diff says which steps it would take."""
        answer = self.answer(self.due())
        if answer["changed"]:
            self.refuse_strange()
        if answer["changed"] and not self.until:
            built = not self.new and not self.outlived
            steps = [] if built else ["requirements"]
            steps += ["check", "collectstatic", "migrate", "try"] if self.writes else []
            steps += ["move"] if self.move.pending else []
            own = [f"{place} `{'`, `'.join(said)}`" for place, said in self.params["hooks"].items()]
            anew = ["mod_wsgi's processes", *self.serving.running()]
            text = f"steps: {', '.join([*steps, 'switch', 'restart', 'smoke'])}\n"
            text += f"own commands: {'; '.join(own)}\n" if own else ""
            answer["diff"].append({"prepared": f"{text}restarted, one by one: {', '.join(anew)}\n"})
        return answer | {"due": answer["changed"]}

    def done(self) -> dict[str, Any]:
        """Make the wanted release the one that is served, or raise Refused with the former one in its place."""
        answer = self.answer(self.due())
        if self.until:
            self.releases.discard(self.release.id)
        if not answer["changed"]:
            return answer
        self.refuse_strange()
        try:
            if self.writes:
                self.prepare()
            if not self.until:
                self.serve(answer)
        except (Refused, OSError) as error:
            told = error
            if isinstance(error, OSError):
                told = Refused(
                    f"step {self.release.step}: the host can't write what it has to: {error}. Look at the disk "
                    f"(df -h {self.releases.home}) and make room."
                )
            raise Refused(f"{told}\n{self.refused(told)}") from error
        except BaseException:
            if self.new and self.releases.live() != self.release.id:
                self.release.keep_for_a_look()
            raise
        finally:
            shutil.rmtree(self.release.recollected, ignore_errors=True)
        return answer

    def prepare(self) -> None:
        """Do what comes before the switch, or what `until` asks for of it."""
        release = self.release
        if self.new:
            self.build()
        else:
            if self.outlived:
                release.equip()
            release.prove()
            # another storage or another database, or one that a rollback has reversed
            if self.files or self.moves:
                release.recollect()
            if self.files or self.moves or self.reversed:
                release.migrate()
            release.attempt(self.params["url"], self.params["smoke"])
        if self.until != BUILT:
            self.releases.reversing.unlink(missing_ok=True)

    def build(self) -> None:
        """Build the release and try it, and go on where an earlier call ended."""
        release, waiting = self.release, self.waiting
        if not waiting.built:
            release.build()
        elif self.until == BUILT:
            release.prove()
        if self.until != BUILT and not waiting.tried:
            release.migrate()
            release.attempt(self.params["url"], self.params["smoke"])
        if self.until:
            said = {key: self.params[key] for key in ("by", "commit")}
            waiting.keep(tried=self.until != BUILT, seconds=release.seconds, **said)
            self.releases.lend(self.previous)
            return
        release.ready.touch()
        waiting.end()

    def serve(self, answer: dict[str, Any]) -> None:
        """Switch, let the processes load the release, ask for its pages; on a failure bring the former one back."""
        release, before, script = self.release, self.release.written(), self.script()
        try:
            if self.move.starts:
                with release.stage("move"):
                    answer["moved"] = self.move.rows()
                release.attempt(self.params["url"], self.params["smoke"])
            with release.stage("switch"):
                release.swap()  # before the environment, which is what the next run goes by if this one is killed
                release.write_environment(self.files)
                release.write_script(write=True)
                if self.moves:
                    self.releases.switch(release.id)
            with release.stage("restart"):
                answer["units"] = self.serving.load()
            self.move.end()
            with release.stage("smoke"):
                answer["unasked"] = self.serving.smoke()
        except Exception as error:
            # once the site is open on its new database, people write into it: nothing leads back
            if self.former and not self.move.over:
                self.back(error, self.move.begun.get("texts", before), script)
            raise
        if self.moves:
            self.releases.unmark(release.id)
            release.ready.touch()  # it is the newest now
            self.releases.prune(self.params["keep"], release.id, self.previous)
        if self.proven != release.id:
            self.note("released", seconds=release.seconds)

    def script(self) -> str:
        """Return the WSGI script of the release as it is on the host, or an empty text."""
        path = self.release.path / "wsgi.py"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def back(self, first: Exception, before: dict[str, str], script: str) -> None:
        """Serve the former release again; each part of it is tried, whatever becomes of the others."""

        def rewrite() -> None:
            self.release.params = {**self.params, "wsgi_script": script}
            self.release.write_script(write=True)

        wrong = attempts(
            lambda: self.releases.switch(self.former),
            self.release.swap_back,
            lambda: self.release.restore(before),
            *([rewrite] if script and script != self.params["wsgi_script"] else []),
            self.serving.load,
            *([self.move.open] if self.move.pending else []),
        )
        if wrong:
            raise Refused(f"{first}\nNor does the former release serve: {wrong}") from first

    def refused(self, error: Refused) -> str:
        """Keep the failed build, note why, and return what is to be said of the release that is served."""
        release = self.release
        text = "The running release is untouched."
        if release.step in ("move", "switch", "restart", "smoke"):
            text = f"The release {self.former} is served again." if self.former else ""
            if self.moves and self.releases.live() == release.id:
                text = f"Release {release.id} is served."
            text = "The site is open on its new database." if self.move.over else text
        if self.new and self.releases.live() != release.id:
            if self.until:
                self.releases.take_back(release.id)
            place = release.keep_for_a_look()
            text += f" What failed is in {place}." if place else ""
        if self.writes:
            with contextlib.suppress(OSError):  # of a full disk, which is told of already
                self.note("refused", step=release.step, why=str(error))
        return text.strip()

    def note(self, event: str, **more: Any) -> None:
        """Add a line to the site's history."""
        params = self.params
        self.releases.note(
            event,
            self.release.id,
            commit=params["commit"],
            by=params["by"],
            **{"from": self.previous},
            **more,
        )


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
            "static_hashed": {"type": "str", "default": ""},
            "check_fail_level": {"type": "str", "default": "WARNING"},
            "checks_silenced": {"type": "list", "elements": "str", "default": []},
            "migrate": flag,
            "lock_timeout": {"type": "int", "default": 5},
            "commands": {"type": "list", "elements": "str", "default": []},
            "keep": {"type": "int", "default": 5},
            "unsafe_migrations": {
                "type": "str",
                "choices": ["refuse", "allow"],
                "default": "refuse",
            },
            "linter": {"type": "str", "default": ""},
            "linter_dir": {"type": "path", "default": "/var/lib/switchboard/linter"},
            "hooks": {"type": "dict", "default": {}},
            "until": {"type": "str", "choices": ["", BUILT, "try"], "default": ""},
            "again": {"type": "bool", "default": False},
            "alone": {"type": "bool", "default": False},
            "rotate_key": {"type": "bool", "default": False},
            "next_key": {"type": "str", "default": "", "no_log": True},
            "forget_keys": {"type": "bool", "default": False},
            "commit": {"type": "str", "default": ""},
            **MOVING,
            **SERVING,
        },
        supports_check_mode=True,
    )
    params, releases = (
        module.params,
        Releases(Path(module.params["home"]), module.params["static_hashed"]),
    )
    serving = Serving.of(params, module.run_command)
    try:
        if (paused := releases.home / PAUSED).is_file():
            raise Refused(
                "a restore was interrupted while the site was closed for it on this host. Run playbooks/restore.yml "
                f"-e site={params['site']} again; or, to go on with the rows as they are, remove {paused}, run this "
                "again, and open the site with playbooks/maintenance.yml."
            )
        if module.check_mode:
            module.exit_json(**Change(params, releases, serving).predicted())
        if not releases.home.is_dir():
            raise Refused(
                f"the host has no {releases.home}. Run site.yml, which sets the site up, first."
            )
        with locked(releases.home, params["by"], params["wait"]):
            answer = Change(params, releases, serving).done()
    except Refused as error:
        module.fail_json(msg=f"Site {params['site']}: {error}")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
