"""What every behaviour test starts from: the inventory's word on each host, and each host's address."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from tests.behaviour.sites import Site

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def descriptions(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """Map each host to what the inventory settles for it; playbooks/describe.yml writes it."""
    inventory = request.config.option.ansible_inventory or ROOT / "inventory" / "demo"
    folder = tmp_path_factory.mktemp("describe")
    command = ["ansible-playbook", "-i", inventory, ROOT / "playbooks" / "describe.yml"]
    result = subprocess.run(
        [*map(str, command), "-e", json.dumps({"describe_dir": str(folder)})],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


@pytest.fixture(scope="module")
def deployed(host: Host, descriptions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the description of the host under test."""
    return descriptions[host.backend.host]


@pytest.fixture(scope="module")
def address(host: Host, deployed: dict[str, Any]) -> str:
    """Return the address at which the host is reached from here: a container's own, or the inventory's."""
    if "docker" in deployed["connection"]:
        return host.check_output("hostname -I").split()[0]
    return deployed["address"]


@pytest.fixture(scope="module")
def probe(sites: list[Site]) -> Site:
    """Return the probe project's site, of the `sites` that the test's own module takes."""
    found = next((site for site in sites if site.is_probe), None)
    if found is None:
        pytest.skip("the probe project is not on this host")
    return found


def journal(host: Host, unit: str, lines: int = 30) -> str:
    """Return the last lines of a unit's journal, for the message of a failing test."""
    return host.run(
        "journalctl --no-pager --output=short-iso --lines=%s --unit=%s", str(lines), unit
    ).stdout
