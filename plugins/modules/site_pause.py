#!/usr/bin/python
"""Close a site on one of its hosts while another one changes the data that they share, and open it again."""

from __future__ import annotations

import json
from pathlib import Path

from ansible.module_utils import wsgi_group
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.site_history import PAUSED, Refused, Releases, locked, put
from ansible.module_utils.site_serving import RENEW_SECONDS, SERVING, Serving, is_service
from ansible.module_utils.systemd_units import Broken

DOCUMENTATION = r"""
---
module: site_pause
short_description: Close a site on one of its hosts, or open it again
description:
  - With O(state=paused) Apache answers 503, the site's sockets, services and timers stop, and its processes of mod_wsgi
    end what they do. What was active, and whether somebody had closed the site before, is kept on the host.
  - With O(state=resumed) all of that is as it was. A site that was not paused stays as it is, so that what a killed run
    left closed is opened by the next one.
options:
  site: {description: 'The site''s name.', type: str, required: true}
  state: {description: Whether the site is closed or as before., type: str, choices: [paused, resumed], required: true}
  secret_key:
    description: The text of secret_key.env that the other host has, if this one is to have it too when it resumes.
    type: str
    default: ''
  home: {description: The site's home., type: path, required: true}
  environment_dir: {description: The folder of the site's environment files., type: path, required: true}
  units: {description: 'The services that run the code.', type: list, elements: str, default: []}
  url: {description: 'The address by which visitors know the site; empty, Apache is not asked.', type: str, default: ''}
  server: {description: The address and port of Apache on this host., type: str, default: '127.0.0.1:80'}
  smoke:
    description: Paths, each with the status of its answer, or C(any) for all but a server error.
    type: dict
    default: {}
  socket_path: {description: 'A path that answers WebSocket handshakes, or an empty text.', type: str, default: ''}
  maintenance: {description: The file that closes the site., type: str, default: ''}
  by: {description: 'Who does it, for whoever waits meanwhile.', type: str, default: ''}
  wait: {description: Seconds to wait for somebody's release of the same site., type: int, default: 300}
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Let nobody write while another host restores the rows
  site_pause:
    site: lab
    state: paused
    home: /srv/lab
    environment_dir: /etc/switchboard/lab
    maintenance: /var/lib/switchboard/maintenance/lab
"""

RETURN = r"""
units: {description: The units that were stopped or started., type: list, elements: str, returned: success}
"""


def paused(serving: Serving, state: Path) -> list[str]:
    """Close the site and stop what runs its code; return the units that did.

    Args:
        serving: the site's processes.
        state: where it is kept what was active, and whether the site was closed already.

    Raises:
        Refused: a process of mod_wsgi does not end what it does.
    """
    closed = Path(serving.params["maintenance"])
    begun = json.loads(state.read_text(encoding="utf-8")) if state.is_file() else {}
    units = sorted({*begun.get("units", []), *serving.active()}, key=is_service)
    kept = {"closed": begun.get("closed", closed.exists()), "units": units}
    put(state, json.dumps(kept), 0o600)
    closed.parent.mkdir(parents=True, exist_ok=True)
    closed.touch(mode=0o644)
    for unit in units:
        serving.systemd.act("stop", unit)
    try:
        wsgi_group.renew(serving.site, RENEW_SECONDS)
    except wsgi_group.Stuck as error:
        raise Refused(str(error)) from error
    return units


def resumed(serving: Serving, state: Path) -> list[str]:
    """Start what `paused` stopped and open the site, unless it was closed before; return those units.

    Raises:
        Refused: something does not serve; the site stays closed, and the next call tries again.
    """
    if not state.is_file():
        return []
    begun = json.loads(state.read_text(encoding="utf-8"))
    key = Path(serving.params["environment_dir"]) / "secret_key.env"
    text = serving.params["secret_key"]
    if text and text != key.read_text(encoding="utf-8"):
        put(key, text, 0o640, key.stat().st_gid)
    for unit in begun["units"]:
        if not is_service(unit):
            serving.systemd.act("start", unit)
    serving.load()
    if not begun["closed"]:
        Path(serving.params["maintenance"]).unlink(missing_ok=True)
    state.unlink()
    serving.smoke()
    return list(begun["units"])


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "site": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["paused", "resumed"], "required": True},
            "secret_key": {"type": "str", "default": "", "no_log": True},
            "home": {"type": "path", "required": True},
            "environment_dir": {"type": "path", "required": True},
            **SERVING,
        },
        supports_check_mode=True,
    )
    params = module.params
    home = Releases(Path(params["home"]))
    state = home.home / PAUSED
    if module.check_mode:
        module.exit_json(changed=params["state"] == "paused" or state.is_file(), units=[])
    try:
        with locked(home.home, params["by"], params["wait"]):
            changed = params["state"] == "paused" or state.is_file()
            step = paused if params["state"] == "paused" else resumed
            units = step(Serving.of(params, module.run_command), state)
    except (Refused, Broken, OSError) as error:
        module.fail_json(msg=f"Site {params['site']}: {error}")
    module.exit_json(changed=changed, units=units)


if __name__ == "__main__":
    main()
