"""Debian 12 becomes Debian 13, and PostgreSQL 15 becomes 17 with all that is in it; until then the run says so.

The host is a server whose PostgreSQL, C library and release are upgraded by apt, which is what of `apt full-upgrade`
matters here. The tests run in order, each with what the one before left.
"""

from __future__ import annotations

import re

import pytest

from tests.postgresql.server import play, root
from tools.bench import Host

ROWS = "SELECT count(*) || ' ' || sum(hashint4(number)) FROM kept"
MARK = "/var/lib/postgresql/.switchboard-upgrade"
UPGRADE = """
sed -n 's/ bookworm main/ trixie main/p' /etc/apt/sources.list > /etc/apt/sources.list.d/trixie.list
apt-get -q update
DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Options::=--force-confold install -t trixie \\
    --no-install-recommends postgresql base-files
"""


def rows(host: Host) -> str:
    """Return how many rows there are, and a checksum."""
    return root(host, f'runuser -u postgres -- psql -At graphspace -c "{ROWS}"')


def clusters(host: Host) -> dict[str, str]:
    """Return the state of each version's cluster main."""
    lines = root(host, "pg_lsclusters --no-header").splitlines()
    return {line.split()[0]: line.split()[3] for line in lines}


@pytest.fixture(scope="module")
def before(host: Host) -> str:
    """A database with rows on Debian 12, and then another Debian; what `rows` says of it."""
    run = play(host, "database")
    assert run.code == 0, run.output[-3000:]
    make = "CREATE TABLE kept AS SELECT generate_series(1, 20000) AS number"
    root(host, f'runuser -u postgres -- psql graphspace -c "{make}"')
    told = rows(host)
    root(host, UPGRADE)
    return told


def test_a_run_refuses_to_begin_another_cluster(host: Host, before: str) -> None:
    run = play(host, "database")
    assert run.code != 0
    run.says(
        "its PostgreSQL is 17, and the databases are in the cluster of PostgreSQL 15.",
        "playbooks/upgrade_database.yml takes them along.",
    )
    assert clusters(host) == {"15": "online"}
    assert rows(host) == before


@pytest.mark.soak
def test_a_disk_without_room_is_named_before_anything_stops(host: Host, before: str) -> None:
    large = "/var/lib/postgresql/15/main/hole"
    root(host, f"truncate -s 900G {large}")  # which takes no room itself
    run = play(host, "upgrade_database")
    root(host, f"rm {large}")
    assert run.code != 0
    run.says(
        "/var/lib/postgresql/15/main takes ", "MiB left. Make room, or mount a larger disk there."
    )
    assert clusters(host) == {"15": "online"}
    assert rows(host) == before


@pytest.mark.soak
def test_a_cluster_of_somebody_else_is_not_taken_for_the_upgraded_one(
    host: Host, before: str
) -> None:
    root(host, "pg_createcluster 17 main")
    for words in ({}, {"forget": True}):
        run = play(host, "upgrade_database", **words)
        assert run.code != 0
        run.says("forget is true: PostgreSQL 15 is not" if words else "PostgreSQL 17 has a cluster")
    assert "cluster of PostgreSQL 15." in play(host, "database").output
    root(host, "pg_dropcluster --stop 17 main")
    assert rows(host) == before


def test_what_a_killed_run_left_is_made_anew(host: Host, before: str) -> None:
    predicted = play(host, "upgrade_database", "--check", "--diff")
    assert predicted.code == 0, predicted.output[-3000:]
    predicted.says("-PostgreSQL 15 +PostgreSQL 17")
    assert clusters(host) == {"15": "online"}
    # what a kill in the middle leaves: a new cluster without the rows, the older one stopped, and the mark
    root(host, f"echo 15 17 > {MARK}; pg_createcluster 17 main; systemctl stop postgresql@15-main")
    refused = play(host, "database")
    assert refused.code != 0
    refused.says("the databases are in the cluster of PostgreSQL 15.")
    run = play(host, "upgrade_database")
    assert run.code == 0, run.output[-3000:]
    run.says("PostgreSQL 15 is 17 now.")
    assert clusters(host) == {"15": "down", "17": "online"}
    assert rows(host) == before
    assert "listen_addresses = ''" in root(
        host, "cat /etc/postgresql/17/main/conf.d/switchboard.conf"
    )


@pytest.mark.soak
def test_a_note_that_a_crash_brought_back_costs_no_rows(host: Host) -> None:
    """The disk had not seen that the upgrade was over; meanwhile there are new rows."""
    folder = "/etc/postgresql/15/main/conf.d"
    root(host, f"mv {folder}/switchboard.upgraded {folder}/switchboard.conf; echo 15 17 > {MARK}")
    root(host, 'runuser -u postgres -- psql graphspace -c "INSERT INTO kept VALUES (0)"')
    told = rows(host)
    run = play(host, "upgrade_database")
    assert run.code == 0, run.output[-3000:]
    assert rows(host) == told
    assert clusters(host) == {"15": "down", "17": "online"}
    root(host, f"test ! -e {MARK}")
    root(host, 'runuser -u postgres -- psql graphspace -c "DELETE FROM kept WHERE number = 0"')


def test_the_next_run_changes_nothing_and_the_former_one_is_forgotten(
    host: Host, before: str
) -> None:
    for name in ("upgrade_database", "database"):
        run = play(host, name)
        assert re.search("0 changed, 0 failed", run.output), run.output[-3000:]
    run = play(host, "upgrade_database", forget=True)
    assert run.code == 0, run.output[-3000:]
    run.says("Removed the clusters of 15.")
    assert clusters(host) == {"17": "online"}
    assert rows(host) == before
