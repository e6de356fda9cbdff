#!/usr/bin/python
"""Tell which releases of a Django site are on a host."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.site_history import Releases

DOCUMENTATION = r"""
---
module: site_releases
short_description: Tell which releases of a Django site are on a host
description:
  - Returns the releases that can serve, the one deployed last first, and the build that was refused last.
options:
  home: {description: The site's home., type: path, required: true}
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: See what the site lab can go back to
  site_releases:
    home: /srv/lab
"""

RETURN = r"""
releases:
  description: >-
    Of each its id (release), state (live, kept, rolled back, failed), at, by, commit, and of a failed one step and why.
  type: list
  elements: dict
  returned: always
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"home": {"type": "path", "required": True}}, supports_check_mode=True
    )
    module.exit_json(changed=False, releases=Releases(Path(module.params["home"])).table())


if __name__ == "__main__":
    main()
