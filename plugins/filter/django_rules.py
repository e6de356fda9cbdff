"""What a site and its host must not say: settings that Django, its releases and its services cannot have."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

# Where a site's own commands can stand in a release, which has these steps.
STEPS = (
    "requirements",
    "check",
    "collectstatic",
    "migrate",
    "try",
    "move",
    "switch",
    "restart",
    "smoke",
)
PLACES = [f"{when}_{step}" for step in STEPS for when in ("before", "after")]
DEBIAN_PYTHON = "/usr/bin/python3"
COMMAND_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
CALLABLE = re.compile(r"[A-Za-z_]\w*")
UNIT = re.compile(r"[A-Za-z0-9:_.@\\-]+\.(?:service|socket|target|timer)")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A program of the virtual environment, with what it is given.
PROGRAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*( .*)?")
SERVICE_KEYS = {"command", "program", "instances", "stop_timeout"}

# variable without its prefix, value, why, remedy
Broken = tuple[str, Any, str, str]


def django_rules(
    sites: Sequence[Mapping[str, Any]],
    wsgi_python: Mapping[str, str],
    facts: Mapping[str, Any],
    answers: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Return what can't work on this host, as rules that do not hold; empty when all is well.

    ``sites`` are the complete sites, ``wsgi_python`` maps a Debian release to the Python that its
    mod_wsgi is built for, ``facts`` are Ansible's facts of the host, ``answers`` maps the path of
    another Python to the version it gave (major.minor, or an empty text where it did not run).
    Each rule has ``variable``, ``value``, ``why`` and ``remedy``.
    """
    rules: list[dict[str, Any]] = []
    release = str(facts.get("distribution_major_version", ""))
    if facts.get("distribution") != "Debian" or release not in wsgi_python:
        rules.append(
            {
                "variable": "ansible_distribution",
                "value": f"{facts.get('distribution')} {facts.get('distribution_version')}",
                "why": "the django role is built for and tested on Debian 12 and 13 alone.",
                "remedy": "Use a host with one of these.",
            }
        )
    else:
        version = facts.get("python", {}).get("version", {})
        known = {DEBIAN_PYTHON: f"{version.get('major')}.{version.get('minor')}"}
        known |= {path: answer.strip() for path, answer in (answers or {}).items()}
        wanted = wsgi_python[release]
        for site in sites:
            found = known.get(site["python"], "")
            if found != wanted:
                rules.append(
                    _rule(
                        site,
                        "python",
                        site["python"],
                        f"it is {f'Python {found}' if found else 'no Python that runs'}, and the mod_wsgi "
                        f"of Debian {release} is built for Python {wanted}.",
                        f"Set it to {DEBIAN_PYTHON}, Debian's own."
                        if site["python"] != DEBIAN_PYTHON
                        else f"Let it be Debian's own Python {wanted} again.",
                    )
                )
    return rules + django_site_rules(sites)


def django_site_rules(sites: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what no host could serve, as rules that do not hold."""
    return [_rule(site, *broken) for site in sites for broken in _broken_site(site)]


def _rule(site: Mapping[str, Any], key: str, value: Any, why: str, remedy: str) -> dict[str, Any]:
    shown = "empty" if value in ("", None) else value
    return {
        "variable": f"django_{key}",
        "value": shown,
        "why": why,
        "remedy": f"{remedy} (site {site['name']})",
    }


def _broken_site(site: Mapping[str, Any]) -> Iterator[Broken]:
    for key, example in (("settings_module", "lab.settings"), ("wsgi_module", "lab.wsgi")):
        if not site[key]:
            yield key, "", "a site needs one.", f"Name it as Python imports it, such as {example}."
    for key in ("settings_module", "wsgi_module", "asgi_module"):
        if site[key] and not MODULE.fullmatch(site[key]):
            yield (
                key,
                site[key],
                "it is no name of a module.",
                "Name it as Python imports it, with dots and without .py.",
            )
    for key in ("wsgi_callable", "asgi_callable"):
        if not CALLABLE.fullmatch(site[key]):
            yield (
                key,
                site[key],
                "it is no name in a module.",
                "Name the application, which is mostly called application.",
            )
    yield from _broken_source(site)
    for key in ("project_dir", "requirements"):
        if (
            site[key].startswith("/")
            or ".." in site[key].split("/")
            or (key == "project_dir" and not site[key])
        ):
            yield (
                key,
                site[key],
                "it must stay inside the project.",
                "Write a path relative to the project's root.",
            )
    for key in ("secret_key_variable", "static_root_variable"):
        if not VARIABLE.fullmatch(site[key]) and (site[key] or key == "secret_key_variable"):
            yield (
                key,
                site[key],
                "it is no name of an environment variable.",
                "Use letters, digits and underscores, and no digit first.",
            )
    try:
        re.compile(site["static_hashed"])
    except re.error as error:
        yield (
            "static_hashed",
            site["static_hashed"],
            f"it is no regular expression: {error}.",
            r"Write \.[0-9a-f]{12}\.[a-z0-9]+$, or leave it empty.",
        )
    yield from _broken_commands(site)
    yield from _broken_release(site)
    if site["keep_releases"] < 1:
        yield (
            "keep_releases",
            site["keep_releases"],
            "the running release must stay.",
            "Keep 1 or more; with 2 or more there is one to go back to.",
        )
    if site["lock_timeout"] < 0:
        yield (
            "lock_timeout",
            site["lock_timeout"],
            "that is no number of seconds.",
            "Write one, or 0 for no limit.",
        )
    for unit in site["restart_units"]:
        if not UNIT.fullmatch(unit):
            yield (
                "restart_units",
                unit,
                "it is no name of a systemd unit.",
                "Write it with its suffix, such as lab-worker.service.",
            )


def _broken_source(site: Mapping[str, Any]) -> Iterator[Broken]:
    needs = {
        "directory": ("directory", "Name the project's folder on the control node."),
        "git": ("repository", "Name the repository's address."),
        "archive": ("archive", "Name the archive's URL."),
    }
    key, remedy = needs[site["source"]]
    if not site[key]:
        yield key, "", f"source {site['source']} needs it.", remedy
    if site["source"] == "git" and (not site["version"] or site["version"].startswith("-")):
        yield "version", site["version"], "it is no branch, tag or commit.", "Name one, or HEAD."
    if site["source"] == "archive" and not re.fullmatch("[0-9a-f]{64}", site["archive_sha256"]):
        yield (
            "archive_sha256",
            site["archive_sha256"],
            "source archive needs the 64 hexadecimal digits of its SHA-256.",
            "Take them from `sha256sum` of an archive that you trust.",
        )


def _broken_release(site: Mapping[str, Any]) -> Iterator[Broken]:
    for name, commands in site["hooks"].items():
        if name not in PLACES:
            yield (
                f"hooks.{name}",
                commands,
                "there is no such place.",
                f"Name one of {', '.join(PLACES)}.",
            )
        elif not isinstance(commands, list) or not all(_line(command) for command in commands):
            yield (
                f"hooks.{name}",
                commands,
                "that is no list of commands.",
                'Write each on one line, such as ["./manage.py warm_up"].',
            )
    for path, status in site["smoke"].items():
        known = status == "any" or (isinstance(status, int) and 200 <= status < 600)
        sent = quote(str(path), safe=string.printable.strip())  # as a browser sends it
        if str(path).startswith("/") and str(path).isprintable() and sent != path:
            yield (
                f"smoke.{path}",
                status,
                "a request holds neither a space nor a letter beyond ASCII.",
                f"Write it as {sent}: {status}.",
            )
        elif not str(path).startswith("/") or not str(path).isprintable() or not known:
            yield (
                f"smoke.{path}",
                status,
                "that is no path with the status of its answer.",
                "Write it as /sign-in/: 200, or /: any for every answer but a server error.",
            )


def _broken_commands(site: Mapping[str, Any]) -> Iterator[Broken]:
    for key in ("services", "timers"):
        for name, wanted in site[key].items():
            where = f"{key}.{name}"
            if not COMMAND_NAME.fullmatch(str(name)):
                yield (
                    where,
                    wanted,
                    "the name is also a unit's.",
                    "Use a letter, then up to 30 lower-case letters, digits and hyphens.",
                )
            if key == "services":
                yield from _broken_service(site, where, name, wanted)
            else:
                if not isinstance(wanted, Mapping) or wanted.keys() != {"command", "on_calendar"}:
                    yield (
                        where,
                        wanted,
                        "a timer has a command and an on_calendar.",
                        'Write {command: digest, on_calendar: "*-*-* 03:30:00"}.',
                    )
                    continue
                if not _line(wanted["on_calendar"]):
                    yield (
                        where,
                        wanted["on_calendar"],
                        "that is no time.",
                        'Write it as in systemd.time(7), such as "*-*-* 03:30:00".',
                    )
                yield from _broken_line(where, wanted["command"])
    for name in sorted(site["services"].keys() & site["timers"].keys()):
        yield (
            f"timers.{name}",
            site["timers"][name],
            "a service has that name too.",
            "Give each its own.",
        )


def _broken_line(where: str, command: Any) -> Iterator[Broken]:
    if not _line(command):
        remedy = "Write a command of manage.py on one line, such as digest."
        yield where, command, "that is no command.", remedy


def _broken_service(
    site: Mapping[str, Any], where: str, name: str, wanted: Any
) -> Iterator[Broken]:
    if not isinstance(wanted, Mapping):
        yield from _broken_line(where, wanted)
        return
    if wanted.keys() - SERVICE_KEYS or len(wanted.keys() & {"command", "program"}) != 1:
        yield (
            where,
            wanted,
            "a service has a command or a program, and may have instances, stop_timeout and port.",
            'Write {program: "celery -A lab worker", instances: 2, stop_timeout: 300}.',
        )
        return
    if "command" in wanted:
        yield from _broken_line(where, wanted["command"])
    elif not _line(wanted["program"]) or not PROGRAM.fullmatch(wanted["program"]):
        yield (
            f"{where}.program",
            wanted["program"],
            "that is no program of the virtual environment.",
            "Write its name without a path, and what it is given, on one line.",
        )
    for key, most in (("instances", 64), ("stop_timeout", 86400)):
        value = wanted.get(key, 1)
        if not re.fullmatch("[0-9]{1,9}", str(value)) or not 1 <= int(value) <= most:
            yield f"{where}.{key}", value, f"it is no number from 1 to {most}.", "Write one."
    if "instances" in wanted and name in site["service_ports"]:
        yield (
            f"{where}.instances",
            wanted["instances"],
            "the service has a port, on which one process alone can listen.",
            "Leave out instances or port.",
        )


def _line(value: Any) -> bool:
    """Say whether a value is a text of one line that says something."""
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def django_calendar_rules(
    units: Sequence[Mapping[str, Any]], errors: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return what is broken in the times of timers; ``errors`` maps a time to what systemd says against it."""
    return [
        _rule(
            {"name": unit["site"]},
            f"timers.{unit['name']}",
            unit["on_calendar"],
            "systemd does not understand that time.",
            'Write it as in systemd.time(7), such as "*-*-* 03:30:00".',
        )
        for unit in units
        if errors.get(unit["on_calendar"])
    ]


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "django_calendar_rules": django_calendar_rules,
            "django_rules": django_rules,
            "django_site_rules": django_site_rules,
        }
