#!/usr/bin/python
"""Build a release of a Django site beside the running one and switch to it when all has passed."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.site_change import BUILT, Change
from ansible.module_utils.site_history import PAUSED, Refused, Releases, locked
from ansible.module_utils.site_move import MOVING
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
