"""A release that Kafka would not let in is refused, and who tells Kafka nothing leaves no password behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.refusals.bench import ROOT, Bench

DEPLOY = ROOT / "playbooks" / "deploy.yml"
SITE = "graphspace"


@pytest.fixture(autouse=True)
def asks(bench: Bench) -> None:
    if not bench.host.file("/etc/kafka/admin.properties").exists:
        pytest.skip("Kafka asks nobody on this host")


@pytest.fixture
def elsewhere(bench: Bench, tmp_path: Path) -> Path:
    """Return the inventory as another machine has it: without what runs have made beside it."""
    hosts = {bench.name: bench.variables}
    groups: dict[str, Any] = {group: {"hosts": {bench.name: {}}} for group in bench.groups}
    path = tmp_path / "inventory.json"
    path.write_text(json.dumps({"all": {"hosts": hosts, "children": groups}}))
    return path


def test_a_machine_without_the_passwords_releases_nothing(bench: Bench, elsewhere: Path) -> None:
    before = bench.state()
    run = bench.play(DEPLOY, {"site": SITE}, inventory=str(elsewhere))
    assert run.code != 0
    run.says(
        "kafka_authentication is true, and this machine has no ",
        f"/.private/secrets/kafka-{SITE}",
        "Bring .private of the inventory from the machine that ran site.yml, or run `make secrets` there",
        "or run site.yml for all hosts here, which gives Kafka and the sites new ones",
    )
    assert bench.state() == before


@pytest.mark.soak
def test_a_dry_run_leaves_no_password_there(bench: Bench, elsewhere: Path) -> None:
    run = bench.play(ROOT / "playbooks/messaging.yml", None, "--check", inventory=str(elsewhere))
    assert run.code == 0, run.output[-4000:]
    described = {"describe_dir": str(elsewhere.parent)}
    run = bench.play(ROOT / "playbooks/describe.yml", described, inventory=str(elsewhere))
    assert run.code == 0, run.output[-4000:]
    assert not (elsewhere.parent / ".private").exists()


def test_a_site_is_not_released_alone_for_a_kafka_that_does_otherwise(bench: Bench) -> None:
    before = bench.state()
    run = bench.play(DEPLOY, {"site": SITE, "kafka_authentication": False})
    assert run.code != 0
    run.says(
        "kafka_authentication is false: Kafka on this host asks for passwords, so a site that is released alone would "
        "not get in. Run site.yml, which changes both."
    )
    assert bench.state() == before
