"""What is wrong with the entries of ``sites``, said before anything is touched."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.loader import filter_loader

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
# Users of what this bundle installs, of Debian's, and a folder among those of the sites' certificates.
RESERVED = {
    *("root", "daemon", "backup", "nobody", "www-data", "postfix", "sshd"),
    *("kafka", "zookeeper", "postgres", "prometheus", "redis", "valkey", "peers"),
}
TOPIC = re.compile(r"[A-Za-z0-9._-]{1,200}")
TOPIC_KEYS = {"partitions", "replication_factor", "config"}
# Where a word in braces stands for what follows from the entry.
WORDED = ("environment", "secrets", "services", "releases.hooks")
SECRET_WORD = re.compile(r"secret|password|passwd|token", re.I)


def _ask(name: str, *given: Any) -> Any:
    """Return what a filter of sites.py says; files of filters can't import one another."""
    return filter_loader.get(name).j2_function(*given)


@cache
def _keys() -> Any:
    return _ask("site_keys")


def _nearest(key: str) -> str:
    """Return the key that somebody may have meant, or an empty text."""
    known = _keys()["options"]
    close = difflib.get_close_matches(key, [*known, *_keys()["groups"]], n=1)
    if close:
        return close[0]
    # the right word in the wrong group
    last = {path.split(".")[-1]: path for path in known}
    close = difflib.get_close_matches(key.split(".")[-1], [*last], n=1)
    return last[close[0]] if close else ""


def site_faults(sites: Any, host: Mapping[str, Any], only: str = "") -> list[str]:
    """Return what is wrong with ``sites``, a sentence each: the key, its value, why, and the remedy.

    Args:
        sites: what the inventory says.
        host: the variables of the host that `site_lists` takes; any former list among them is refused.
        only: the name of the one site that the run is for, empty for all.
    """
    found = [
        f"{name} is set in the inventory: a site is one entry of `sites` now. Move it there; UPGRADING.md shows how."
        for name in (f"{role}_sites" for role in _keys()["roles"])
        if name in host
    ]
    if not isinstance(sites, Mapping):
        return [
            *found,
            f"sites is {sites!r}: it must be a mapping. Write the name of each site, and its keys below it.",
        ]
    if only and only not in sites:
        found.append(
            f"site is {only!r}: `sites` has {', '.join(sorted(map(str, sites))) or 'none'}."
        )
    for name, entry in sites.items():
        found += _entry_faults(str(name), entry)
    return found or _clashes(sites, host)


def _entry_faults(name: str, entry: Any) -> list[str]:
    if not NAME.fullmatch(name):
        return [
            f"sites.{name} is {name!r}: a site's name is also a user and a unit. "
            "Use a letter, then up to 30 lower-case letters, digits and hyphens."
        ]
    if name in RESERVED:
        return [
            f"sites.{name} is {name!r}: that name belongs to something else on a server. Choose another."
        ]
    if not isinstance(entry, Mapping):
        return [f"sites.{name} is {entry!r}: it must be a mapping. Write `domain: …` below it."]
    known, groups = _keys()["options"], _keys()["groups"]
    found = []
    given = _ask("site_entry", entry)
    for key, value in given.items():
        where = f"sites.{name}.{key}"
        if key in known:
            if key in _keys()["own"]:
                found += _type_faults(where, known[key], value)
            continue  # the type of the others is the role's to judge
        if key in groups:
            found.append(f"{where} is {value!r}: it must be a mapping of keys.")
            continue
        close = _nearest(key)
        remedy = f"Did you mean {close}?" if close else "docs/reference.md has all of them."
        hidden = known.get(close, {}).get("no_log") or SECRET_WORD.search(key)
        shown = "hidden" if hidden else repr(value)
        found.append(f"{where} is {shown}: a site has no such key. {remedy}")
    for key in ("domain", "settings"):
        if not given.get(key):
            found.append(f"sites.{name}.{key} is empty: a site needs one. Write it.")
    kinds = [key for key in ("directory", "git", "archive") if given.get(f"source.{key}")]
    if len(kinds) != 1:
        found.append(
            f"sites.{name}.source is {entry.get('source')!r}: the project comes from one place. "
            "Name one of directory, git, archive."
        )
    if entry.get("websockets") and not given.get("asgi"):
        found.append(
            f"sites.{name}.websockets is given, and asgi is empty: WebSockets are for a project with an ASGI "
            "application. Name it, or take websockets away."
        )
    for key in WORDED:
        if "{valkey_" in str(given.get(key)) and not given.get("valkey"):
            found.append(
                f"sites.{name}.{key} has a word that begins with {{valkey_, and the site has no Valkey: nothing would "
                "answer there. Write `valkey: true`."
            )
    found += [
        f"sites.{name}.{key} has the word {{{word}}}: others could read it there. Write it into `secrets`."
        for key in WORDED
        for word in ("kafka_password", "database_password")
        if key != "secrets" and f"{{{word}}}" in str(given.get(key))
    ]
    topics = given.get("topics") or {}
    if not isinstance(topics, Mapping):
        return [
            *found,
            f"sites.{name}.topics is {topics!r}: it must be a mapping. Write `owner: {{partitions: 3}}` below it.",
        ]
    for topic, wanted in topics.items():
        if not TOPIC.fullmatch(str(topic)):
            found.append(
                f"sites.{name}.topics.{topic} is {topic!r}: that is no name of a topic. "
                "Use letters, digits, dots, hyphens and underscores."
            )
        unknown = set(wanted or {}) - TOPIC_KEYS if isinstance(wanted or {}, Mapping) else {wanted}
        if unknown:
            found.append(
                f"sites.{name}.topics.{topic} is {wanted!r}: a topic has {', '.join(sorted(TOPIC_KEYS))}."
            )
    return found


def _type_faults(where: str, option: Mapping[str, Any], value: Any) -> list[str]:
    """Return the sentence about a value that is not of the type, or none of the choices, of an option."""
    spec = {key: option[key] for key in ("type", "elements", "choices") if key in option}
    if not ArgumentSpecValidator({"value": spec}).validate({"value": value}).error_messages:
        return []
    if "choices" in option:
        return [
            f"{where} is {value!r}: it is none of its choices. Use one of {', '.join(option['choices'])}."
        ]
    kind = {"int": "a whole number", "list": "a list"}.get(option["type"], f"a {option['type']}")
    return [f"{where} is {value!r}: it must be {kind}. Write one."]


def _clashes(sites: Mapping[str, Any], host: Mapping[str, Any]) -> list[str]:
    """Return the sites whose WebSockets have a port that an earlier site has, with a free one."""
    entries = {str(name): _ask("site_entry", entry) for name, entry in sites.items()}
    live = {name: given for name, given in entries.items() if given.get("asgi")}
    ports = {name: _ask("site_port", given, host) for name, given in live.items()}
    found, owners = [], dict[Any, str]()
    for name, port in ports.items():
        owner = owners.setdefault(port, name)
        if owner != name:
            free = next(n for n in range(9099, 65536, 10) if n not in ports.values())
            found.append(
                f"sites.{name}.websockets.port is {port}: the site {owner} has it. {free} is free."
            )
    return found


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {"site_faults": site_faults}
