"""Kafka leaves ZooKeeper with all of its records, with people on the site, also where a run is killed on the way.

A long form, of `make soak`: in `make test` the scenario `web` has a broker without ZooKeeper. The tests run in order,
each with what the one before left.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.people import Target
from tests.live.traffic import Rates, Traffic
from tests.refusals.bench import ROOT, Run, run_playbook
from tests.upgrade.conftest import PASSWORD, SITE
from tools.bench import Host, kafka_passwords

pytestmark = pytest.mark.soak
RECORDS = Path(__file__).with_name("records.py")
CALLBACK = ROOT / "tests" / "interruptions" / "callback"
DATA = "/var/lib/kafka/data"


class Server:
    """The server, with an inventory for each mode of Kafka."""

    def __init__(self, host: Host, variables: dict[str, Any]) -> None:
        self.host = host
        self.extra = {**variables, "switchboard_secrets": kafka_passwords(SITE)}
        self.folder = host.whole_inventory({})
        self.listing = yaml.safe_load((self.folder / "hosts.yml").read_text())
        host.send({RECORDS.name: RECORDS})

    def inventory(self, mode: str) -> Path:
        """Let the inventory say what an operator writes for a mode, and return it."""
        children = {**self.listing["switchboard"]["children"]}
        if mode == "kraft":
            del children["zookeeper"]
        text = yaml.safe_dump(
            {"switchboard": {**self.listing["switchboard"], "children": children}}
        )
        (self.folder / "hosts.yml").write_text(text)
        (self.folder / "group_vars" / "all" / "kafka.yml").write_text(f"kafka_mode: {mode}\n")
        return self.folder

    def play(
        self, mode: str, name: str = "leave_zookeeper", stop_after: str = "", **extra: Any
    ) -> Run:
        """Run a playbook."""
        path = f"playbooks/{name}.yml" if name != "site" else "site.yml"
        words = json.dumps({**self.extra, **extra})
        command = ["ansible-playbook", "-i", str(self.inventory(mode)), path, "-e", words]
        kill = {
            "ANSIBLE_CALLBACK_PLUGINS": str(CALLBACK),
            "ANSIBLE_CALLBACKS_ENABLED": "stop_after",
            "ANSIBLE_STDOUT_CALLBACK": "default",
            "SWITCHBOARD_STOP_AFTER": stop_after,
        }
        before = ["setsid", "--wait", "env"] if stop_after else []  # it kills its process group
        before += [f"{key}={value}" for key, value in kill.items()] if stop_after else []
        return run_playbook([*before, *command], 600)

    def root(self, command: str) -> str:
        return self.host.shell(f"sudo sh -c {shlex.quote(command)}").strip()

    def records(self) -> dict[str, Any]:
        """Return what Kafka has, of the topics that nobody writes to meanwhile."""
        told = json.loads(self.root(f"python3 /tmp/by-hand/{RECORDS.name} tell"))
        kept = {name: some for name, some in told["records"].items() if name.startswith("byhand.")}
        return {**told, "records": kept}

    def traffic(self) -> Traffic:
        target = Target(self.host.address, 80, self.host.address)
        return Traffic(target, PASSWORD, Rates(10, 0.1, 1, 30, 5))


@pytest.fixture(scope="module")
def server(host: Host, variables: dict[str, Any]) -> Server:
    made = Server(host, variables)
    made.root(f"python3 /tmp/by-hand/{RECORDS.name} make")
    return made


@pytest.fixture(scope="module")
def before(server: Server) -> dict[str, Any]:
    """What Kafka has in the topics that were made by hand, with ZooKeeper."""
    found = server.records()
    assert sum(count for count, _ in found["records"].values()) == 3140
    return found


def works(server: Server, before: dict[str, Any], zookeeper: str) -> None:
    """Assert that Kafka has what it had, that the site uses it, and that ZooKeeper is there or not."""
    assert server.records() == before
    assert server.root("systemctl is-active kafka") == "active"
    assert server.root("systemctl is-active zookeeper || true") == zookeeper
    assert "switchboard_kafka_closed" not in server.root("nft list tables")
    for part in ("kafka", "consumers"):
        assert server.host.ask(f"/readyz/{part}", {}).status == 200


def test_a_run_that_was_killed_is_finished_by_the_next_and_nothing_is_lost(
    server: Server, before: dict[str, Any]
) -> None:
    run = server.play("kraft", "preflight")
    assert run.code != 0
    run.says("kafka_mode is kraft: the records in", "playbooks/leave_zookeeper.yml (docs/kafka.md)")
    run = server.play("zookeeper")
    assert run.code != 0
    run.says("kafka_mode is zookeeper: Write `kafka_mode: kraft` in group_vars/all/kafka.yml")
    traffic = server.traffic()
    traffic.start()
    killed = server.play("kraft", stop_after="Put it aside, or bring it back")
    assert killed.code != 0, killed.output[-4000:]
    assert server.root(f"ls -d {DATA}*") == f"{DATA}.records\n{DATA}.zookeeper"
    run = server.play("kraft")
    assert run.code == 0, run.output[-4000:]
    run.says("Kafka works without ZooKeeper, and has ")
    result = traffic.stop()
    assert result.right, result
    assert result.committed > 50
    print(f"leaving ZooKeeper: {result}, {len(traffic.failures)} pages refused")
    works(server, before, "inactive")


def test_it_goes_back_and_forth_and_comes_to_an_end(server: Server, before: dict[str, Any]) -> None:
    traffic = server.traffic()
    traffic.start()
    run = server.play("kraft", back=True)
    assert run.code != 0
    run.says("kafka_mode is kraft: To go back, write `kafka_mode: zookeeper`")
    run = server.play("zookeeper", back=True)
    assert run.code == 0, run.output[-4000:]
    works(server, before, "active")
    server.root(f"python3 /tmp/by-hand/{RECORDS.name} hold")
    killed = server.play("kraft", stop_after="Stop Kafka")
    assert killed.code != 0, killed.output[-4000:]
    plan = json.loads(server.root(f"cat {DATA}.records/cluster.json"))
    whole = before["records"]["byhand.raw-0"][0] + 5  # what an open transaction hid
    assert ["byhand.raw", 0, whole] in plan["counts"]
    assert server.root("systemctl is-active kafka || true") == "inactive"
    assert server.root(f"ls -d {DATA} {DATA}.zookeeper || true") == DATA
    killed = server.play("kraft", stop_after="Write them, and compare")  # which begins once more
    assert killed.code != 0, killed.output[-4000:]
    run = server.play("kraft", "preflight")
    assert run.code != 0
    run.says("kafka_mode is kraft: Kafka leaves ZooKeeper here, and does not have all of its")
    run = server.play("kraft", finish=True, finish_confirmed=True)
    assert run.code != 0
    run.says("finish is true: the move is not at its end.")
    server.root("systemctl stop kafka; rm /run/switchboard-kafka-closed")  # as a reboot does
    server.root("systemctl start kafka")
    assert server.root("systemctl is-active kafka || true") == "inactive"
    run = server.play("kraft")
    assert run.code == 0, run.output[-4000:]
    result = traffic.stop()
    assert result.right, result
    after = server.records()
    assert after["records"]["byhand.raw-0"][0] == whole
    assert {**after["records"], "byhand.raw-0": 0} == {**before["records"], "byhand.raw-0": 0}
    works(server, after, "inactive")
    run = server.play("kraft", finish=True)
    assert run.code != 0
    run.says("Nothing was removed.")
    killed = server.play("kraft", finish=True, finish_confirmed=True, stop_after="Remove its data")
    assert killed.code != 0, killed.output[-4000:]
    run = server.play("kraft", finish=True, finish_confirmed=True)
    assert run.code == 0, run.output[-4000:]
    assert server.root("ls /var/lib/kafka; ls -d /etc/zookeeper || true").split("\n")[0] == "data"
    works(server, after, "inactive")
    run = server.play("kraft", "site")
    assert run.code == 0, run.output[-4000:]
    again = server.play("kraft", "site")
    assert re.search(r"[:,] 0 changed", again.output), again.output[-3000:]
    run = server.play("kraft")
    assert run.code != 0
    run.says("kafka_mode is kraft: and so it is on the disk. There is nothing to move.")
