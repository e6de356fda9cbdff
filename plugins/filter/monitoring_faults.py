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
ADDITION = "/etc/systemd/system/{}.service.d/switchboard.conf"
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
LONGEST = 60.0  # seconds between two questions: the limits in seconds are not looked at more seldom
IN_A_WINDOW = (
    4  # at least so many times within the window of the rules (Prometheus documentation, "rate()")
)

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
        *_broken_interval(settings, rules),
        *_broken_central(settings),
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
        ("central_retention_days", 1, "days"),
        ("central_retention_mb", 64, "MiB"),
        ("central_memory_mb", 64, "MiB"),
    ):
        if int(settings[key]) < least:
            yield (
                key,
                settings[key],
                "Prometheus cannot work with so little.",
                f"Use {least} {unit} or more.",
            )


def _broken_central(settings: Mapping[str, Any]) -> Iterator[Broken]:
    wanted = {"hosts", "reader"} if settings["central_address"] else set()
    wanted |= {"hosts"} if settings["send_to"] else set()
    if lacking := sorted(wanted - set(settings["central_users"])):
        yield (
            "central_passwords",
            "hidden",
            f"{' and '.join(lacking)} has none.",
            "Write one for each of hosts and reader, in the vault of your inventory.",
        )


def monitoring_foreign(
    programs: Sequence[Mapping[str, Any]], looked: Mapping[str, Any], active: Sequence[str]
) -> list[str]:
    """Return the programs that somebody else has set up on this host: those without what the role adds to a unit.

    Args:
        programs: those that the role would run, each with a name.
        looked: what host_look found, with ``present`` for each program and each addition.
        active: the units that run.
    """
    present = looked["present"]
    return [
        one["name"]
        for one in programs
        if (present.get(f"/usr/bin/{one['name']}") or f"{one['name']}.service" in active)
        and not present.get(ADDITION.format(one["name"]))
    ]


def monitoring_present(programs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the paths that host_look is to look for: each program, and what the role adds to its unit."""
    names = [one["name"] for one in programs]
    return [*(f"/usr/bin/{name}" for name in names), *(ADDITION.format(name) for name in names)]


def _seconds(text: str) -> float:
    """Return how long a length of time is."""
    return sum(int(many) * UNITS[unit] for many, unit in re.findall(r"([0-9]+)(ms|[smhdw])", text))


def _broken_interval(settings: Mapping[str, Any], rules: Mapping[str, Any]) -> Iterator[Broken]:
    """Yield an interval after which a window of the rules would have too few values."""
    if not DURATION.fullmatch(str(settings["interval"])):
        return
    limits = {**rules["thresholds"], **settings["thresholds"]}
    window = limits["site_window_seconds"]
    longest = min(LONGEST, window / IN_A_WINDOW) if _is_number(window) else LONGEST
    seconds = _seconds(str(settings["interval"]))
    if seconds > longest:
        yield (
            "interval",
            settings["interval"],
            f"the rules look at {window} s and need {IN_A_WINDOW} values of them, one a minute at least.",
            f"Use {longest:g}s or less"
            + ("." if longest == LONGEST else ", or a longer site_window_seconds."),
        )
    elif seconds <= 0:
        yield "interval", settings["interval"], "that is no time at all.", "Use 15s or more."


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
        return {
            "monitoring_faults": monitoring_faults,
            "monitoring_foreign": monitoring_foreign,
            "monitoring_present": monitoring_present,
        }
