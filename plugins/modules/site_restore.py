#!/usr/bin/python
"""Bring a Django site back to a snapshot of it, or leave it as it is."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import json
import os
import pwd
import shutil
import time
from pathlib import Path
from typing import Any, TypeAlias

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.site_build import Release
from ansible.module_utils.site_data import Place, Secret, aside, own
from ansible.module_utils.site_databases import Database, Distant
from ansible.module_utils.site_environment import postgresql_of, read
from ansible.module_utils.site_history import Refused, Releases, attempts, locked, now, put
from ansible.module_utils.site_serving import SERVING, Serving, is_service

DOCUMENTATION = r"""
---
module: site_restore
short_description: Bring a Django site back to a snapshot of it
description:
  - Fetches the snapshot with the program switchboard-backup while the site serves, and looks whether it is whole. Only
    then it closes the site for maintenance, stops its services, and lets what was fetched take the place of what is
    there, which is kept beside it. It migrates the database to the release that is served, tries that release, starts
    everything, opens the site and asks Apache for its pages.
  - Where a step fails, what was there has its place again, and the site is served with it.
options:
  site: {description: 'The site''s name, also its user and group.', type: str, required: true}
  at:
    description: A snapshot's id, a time of UTC whose last snapshot before it counts, or latest.
    type: str
    default: latest
  host: {description: 'The host that made the snapshot; empty, this one.', type: str, default: ''}
  home: {description: The site's home., type: path, required: true}
  environment_dir: {description: The folder of the site's environment files., type: path, required: true}
  project_dir: {description: The folder of manage.py below the source's root., type: str, default: .}
  static_root_variable: {description: The environment variable of STATIC_ROOT., type: str, default: ''}
  migrate: {description: Whether the database is migrated to the release that is served., type: bool, default: true}
  own_key:
    description: Whether the host made the secret key, which then comes back with the data; else the inventory has it.
    type: bool
    default: true
  units: {description: 'The services that run the code.', type: list, elements: str, default: []}
  url: {description: 'The address by which visitors know the site; empty, Apache is not asked.', type: str, default: ''}
  server: {description: 'Where Apache listens on this host, scheme://address:port.', type: str, default: 'http://127.0.0.1:80'}
  smoke:
    description: Paths, each with the status of its answer, or C(any) for all but a server error.
    type: dict
    default: {}
  socket_path: {description: 'A path that answers WebSocket handshakes, or an empty text.', type: str, default: ''}
  maintenance: {description: The file that closes the site., type: str, default: ''}
  by: {description: 'Who restores, for whoever waits meanwhile.', type: str, default: ''}
  wait: {description: Seconds to wait for somebody's release of the same site., type: int, default: 300}
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Bring the site back to last night
  site_restore:
    site: lab
    at: latest
    home: /srv/lab
    environment_dir: /etc/switchboard/lab
    units: [daphne-lab@1.service]
"""

RETURN = r"""
snapshot: {description: The snapshot., type: str, returned: success}
at: {description: When it was made., type: str, returned: success}
kept: {description: Where the data are that were there before., type: str, returned: success}
seconds: {description: 'How long it took, and how long of that the site was closed.', type: dict, returned: success}
said: {description: The same as sentences., type: str, returned: success}
"""

PROGRAM = "/usr/local/sbin/switchboard-backup"
LOCK = Path("/var/lib/switchboard/backup/.lock")

Part: TypeAlias = Place | Secret | Database | Distant


class Restore:
    """The way of one site to a snapshot, and back where it fails."""

    def __init__(self, module: AnsibleModule, releases: Releases, serving: Serving) -> None:
        self.module, self.params = module, module.params
        self.releases, self.serving = releases, serving
        self.site: str = self.params["site"]
        self.stamp = now().replace("-", "").replace(":", "")
        self.draft = releases.home / f".restore-{self.stamp}"
        self.closed = Path(self.params["maintenance"]) if self.params["maintenance"] else None
        self.state = releases.home / ".restoring.json"  # what a restore that was killed has left
        self.was_closed = False
        self.begun: dict[str, Any] = {}
        if not releases.live():
            raise Refused(
                f"{releases.home} has no release. Run site.yml first, which sets the site up; then restore it."
            )

    def program(self, *words: str) -> Any:
        """Return what the program answers; raise Refused with its sentence where it fails."""
        code, out, err = self.module.run_command([PROGRAM, *words])
        if code:
            raise Refused(f"{err.strip()}\nNothing was changed.")
        return json.loads(out)

    def parts(self, told: dict[str, Any]) -> list[Part]:
        """Return what changes places, with the owners that it has on this host."""
        params, home = self.params, self.releases.home
        if bool(told["postgresql"]) != bool(told["now"]):
            kinds = ("a file of SQLite", "PostgreSQL")
            raise Refused(
                f"at is {params['at']}: the snapshot of {told['at']} has the rows in "
                f"{kinds[bool(told['postgresql'])]}, and the site has them in {kinds[bool(told['now'])]}. Take a "
                f"later one; or set sites.{self.site}.database as it was, run site.yml -e django_database_empty=true, "
                "and restore then. Nothing was changed."
            )
        ids = pwd.getpwnam(self.site).pw_uid, grp.getgrnam(self.site).gr_gid
        data = Path(told["data"])
        former = data.stat().st_uid, data.stat().st_gid
        own(data, ids)
        data.chmod(0o751)
        parts: list[Part] = [Place(home / "data", data, aside(home / "data", self.stamp))]
        for name, new in told["paths"].items():
            own(Path(new), ids, former)
            parts.append(Place(Path(name), Path(new), aside(Path(name), self.stamp)))
        key = Path(told["environment"]) / "secret_key.env"
        if params["own_key"] and key.is_file():
            parts.append(
                Secret(
                    Path(params["environment_dir"]) / key.name,
                    key.read_text(encoding="utf-8"),
                    ids[1],
                    home / f"secret_key.before-restore-{self.stamp}.env",
                )
            )
        if told["dump"]:
            login = postgresql_of(read(params["environment_dir"]))
            dump = Path(told["dump"])
            if login:  # it is on another host, and the site's own role loads it
                parts.append(Distant(self.site, login, dump, self.stamp))
            else:
                parts.append(Database(told["postgresql"], dump, self.stamp, told["port"]))
        return parts

    def close(self) -> None:
        """Let Apache answer 503."""
        if self.closed:
            self.closed.parent.mkdir(parents=True, exist_ok=True)
            self.closed.touch(mode=0o644)
            self.closed.chmod(0o644)

    def open(self) -> None:
        """Let visitors in again, unless somebody had closed the site before."""
        if self.closed and not self.was_closed:
            self.closed.unlink(missing_ok=True)

    def stop(self, units: list[str]) -> None:
        """Stop units in order."""
        for unit in units:
            self.serving.systemd.act("stop", unit)

    def start(self, units: list[str]) -> None:
        """Start sockets and timers, and let everything load what is there now."""
        for unit in units:
            if not is_service(unit):
                self.serving.systemd.act("start", unit)
        self.serving.load()

    def prove(self) -> None:
        """Bring the database up to the release that is served, and ask that for pages before any visitor does."""
        release = Release.there(self.params, self.releases, self.releases.live())
        if self.params["migrate"]:
            release.run(
                release.manage("migrate", "--noinput"),
                "at",
                self.params["at"],
                "the snapshot's database can't be migrated to the release that is served.",
                "Restore an older one, or deploy the release of that time first.",
            )
        release.attempt(self.params["url"], self.params["smoke"])

    def done(self) -> dict[str, Any]:
        """Bring the site back, or raise Refused with it as it was."""
        began = time.monotonic()
        for left in self.releases.home.glob(
            ".restore-*"
        ):  # by one that was killed: a whole snapshot
            shutil.rmtree(left, ignore_errors=True)
        if self.state.is_file():
            self.begun = json.loads(self.state.read_text(encoding="utf-8"))
        self.was_closed = self.begun.get("closed", bool(self.closed and self.closed.exists()))
        words = ["fetch", self.site, self.params["at"], str(self.draft)]
        try:
            told = self.program(*words, "--host", self.params["host"])
            parts = self.parts(told)
            for part in parts:
                part.prepare()
            with self.nobody_backs_up():
                closed = time.monotonic()
                unasked = self.change(parts)
        except OSError as error:
            raise Refused(f"the host can't write what it has to: {error}. Make room.") from error
        finally:
            shutil.rmtree(self.draft, ignore_errors=True)
        ended = time.monotonic()
        seconds = {"all": round(ended - began, 1), "closed": round(ended - closed, 1)}
        kept = str(aside(self.releases.home / "data", self.stamp))
        places = [place for place in [*self.begun.get("kept", []), kept] if os.path.exists(place)]
        live = self.releases.live()
        other = told["release"] and told["release"] != live
        said = [
            f"{self.site} has the data of {told['at']} (snapshot {told['snapshot']}) after {seconds['all']} s, "
            f"of which it was closed for {seconds['closed']} s.",
            f"What was there is in {' and '.join(places)}: remove it when you miss nothing."
            if places
            else "",
            f"The release then was {told['release']}; {live} serves, and its migrations were applied."
            if other
            else "",
            f"Its pages were not asked for: {unasked}." if unasked else "",
        ]
        return {
            "changed": True,
            "snapshot": told["snapshot"],
            "at": told["at"],
            "kept": kept,
            "seconds": seconds,
            "said": " ".join(filter(None, said)),
        }

    @contextlib.contextmanager
    def nobody_backs_up(self) -> Any:
        """Let no snapshot be made of what changes places."""
        with open(os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refused(
                    "a backup is at work. Wait for it, and try again. Nothing was changed."
                ) from None
            yield

    def change(self, parts: list[Part]) -> str:
        """Let the parts change places while the site is closed; return why Apache was not asked, or an empty text."""
        kept = str(aside(self.releases.home / "data", self.stamp))
        found, taken = {*self.begun.get("units", []), *self.serving.active()}, list[Part]()
        units = sorted(found, key=is_service)
        state = {
            "closed": self.was_closed,
            "units": units,
            "kept": [*self.begun.get("kept", []), kept],
        }
        put(self.state, json.dumps(state), 0o600)
        try:
            self.close()
            self.stop(units)
            for part in parts:
                taken.append(part)
                part.take()
            self.prove()
            self.start(units)
            self.open()
            self.state.unlink(missing_ok=True)
            return self.serving.smoke()
        except BaseException as error:
            wrong = attempts(
                self.close,
                lambda: self.stop(self.serving.active()),
                *(part.back for part in reversed(taken)),
                lambda: self.start(units),
                self.open,
            )
            end = "What was there is there again, and served."
            if not wrong:
                self.state.unlink(missing_ok=True)
            else:
                end = f"Bringing back what was there went wrong, too: {wrong}. It is in {kept}."
            raise Refused(f"{error}\n{end}") from error


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "site": {"type": "str", "required": True},
            "at": {"type": "str", "default": "latest"},
            "host": {"type": "str", "default": ""},
            "home": {"type": "path", "required": True},
            "environment_dir": {"type": "path", "required": True},
            "project_dir": {"type": "str", "default": "."},
            "static_root_variable": {"type": "str", "default": ""},
            "migrate": {"type": "bool", "default": True},
            "own_key": {"type": "bool", "default": True},
            **SERVING,
        },
        supports_check_mode=True,
    )
    params = module.params
    releases, serving = Releases(Path(params["home"])), Serving.of(params, module.run_command)
    try:
        restore = Restore(module, releases, serving)
        if module.check_mode:
            said = f"{params['site']} would be brought back to the snapshot {params['at']}."
            module.exit_json(changed=True, said=said, diff={"prepared": f"{said}\n"})
        with locked(releases.home, params["by"], params["wait"]):
            answer = restore.done()
    except Refused as error:
        module.fail_json(msg=f"Site {params['site']}: {error}")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
