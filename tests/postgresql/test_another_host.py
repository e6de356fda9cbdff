"""A site's PostgreSQL on a host of its own: Debian 13 has the pages, Debian 12 the rows.

The tests run in order, each with what the one before left, and before those that upgrade the host of the rows. A long
form, of `make soak`: in `make test` the scenario `web` has its rows on another host.
"""

from __future__ import annotations

import asyncio
import shlex
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.live.people import Person, Target
from tests.postgresql.pair import ENTRY, SITE, Pair, changed
from tests.postgresql.server import root
from tools.bench import Host

pytestmark = pytest.mark.soak
PEOPLE = "people-of-a-test"
CA = "/etc/switchboard/certificates/peers/ca.pem"
BACKUP = {
    "backup_repository": "/mnt/backup",
    "backup_password": "a-word-that-opens-snapshots",
    "backup_kafka": "",
}
MAKE = f"""from django.contrib.auth import get_user_model
get_user_model().objects.create_user("ada", password="{PEOPLE}")"""
# Everything of the kinds that a restore has to move out of the way and bring back, and something of an extension.
KINDS = """SET ROLE graphspace; CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE DOMAIN small AS int;
CREATE TABLE later (id serial PRIMARY KEY, mood mood, size small, name citext); CREATE SEQUENCE own;
CREATE VIEW good AS SELECT * FROM later WHERE mood = 'good'; CREATE TYPE two AS (a int, b int);
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'"""


@pytest.fixture(scope="module")
def pair(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    web = Host("switchboard-postgresql-web", folder / "web")
    inventory = folder / "inventory"
    inventory.mkdir()
    try:
        web.create()
        made = Pair(web, host, inventory, {**BACKUP, "firewall_enabled": True})
        made.write(postgresql={"extensions": ["citext"]})
        yield made
    finally:
        web.remove()


async def drawn(pair: Pair, *names: str) -> str:
    """Make graphs as somebody who signs in; return the page that lists them."""
    person = await Person.sign_in(Target(pair.web.address, 80, pair.web.address), "ada", PEOPLE)
    try:
        for name in names:
            status, _ = await person.post("/graphs/new/", name=name, nodes="one\ntwo")
            assert status == 302
        return await person.page("/")
    finally:
        await person.close()


def visit(
    pair: Pair, mode: str = "verify-full", password: str = "", host: Host | None = None
) -> str:
    """Return what psql says to a program on the web host, or on another one."""
    where = (
        f"host={pair.database.address} user={SITE} dbname={SITE} sslmode={mode} sslrootcert={CA}"
    )
    asked = "SELECT ssl, client_addr FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE pid = pg_backend_pid()"
    words = f"PGPASSWORD={password or pair.password} psql -XAtw '{where}' -c '{asked}' 2>&1 || true"
    return root(host or pair.web, f"runuser -u nobody -- sh -c {shlex.quote(words)}")


def test_the_inventory_says_it_all(pair: Pair) -> None:
    """A page of the site writes rows, and reads them, in PostgreSQL of the other host, over TLS."""
    run = pair.good("site", "--diff")
    assert pair.password not in run.output
    pair.manage(f"shell -c {shlex.quote(MAKE)}")
    assert "first-graph" in asyncio.run(drawn(pair, "first-graph"))
    assert pair.graphs() == ["first-graph"]
    assert visit(pair) == f"t|{pair.web.address}"
    assert (
        pair.rows(
            "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
            "WHERE client_addr IS NOT NULL AND NOT ssl"
        )
        == "0"
    )


def test_nobody_else_gets_in(pair: Pair) -> None:
    assert "no encryption" in visit(pair, mode="disable")
    assert "password authentication failed" in visit(pair, password="another-word-of-sixteen")
    assert "no pg_hba.conf entry" in visit(pair, mode="require", host=pair.database)
    # the firewall lets the web host come to the port, and this machine to that of SSH alone
    socket.create_connection((pair.database.address, 22), 10).close()
    with pytest.raises(TimeoutError):
        socket.create_connection((pair.database.address, 5432), 3)


def test_the_password_stands_in_the_sites_secrets_alone(pair: Pair) -> None:
    word = pair.password
    for host, places in (
        (pair.web, "/etc /usr/local /run /var/lib/switchboard"),
        (pair.database, "/etc /run"),
    ):
        found = root(
            host, f"grep -rlF --devices=skip -e {word} {places} 2>/dev/null || true"
        ).split()
        assert found == ([f"/etc/switchboard/{SITE}/secrets.env"] if host is pair.web else [])
        # but for what this test itself asked sudo to do
        journal = root(host, f"journalctl --no-pager | grep -v ' sudo' | grep -c -e {word} || true")
        assert journal == "0"
    assert (
        root(pair.web, f"stat -c '%a %U:%G' /etc/switchboard/{SITE}/secrets.env")
        == f"640 root:{SITE}"
    )


@contextmanager
def no_argument(pair: Pair, word: str) -> Iterator[None]:
    """Assert that a word stands in no program's arguments on the web host meanwhile."""
    watch = (
        "while test ! -e /root/over; do grep -lsFf /root/word /proc/[0-9]*/cmdline >> /root/hits; "
        "n=$((n + 1)); echo $n > /root/looks; sleep 0.05; done"
    )
    pair.web.shell(f"umask 77; echo {word} > word; sudo mv word /root/word")
    root(pair.web, f"rm -f /root/over /root/hits; systemd-run --quiet sh -c {shlex.quote(watch)}")
    try:
        yield
    finally:
        root(pair.web, "touch /root/over")
    hits, looks = map(int, root(pair.web, "wc -l < /root/hits; cat /root/looks").split())
    assert hits == 0
    assert looks > 50


def test_a_second_run_changes_nothing_and_predicts_nothing(pair: Pair) -> None:
    for flags in ([], ["--check"]):
        run = pair.good("site", "--diff", "-vv", *flags)
        assert pair.password not in run.output
        assert set(changed(run)) == {0}, run.output[-3000:]


def test_a_snapshot_has_the_rows_and_brings_them_back(pair: Pair) -> None:
    with no_argument(pair, pair.password):
        pair.good("backup_now")
    asyncio.run(drawn(pair, "after-the-snapshot"))
    pair.rows(KINDS)
    kept = pair.graphs()
    assert kept == ["first-graph", "after-the-snapshot"]
    tables = (
        "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class "
        "WHERE relnamespace = 'public'::regnamespace"
    )
    before = pair.rows(tables)
    # one that fails once the rows are the snapshot's
    pair.write(postgresql={"extensions": ["citext"]}, releases={"smoke": {"/there-is-none/": 200}})
    wrong = pair.play("restore", site=SITE, restore_confirmed=True)
    assert wrong.code != 0
    wrong.says("/there-is-none/ gives 404", "What was there is there again, and served.")
    assert (pair.graphs(), pair.rows(tables), pair.status()) == (kept, before, 200)
    pair.write(postgresql={"extensions": ["citext"]})
    with no_argument(pair, pair.password):
        pair.good("restore", site=SITE, restore_confirmed=True)
    assert pair.graphs() == ["first-graph"]
    assert "later" not in pair.rows(tables)
    assert "first-graph" in asyncio.run(drawn(pair))
    (aside,) = pair.rows(
        "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'switchboard%'"
    ).split()
    assert pair.rows(f"TABLE {aside}.graphs_graph").count("\n") == 1
    pair.rows(f"DROP SCHEMA {aside} CASCADE")


def test_another_password_is_taken_up_by_both_in_one_run(pair: Pair) -> None:
    """Pages go on meanwhile by connections that are open; only new ones are refused for some seconds."""
    former, answers, over = pair.password, list[int](), threading.Event()
    pair.secret.unlink()

    def ask() -> None:
        while not over.is_set():
            answers.append(pair.status())
            time.sleep(0.5)  # between two visitors

    visitor = threading.Thread(target=ask)
    visitor.start()
    run = pair.good("site", "--diff")
    over.set()
    visitor.join()
    assert pair.password != former
    for word in (former, pair.password):
        assert word not in run.output
    assert visit(pair) == f"t|{pair.web.address}"
    assert "password authentication failed" in visit(pair, password=former)
    assert "first-graph" in asyncio.run(drawn(pair))
    wrong = [status for status in answers if status != 200]
    print(
        f"\n{len(answers)} pages while the password changed, {len(wrong)} failed: {sorted(set(wrong))}"
    )
    assert len(answers) > 20
    assert len(wrong) <= len(answers) // 4


def test_a_site_moves_from_sqlite_to_another_host(pair: Pair) -> None:
    before = pair.graphs()
    sqlite = {**ENTRY["environment"], "DJANGO_DATABASE": "{data}/graphspace.sqlite3"}
    pair.write(database="sqlite", environment=sqlite)
    pair.good("deploy", site=SITE, django_database_empty=True)
    pair.manage(f"shell -c {shlex.quote(MAKE)}")
    asyncio.run(drawn(pair, "in-a-file"))
    assert pair.graphs() == before
    pair.write(environment=sqlite)
    refused = pair.play("move_database", site=SITE)
    assert refused.code != 0
    refused.says("the database graphspace of PostgreSQL has rows already")
    root(pair.database, f"runuser -u postgres -- dropdb --force {SITE}")
    pair.good("move_database", site=SITE).says(f"The former file stays in /srv/{SITE}/data.")
    assert pair.graphs() == ["in-a-file"]
    assert "in-a-file" in asyncio.run(drawn(pair))


def test_a_release_needs_the_passwords_that_the_first_machine_made(
    pair: Pair, tmp_path: Path
) -> None:
    kept = pair.secret.rename(tmp_path / "kept")
    run = pair.play("deploy", site=SITE)
    assert run.code != 0
    run.says(f"sites.{SITE}.database is postgresql, and this machine has no {pair.secret}.")
    run = pair.play("upgrade_database")
    assert run.code != 0
    run.says(f"This machine has no {pair.secret}, the passwords by which sites of other hosts")
    run = pair.play("database")
    assert run.code != 0
    run.says(f"This machine has no password of {SITE} for PostgreSQL, which has one")
    root(pair.database, "systemctl stop 'postgresql@*'")
    run = pair.play("database")
    root(pair.database, "systemctl start postgresql@15-main")
    assert run.code != 0
    run.says(f"This machine has no {pair.secret}, and PostgreSQL can't be asked")
    assert not pair.secret.exists()
    kept.rename(pair.secret)


def test_a_host_that_gets_a_database_of_its_own_would_leave_the_rows_behind(pair: Pair) -> None:
    pair.write({"web1": ["web", "database"], "db1": []})
    run = pair.play("preflight")
    pair.write()
    assert run.code != 0
    run.says(
        f"the site is on postgresql at {pair.database.address}, and its rows would stay behind. "
        "A snapshot takes them along"
    )
    assert pair.status() == 200
