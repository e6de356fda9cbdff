"""A release, a failed one and a way back, with people on the site: no request fails, no notification is missed.

Through all of it there are 60 requests a second, some of 6 seconds, 198 open sockets, and changes that their owners
hear of. SWITCHBOARD_SOAK=1 takes the long form: 100 requests a second, some of 8 seconds, more changes, more releases,
and a kill at each step.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.live.people import Person, Target
from tests.live.traffic import PATH, Rates, Traffic
from tests.refusals.bench import ROOT, Bench, Run
from tests.releases.report import note

SITE = "graphspace"
SOAK = bool(os.environ.get("SWITCHBOARD_SOAK"))
PASSWORD = "people-of-a-test"  # where the inventory has none
# Seconds after a run within which each socket is open again. It is one or two (the table says it); a page that was
# refused meanwhile waits for up to 30 before it tries again (bell.js).
BACK = 90.0
# The slow requests outlast the five seconds that mod_wsgi gives by itself. Each change is told to most of the sockets.
SHORT = Rates(pages=20, slow=0.25, seconds=6, changes=2)
SMOKE = "/smoke-of-a-test/"
VIEW = f"""

import time
import django.http

RELEASE = "%s"


def release_of_a_test(request):
    time.sleep(float(request.GET.get("seconds", "0")))
    return django.http.HttpResponse(RELEASE)


def smoke_of_a_test(request):
    return django.http.HttpResponse("well")


urlpatterns += [path("{PATH[1:]}", release_of_a_test), path("{SMOKE[1:]}", smoke_of_a_test)]
"""
MIGRATION = """
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("graphs", "%s")]
    operations = [%s]
"""


@dataclass
class Site:
    """The demonstration site, and the folder that its releases are made of."""

    bench: Bench
    project: Path
    changes: dict[str, Any]
    traffic: Traffic
    number: int = 0
    live: str = ""  # the name of the release that has to be served

    def play(self, name: str, *flags: str, **extra: Any) -> Run:
        """Run a playbook for the site."""
        sites = self.bench.changed(SITE, self.changes | extra.pop("entry", {}))
        # All of them come from one address, and those that are just closing count too.
        limits = {
            "apache_max_websockets_per_address": 600,
            "apache_max_connections_per_address": 1200,
        }
        extra = {"sites": sites, "site": SITE, **limits, **extra}
        return self.bench.play(ROOT / "playbooks" / f"{name}.yml", extra, *flags)

    def quiet(self) -> None:
        """Let everybody go away."""
        self.traffic.stopping = True
        self.traffic.thread.join(180)

    def next(self) -> str:
        """Write the next release's name into the project, and return it."""
        self.number += 1
        name = f"release-{self.number}"
        urls = ROOT / "demo" / "graphspace" / "urls.py"
        (self.project / "graphspace" / "urls.py").write_text(urls.read_text() + VIEW % name)
        return name

    def style(self) -> str:
        """Return the path of the style sheet that a page names now."""
        found = re.search(
            r'href="(/static/graphs/style\.[0-9a-f]+\.css)"', self.fetched("/sign-in/")
        )
        assert found
        return found[1]

    def fetched(self, path: str) -> str:
        """Return what a visitor gets, without the traffic's address; it must be there."""
        url = f"http://127.0.0.1{path}"
        done = self.bench.host.run(
            "curl -sSf -H Host:%s %s", self.bench.entries[SITE]["domain"], url
        )
        assert done.rc == 0, done.stderr
        return str(done.stdout)

    def served(self) -> str:
        """Return the id of the release that the host's link names."""
        return self.bench.host.check_output(f"readlink /srv/{SITE}/current").rpartition("/")[2]

    def states(self) -> dict[str, str]:
        """Return the state of each release by its id, as playbooks/releases.yml tells it."""
        run = self.play("releases")
        assert run.code == 0, run.output[-3000:]
        return dict(re.findall(r"([0-9a-f]{12}) +(live|kept|rolled back|failed)\b", run.output))

    @contextmanager
    def watched(self, what: str, wanted: str | None = None) -> Iterator[None]:
        """Assert that meanwhile no request fails, that then one release alone answers, and each socket is open."""
        traffic, failed = self.traffic, len(self.traffic.failures)
        answered, begun = len(traffic.waits), time.perf_counter()
        yield
        took = time.perf_counter() - begun
        while traffic.connected() < len(traffic.pages):
            assert time.perf_counter() - begun - took < BACK, (
                f"{traffic.connected()} of {len(traffic.pages)} sockets are open {BACK} s later: "
                f"{traffic.troubles()}"
            )
            time.sleep(0.05)  # between two looks, up to BACK
        back = time.perf_counter() - begun - took
        time.sleep(1)  # so that some requests were sent after it
        since, end = begun + took + 0.2, time.perf_counter() + BACK
        while not traffic.releases(since) and time.perf_counter() < end:
            time.sleep(0.1)  # until some of them were answered
        new = traffic.failures[failed:]
        waits = traffic.waits[answered:]
        note(what, took, len(waits), len(new), max(waits), back)
        assert new == [], f"{what}: {len(new)} of {len(waits)} requests failed: {new[:5]}"
        assert set(traffic.releases(since)) == {wanted or self.live}


@pytest.fixture(scope="module")
def site(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    project = Path(shutil.copytree(ROOT / "demo", tmp_path_factory.mktemp("project") / "demo"))
    environment = bench.entries[SITE]["environment"] | {"NOTIFICATIONS_SOCKETS_PER_PERSON": "200"}
    # people who are there already keep the password that they were made with
    secrets = {"SEED_PASSWORD": PASSWORD} | bench.entries[SITE].get("secrets", {})
    changes = {
        "source.directory": str(project),
        "environment": environment,
        "secrets": secrets,
        "releases.commands": ["seed"],
        "releases.smoke": {SMOKE: 200, "/sign-in/": 200},
        "releases.keep": 4,
    }
    address = bench.variables.get("ansible_host", bench.name)
    if bench.variables.get("ansible_connection", "ssh") != "ssh":
        address = bench.host.check_output("hostname -I").split()[0]
    target = Target(address, 80, bench.entries[SITE]["domain"])
    made = Site(
        bench,
        project,
        changes,
        Traffic(target, secrets["SEED_PASSWORD"], Rates() if SOAK else SHORT),
    )
    made.live = made.next()
    first = made.play("web")
    assert first.code == 0, first.output[-4000:]
    made.traffic.start()
    yield made
    result = made.traffic.stop()
    again = bench.play(ROOT / "playbooks" / "web.yml")  # the tests that follow find what they know
    assert again.code == 0, again.output[-4000:]
    assert result.right, result
    assert result.committed == result.changes, made.traffic.failures[:5]
    assert result.committed > 50


def test_a_release_fails_no_request(site: Site) -> None:
    for _ in range(10 if SOAK else 1):
        name = site.next()
        with site.watched("a release", name):
            run = site.play("deploy")
            assert run.code == 0, run.output[-4000:]
        site.live = name


def test_the_second_run_changes_nothing_and_check_predicts_the_next(site: Site) -> None:
    before = site.served()
    run = site.play("deploy")
    assert re.search(r"changed=0 .*failed=0", run.output), run.output[-3000:]
    site.next()
    foretold = site.play("deploy", "--check", "--diff")
    assert foretold.code == 0, foretold.output[-3000:]
    assert re.search(
        rf"-/srv/{SITE}/current -> {before}\n\+/srv/{SITE}/current -> \w+", foretold.output
    )
    foretold_all = "steps: requirements, check, collectstatic, migrate, try, switch, restart, smoke"
    assert foretold_all in foretold.output
    assert (
        f"mod_wsgi's processes, daphne-{SITE}@1.service, daphne-{SITE}@2.service" in foretold.output
    )
    assert site.served() == before


@pytest.mark.soak
def test_a_bundle_that_site_yml_did_not_bring_is_refused(site: Site) -> None:
    program, before = "/usr/local/lib/switchboard/request_length.py", site.served()
    site.next()
    site.bench.host.check_output(f"cp -p {program} /root/kept && echo '# another' >> {program}")
    try:
        with site.watched("another bundle"):
            run = site.play("deploy")
            assert run.code != 0, run.output[-3000:]
    finally:
        site.bench.host.check_output(f"mv /root/kept {program}")
    run.says(f"{program} is another there", "run site.yml first")
    assert site.served() == before
    assert re.search(r"changed=0 .*failed=1", run.output), run.output[-3000:]


def append(path: str, text: str) -> Callable[[Path], None]:
    """Return a change to a project: a text at the end of one of its files, which may be new."""

    def change(project: Path) -> None:
        with (project / path).open("a") as file:
            file.write(text)

    return change


LAST = sorted(path.stem for path in (ROOT / "demo/graphs/migrations").glob("0*.py"))[-1]
ONE_PROCESS = (
    "import sys\nif 'daphne' in sys.argv[0]:\n    raise RuntimeError('not under Daphne')\n"
)


@dataclass(frozen=True)
class Bad:
    """A release that has to be refused."""

    name: str
    step: str
    says: str
    change: Callable[[Path], None]
    entry: dict[str, Any] = field(default_factory=dict)
    short: bool = False  # `make test` has it too


BAD = [
    Bad(
        "a syntax error",
        "check",
        "SyntaxError",
        append("graphs/views.py", "\ndef (:\n"),
        short=True,
    ),
    Bad(
        "a migration that fails",
        "migrate",
        "no such table: no_such_table",
        append(
            "graphs/migrations/9000_of_a_test.py",
            MIGRATION % (LAST, 'migrations.RunSQL("SELECT * FROM no_such_table")'),
        ),
        short=True,
    ),
    Bad(
        "a migration that takes a column away",
        "migrate",
        "DROPPING columns",
        append(
            "graphs/migrations/9000_of_a_test.py",
            MIGRATION % (LAST, 'migrations.RemoveField("graph", "description")'),
        ),
    ),
    Bad(
        "a check that fails",
        "check",
        "security.W018",
        append("graphspace/settings.py", "\nDEBUG = True\n"),
    ),
    Bad(
        "a requirement that cannot be had",
        "requirements",
        "pip could not install it",
        append("requirements.txt", f"no-such-thing==1.0 --hash=sha256:{'0' * 64}\n"),
        # an index that nothing answers at: no request leaves the test host
        {"requirements.pip_args": ["--index-url=http://127.0.0.1:1/simple", "--retries=0"]},
    ),
    Bad(
        "an import that fails at the first request",
        "try",
        "No module named 'no_such_module'",
        append(
            "graphspace/urls.py",
            "\ndef late(request):\n    import no_such_module\n"
            f"urlpatterns.insert(0, path('{SMOKE[1:]}', late))\n",
        ),
    ),
    Bad(
        "a page that fails under Apache alone",
        "smoke",
        f"{SMOKE} 500 (wanted: 200)",
        append(
            "graphspace/urls.py",
            "\ndef late(request):\n    if 'mod_wsgi.version' in request.environ:\n        raise RuntimeError\n"
            f"    return django.http.HttpResponse()\nurlpatterns.insert(0, path('{SMOKE[1:]}', late))\n",
        ),
        short=True,
    ),
    Bad(
        "an application that Daphne cannot start",
        "restart",
        f"daphne-{SITE}@1.service",
        append("graphspace/asgi.py", f"\n{ONE_PROCESS}"),
    ),
    Bad(
        "a command of its own that fails",
        "migrate",
        "django_hooks.before_migrate is sh -c 'echo never; exit 3': it failed.",
        append("news.txt", "another release\n"),
        {"releases.hooks": {"before_migrate": ["sh -c 'echo never; exit 3'"]}},
    ),
]


@pytest.fixture
def fresh(site: Site) -> Iterator[None]:
    """Put the project back to what it was."""
    kept = site.project.with_name("kept")
    shutil.copytree(site.project, kept)
    yield
    shutil.rmtree(site.project)
    kept.rename(site.project)


@pytest.mark.parametrize(
    "bad",
    [pytest.param(bad, id=bad.name, marks=[] if bad.short else pytest.mark.soak) for bad in BAD],
)
@pytest.mark.usefixtures("fresh")
def test_a_release_that_fails_leaves_the_one_before(site: Site, bad: Bad) -> None:
    before = site.served()
    site.next()
    bad.change(site.project)
    with site.watched(bad.name):
        run = site.play("deploy", entry=bad.entry)
        assert run.code != 0, run.output[-3000:]
    assert site.served() == before
    run.says(bad.says)
    failed = site.bench.host.check_output(f"ls /srv/{SITE}/failed").split()
    assert len(failed) == 1, failed
    if bad is BAD[0] or SOAK:  # another run of Ansible each time, under traffic
        states = site.states()
        assert [name for name, state in states.items() if state == "failed"] == failed, states
    site.bench.host.check_output(f"test -d /srv/{SITE}/failed/{failed[0]}/app")
    run.says(f"What failed is in /srv/{SITE}/failed/{failed[0]}.")
    told = site.bench.host.check_output(f"tail -n 1 /srv/{SITE}/history.jsonl")
    assert f'"step": "{bad.step}"' in told
    assert site.changes["secrets"]["SEED_PASSWORD"] not in told + run.output


@pytest.mark.soak
def test_a_full_disk_leaves_the_one_before(site: Site) -> None:
    before = site.served()
    site.next()
    foretold = site.play("deploy", "--check", "--diff")
    found = re.search(rf"\+/srv/{SITE}/current -> (\w+)", foretold.output)
    assert found, foretold.output[-3000:]
    place = f"/srv/{SITE}/releases/{found[1]}"
    site.bench.host.check_output(f"mkdir {place} && mount -t tmpfs -o size=256k tmpfs {place}")
    try:
        with site.watched("a full disk"):
            run = site.play("deploy")
            assert run.code != 0
    finally:
        site.bench.host.check_output(f"umount {place} && rmdir {place}")
    run.says("step requirements: the host can't write what it has to: ", "No space left on device")
    assert site.served() == before
    assert "Traceback" not in run.output


def test_a_rollback_serves_the_one_before_and_site_yml_leaves_it(site: Site) -> None:
    older, name, style = site.live, site.next(), site.style()
    with (site.project / "graphs" / "static" / "graphs" / "style.css").open("a") as file:
        file.write("/* of a test */")
    assert site.play("deploy").code == 0
    site.live, left, new = name, site.served(), site.style()
    assert new != style
    # a page from before the switch, or from before the rollback below, still finds what it names
    assert "of a test" not in site.fetched(style)
    for _ in range(5 if SOAK else 1):
        with site.watched("a rollback", older):
            run = site.play("rollback")
            assert run.code == 0, run.output[-3000:]
        site.live = older
        assert site.style() == style
        assert "of a test" in site.fetched(new)
        assert site.states()[left] == "rolled back"
        run = site.play("web")
        assert run.code == 0, run.output[-3000:]
        run.says(f"{SITE}: release {left} was rolled back from, so {site.served()} stays.")
        assert site.served() != left
        with site.watched("the same release again", name):
            assert site.play("deploy").code == 0
        site.live = name
        assert site.served() == left
    assert site.play("rollback", to="0123456789ab").output.count(
        "to is 0123456789ab: the host has no such release"
    )


@pytest.mark.soak
@pytest.mark.usefixtures("fresh")
def test_a_migration_in_the_way_of_a_rollback_is_named_and_can_be_reversed(site: Site) -> None:
    older = site.live
    field = 'migrations.AddField("graph", "of_a_test", models.TextField(null=True))'
    append("graphs/migrations/9000_of_a_test.py", MIGRATION % (LAST, field))(site.project)
    newer = site.next()
    with site.watched("a release with a migration", newer):
        assert site.play("deploy").code == 0
    site.live = newer
    with site.watched("a rollback that a migration stands in the way of"):
        run = site.play("rollback")
        assert run.code != 0
    run.says("migrations is refuse: the database holds graphs.9000_of_a_test, which release")
    with site.watched("a rollback that reverses the migration", older):
        run = site.play("rollback", migrations="reverse")
        assert run.code == 0, run.output[-3000:]
    site.live = older
    applied = site.bench.host.check_output(f"{SITE}-manage showmigrations graphs")
    assert "9000" not in applied


def hooked(step: str) -> dict[str, Any]:
    """Return a site's entry whose release stands still before a step, until it is killed."""
    return {"releases.hooks": {f"before_{step}": ["sleep 4321"]}}


@pytest.mark.parametrize(
    "step",
    ["restart"]
    + [
        pytest.param(step, marks=pytest.mark.soak)
        for step in ("requirements", "check", "collectstatic", "migrate", "try", "switch", "smoke")
    ],
)
def test_a_release_that_was_killed_is_finished_by_the_next_run(site: Site, step: str) -> None:
    name = site.next()
    with site.watched(f"a kill before {step}", name if step == "smoke" else None):
        runs: list[Run] = []
        thread = threading.Thread(
            target=lambda: runs.append(site.play("deploy", entry=hooked(step)))
        )
        thread.start()
        site.bench.kill_at("sleep 4321", 180, runs)
        thread.join(60)
        assert runs
        assert runs[0].code != 0
    with site.watched("the run after it", name):
        run = site.play("deploy")
        assert run.code == 0, run.output[-3000:]
    site.live = name


@pytest.mark.soak
def test_two_at_once_come_one_after_the_other(site: Site) -> None:
    name = site.next()
    slow = {"releases.hooks": {"before_switch": ["sleep 12"]}}
    runs: dict[str, Run] = {}
    with site.watched("two at once", name):
        thread = threading.Thread(target=lambda: runs.update(first=site.play("deploy", entry=slow)))
        thread.start()
        site.bench.stands_still("sleep 12", 180)  # so the first one has the lock
        runs["second"] = site.play("deploy")
        thread.join(60)
    for run in runs.values():
        assert run.code == 0, run.output[-3000:]
    assert re.search("changed=0 .*failed=0", runs["second"].output), runs["second"].output[-3000:]
    site.live = name


@pytest.mark.soak
def test_maintenance_closes_and_opens(site: Site) -> None:
    site.quiet()
    for state, status in (("on", 503), ("off", 200)):
        run = site.play("maintenance", state=state)
        assert run.code == 0, run.output[-3000:]
        again = site.play("maintenance", state=state)
        assert re.search("changed=0 .*failed=0", again.output)
        page = site.bench.page(SITE, f"-o /dev/null -w '%{{http_code}}' --request-target {SMOKE}")
        assert int(page) == status


def test_a_rotated_key_keeps_people_signed_in_until_it_is_forgotten(site: Site) -> None:
    site.quiet()  # they would be signed out
    target, password = site.traffic.target, site.changes["secrets"]["SEED_PASSWORD"]
    folder = f"/etc/switchboard/{SITE}"
    before = site.bench.host.check_output(f"cat {folder}/secret_key.env")

    async def signed_in() -> dict[str, str]:
        ada = await Person.sign_in(target, "ada", password)
        cookies = {cookie.key: cookie.value for cookie in ada.session.cookie_jar}
        await ada.close()
        return cookies

    async def status(cookies: dict[str, str]) -> int:
        ada = Person.with_cookies(target, "ada", cookies)
        async with ada.session.get("/groups/", allow_redirects=False) as answer:
            await ada.close()
            return answer.status

    cookies = asyncio.run(signed_in())
    run = site.play("rotate_key", "-vvv", "--diff")
    assert run.code == 0, run.output[-3000:]
    after = site.bench.host.check_output(f"cat {folder}/secret_key.env")
    keys = re.findall(r'="([0-9a-f]{64})"', after)
    assert len(keys) == 2
    assert keys[1] in before
    assert keys[0] not in before
    assert not [key for key in keys if key in run.output]
    assert asyncio.run(status(cookies)) == 200
    assert re.search("changed=0 .*failed=0", site.play("deploy").output)
    run = site.play("rotate_key", forget=True)
    assert run.code == 0, run.output[-3000:]
    assert asyncio.run(status(cookies)) == 302
    assert asyncio.run(status(asyncio.run(signed_in()))) == 200
