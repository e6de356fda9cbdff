"""The server that the version before sets up, and that goes on from there through the tests of this folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.traffic import PATH
from tools.bench import Host
from tools.common import ROOT

FROM = (ROOT / "tests" / "upgrade" / "from").read_text(encoding="utf-8").strip()
SITE = "graphspace"
PASSWORD = "people-of-a-test"
VIEW = f"""

import django.http

urlpatterns += [path("{PATH[1:]}", lambda request: django.http.HttpResponse("any"))]
"""


@pytest.fixture(scope="session")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tree of the version before."""
    tree = tmp_path_factory.mktemp("former")
    packed = subprocess.run(
        ["git", "archive", "--format=tar", FROM], cwd=ROOT, capture_output=True, check=False
    )
    if packed.returncode:
        pytest.skip(f"this clone has no commit {FROM}: {packed.stderr.decode().strip()}")
    subprocess.run(["tar", "-x", "-C", str(tree)], input=packed.stdout, check=True)
    return tree


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    made = Host("switchboard-upgrade", tmp_path_factory.mktemp("host") / "host")
    made.create()
    yield made
    made.remove()


@pytest.fixture(scope="session")
def variables(host: Host, former: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the variables of an inventory that was written for the version before, with people to sign in."""
    project = Path(shutil.copytree(ROOT / "demo", tmp_path_factory.mktemp("project") / "demo"))
    with (project / "graphspace" / "urls.py").open("a") as file:
        file.write(VIEW)
    text = (former / "inventory/single/group_vars/all/sites.yml").read_text(encoding="utf-8")
    sites = yaml.safe_load(text)["sites"]
    sites[SITE] |= {"domain": host.address, "source": {"directory": str(project)}}
    sites[SITE] |= {"secrets": {"SEED_PASSWORD": PASSWORD}, "releases": {"commands": ["seed"]}}
    return {"sites": sites}
