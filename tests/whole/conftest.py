"""The servers of inventory/cluster: fresh ones, with their addresses written where a user writes them."""

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

from tests.live.traffic import PATH
from tests.refusals.bench import Run, run_playbook
from tools.bench import Host
from tools.common import ROOT

INVENTORY = ROOT / "inventory" / "cluster"
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

    @property
    def address(self) -> str:
        """Where visitors come in."""
        return self.hosts["balancer1"].address

    def play(self, path: str, *flags: str) -> Run:
        """Run a playbook."""
        return run_playbook(["ansible-playbook", "-i", str(self.folder), path, *flags], LONGEST)

    def write(self) -> None:
        """Copy the inventory with the hosts' addresses, the site's name and seeds."""
        text = (INVENTORY / "hosts.yml").read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        for name, host in self.hosts.items():
            content["switchboard"]["hosts"][name] = {
                "ansible_host": host.address,
                "switchboard_address": host.address,
                "ansible_ssh_private_key_file": str(host.folder / "id_ed25519"),
                "ansible_ssh_common_args": f"-o UserKnownHostsFile={host.folder / 'known_hosts'}",
            }
        shutil.copytree(INVENTORY, self.folder)
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
        path = self.folder / "group_vars" / "all" / "sites.yml"
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        project = Path(shutil.copytree(ROOT / "demo", self.folder.parent / "demo"))
        with (project / "graphspace" / "urls.py").open("a", encoding="utf-8") as file:
            file.write(VIEW)
        site = content["sites"]["graphspace"]
        site["source"]["directory"] = str(project)
        site |= {"domain": self.address, "secrets": {"SEED_PASSWORD": PASSWORD}}
        site |= {"releases": {"commands": ["seed"]}, "pages": {"processes": 1, "threads": 15}}
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
        made = Cluster(hosts, folder / "inventory")
        made.write()
        yield made
    finally:
        for host in hosts.values():
            host.remove()


def changes(run: Run) -> dict[str, int]:
    """Return how many changes each host had."""
    return {
        name: int(count)
        for name, count in re.findall(r"^ *(\w+): .*?(\d+) changed", run.output, re.M)
    }
