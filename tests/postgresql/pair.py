"""A web host whose site has its rows in PostgreSQL on another host, as one inventory."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.postgresql.server import root
from tests.refusals.bench import Run as Told
from tests.refusals.bench import run_playbook
from tools.bench import Host

SITE = "graphspace"
# The demonstration site without what needs Kafka.
ENTRY: dict[str, Any] = {
    "database": "postgresql",
    "source": {"directory": "demo"},
    "settings": "graphspace.settings",
    "environment": {"DJANGO_ALLOWED_HOSTS": "{hosts}"},
    "pages": {"processes": 1, "threads": 5},
}


def entry_of(host: Host, groups: list[str]) -> dict[str, Any]:
    """Return a host as the inventory has it."""
    return {**host.entry, "ansible_user": "admin", "ansible_become": True, "groups": groups}


@dataclass
class Pair:
    """The two hosts, and the folder of their inventory."""

    web: Host
    database: Host
    folder: Path
    variables: dict[str, Any] = field(default_factory=dict)

    @property
    def secret(self) -> Path:
        """The file with the site's password on the control node."""
        return self.folder / ".private" / "secrets" / f"postgresql-{SITE}"

    @property
    def password(self) -> str:
        return self.secret.read_text(encoding="utf-8").strip()

    def write(self, groups: dict[str, list[str]] | None = None, **site: Any) -> None:
        """Write the inventory; ``site`` are changes to the site's entry."""
        hosts = {"web1": entry_of(self.web, ["web"]), "db1": entry_of(self.database, ["database"])}
        children: dict[str, Any] = {}
        for name, told in hosts.items():
            for group in (groups or {}).get(name, told["groups"]):
                children.setdefault(group, {"hosts": {}})["hosts"][name] = None
            del told["groups"]
        content = {"switchboard": {"hosts": hosts, "children": children}}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(content))
        place = self.folder / "group_vars" / "all"
        place.mkdir(parents=True, exist_ok=True)
        entry = {"domain": self.web.address, **ENTRY, **site}
        whole = {"sites": {SITE: entry}, "postgresql_shared_buffers_mb": 128, **self.variables}
        (place / "sites.yml").write_text(yaml.safe_dump(whole))

    def play(self, name: str, *flags: str, **extra: Any) -> Told:
        """Run a playbook."""
        path = "site.yml" if name == "site" else f"playbooks/{name}.yml"
        words = ["ansible-playbook", "-i", str(self.folder), path, *flags]
        return run_playbook([*words, "-e", json.dumps(extra)], 900)

    def good(self, name: str, *flags: str, **extra: Any) -> Told:
        """Run a playbook that has to end well."""
        run = self.play(name, *flags, **extra)
        assert run.code == 0, run.output[-4000:]
        return run

    def rows(self, statement: str) -> str:
        """Return what PostgreSQL answers its administrator."""
        words = f"runuser -u postgres -- psql -XAt {SITE} -c {shlex.quote(statement)}"
        return root(self.database, words)

    def graphs(self) -> list[str]:
        return self.rows("SELECT name FROM graphs_graph ORDER BY id").splitlines()

    def manage(self, words: str) -> str:
        return root(self.web, f"cd / && {SITE}-manage {words}")

    def status(self) -> int:
        """Return the status of the site's readiness, which asks the database."""
        curl = "curl -s -o /dev/null -w '%{http_code}' --max-time 20"
        return int(root(self.web, f"{curl} http://{self.web.address}/sign-in/"))


def changed(run: Told) -> list[int]:
    """Return how many changes each host had."""
    found = re.findall(r"(?:(\d+) (?:changed|would change)|changed=(\d+) )", run.output)
    return [int(first or second) for first, second in found] or [-1]
