"""The servers of inventory/cluster: fresh ones, with their addresses where a user writes them, stage by stage."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.people import Target
from tests.live.traffic import PATH
from tests.refusals.bench import Run, run_playbook
from tools.bench import Host
from tools.common import ROOT

INVENTORY = ROOT / "inventory" / "cluster"
BROKERS = ["broker1", "broker2", "broker3"]
# What is on which host, from one server to inventory/cluster, as docs/cluster.md says.
STAGES: dict[str, dict[str, list[str]]] = {
    "one": {group: ["web1"] for group in ("zookeeper", "kafka", "database", "web")},
    "rows": {"zookeeper": ["web1"], "kafka": ["web1"], "database": ["database1"], "web": ["web1"]},
    "bus": {"zookeeper": BROKERS, "kafka": BROKERS, "database": ["database1"], "web": ["web1"]},
    "all": {},  # as the inventory has it
}
PASSWORD = "people-of-a-test"
# Several test hosts share one machine; and people who sign in, whose password is theirs alone.
SMALL: dict[str, Any] = {
    "loadbalancer_max_connections": 4000,  # a test host may open few files
    "zookeeper_heap_mb": 128,
    "kafka_heap_mb": 384,
    "postgresql_shared_buffers_mb": 128,
}
OLDER = ("web2", "broker2")  # on Debian 12
LONGEST = 1800  # seconds of a run
# What the traffic asks for.
VIEW = f"""

import django.http

urlpatterns += [path("{PATH[1:]}", lambda request: django.http.HttpResponse("any"))]
"""


@dataclass
class Cluster:
    """The hosts by their names in the inventory, and the copy of it that names their addresses."""

    hosts: dict[str, Host]
    folder: Path

    def target(self, server: str) -> Target:
        """Return the site as visitors reach it by one of the hosts, whatever the DNS says."""
        return Target(self.hosts[server].address, 80, self.site["domain"])

    def play(self, path: str, *flags: str) -> Run:
        """Run a playbook."""
        return run_playbook(["ansible-playbook", "-i", str(self.folder), path, *flags], LONGEST)

    def good(self, path: str, *flags: str) -> Run:
        """Run a playbook that has to end well."""
        done = self.play(path, *flags)
        assert done.code == 0, done.output[-6000:]
        return done

    @property
    def site(self) -> dict[str, Any]:
        """The site's entry in the inventory."""
        text = (INVENTORY / "group_vars" / "all" / "sites.yml").read_text(encoding="utf-8")
        found: dict[str, Any] = yaml.safe_load(text)["sites"]["graphspace"]
        return found

    def write(self, stage: str) -> None:
        """Write the inventory of a stage: a copy with the hosts' addresses, and a site that can be seeded."""
        text = (INVENTORY / "hosts.yml").read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        groups = STAGES[stage]
        for group, names in groups.items():
            content["switchboard"]["children"][group] = {"hosts": dict.fromkeys(names)}
        if groups:
            del content["switchboard"]["children"]["loadbalancer"]
        there = {name for names in groups.values() for name in names} or set(self.hosts)
        content["switchboard"]["hosts"] = {
            name: host.entry for name, host in self.hosts.items() if name in there
        }
        private = shutil.ignore_patterns(".private")  # of somebody who tried it
        shutil.copytree(INVENTORY, self.folder, ignore=private, dirs_exist_ok=True)
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
        path = self.folder / "group_vars" / "all" / "sites.yml"
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        project = self.folder.parent / "demo"
        if not project.exists():
            shutil.copytree(ROOT / "demo", project)
            with (project / "graphspace" / "urls.py").open("a", encoding="utf-8") as file:
                file.write(VIEW)
        site = content["sites"]["graphspace"]
        site["source"]["directory"] = str(project)
        site |= {"secrets": {"SEED_PASSWORD": PASSWORD}, "releases": {"commands": ["seed"]}}
        site |= {"pages": {"processes": 1, "threads": 15}}
        if stage == "one":
            del site["database"]
            site["environment"]["DJANGO_DATABASE"] = "{data}/graphspace.sqlite3"
        path.write_text(yaml.safe_dump({**content, **SMALL}), encoding="utf-8")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("whole")
    names = yaml.safe_load((INVENTORY / "hosts.yml").read_text())["switchboard"]["hosts"]
    hosts = {
        name: Host(
            f"switchboard-whole-{name}", folder / name, release="12" if name in OLDER else "13"
        )
        for name in names
    }
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(Host.create, hosts.values()))
        yield Cluster(hosts, folder / "inventory")
    finally:
        for host in hosts.values():
            host.remove()


def changes(run: Run) -> dict[str, int]:
    """Return how many changes each host had."""
    return {
        name: int(count)
        for name, count in re.findall(r"^ *(\w+): .*?(\d+) changed", run.output, re.M)
    }
