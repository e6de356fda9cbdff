#!/usr/bin/python
"""Look whether services run with the files that are on the disk, or began before one of these changed."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.service_current import OPTIONS, behind

DOCUMENTATION = r"""
---
module: service_current
short_description: Find services that run with older files than those on the disk
description:
  - A run that is interrupted between a file and the restart that the file needs leaves a service that runs with what
    was there before. This module finds it, so that the next run can finish what the last one began.
  - A service is behind when systemd has not read its unit anew (C(NeedDaemonReload)), or when its unit below
    C(/etc) or C(/run), or one of I(paths), changed (st_ctime) after it began. What does not run is never behind.
  - It changes nothing. The task is C(changed) where a service is behind, so that it can notify a handler.
options:
  services:
    description: The services to look at.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: What the caller calls it, type: str, required: true}
      unit: {description: "The unit; or leave it out, and give I(group).", type: str}
      group: {description: A process group of mod_wsgi in the place of a unit., type: str}
      paths:
        description:
          - Files and patterns of them that the service reads when it begins. Of a path through symbolic links each
            link counts. A folder counts where the path ends with a slash, for what was added to it or taken away.
        type: list
        elements: str
        default: []
      stamp: {description: A file that was last modified when the service last read its files anew., type: path}
  pending:
    description: Paths that this run has changed, or would in check mode; a running service that reads one is behind.
    type: list
    elements: str
    default: []
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Look whether Kafka runs with what is written
  service_current:
    services:
      - {name: kafka, unit: kafka.service, paths: [/etc/kafka/server.properties, /opt/kafka/current]}
  notify: Restart Kafka
"""

RETURN = r"""
behind: {description: The names of the services that are behind., type: list, elements: str, returned: always}
reasons: {description: "A sentence for each of them.", type: list, elements: str, returned: always}
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "services": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": OPTIONS,
                "required_one_of": [("unit", "group")],
                "mutually_exclusive": [("unit", "group")],
            },
            "pending": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    reasons = behind(module.params["services"], module.params["pending"], module.run_command)
    module.exit_json(
        changed=bool(reasons),
        behind=list(reasons),
        reasons=list(reasons.values()),
        diff={"prepared": "".join(f"{text}\n" for text in reasons.values())},
    )


if __name__ == "__main__":
    main()
