#!/usr/bin/python
"""Serve an earlier release of a Django site again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.site_build import Release
from ansible.module_utils.site_history import Refused, Releases, attempts, locked
from ansible.module_utils.site_serving import SERVING, Serving

DOCUMENTATION = r"""
---
module: site_rollback
short_description: Serve an earlier release of a Django site again
description:
  - Asks the earlier release for the paths of I(smoke) with the environment and the database of today, moves the link
    C(current), replaces mod_wsgi's processes and restarts the I(units) one at a time, and asks Apache for the same
    paths. A release that does not answer as it should is not served; what was served before is served on.
  - The release that was left is remembered as rolled back from. The next rollback passes over it, and
    M(site_release) does not switch to it again by itself.
  - Migrations that the earlier release does not know are named, and I(migrations) says what becomes of them.
options:
  site: {description: 'The site''s name, also its user and group.', type: str, required: true}
  home: {description: The site's home., type: path, required: true}
  environment_dir: {description: The folder of the site's environment files., type: path, required: true}
  project_dir: {description: The folder of manage.py below the source's root., type: str, default: .}
  static_hashed:
    description: A pattern of static files that a release has from those that are kept too; empty, of none.
    type: str
    default: ''
  static_root_variable: {description: The environment variable of STATIC_ROOT., type: str, default: ''}
  python: {description: The Python of virtual environments., type: path, default: /usr/bin/python3}
  to: {description: 'The id of a release that is kept; empty, the one before.', type: str, default: ''}
  migrations:
    description: >-
      What becomes of migrations that the earlier release does not know: C(refuse) ends there, C(keep) leaves the
      database as it is, C(reverse) undoes them first.
    type: str
    choices: [refuse, keep, reverse]
    default: refuse
  lock_timeout: {description: Seconds that a migration waits for a lock; 0 for no limit., type: int, default: 5}
  units: {description: 'The services that run the code.', type: list, elements: str, default: []}
  url: {description: 'The address by which visitors know the site; empty, Apache is not asked.', type: str, default: ''}
  server: {description: 'Where Apache listens on this host, scheme://address:port.', type: str, default: 'http://127.0.0.1:80'}
  smoke:
    description: Paths, each with the status of its answer, or C(any) for all but a server error.
    type: dict
    default: {}
  socket_path: {description: 'A path that answers WebSocket handshakes, or an empty text.', type: str, default: ''}
  maintenance: {description: The file that closes the site., type: str, default: ''}
  by: {description: 'Who rolls back, for the history.', type: str, default: ''}
  wait: {description: Seconds to wait for somebody else's release of the same site., type: int, default: 300}
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Serve the release before this one again
  site_rollback:
    site: lab
    home: /srv/lab
    environment_dir: /etc/switchboard/lab
    units: [daphne-lab@1.service]
"""

RETURN = r"""
previous: {description: The release id before., type: str, returned: success}
release: {description: The release id now., type: str, returned: success}
migrations: {description: 'Migrations that stayed, or were reversed.', type: list, elements: str, returned: success}
units: {description: The units that were restarted., type: list, elements: str, returned: success}
unasked: {description: 'Why Apache was not asked for the paths, or an empty text.', type: str, returned: success}
"""


class Rollback:
    """The way back from the release that is served to an earlier one."""

    def __init__(self, params: dict[str, Any], releases: Releases, serving: Serving) -> None:
        self.params, self.releases, self.serving = params, releases, serving
        self.live = releases.live()
        left = releases.proven()
        named = params["to"] == self.live or (not params["to"] and releases.taken_back(left))
        if named and left != self.live and left and releases.ready(left):
            # a rollback that was killed after its switch: this one finishes it
            params, self.live = {**params, "to": self.live}, left
        self.to = params["to"] or releases.before(self.live)
        self.stays = self.to == self.live != ""  # of several hosts, one serves it already
        if self.stays:
            return
        kept = [name for name in releases.kept() if name != self.live]
        if not self.live or not kept:
            raise Refused(
                "the host keeps no other release. playbooks/deploy.yml makes the next one."
            )
        if self.to not in kept:
            named = f"to is {self.to}: the host has no such release beside the one that is served"
            raise Refused(
                f"{named if self.to else 'each earlier release was rolled back from'}. Name one with -e to=: "
                f"{', '.join(kept)} (playbooks/releases.yml tells of each)."
            )
        self.target, self.source = (
            Release.there(self.params, releases, name) for name in (self.to, self.live)
        )
        if why := self.target.outlived():
            raise Refused(
                f"to is {self.to}: its Python environment can't be used: {why}. Release that code again with "
                "playbooks/deploy.yml, which makes another."
            )

    def standing(self) -> list[tuple[str, str]]:
        """Return the migrations that are applied and only the live release has; refuse them if asked to."""
        if self.stays:
            return []
        told = self.target.migrations()
        lacking = told["standing"]
        if not lacking:
            return []
        known = self.source.migrations(ask=lacking)
        found = [(label, name) for label, name in lacking if [label, name] not in known["standing"]]
        stuck = [f"{label}.{name}" for label, name in known["irreversible"]]
        choice = self.params["migrations"]
        if found and (choice == "refuse" or (choice == "reverse" and stuck)):
            names = ", ".join(f"{label}.{name}" for label, name in found)
            no_way = f"{', '.join(stuck)} can't be reversed: Django does not know how."
            reverse = "-e migrations=reverse undoes them first, and what they brought is lost."
            raise Refused(
                f"migrations is {choice}: the database holds {names}, which release {self.to} does not know. "
                "-e migrations=keep takes the code back alone, which is right where they only added something; "
                f"{no_way if stuck else reverse}"
            )
        self.leaves = told["leaves"]
        return found

    def reverse(self, found: list[tuple[str, str]]) -> None:
        """Undo migrations, with the code of the release that brought them."""
        for label in sorted({label for label, _ in found}):
            self.source.run_migrate(
                label,
                self.leaves.get(label, "zero"),
                variable="migrations",
                value="reverse",
                why=f"`manage.py migrate {label}` backwards failed.",
                remedy="Correct what it names, or take the code back alone with -e migrations=keep.",
            )

    def forward(self) -> None:
        """Bring the database back to the release that is served on."""
        self.source.run_migrate(
            variable="migrations",
            value="reverse",
            why="bringing the database forward again failed.",
            remedy="Run `migrate` by hand.",
        )
        self.releases.reversing.unlink(missing_ok=True)

    def done(self) -> dict[str, Any]:
        """Serve the target, or raise Refused with the former release served on."""
        if self.stays:
            return {**self.predicted(), "migrations": [], "units": [], "unasked": ""}
        with ThreadPoolExecutor(max_workers=1) as pool:
            tried = pool.submit(self.attempt)
            found = self.standing()
        marker, reverses = self.releases.reversing, self.params["migrations"] == "reverse"
        reversing = marker.exists() or (bool(found) and reverses)
        kept, marked, switched = self.releases.kept(), False, False
        try:
            if reversing:
                marker.touch()
                self.reverse(found if reverses else [])
                self.attempt()
            else:
                tried.result()
            if kept.index(self.to) > kept.index(self.live):
                # before the switch: a run that is killed is finished by the next one
                self.releases.mark(self.live)
                marked = True
            switched = True
            self.releases.switch(self.to)
            units = self.serving.load()
            unasked = self.serving.smoke()
        except Exception as error:
            wrong = attempts(
                *([lambda: self.releases.switch(self.live)] if switched else []),
                *([lambda: self.releases.unmark(self.live)] if marked else []),
                *([self.forward] if reversing else []),
                *([self.serving.load] if switched else []),
            )
            end = f"Release {self.live} is served on."
            if wrong:
                end = f"Bringing release {self.live} back went wrong, too: {wrong}"
            raise Refused(f"{error}\n{end}") from error
        self.releases.unmark(self.to)
        marker.unlink(missing_ok=True)
        self.releases.note("rolled back", self.to, by=self.params["by"], **{"from": self.live})
        return {
            **self.predicted(),
            "migrations": [f"{label}.{name}" for label, name in found],
            "units": units,
            "unasked": unasked,
        }

    def attempt(self) -> None:
        """Ask the target for its pages."""
        self.target.attempt(self.params["url"], self.params["smoke"])

    def predicted(self) -> dict[str, Any]:
        """Return what `done` would, as far as it is known before."""
        link = self.releases.current
        return {
            "changed": not self.stays,
            "previous": self.live,
            "release": self.to,
            "diff": {"before": f"{link} -> {self.live}\n", "after": f"{link} -> {self.to}\n"},
        }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "site": {"type": "str", "required": True},
            "home": {"type": "path", "required": True},
            "environment_dir": {"type": "path", "required": True},
            "project_dir": {"type": "str", "default": "."},
            "static_root_variable": {"type": "str", "default": ""},
            "static_hashed": {"type": "str", "default": ""},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "to": {"type": "str", "default": ""},
            "lock_timeout": {"type": "int", "default": 5},
            "migrations": {
                "type": "str",
                "choices": ["refuse", "keep", "reverse"],
                "default": "refuse",
            },
            **SERVING,
        },
        supports_check_mode=True,
    )
    params = module.params
    releases = Releases(Path(params["home"]), params["static_hashed"])
    serving = Serving.of(params, module.run_command)
    try:
        if module.check_mode:
            way = Rollback(params, releases, serving)
            way.standing()
            module.exit_json(**way.predicted())
        with locked(releases.home, params["by"], params["wait"]):
            answer = Rollback(params, releases, serving).done()
    except Refused as error:
        module.fail_json(msg=f"Site {params['site']}: {error}")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
