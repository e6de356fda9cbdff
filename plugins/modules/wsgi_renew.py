#!/usr/bin/python
"""Let mod_wsgi's daemon processes of a site load its code anew, one after another."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.wsgi_group import Stuck, processes, renew

DOCUMENTATION = r"""
---
module: wsgi_renew
short_description: Restart the processes of a WSGIDaemonProcess one after another
description:
  - Asks each process of the group to end at a moment without a request (SIGUSR1, mod_wsgi's
    C(graceful-timeout)), and waits until Apache has put another one in its place and that one has
    loaded the project. The others serve meanwhile, so that no visitor waits for Django to start.
  - Apache itself is not reloaded. Where it does not run, or has no such group, nothing is done.
options:
  group: {description: The name of the process group., type: str, required: true}
  timeout: {description: Seconds to wait for each process and for the one in its place., type: int, default: 60}
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Load the new code of the site lab
  wsgi_renew:
    group: lab
"""

RETURN = r"""
renewed: {description: How many processes there were., type: int, returned: always}
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "group": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    group, timeout = module.params["group"], module.params["timeout"]
    count = len(processes(group))
    if not module.check_mode:
        try:
            count = renew(group, timeout)
        except Stuck as error:
            module.fail_json(msg=str(error))
    module.exit_json(changed=bool(count), renewed=count)


if __name__ == "__main__":
    main()
