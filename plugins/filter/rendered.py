"""Files of templates/ as texts: the units and the properties, which are data and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from ansible.plugins.filter.core import comment

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
MANAGED = "Ansible managed"  # what Ansible's own `template` says


@cache
def _template(name: str) -> jinja2.Template:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    undefined = jinja2.StrictUndefined
    environment = jinja2.Environment(  # noqa: S701 - no HTML
        loader=loader, undefined=undefined, trim_blocks=True, keep_trailing_newline=True
    )
    environment.filters["comment"] = comment
    return environment.get_template(name)


def rendered(values: Mapping[str, Any], name: str) -> str:
    """Return a template of the folder ``templates/`` with these values.

    Ansible's lookup ``template`` copies every variable of the host for each file first, which takes longer than all
    else that writing a unit takes.

    Args:
        values: what the template reads, by name; nothing else is there.
        name: the file's name.
    """
    return _template(name).render({**values, "ansible_managed": MANAGED})


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {"rendered": rendered}
