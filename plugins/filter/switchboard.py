"""Filters that several roles share: the settings of each site, and environment files."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ROLES = Path(__file__).resolve().parents[2] / "roles"
SITE_NAME = re.compile(r"^[a-z][a-z0-9-]{0,30}$")
ENVIRONMENT_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


@cache
def _role_options(role: str) -> dict[str, Any]:
    """Return the options of a role's main entry point, as its argument specification types them."""
    text = (ROLES / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
    options: dict[str, Any] = yaml.safe_load(text)["argument_specs"]["main"]["options"]
    return options


def _name_site(value: Any, name: str) -> Any:
    """Put a site's name for ``{site}`` in a text, or in each text of a list."""
    if isinstance(value, str):
        return value.replace("{site}", name)
    if isinstance(value, list):
        return [_name_site(item, name) for item in value]
    return value


def site_settings(
    sites: Sequence[Mapping[str, Any]],
    role: str,
    defaults: Mapping[str, Any],
    without: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Give each site of ``sites`` the value of every per-site setting.

    ``defaults`` maps a key (a role's variable without the role's prefix) to the value that holds for
    every site which does not name that key itself; ``{site}`` in it stands for the site's name. What a
    site names is checked against the type
    and the choices that ``roles/<role>/meta/argument_specs.yml`` states for that variable. The keys in
    ``without`` are checked too, then left out of the result: what is secret stays out of loops.

    Raises ``AnsibleFilterError`` naming the site, the key, the value and the mend.
    """
    options = _role_options(role)
    variable = f"{role}_sites"
    if isinstance(sites, (str, Mapping)) or not isinstance(sites, Sequence):
        raise AnsibleFilterError(
            f"{variable} is {sites!r}: it must be a list of sites. Begin each with `- name:`."
        )
    merged: list[dict[str, Any]] = []
    names: set[str] = set()
    for index, site in enumerate(sites):
        where = f"{variable}[{index}]"
        if not isinstance(site, Mapping):
            raise AnsibleFilterError(
                f"{where} is {site!r}: it must be a mapping with a name. Write `- name: lab`."
            )
        name = str(site.get("name", ""))
        if not SITE_NAME.match(name):
            raise AnsibleFilterError(
                f"{where}.name is {name!r}: a site's name is also a user and a unit. "
                "Use a letter, then up to 30 lower-case letters, digits and hyphens."
            )
        if name in names:
            raise AnsibleFilterError(
                f"{where}.name is {name!r}: another site has that name. Give each its own."
            )
        names.add(name)
        spec = {key: options[f"{role}_{key}"] for key in defaults if f"{role}_{key}" in options}
        overrides: dict[str, Any] = {}
        for key, value in site.items():
            if key == "name":
                continue
            if key not in defaults:
                close = difflib.get_close_matches(key, list(defaults), n=1)
                mend = (
                    f"Did you mean {close[0]}?"
                    if close
                    else f"Known keys: {', '.join(sorted(defaults))}."
                )
                raise AnsibleFilterError(
                    f"{where}.{key} is {value!r}: {role} has no such setting. {mend}"
                )
            overrides[key] = value
        filled = {key: _name_site(value, name) for key, value in defaults.items()}
        values = {**filled, **overrides}
        # "required" is judged by the role's own rules, which see the merged value
        typed = {key: {k: v for k, v in spec[key].items() if k != "required"} for key in spec}
        result = ArgumentSpecValidator(typed).validate(
            {k: v for k, v in values.items() if k in typed}
        )
        if result.error_messages:
            raise AnsibleFilterError(
                f"{where} ({name}): {'; '.join(result.error_messages)}. "
                f"The types stand in roles/{role}/meta/argument_specs.yml."
            )
        whole = {"name": name, **values, **result.validated_parameters}
        merged.append({key: value for key, value in whole.items() if key not in without})
    return merged


def _fits(character: str) -> bool:
    """Tell whether systemd takes a character in an environment file (its env-util.c and utf8.c)."""
    code = ord(character)
    control = code < 32 or code == 127
    surrogate = 0xD800 <= code <= 0xDFFF
    noncharacter = 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
    return not (control or surrogate or noncharacter)


def _environment_fault(label: str, name: Any, value: Any) -> dict[str, str] | None:
    """Return what an environment file can't carry as a rule that does not hold, or None.

    The value, which may be a secret, is never told; only what kind of thing it is.
    """
    if not isinstance(name, str) or not ENVIRONMENT_NAME.match(name):
        return {
            "variable": label,
            "value": f"a mapping with the name {name!r}",
            "why": "that is no name of an environment variable.",
            "mend": "Use letters, digits and underscores, and no digit first.",
        }
    rule = {"variable": f"{label}.{name}"}
    if value is None or isinstance(value, (Mapping, list)):
        rule["value"] = {type(None): "null", list: "a list"}.get(type(value), "a mapping")
        rule["why"] = "an environment variable holds text."
        return {**rule, "mend": "Write it as one string."}
    if not all(_fits(character) for character in str(value)):
        rule["value"] = "a text with a line break or another control character"
        rule["why"] = "an environment file can't carry it."
        return {**rule, "mend": "Put it into a file and name its path here."}
    return None


def environment_file(values: Mapping[str, Any], label: str = "django_environment") -> str:
    r"""Render ``values`` as the body of a systemd EnvironmentFile, sorted by name.

    Each value is put between double quotes with ``\`` and ``"`` escaped, which systemd.exec(5) and
    Python's shlex read alike; true and false become 1 and 0. Raises ``AnsibleFilterError`` for a name
    that no shell would take, and for a value with a line break, naming the variable but not the
    value, which may be a secret.
    """
    lines = []
    for name in sorted(values, key=str):
        value = values[name]
        fault = _environment_fault(label, name, value)
        if fault:
            raise AnsibleFilterError(
                f"{fault['variable']} is {fault['value']}: {fault['why']} {fault['mend']}"
            )
        text = str(int(value)) if isinstance(value, bool) else str(value)
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'{name}="{escaped}"')
    return "".join(f"{line}\n" for line in lines)


def environment_rules(
    sites: Sequence[Mapping[str, Any]], role: str, *keys: str
) -> list[dict[str, str]]:
    """Return what no environment file can carry, of the mappings ``keys`` of each site.

    Each is a rule that does not hold, with ``variable``, ``value`` (only what kind of thing it is),
    ``why`` and ``mend``.
    """
    faults = (
        (site["name"], _environment_fault(f"{role}_{key}", name, value))
        for site in sites
        for key in keys
        for name, value in site[key].items()
    )
    return [{**fault, "mend": f"{fault['mend']} (site {site})"} for site, fault in faults if fault]


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "site_settings": site_settings,
            "environment_file": environment_file,
            "environment_rules": environment_rules,
        }
