"""What the monitoring role refuses before it changes anything."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SUPPORTED = ("12", "13")
ADDRESS = re.compile(r"[^@\s,<>\"]+@[^@\s,<>\"]+")
# Prometheus documentation, "Configuration": <duration>; systemd.time(7) reads these alike
DURATION = re.compile(r"(?:[0-9]+(?:ms|[smhdw]))+")
SERVER = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):([0-9]{1,5})")
LOOPBACK = re.compile(r"127(?:\.[0-9]{1,3}){3}|localhost|\[::1\]")
PAGE = "docs/alerts.md"

# variable without its prefix, value, why, remedy
Broken = tuple[str, Any, str, str]


def monitoring_faults(
    settings: Mapping[str, Any],
    sites: Sequence[Mapping[str, Any]],
    rules: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Return what can't work, as rules that do not hold; empty when all is well.

    Args:
        settings: the role's variables without their prefix; of the password, how many lines it has.
        sites: the complete sites.
        rules: ``thresholds`` and ``alerts``, as the role's variables have them.
        facts: Ansible's facts of the host.

    Returns:
        Mappings of variable, value, why and remedy.
    """
    broken = [
        *_broken_mail(settings),
        *_broken_numbers(settings),
        *_broken_names(settings, rules),
        *_broken_sites(sites),
    ]
    found = [
        {
            "variable": f"monitoring_{key}",
            "value": "empty" if value in ("", [], None) else value,
            "why": why,
            "remedy": remedy,
        }
        for key, value, why, remedy in broken
    ]
    release = str(facts.get("distribution_major_version", ""))
    if facts.get("distribution") != "Debian" or release not in SUPPORTED:
        found.append(
            {
                "variable": "ansible_distribution",
                "value": f"{facts.get('distribution')} {facts.get('distribution_version')}",
                "why": "the monitoring role is built for and tested on Debian 12 and 13 alone.",
                "remedy": "Use a host with one of these.",
            }
        )
    return found


def _broken_mail(settings: Mapping[str, Any]) -> Iterator[Broken]:
    for address in str(settings["mail_to"]).split(","):
        if not ADDRESS.fullmatch(address.strip()):
            yield "mail_to", settings["mail_to"], "that is no address.", "Write ops@example.org."
    if not ADDRESS.fullmatch(str(settings["mail_from"])):
        yield (
            "mail_from",
            settings["mail_from"],
            "a mail comes from one address.",
            "Write one that the mail server takes, such as alerts@example.org.",
        )
    if not SERVER.fullmatch(str(settings["smtp"])):
        yield (
            "smtp",
            settings["smtp"],
            "that names no mail server.",
            "Write host:port, such as mail.example.org:587.",
        )
    lines = int(settings["smtp_password_lines"])
    if settings["smtp_user"] and lines != 1:
        yield (
            "smtp_password",
            "empty" if lines == 0 else f"a text of {lines} lines",
            f"{settings['smtp_user']} needs a password of one line.",
            "Put it into the vault of your inventory, or take monitoring_smtp_user away.",
        )
    if lines and not settings["smtp_user"]:
        yield (
            "smtp_user",
            "",
            "monitoring_smtp_password is the password of somebody.",
            "Write the name that belongs to it.",
        )


def _broken_numbers(settings: Mapping[str, Any]) -> Iterator[Broken]:
    for key in ("group_wait", "group_interval", "repeat_interval", "interval"):
        if not DURATION.fullmatch(str(settings[key])):
            yield key, settings[key], "that is no length of time.", "Write 30s, 5m or 12h."
    for key, least, unit in (
        ("retention_days", 1, "days"),
        ("retention_mb", 64, "MiB"),
        ("memory_mb", 64, "MiB"),
    ):
        if int(settings[key]) < least:
            yield (
                key,
                settings[key],
                "Prometheus cannot work with so little.",
                f"Use {least} {unit} or more.",
            )


def _broken_names(settings: Mapping[str, Any], rules: Mapping[str, Any]) -> Iterator[Broken]:
    for key, known in (("thresholds", rules["thresholds"]), ("for", rules["alerts"])):
        for name, value in dict(settings[key]).items():
            label = f"{key}.{name}"
            if name not in known:
                close = difflib.get_close_matches(str(name), list(known), n=1)
                remedy = f"Did you mean {close[0]}?" if close else f"{PAGE} has all of them."
                yield label, value, "there is none of that name.", remedy
            elif key == "for" and not DURATION.fullmatch(str(value)):
                yield label, value, "that is no length of time.", "Write 30s, 5m or 12h."
            elif key == "thresholds" and not _is_number(value):
                yield label, value, "a limit is a number.", "Write one."


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _broken_sites(sites: Sequence[Mapping[str, Any]]) -> Iterator[Broken]:
    for site in sites:
        about = f"(site {site['name']})"
        if site["name"] == "prometheus":
            yield (
                "sites",
                site["name"],
                "Debian's Prometheus runs as the user of that name.",
                "Give the site another one.",
            )
        if not re.fullmatch(r"/[^\s?#]*", site["path"]):
            yield "path", site["path"], "that is no path of a site.", f"Begin with a slash. {about}"
        for place in site["metrics"]:
            found = SERVER.fullmatch(place)
            if not found or not LOOPBACK.fullmatch(found[1]):
                yield (
                    "metrics",
                    place,
                    "there is no such service with a port of loopback.",
                    f"Name one of the site's services that has a `port`. {about}",
                )


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {"monitoring_faults": monitoring_faults}
