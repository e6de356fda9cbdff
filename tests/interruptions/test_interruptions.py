"""A run is killed when a file is written and its service not yet restarted; the next run finishes what it began.

One case for each task that asks for a restart or a reload and whose file a variable changes; `make test` runs one
of the web tier's, `make soak` all. What kills a release is in tests/releases.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from typing import Any

import pytest

from tests.refusals.bench import ROOT, Bench

CALLBACK = ROOT / "tests" / "interruptions" / "callback"
SITE = "graphspace"
SOAK = "SWITCHBOARD_SOAK"
NEVER = "*-*-* 03:31:00"


@dataclass(frozen=True)
class Case:
    """A task that the run does not survive, what makes it change something, and what must begin anew after that."""

    tier: str
    task: str
    variables: dict[str, Any]
    unit: str
    # a command whose output tells what runs, where the unit's start does not
    look: str = ""
    short: bool = False


STARTED = (
    "systemctl show --timestamp=us+utc --property=ExecMainStartTimestamp,ActiveEnterTimestamp {}"
)
RELOADED = "stat -c %.Y /run/apache2/switchboard-read; " + STARTED.format("apache2")
RULES = "nft --handle list table inet switchboard_daphne"
CASES = [
    Case(
        "base",
        "base : Write the settings of time zone, locale, logins, journal, clock and upgrades",
        {"base_journal_max_use": "321M"},
        "systemd-journald.service",
    ),
    Case(
        "messaging",
        "zookeeper : Write the configuration, the server's number, the readiness probe and the unit",
        {"zookeeper_id": 7},
        "zookeeper.service",
    ),
    Case(
        "messaging",
        "zookeeper : Write the configuration, the server's number, the readiness probe and the unit",
        {"zookeeper_max_client_cnxns": 77},
        "zookeeper.service",
    ),
    Case(
        "messaging",
        "zookeeper : Write the configuration, the server's number, the readiness probe and the unit",
        {"zookeeper_heap_mb": 200},
        "zookeeper.service",
    ),
    Case(
        "messaging",
        "kafka : Write the configuration, the readiness probe and the unit",
        {"kafka_properties": {"num.io.threads": 7}},
        "kafka.service",
    ),
    Case(
        "messaging",
        "kafka : Write the configuration, the readiness probe and the unit",
        {"kafka_heap_mb": 500},
        "kafka.service",
    ),
    Case(
        "web",
        "django : Write the units of each command, and remove those of the others",
        {"django_write_paths": [f"/srv/{SITE}/data", "-/srv/nothing"]},
        f"django-{SITE}.relay.service",
    ),
    Case(
        "web",
        "django : Write the units of each command, and remove those of the others",
        {"sites": (SITE, {"timers": {"digest": {"command": "digest", "on_calendar": NEVER}}})},
        f"django-{SITE}.digest.timer",
    ),
    Case(
        "web",
        "daphne : Write what starts Daphne, who may connect to the sites' ports, and the units of each site",
        {"daphne_ping_interval": 19},
        f"daphne-{SITE}@1.service",
        short=True,
    ),
    Case(
        "web",
        "daphne : Write what starts Daphne, who may connect to the sites' ports, and the units of each site",
        {"daphne_backlog": 1000},
        f"daphne-{SITE}.socket",
    ),
    Case(
        "web",
        "daphne : Write what starts Daphne, who may connect to the sites' ports, and the units of each site",
        {"daphne_port_users": ["root", "www-data", "daemon"]},
        "switchboard-daphne-ports.service",
        look=RULES,
    ),
    Case(
        "web",
        "apache : Write the sites, the limits and the modules, once Apache has tested them",
        {"apache_max_http_workers": 300},
        "apache2.service",
    ),
    Case(
        "web",
        "apache : Write the sites, the limits and the modules, once Apache has tested them",
        {"apache_modules_extra": ["expires"]},
        "apache2.service",
    ),
    Case(
        "web",
        "apache : Write the folders, the programs and the unit",
        {"apache_wsgi_write_paths": [f"/srv/{SITE}/data", "/srv/nothing"]},
        "apache2.service",
    ),
    Case(
        "web",
        "apache : Write the sites, the limits and the modules, once Apache has tested them",
        {"apache_retry_after": 31},
        "apache2.service",
        look=RELOADED,
    ),
    Case(
        "web",
        "apache : Write the sites, the limits and the modules, once Apache has tested them",
        {"apache_modules_disabled": ["autoindex", "negotiation", "deflate"]},
        "apache2.service",
    ),
]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id=f"{case.task.split(' : ')[0]} {', '.join(case.variables)}",
            marks=[] if case.short else pytest.mark.soak,
        )
        for case in CASES
    ],
)
def test_the_next_run_finishes_what_a_killed_one_began(
    bench: Bench, changed: dict[str, Any], case: Case
) -> None:
    changed |= {
        name: bench.changed(*value) if isinstance(value, tuple) else value
        for name, value in case.variables.items()
    }
    playbook = ROOT / "playbooks" / f"{case.tier}.yml"
    look = case.look or STARTED.format(case.unit)
    before = bench.host.check_output(look)
    killed = bench.play(
        playbook,
        changed,
        ANSIBLE_CALLBACK_PLUGINS=str(CALLBACK),
        ANSIBLE_CALLBACKS_ENABLED="stop_after",
        SWITCHBOARD_STOP_AFTER=case.task,
    )
    assert killed.code == -signal.SIGKILL, killed.output[-4000:]
    assert bench.host.check_output(look) == before, "the run came further than the test meant it to"

    finished = bench.play(playbook, changed)
    assert finished.code == 0, finished.output[-4000:]
    after = bench.host.check_output(look)
    assert after != before, (
        f"{case.unit} runs with what was there before\n{finished.output[-6000:]}"
    )
    assert not set(re.findall(r"^\d+$", after, re.M)) & set(re.findall(r"^\d+$", before, re.M))
    if os.environ.get(SOAK):
        again = bench.play(playbook, changed)
        assert re.search(r"changed=0 .*failed=0", again.output), again.output[-4000:]


def test_a_kafka_that_cannot_start_ends_each_run(bench: Bench, changed: dict[str, Any]) -> None:
    """A second run changes nothing; it waited for 5 minutes and was green."""
    playbook = ROOT / "playbooks" / "messaging.yml"
    for _ in range(2):
        broken = changed | {"kafka_properties": {"num.io.threads": 0}}
        run = bench.play(playbook, broken)
        assert run.code != 0, run.output[-4000:]
        assert "num.io.threads" in run.output.rpartition("FAILED! =>")[2]
    whole = bench.play(playbook)  # the tests that follow find what they know
    assert whole.code == 0, whole.output[-4000:]
