"""Filters that several roles share: the settings of each site, and environment files."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import idna
from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load  # by libyaml, ten times as fast
from ansible.module_utils.errors import ArgumentTypeError, ArgumentValueError

ROLES = Path(__file__).resolve().parents[2] / "roles"
SITE_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# How a type of an argument specification is called in an error, and what it looks like.
TYPES = {
    "bool": ("neither true nor false", "Write true or false."),
    "dict": ("no mapping", "Write `key: value` lines below it."),
    "float": ("no number", "Write a number."),
    "int": ("no whole number", "Write a whole number."),
    "list": ("no list", "Write one `- item` a line below it."),
    "path": ("no path", "Write a path."),
    "str": ("no text", "Write a text."),
}


@cache
def _role_options(role: str) -> dict[str, Any]:
    """Return the options of a role's main entry point, as its argument specification types them."""
    text = (ROLES / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
    options: dict[str, Any] = yaml_load(text)["argument_specs"]["main"]["options"]
    return options


def roles_options(roles: Sequence[str]) -> dict[str, Any]:
    """Return the options of several roles as one specification; each one's begin with its name."""
    return {name: option for role in roles for name, option in _role_options(role).items()}


def _plain(value: Any) -> Any:
    """Return a copy in plain containers.

    Ansible's own are lazy; the validator's deep copy of one would copy the templar with it, after which no
    filter loads any more.
    """
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _name_site(value: Any, name: str) -> Any:
    """Put a site's name for ``{site}`` in a text, or in each text of a list."""
    if isinstance(value, str):
        return value.replace("{site}", name)
    if isinstance(value, list):
        return [_name_site(item, name) for item in value]
    return value


# Settings that are names of hosts.
HOST_KEYS = ("server_name", "server_aliases", "names", "health_host")
# Variables that were there once: what became of each.
REMOVED = {
    "apache_http2_websockets": "it was removed. Delete it; browsers open WebSockets over HTTP/1.1 all the same.",
}
SECRET_WORD = re.compile(r"secret|password|passwd|token|key", re.I)


def host_names(value: Any) -> Any:
    """Return host names in ASCII (RFC 5891): ``xn--mnchen-3ya.example`` for ``münchen.example``; one, or a list.

    What is no such name is returned as it is, for the rules of the roles to refuse.
    """
    if isinstance(value, (list, tuple)):
        return [host_names(item) for item in value]
    if not isinstance(value, str) or value.isascii():
        return value
    star, _, name = value.rpartition("*.")
    try:
        return f"{'*.' if value.startswith('*.') else star}{idna.encode(name, uts46=True).decode('ascii')}"
    except idna.IDNAError:
        return value


def _holds_secrets(option: Mapping[str, Any]) -> bool:
    """Return whether an option, or one within it, is not to be shown."""
    return bool(option.get("no_log")) or any(
        map(_holds_secrets, option.get("options", {}).values())
    )


def variable_rules(names: Sequence[str], own: Sequence[str] = ()) -> list[dict[str, str]]:
    """Return a rule that is broken for each name that begins as a role's variables do and is none of them.

    Args:
        names: names of variables of a host.
        own: regular expressions; a name that one of them matches as a whole is the user's own.

    Returns:
        Mappings of variable, why, remedy, and hidden ("yes" where the value is not to be shown).
    """
    roles = sorted(path.parents[1].name for path in ROLES.glob("*/meta/argument_specs.yml"))
    options = roles_options(roles)
    rules = []
    for name in sorted(names):
        role = next((role for role in roles if name.startswith(f"{role}_")), "")
        if not role or name in options or any(re.fullmatch(pattern, name) for pattern in own):
            continue
        if name in REMOVED:
            why, _, remedy = REMOVED[name].partition(" Delete")
            rules.append({"variable": name, "why": why, "remedy": f"Delete{remedy}", "hidden": ""})
            continue
        close = difflib.get_close_matches(name, list(options), n=1)
        remedy = f"Did you mean {close[0]}?" if close else "docs/reference.md has all of them."
        secret = SECRET_WORD.search(name) or any(_holds_secrets(options[meant]) for meant in close)
        rules.append(
            {
                "variable": name,
                "why": f"the role {role} has no such variable.",
                "remedy": f"{remedy} If it is your own, name it in switchboard_own_variables.",
                "hidden": "yes" if secret else "",
            }
        )
    return rules


def _typed(role: str, key: str, value: Any, site: str) -> Any:
    """Return a value in the type that the role's specification states; raise AnsibleFilterError if it is none."""
    # "required" is judged by the role's own rules, which see the merged value
    option = {k: v for k, v in _role_options(role)[f"{role}_{key}"].items() if k != "required"}
    result = ArgumentSpecValidator({key: option}).validate({key: _plain(value)})
    if not result.error_messages:
        return result.validated_parameters[key]
    shown = "hidden" if option.get("no_log") else repr(value)
    why, remedy = TYPES[option["type"]]
    if any(isinstance(error, ArgumentValueError) for error in result.errors):
        why, remedy = "none of its choices", f"Use one of {', '.join(option['choices'])}."
    elif any(not isinstance(error, ArgumentTypeError) for error in result.errors):
        why = f"not what it should be ({'; '.join(result.error_messages)})"
    raise AnsibleFilterError(f"{role}_{key} is {shown}: it is {why}. {remedy} (site {site})")


def site_settings(
    sites: Sequence[Mapping[str, Any]],
    role: str,
    defaults: Mapping[str, Any],
    without: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Give each site of ``sites`` the value of every per-site setting.

    ``defaults`` maps a key (a role's variable without the role's prefix) to the value that holds for
    every site which does not name that key itself; ``{site}`` in it stands for the site's name. Each
    value gets the type and is one of the choices that ``roles/<role>/meta/argument_specs.yml`` states
    for that variable. The keys in ``without`` are checked too, then left out of the result: what is
    secret stays out of loops.

    Raises ``AnsibleFilterError`` naming the site, the key, the value and the remedy.
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
        if not SITE_NAME.fullmatch(name):
            raise AnsibleFilterError(
                f"{where}.name is {name!r}: a site's name is also a user and a unit. "
                "Use a letter, then up to 30 lower-case letters, digits and hyphens."
            )
        if name in names:
            raise AnsibleFilterError(
                f"{where}.name is {name!r}: another site has that name. Give each its own."
            )
        names.add(name)
        overrides: dict[str, Any] = {}
        for key, value in site.items():
            if key == "name":
                continue
            if key not in defaults and f"{role}_{key}" in REMOVED:
                raise AnsibleFilterError(f"{where}.{key} is {value!r}: {REMOVED[f'{role}_{key}']}")
            if key not in defaults:
                close = difflib.get_close_matches(key, list(defaults), n=1)
                remedy = (
                    f"Did you mean {close[0]}?"
                    if close
                    else f"Known keys: {', '.join(sorted(defaults))}."
                )
                secret = any(options.get(f"{role}_{meant}", {}).get("no_log") for meant in close)
                raise AnsibleFilterError(
                    f"{where}.{key} is {'hidden' if secret else repr(value)}: "
                    f"{role} has no such setting. {remedy}"
                )
            overrides[key] = _plain(value)
        filled = {key: _name_site(_plain(value), name) for key, value in defaults.items()}
        whole = {"name": name, **filled, **overrides}
        for key, value in whole.items():
            if f"{role}_{key}" in options:
                whole[key] = _typed(role, key, value, name)
            if key in HOST_KEYS:
                whole[key] = host_names(whole[key])
        merged.append({key: value for key, value in whole.items() if key not in without})
    return merged


def site_settings_answer(
    sites: Any, role: str, defaults: Mapping[str, Any], without: Sequence[str] = ()
) -> dict[str, Any]:
    """Return a task's answer: what `site_settings` returns as ``sites``, or in one sentence why it refuses them."""
    try:
        return {"sites": site_settings(sites, role, defaults, without)}
    except AnsibleFilterError as error:
        return {"failed": True, "msg": str(error)}


def refusals(
    rules: Iterable[Mapping[str, Any]], faults: Sequence[str] = ()
) -> list[dict[str, str]]:
    """Return the rules that do not hold as sentences with their variables; where all hold, a look's faults."""
    found = [
        {
            "variable": rule["variable"],
            "said": f"{rule['variable']} is {rule['value']}: {rule['why']} {rule['remedy']}",
        }
        for rule in rules
        if not rule.get("that")
    ]
    if not found and faults:
        found = [{"variable": faults[0].split()[0], "said": " ".join(faults)}]
    return found


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
    if not isinstance(name, str) or not ENVIRONMENT_NAME.fullmatch(name):
        return {
            "variable": label,
            "value": f"a mapping with the name {name!r}",
            "why": "that is no name of an environment variable.",
            "remedy": "Use letters, digits and underscores, and no digit first.",
        }
    rule = {"variable": f"{label}.{name}"}
    if value is None or isinstance(value, (Mapping, list)):
        rule["value"] = {type(None): "null", list: "a list"}.get(type(value), "a mapping")
        rule["why"] = "an environment variable holds text."
        return {**rule, "remedy": "Write it as one string."}
    if not all(_fits(character) for character in str(value)):
        rule["value"] = "a text with a line break or another control character"
        rule["why"] = "an environment file can't carry it."
        return {**rule, "remedy": "Put it into a file and name its path here."}
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
                f"{fault['variable']} is {fault['value']}: {fault['why']} {fault['remedy']}"
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
    ``why`` and ``remedy``.
    """
    faults = (
        (site["name"], _environment_fault(f"{role}_{key}", name, value))
        for site in sites
        for key in keys
        for name, value in site[key].items()
    )
    return [
        {**fault, "remedy": f"{fault['remedy']} (site {site})"} for site, fault in faults if fault
    ]


def site_accounts(names: Sequence[str], users: Mapping[str, Any]) -> list[str]:
    """Return those of the sites whose user is not there as it shall be, in a group of its own.

    ``users`` is what the module host_look has seen: home, shell and group of each.
    """
    return [
        name
        for name in names
        if users.get(name) != {"home": f"/srv/{name}", "shell": "/usr/sbin/nologin", "group": name}
    ]


def account_rules(names: Sequence[str], users: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a rule that does not hold for each site whose name is that of somebody else's user on the host.

    To make such a user the site's would give the site what is that user's, or lock an administrator out.
    """
    return [
        {
            "that": False,
            "variable": f"sites.{name}",
            "value": name,
            "why": f"the host has a user of that name, with {users[name]['home']} for a home, who is not the site's.",
            "remedy": "Give the site another name, or remove that user.",
        }
        for name in names
        if name in users and users[name]["home"] != f"/srv/{name}"
    ]


def port_clashes(asked: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a rule that does not hold for each variable that names a port another one has named before.

    ``asked`` is what each role asks of a host, as the module host_look takes it.
    """
    owners: dict[int, str] = {}
    rules = []
    for entry in (entry for role in asked.values() for entry in role.get("ports", [])):
        variable, value = entry["variable"], entry["port"]
        owner = owners.setdefault(int(value), variable)
        if owner != variable:
            rules.append(
                {
                    "variable": variable,
                    "value": value,
                    "why": f"{owner} names the same port.",
                    "remedy": "Give each service its own.",
                }
            )
    return rules


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "site_settings": site_settings,
            "environment_file": environment_file,
            "environment_rules": environment_rules,
            "host_names": host_names,
            "site_settings_answer": site_settings_answer,
            "refusals": refusals,
            "roles_options": roles_options,
            "account_rules": account_rules,
            "variable_rules": variable_rules,
            "site_accounts": site_accounts,
            "port_clashes": port_clashes,
        }
