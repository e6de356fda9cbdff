#!/usr/bin/python
"""Take PostgreSQL's cluster `main` from an older version to the one that this Debian has."""

from __future__ import annotations

import json
import os
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: postgresql_upgrade
short_description: Take PostgreSQL's cluster main to another version
description:
  - Where an older cluster C(main) has this role's configuration, runs Debian's C(pg_upgradecluster) with C(pg_upgrade),
    which copies the files, and takes that configuration out of use. Clients are refused meanwhile.
  - The older cluster stays where it was, stopped, until O(forget) is true.
  - What a killed run left of the new cluster is removed, and the upgrade begins anew.
requirements: [postgresql-common of Debian 12 or newer]
options:
  version: {description: The version to come to., type: str, required: true}
  forget: {description: Remove older clusters that were upgraded., type: bool, default: false}
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Come to the version of Debian 13
  postgresql_upgrade:
    version: "17"
"""

RETURN = r"""
former: {description: The version that was upgraded; empty if none., type: str, returned: success}
forgotten: {description: The versions whose clusters were removed., type: list, elements: str, returned: success}
"""

ETC, DATA = Path("/etc/postgresql"), Path("/var/lib/postgresql")
# Stands while an upgrade is under way: the cluster of the new version is not whole.
MARK = DATA / ".switchboard-upgrade"
# What the role wrote for a cluster, and its name once the cluster was upgraded; PostgreSQL reads *.conf alone.
OURS, UPGRADED = "conf.d/switchboard.conf", "conf.d/switchboard.upgraded"
ROOM = 1.1  # how much more than the older cluster the copy may take


class Refused(Exception):
    """It cannot be done; the text says what is in the way and the remedy."""


def older_of(
    clusters: list[dict[str, Any]], version: str, file: str = OURS, etc: Path = ETC
) -> list[str]:
    """Return the older versions whose cluster main has a file of this bundle's, the newest first.

    Args:
        clusters: what C(pg_lsclusters --json) prints, read; ``version`` is a number there, from 10 on without a part.
        version: the one to come to.
        file: OURS for those that are to be upgraded, UPGRADED for those that were.
        etc: where the clusters' configuration lies.
    """
    found = {str(one["version"]) for one in clusters if one["cluster"] == "main"}
    older = [one for one in found if float(one) < float(version)]
    ours = [one for one in older if (etc / one / "main" / file).exists()]
    return sorted(ours, key=float, reverse=True)


def sync(folder: Path) -> None:
    """Bring what was renamed or removed in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def size_of(folder: Path) -> int:
    """Return how many bytes the files below a folder have."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def room_for(folder: Path) -> None:
    """Refuse where a copy of a folder has no room beside it.

    Raises:
        Refused: it has none.
    """
    needed, free = int(size_of(folder) * ROOM), shutil.disk_usage(folder).free
    if needed > free:
        raise Refused(
            f"{folder} takes {needed >> 20} MiB to copy, and its disk has {free >> 20} MiB left. "
            "Make room, or mount a larger disk there."
        )


class Host:
    """The clusters of this host."""

    def __init__(self, module: AnsibleModule, version: str) -> None:
        self.module, self.version = module, version

    def run(self, *command: str) -> str:
        """Run a command; its messages end the task where it fails."""
        code, out, err = self.module.run_command(list(command), cwd="/")
        if code:
            raise Refused(f"{command[0]} ended with {code}: {(err or out).strip()[-2000:]}")
        return str(out)

    @cached_property
    def clusters(self) -> list[dict[str, Any]]:
        """Return the clusters of this host; none where PostgreSQL is not installed, as in a dry run."""
        if not self.module.get_bin_path("pg_lsclusters"):
            return []
        found: list[dict[str, Any]] = json.loads(self.run("pg_lsclusters", "--json"))
        return found

    def whole(self, former: str) -> bool:
        """Say whether the upgrade of a version had ended, and only its note was lost.

        pg_upgradecluster says in the older cluster that it is not to start by itself, when the new one has everything.
        """
        there = MARK.exists() and (ETC / self.version / "main").exists()
        return there and any(
            str(one["version"]) == former and one["cluster"] == "main" and one["start"] == "manual"
            for one in self.clusters
        )

    def prepare(self, former: str) -> None:
        """Refuse what is in the way, before anything is changed."""
        if (ETC / self.version / "main").exists() and not MARK.exists():
            raise Refused(
                f"PostgreSQL {self.version} has a cluster main beside that of {former}, which has the databases. "
                f"Look what is in it; without anything, `pg_dropcluster --stop {self.version} main` makes way."
            )
        if not self.whole(former):
            room_for(DATA / former / "main")

    def upgrade(self, former: str) -> None:
        """Take a version's cluster to the new one."""
        if not self.whole(former):
            if (ETC / self.version / "main").exists():  # a killed run's
                self.run("pg_dropcluster", "--stop", self.version, "main")
            self.run("systemctl", "start", f"postgresql@{former}-main.service")
            MARK.write_text(f"{former} {self.version}\n")
            self.run("pg_upgradecluster", "-v", self.version, "--method=upgrade", former, "main")
        ours = ETC / former / "main" / OURS
        ours.rename(ours.with_name(Path(UPGRADED).name))
        sync(ours.parent)
        MARK.unlink(missing_ok=True)
        sync(MARK.parent)


def main() -> None:
    """Run the module."""
    options = {
        "version": {"type": "str", "required": True},
        "forget": {"type": "bool", "default": False},
    }
    module = AnsibleModule(options, supports_check_mode=True)
    version, forget = module.params["version"], module.params["forget"]
    host = Host(module, version)
    try:
        clusters = host.clusters
        former = next(iter(older_of(clusters, version)), "")
        forgotten = older_of(clusters, version, UPGRADED) if forget else []
        if forget and former:
            raise Refused(
                f"forget is true: PostgreSQL {former} is not upgraded yet. Run it without forget first."
            )
        if former:
            host.prepare(former)
        if not module.check_mode:
            if former:
                host.upgrade(former)
            for one in forgotten:
                host.run("pg_dropcluster", "--stop", one, "main")
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    diff = (
        [{"before": f"PostgreSQL {former}\n", "after": f"PostgreSQL {version}\n"}] if former else []
    )
    diff += [{"before": f"{DATA}/{one}/main\n", "after": ""} for one in forgotten]
    module.exit_json(
        changed=bool(former or forgotten), former=former, forgotten=forgotten, diff=diff
    )


if __name__ == "__main__":
    main()
