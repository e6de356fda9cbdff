"""PostgreSQL and sites on other hosts: over TLS alone, with a password, each into its own database.

The host is its own visitor, from the address by which others reach it. It is the one that test_upgrade.py left. A long
form, of `make soak`: test_another_host.py has the same with a site.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from tests.postgresql.server import play, root
from tools.bench import Host

pytestmark = pytest.mark.soak
WORD, OTHER = "a-word-of-sixteen-letters", "another-word-of-sixteen-letters"
FOLDER = "/etc/postgresql/visitors"
CERTIFICATE = f"""
mkdir -p {FOLDER} && cd {FOLDER}
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=lab -addext subjectAltName=IP:$1 \\
    -keyout key.pem -out cert.pem
openssl genpkey -algorithm ed25519 -out other.pem
chgrp postgres key.pem other.pem && chmod 640 other.pem && chmod 640 key.pem && chmod 755 .
"""
STARTED = "SELECT pg_postmaster_start_time()"


def settings(host: Host, **changes: Any) -> dict[str, Any]:
    return {
        "postgresql_address": host.address,
        "postgresql_clients": [host.address],
        "postgresql_tls_certificate": f"{FOLDER}/cert.pem",
        "postgresql_tls_key": f"{FOLDER}/key.pem",
        "postgresql_databases": [
            {"name": "graphspace", "connections": 50, "password": WORD},
            {"name": "beside", "connections": 5, "password": OTHER},
        ],
        **changes,
    }


def visit(
    host: Host,
    password: str = WORD,
    database: str = "graphspace",
    mode: str = "verify-full",
    user: str = "graphspace",
) -> str:
    """Return what psql says to a visitor over TCP."""
    where = f"host={host.address} user={user} dbname={database} sslmode={mode}"
    words = f"PGPASSWORD={password} psql -XAtw '{where} sslrootcert={FOLDER}/cert.pem'"
    asked = "SELECT current_user || ' ' || ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    return root(host, f"runuser -u nobody -- env {words} -c {shlex.quote(asked)} 2>&1 || true")


def local(host: Host, statement: str) -> str:
    return root(host, f"runuser -u postgres -- psql -XAt -c {shlex.quote(statement)}")


@pytest.fixture(scope="module")
def open_to_itself(host: Host) -> Host:
    run = play(host, "database")  # where these tests run alone
    assert run.code == 0, run.output[-3000:]
    root(host, f"set -- {host.address}; {CERTIFICATE}")
    run = play(host, "database", **settings(host))
    assert run.code == 0, run.output[-3000:]
    assert WORD not in run.output
    return host


def test_a_site_elsewhere_gets_into_its_own_database(open_to_itself: Host) -> None:
    assert visit(open_to_itself) == "graphspace true"
    assert "password authentication failed" in visit(open_to_itself, password=OTHER)
    for name in ("beside", "postgres"):
        assert "no pg_hba.conf entry" in visit(open_to_itself, database=name)


def test_the_administrator_comes_from_no_other_host(open_to_itself: Host) -> None:
    """Also where he has a password: by the socket alone."""
    host = open_to_itself
    local(host, f"ALTER ROLE postgres PASSWORD '{WORD}'")
    try:
        assert "pg_hba.conf rejects connection" in visit(host, user="postgres", database="postgres")
    finally:
        local(host, "ALTER ROLE postgres PASSWORD NULL")


def test_nobody_comes_in_without_tls(open_to_itself: Host) -> None:
    assert "no encryption" in visit(open_to_itself, mode="disable")


def test_the_second_run_changes_nothing_and_no_password_is_to_be_seen(open_to_itself: Host) -> None:
    host = open_to_itself
    run = play(host, "database", "--diff", "-vvv", **settings(host))
    assert re.search(r"changed=0 .*failed=0 ", run.output), run.output[-3000:]
    assert WORD not in run.output
    assert OTHER not in run.output
    kept = local(host, "SELECT string_agg(rolpassword, ' ') FROM pg_authid")
    assert kept.count("SCRAM-SHA-256$") == 2
    places = "/etc/postgresql /var/log/postgresql /run/postgresql"
    assert root(host, f"grep -rl -e {WORD} -e {OTHER} {places} || true") == ""
    # but for what this test itself asked sudo to do
    told = root(
        host, f"journalctl --no-pager | grep -v ' sudo' | grep -e {WORD} -e {OTHER} || true"
    )
    assert told == ""


def test_another_password_is_noticed_and_the_former_one_refused(open_to_itself: Host) -> None:
    host, began = open_to_itself, local(open_to_itself, STARTED)
    changed = settings(host)
    changed["postgresql_databases"][0]["password"] = OTHER
    predicted = play(host, "database", "--check", "--diff", **changed)
    predicted.says("role graphspace: another password")
    assert visit(host) == "graphspace true"
    run = play(host, "database", "--diff", **changed)
    assert run.code == 0, run.output[-3000:]
    assert WORD not in predicted.output + run.output
    assert OTHER not in predicted.output + run.output
    assert visit(host, OTHER) == "graphspace true"
    assert "password authentication failed" in visit(host)
    assert local(host, STARTED) == began


def test_who_is_not_named_is_turned_away_and_nobody_is_disturbed(open_to_itself: Host) -> None:
    """Another list of visitors takes a reload: the server goes on, with its connections."""
    host, began = open_to_itself, local(open_to_itself, STARTED)
    run = play(host, "database", **settings(host, postgresql_clients=["192.0.2.0/24"]))
    assert run.code == 0, run.output[-3000:]
    assert "no pg_hba.conf entry" in visit(host)
    assert local(host, STARTED) == began


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"postgresql_clients": ["db.lab"]},
            "postgresql_clients is db.lab: that is neither an address nor a network.",
        ),
        (
            {"postgresql_address": ""},
            "postgresql_address is empty: the hosts of postgresql_clients",
        ),
        (
            {"postgresql_tls_key": ""},
            "postgresql_tls_key is empty: nobody comes in by TCP without TLS.",
        ),
        (
            {"postgresql_databases": [{"name": "graphspace", "password": "short"}]},
            "postgresql_databases is graphspace: its password is shorter than 16 letters",
        ),
        (
            {"postgresql_databases": [{"name": "graphspace"}]},
            "no role in postgresql_databases has a password, so nobody could come in.",
        ),
        ({"postgresql_tls_key": f"{FOLDER}/other.pem"}, "they are no pair"),
        ({"postgresql_tls_key": f"{FOLDER}/absent.pem"}, "No such file or directory"),
    ],
)
def test_what_cannot_work_is_refused(
    open_to_itself: Host, changes: dict[str, Any], said: str
) -> None:
    run = play(open_to_itself, "database", **settings(open_to_itself, **changes))
    assert run.code != 0
    run.says(said)


def test_the_door_closes_again(open_to_itself: Host) -> None:
    run = play(open_to_itself, "database")
    assert run.code == 0, run.output[-3000:]
    assert "refused" in visit(open_to_itself)
    assert local(open_to_itself, "SELECT count(rolpassword) FROM pg_authid") == "1"
