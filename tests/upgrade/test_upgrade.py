"""The version before this one is set up on a server, and this one takes it over with people on the site.

`tests/upgrade/from` names the commit of that version. UPGRADING.md says what has to be done in between; where that is
more than a run of site.yml, it is done here.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.people import Target
from tests.live.traffic import PATH, Rates, Traffic
from tools.bench import Host, kafka_passwords
from tools.common import ROOT, environment

FROM = (ROOT / "tests" / "upgrade" / "from").read_text(encoding="utf-8").strip()
SITE = "graphspace"
PASSWORD = "people-of-a-test"
# Apache reloads where its configuration is another one: of the pages of that moment some get 503 (docs/apache.md).
REFUSED_SHARE = 0.02
VIEW = f"""

import django.http

urlpatterns += [path("{PATH[1:]}", lambda request: django.http.HttpResponse("any"))]
"""


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    made = Host("switchboard-upgrade", tmp_path_factory.mktemp("host") / "host")
    made.create()
    yield made
    made.remove()


@pytest.fixture(scope="module")
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


def site_yml(tree: Path, host: Host, variables: dict[str, Any], *flags: str) -> str:
    """Run site.yml of a tree and return what it printed."""
    command = ["ansible-playbook", "-i", "inventory/single", "-i", str(host.folder / "inventory")]
    if tree == ROOT:
        variables = {**variables, "switchboard_secrets": kafka_passwords(SITE)}
    done = subprocess.run(
        [*command, "--extra-vars", json.dumps(variables), "site.yml", *flags],
        cwd=tree,
        env=environment()
        | {
            "ANSIBLE_CONFIG": str(tree / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": "default",
            "ANSIBLE_NOCOLOR": "1",
        },
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


def test_this_version_takes_over_from_the_one_before(
    former: Path, host: Host, variables: dict[str, Any]
) -> None:
    site_yml(former, host, variables)
    traffic = Traffic(Target(host.address, 80, host.address), PASSWORD, Rates(30, 0.1, 1, 51, 5))
    traffic.start()
    foretold = site_yml(ROOT, host, variables, "--check")
    said = site_yml(ROOT, host, variables)
    result = traffic.stop()
    assert result.right, result
    assert result.committed > 50
    failed = len(traffic.failures)
    assert failed <= REFUSED_SHARE * len(traffic.answers), (
        traffic.failures[:5],
        traffic.failures[-5:],
    )
    print(f"upgrade: {len(traffic.answers)} pages, {failed} refused, {result}")
    counts = [re.findall(r"changed=(\d+)", text) for text in (foretold, said)]
    assert counts[0] == counts[1], "the dry run predicted something else"


def test_kafka_asks_who_comes_and_lets_the_site_in(host: Host) -> None:
    login = "/etc/kafka/admin.properties"
    refused = host.shell(
        "timeout 20 kafka-topics.sh --bootstrap-server 127.0.0.1:9092 --list || true"
    )
    assert "graphspace.owner" not in refused
    listed = (
        f"sudo kafka-topics.sh --bootstrap-server 127.0.0.1:9092 --command-config {login} --list"
    )
    assert "graphspace.owner" in host.shell(listed)
    for part in ("kafka", "consumers"):
        page = host.ask(f"/readyz/{part}", {})
        assert page.status == 200, (part, page)


def test_the_next_run_changes_nothing(host: Host, variables: dict[str, Any], former: Path) -> None:
    assert re.search(r"changed=0 .*failed=0", site_yml(ROOT, host, variables))
    host.check()
