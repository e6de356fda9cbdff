"""Templates that need nothing but what they are given: units, properties, environment files, scripts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from ansible.plugins.filter.core import combine, comment
from ansible.plugins.loader import filter_loader

ROOT = Path(__file__).resolve().parents[2]
MANAGED = "Ansible managed"  # what Ansible's own `template` says


@cache
def _template(name: str) -> jinja2.Template:
    role, _, file = name.rpartition("/")
    folder = ROOT / "roles" / role / "templates" if role else ROOT / "templates"
    environment = jinja2.Environment(  # noqa: S701 - no HTML
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "combine": combine,
        "comment": comment,
        "environment_file": filter_loader.get("environment_file").j2_function,
    }
    return environment.get_template(file)


def rendered(values: Mapping[str, Any], name: str) -> str:
    """Return a template with these values.

    Ansible's lookup ``template`` copies every variable of the host for each file first, which takes longer than all
    else that writing a file takes.

    Args:
        values: what the template reads, by name; nothing else is there.
        name: the file below ``templates/``, or ``<role>/<file>`` for one of a role's.
    """
    return _template(name).render({**values, "ansible_managed": MANAGED})


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {"rendered": rendered}
