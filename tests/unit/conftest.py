"""Modules find the project's module_utils where Ansible puts them."""

import ansible.module_utils

from tests.unit.run_module import UTILS

ansible.module_utils.__path__.append(UTILS)
