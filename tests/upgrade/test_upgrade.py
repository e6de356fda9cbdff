"""The version before this one is set up on a server, and this one takes it over with people on the site.

`tests/upgrade/from` names the commit of that version. UPGRADING.md says what has to be done in between; where that is
more than a run of site.yml, it is done here.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.live.people import Target
from tests.live.traffic import Rates, Traffic
from tests.upgrade.conftest import PASSWORD, SITE
from tools.bench import Host, kafka_passwords
from tools.common import ROOT, environment

# Apache reloads where its configuration is another one: of the pages of that moment some get 503 (docs/apache.md).
REFUSED_SHARE = 0.02


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
