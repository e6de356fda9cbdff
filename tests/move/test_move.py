"""A site moves from SQLite to PostgreSQL with all its rows, or stays where it was, whatever goes wrong on the way."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.live.people import Page, Person, Target
from tests.refusals.bench import ROOT, Bench, Run

SITE = "graphspace"
DATA = f"/srv/{SITE}/data/graphspace.sqlite3"
PASSWORD = "people-of-a-test"
COUNTS = """
import json, django.apps
models = django.apps.apps.get_models(include_auto_created=True)
print(json.dumps({model._meta.db_table: model._base_manager.count() for model in models}))
"""
CHANGE = f"import sqlite3, sys; c = sqlite3.connect({DATA!r}, timeout=30); c.execute(sys.argv[1]); c.commit()"
# A message longer than its column, which SQLite does not mind and PostgreSQL does.
LENGTHEN = """
    UPDATE notifications_notification SET message = substr(hex(zeroblob(501)), 1, %d)
    WHERE id = (SELECT max(id) FROM notifications_notification)
"""


class Site:
    """The demonstration site of the host."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.host = bench, bench.host
        address = bench.variables.get("ansible_host", bench.name)
        self.target = Target(address, 80, bench.entries[SITE]["domain"])
        self.cookies: dict[str, str] = {}

    def play(self, name: str, database: str = "postgresql", **entry: Any) -> Run:
        """Run a playbook with the site on a database."""
        sites = self.bench.changed(SITE, {"database": database, **entry})
        extra = {"sites": sites, "postgresql_shared_buffers_mb": 128}
        extra |= {"site": SITE} if name != "site" else {}
        path = ROOT / ("site.yml" if name == "site" else f"playbooks/{name}.yml")
        return self.bench.play(path, extra)

    def move(self, **entry: Any) -> Run:
        return self.play("move_database", **entry)

    def write(self, statement: str) -> None:
        """Change something in SQLite, as the site's user."""
        self.host.check_output("runuser -u %s -- python3 -c %s %s", SITE, CHANGE, statement)

    def counts(self) -> dict[str, int]:
        """Return how many rows each table has, as the site's own settings find them."""
        said = self.host.check_output(f"cd / && {SITE}-manage shell -v 0 -c %s", COUNTS)
        found: dict[str, int] = json.loads(said.splitlines()[-1])
        return found

    def kind(self) -> str:
        """Return where the site's rows are, as its environment says."""
        told = self.host.check_output(f"cat /etc/switchboard/{SITE}/settings.env")
        return "postgresql" if 'DATABASE_URL="postgresql:' in told else "sqlite"

    def serves(self) -> None:
        """Assert that all of the site runs and answers, and is not closed."""
        units = [f"daphne-{SITE}@1", f"daphne-{SITE}@2", f"django-{SITE}.relay"]
        assert (
            self.host.check_output(f"systemctl is-active {' '.join(units)}").split()
            == ["active"] * 3
        )
        assert self.host.run(f"test -e /var/lib/switchboard/maintenance/{SITE}").rc == 1
        assert self.host.run(f"test -e /srv/{SITE}/.moving.json").rc == 1
        header = f"Host: {self.target.host}"
        until = time.monotonic() + 60
        while True:
            said = self.host.check_output(
                "curl -s -o /dev/null -w '%%{http_code}' -H %s http://127.0.0.1/readyz", header
            )
            if said == "200":
                return
            assert time.monotonic() < until, f"/readyz answers {said}"
            time.sleep(0.5)  # until its parts are well; the bound above asserts


@pytest.fixture(scope="module")
def site(bench: Bench) -> Site:
    found = Site(bench)
    bench.host.check_output(f"cd / && {SITE}-manage seed --password {PASSWORD}")

    async def sign_in() -> None:
        ada = await Person.sign_in(found.target, "ada", PASSWORD)
        await ada.post(
            "/graphs/new/",
            name="before the move",
            description="é 漢 \U0001f600",
            nodes="a\nb",
            edges="a - b",
        )
        found.cookies = {cookie.key: cookie.value for cookie in ada.session.cookie_jar}
        await ada.close()

    asyncio.run(sign_in())
    return found


def test_the_key_alone_is_refused_and_changes_nothing(site: Site) -> None:
    before = site.bench.state()
    for playbook in ("site", "deploy"):
        run = site.play(playbook)
        assert run.code != 0
        run.says(
            f"sites.{SITE}.database is postgresql: the site is on sqlite, and its rows would stay behind. "
            f"playbooks/move_database.yml -e site={SITE} takes them along; "
        )
    # the pack that `deploy` has sent is removed with the next release
    assert {line for line in site.bench.state() if "/archives/" not in line} == {
        line for line in before if "/archives/" not in line
    }
    site.serves()


@pytest.mark.soak
def test_a_row_that_postgresql_does_not_take_is_named_and_the_site_stays(site: Site) -> None:
    counts = site.counts()
    site.write(LENGTHEN % 501)
    run = site.move()
    assert run.code != 0
    run.says(
        "step move: notifications_notification has a row (its key is ",
        "that PostgreSQL does not take: value too long for type character varying(500)",
        f"The release {site.host.check_output(f'readlink /srv/{SITE}/current')[9:]} is served again.",
    )
    assert site.kind() == "sqlite"
    site.serves()
    assert site.counts() == counts
    site.write(LENGTHEN % 20)


@pytest.mark.soak
def test_a_table_that_no_model_knows_is_named(site: Site) -> None:
    site.write("CREATE TABLE old_things (id INTEGER)")
    site.write("INSERT INTO old_things VALUES (1)")
    run = site.move()
    assert run.code != 0
    run.says("SQLite has the table old_things with 1 rows, and no model knows it.")
    assert site.kind() == "sqlite"
    site.serves()
    site.write("DROP TABLE old_things")


def stop_before(site: Site, step: str, command: str) -> None:
    """Kill a move when it has come to a step."""
    runs: list[Run] = []
    hooks = {"releases.hooks": {step: [command]}}
    thread = threading.Thread(target=lambda: runs.append(site.move(**hooks)))
    thread.start()
    site.bench.kill_at(command, 180, runs)
    thread.join(60)
    assert runs
    assert runs[0].code != 0


@pytest.mark.soak
def test_a_move_that_was_killed_before_the_switch_leaves_the_rows_where_they_were(
    site: Site,
) -> None:
    stop_before(site, "after_move", "sleep 4322")
    assert site.kind() == "sqlite"
    page = site.bench.page(SITE, "-o /dev/null -w '%{http_code}'")
    assert page == "503", (
        "it stays closed: nobody writes what the next run would have to take along"
    )


@pytest.mark.soak
def test_a_row_that_changes_meanwhile_takes_the_site_back(site: Site) -> None:
    words = ["python3", "-c", CHANGE, "UPDATE graphs_graph SET description = 1"]
    run = site.move(**{"releases.hooks": {"after_restart": [shlex.join(words)]}})
    assert run.code != 0, run.output[-3000:]
    run.says("step move: a row in SQLite changed while the site was closed.")
    assert site.kind() == "sqlite"
    site.serves()


def test_all_rows_move_and_people_stay_signed_in(site: Site) -> None:
    counts = site.counts()
    stop_before(site, "after_restart", "sleep 4323")
    assert site.kind() == "postgresql"
    run = site.move()  # finishes what the one before began
    assert run.code == 0, run.output[-3000:]
    site.serves()
    after = site.counts()
    for counted in ("notifications_holder", "notifications_held"):  # what runs says of itself
        counts.pop(counted), after.pop(counted)
    assert after == counts
    assert counts["graphs_graph"] >= 3

    async def look() -> None:
        ada = Person.with_cookies(site.target, "ada", site.cookies)
        assert "é 漢 \U0001f600" in await ada.page("/") or "before the move" in await ada.page("/")
        await ada.fetch_token("/graphs/new/")
        page = Page(ada, (await ada.listed(0))[1])
        task = asyncio.create_task(page.stay_open())
        await page.connected.wait()
        status, _ = await ada.post(
            "/graphs/new/", name="after the move", description="", nodes="a", edges=""
        )
        assert status == 302
        async with asyncio.timeout(30):
            while not any("after the move" in str(one.item) for one in page.shown):
                await asyncio.sleep(0.1)
        task.cancel()
        await ada.close()

    asyncio.run(look())


def test_it_runs_on_postgresql_and_the_next_run_changes_nothing(site: Site) -> None:
    run = site.move()
    assert run.code != 0
    run.says(
        f"sites.{SITE}.database is postgresql, and so it is on the host already. Nothing is to be moved."
    )
    again = site.play("site")
    assert re.search("changed=0 .*failed=0", again.output), again.output[-3000:]
    back = site.play("site", database="sqlite")
    assert back.code != 0
    back.says(
        f"sites.{SITE}.database is sqlite: the site is on postgresql, and its rows would stay behind."
    )
    site.host.check_output("test -f %s", DATA)


@pytest.mark.soak
def test_a_database_that_has_rows_is_not_overwritten(site: Site, tmp_path: Path) -> None:
    """After a way back to SQLite by hand the rows of PostgreSQL are there still."""
    run = site.play("deploy", database="sqlite", **{"releases.commands": []})
    assert run.code != 0
    extra = {
        "sites": site.bench.changed(SITE, {"database": "sqlite"}),
        "site": SITE,
        "django_database_empty": True,
    }
    assert site.bench.play(ROOT / "playbooks" / "deploy.yml", extra).code == 0
    assert site.kind() == "sqlite"
    run = site.move()
    assert run.code != 0
    run.says("the database graphspace of PostgreSQL has rows already: ")
    assert site.kind() == "sqlite"
    site.serves()
