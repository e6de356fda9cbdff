"""What the backup role refuses before it changes anything, and what its program is told of each site."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

# restic's own names of places; anything else with a colon is none that it knows
REMOTE = re.compile(r"(?:sftp|rest|s3|b2|azure|gs|swift|rclone):.+")
# as scp writes it, where a colon ends the host, or as an address
SFTP = re.compile(
    r"sftp:[^\s:/@]+@[^\s:/@\[\]]+:.*\S"
    r"|sftp://[^\s:/@]+@(?:[^\s:/@\[\]]+|\[[0-9A-Fa-f:.]+(?:%25\w+)?\])(?::[0-9]+)?/.*\S"
)
SUBSET = re.compile(r"[0-9]+(?:\.[0-9]+)?%|[0-9]+[KMGT]?|[1-9][0-9]*/[1-9][0-9]*")
LOG_IN = re.compile(r"://[^/@\s]*:[^/@\s]*@")
DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
TIME = 'Write it as in systemd.time(7), such as "*-*-* 02:30:00".'
NEW_ONE = (
    "`make secrets` makes one and encrypts it beside your inventory. Keep a copy of what opens it where neither this "
    "server nor the control node is."
)

# variable without its prefix, value, why, remedy
Broken = tuple[str, Any, str, str]


def folders(site: Mapping[str, Any]) -> list[str]:
    """Return what belongs to a site, and lies in its snapshots or beside them."""
    return [f"/srv/{site['name']}", f"/etc/switchboard/{site['name']}", *site["paths"]]


def backup_entries(sites: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what switchboard-backup is told of each site."""
    return [
        {
            "name": site["name"],
            "data": f"/srv/{site['name']}/data",
            "current": f"/srv/{site['name']}/current",
            "environment": f"/etc/switchboard/{site['name']}",
            "paths": site["paths"],
            "exclude": site["exclude"],
            "postgresql": site["postgresql"],
            "postgresql_host": site["postgresql_host"],
        }
        for site in sites
    ]


def backup_rules(
    settings: Mapping[str, Any],
    sites: Sequence[Mapping[str, Any]],
    calendars: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return what can't work, as rules that do not hold; empty when all is well.

    Args:
        settings: the role's variables without their prefix; of a secret whether it is there (``ssh_key``), or how many
            lines it has (``password_lines``).
        sites: the complete sites.
        calendars: maps a time to what systemd says against it, or to an empty text.

    Returns:
        Mappings of variable, value, why and remedy.
    """
    broken = [
        *_broken_repository(settings, sites),
        *_broken_stage(settings, sites),
        *_broken_schedule(settings, calendars),
        *_broken_paths(sites),
    ]
    return [
        {
            "variable": f"backup_{key}",
            "value": "empty" if value in ("", [], None) else value,
            "why": why,
            "remedy": remedy,
        }
        for key, value, why, remedy in broken
    ]


def _broken_repository(
    settings: Mapping[str, Any], sites: Sequence[Mapping[str, Any]]
) -> Iterator[Broken]:
    repository = str(settings["repository"])
    lines = int(settings["password_lines"])
    if lines == 0:
        yield "password", "", "restic encrypts each snapshot with it.", NEW_ONE
    if lines > 1:
        yield "password", f"a text of {lines} lines", "a password is one line.", NEW_ONE
    if not repository.isprintable() or not (
        repository.startswith("/") or REMOTE.fullmatch(repository)
    ):
        yield (
            "repository",
            repository,
            "that is no place that restic knows.",
            "Write a folder with its whole path, sftp:user@host:/path, or s3:https://host/bucket.",
        )
        return
    if LOG_IN.search(repository):
        yield (
            "repository",
            "an address with a password in it",
            "it would stand in differences and messages.",
            "Write it without, and set RESTIC_REPOSITORY in backup_environment to the whole address.",
        )
    if repository.startswith("/"):
        place = PurePosixPath(repository)
        own = [
            "/var/lib/switchboard",
            "/var/cache/switchboard-backup",
            f"{settings['stage_dir']}/stage",
        ]
        inside = _around(place, sites, own)
        if inside or ".." in place.parts:
            yield (
                "repository",
                repository,
                f"it lies inside {inside or 'another folder'}, which it is to outlive.",
                "Name a folder of another disk, better of another server.",
            )
    if repository.startswith("sftp:"):
        if not SFTP.fullmatch(repository):
            yield (
                "repository",
                repository,
                "that names no user, host and path.",
                "Write sftp:user@host:/path, or sftp://user@host:2222//path for another port, and "
                "sftp://user@[2001:db8::1]//path for an address of IPv6.",
            )
        if not settings["ssh_key"]:
            yield (
                "ssh_key",
                "",
                "root of this server logs in with it where the repository is.",
                "Make one with `ssh-keygen -t ed25519 -N '' -f backup_key`, put the private half into the vault "
                "of your inventory and the public one into the account's authorized_keys.",
            )
        if not settings["ssh_known_hosts"]:
            yield (
                "ssh_known_hosts",
                [],
                "by it this server knows the one with the repository.",
                "Write the lines that `ssh-keyscan -t ed25519 HOST` prints, once you have compared the fingerprint.",
            )


def _around(
    place: PurePosixPath, sites: Sequence[Mapping[str, Any]], more: Sequence[str] = ()
) -> str:
    """Return which folder of the sites, or of those beside, a path lies in; none, an empty text."""
    own = [*(path for site in sites for path in folders(site)), *more]
    return next((path for path in own if place.is_relative_to(path)), "")


def _broken_stage(
    settings: Mapping[str, Any], sites: Sequence[Mapping[str, Any]]
) -> Iterator[Broken]:
    stage = str(settings["stage_dir"])
    place = PurePosixPath(stage)
    if not place.is_absolute() or ".." in place.parts or not stage.isprintable():
        yield "stage_dir", stage, "that is no whole path.", "Write one such as /mnt/scratch."
    elif inside := _around(place, sites):
        yield (
            "stage_dir",
            stage,
            f"it lies inside {inside}, which is backed up.",
            "Name a folder outside of what belongs to a site.",
        )


def _broken_schedule(settings: Mapping[str, Any], calendars: Mapping[str, str]) -> Iterator[Broken]:
    for key in ("on_calendar", "check_on_calendar"):
        if not settings[key] or calendars.get(settings[key]):
            yield key, settings[key], "systemd does not understand that time.", TIME
    if not SUBSET.fullmatch(str(settings["check_subset"])):
        yield (
            "check_subset",
            settings["check_subset"],
            "restic does not know that amount.",
            "Write a share (5%), an amount (500M), or a part (1/7).",
        )
    spans = ("keep_daily", "keep_weekly", "keep_monthly")
    for key in spans:
        if int(settings[key]) < 0:
            yield key, settings[key], "that is no number of snapshots.", "Write 0 or more."
    if not any(int(settings[key]) for key in spans):
        yield (
            spans[0],
            settings[spans[0]],
            "nor do keep_weekly and keep_monthly keep any, so all but the last day would be gone.",
            "Set one of them to 1 or more.",
        )


def _broken_paths(sites: Sequence[Mapping[str, Any]]) -> Iterator[Broken]:
    for site in sites:
        about = f"(site {site['name']})"
        if site["postgresql"] and not DATABASE.fullmatch(site["postgresql"]):
            yield (
                "postgresql",
                site["postgresql"],
                "that is no name of a database.",
                f"Use letters, digits, underscores and hyphens. {about}",
            )
        for path in site["paths"]:
            pure = PurePosixPath(path)
            whole = pure.is_absolute() and len(pure.parts) > 2 and ".." not in pure.parts
            if not whole or not path.isprintable():
                yield (
                    "paths",
                    path,
                    "that is no whole path below a folder of /.",
                    f"Write one such as /var/lib/lab. {about}",
                )
                continue
            own = [f"/srv/{site['name']}", f"/etc/switchboard/{site['name']}"]
            for folder in own:
                if pure.is_relative_to(folder) or PurePosixPath(folder).is_relative_to(pure):
                    yield (
                        "paths",
                        path,
                        f"of {folder} what is to be restored is in the snapshot already.",
                        f"Take it out. {about}",
                    )


def snapshot_lines(snapshots: Sequence[Mapping[str, str]]) -> list[str]:
    """Return snapshots, as switchboard-backup lists them, as the lines of a table, the newest first."""
    if not snapshots:
        return ["no snapshot yet"]
    lines = [f"{'snapshot':10}{'when (UTC)':22}{'site':24}host"]
    return lines + [
        f"{one['id']:10}{one['at']:22}{one['site']:24}{one['host']}" for one in reversed(snapshots)
    ]


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "backup_entries": backup_entries,
            "backup_rules": backup_rules,
            "snapshot_lines": snapshot_lines,
        }
