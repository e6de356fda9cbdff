"""Two web hosts behind HAProxy: what a visitor sees when one is released, disturbed or lost."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from tests.behaviour import rawhttp
from tests.behaviour.test_routing import SMUGGLING_BACKEND
from tests.live.load import Load, account, all_shown
from tests.live.people import Page, Person, Target
from tests.web.conftest import BACKENDS, BALANCER, HOSTS, Web
from tools.common import ROOT

FIRST, SECOND = HOSTS
UNITS = ("daphne-probe.socket", "daphne-probe@1.service")
GRAPHSPACE = ("daphne-graphspace.socket", "daphne-graphspace@*", "django-graphspace.*")
KEY = "/etc/switchboard/graphspace/secret_key.env"
SOCKETS = 12
ACME = "https://localhost:14000/dir"
TRUST = "REQUESTS_CA_BUNDLE=/etc/switchboard/certificates/acme-ca.pem"  # of the ACME service
# Seconds until HAProxy counts a host as lost: two checks of 2 s each, the last of which may take as long.
NOTICED = 8


def closed(web: Web, name: str) -> bool:
    """Say whether the demonstration site is closed on a host, or was left so."""
    files = ("/var/lib/switchboard/maintenance/graphspace", "/srv/graphspace/.paused.json")
    return any(web.run(name, "test", "-e", file).returncode == 0 for file in files)


def only(found: set[Any]) -> Any:
    """Return the one thing that all agree on."""
    assert len(found) == 1, found
    return found.pop()


def graphspace_units(web: Web, name: str) -> list[str]:
    """Return the active units of the demonstration site on a host."""
    shown = web.output(
        name, "systemctl", "list-units", "--plain", "--no-legend", "--state=active", *GRAPHSPACE
    )
    return sorted(line.split()[0] for line in shown.splitlines())


def release_of(web: Web, name: str) -> str:
    return web.output(name, "readlink", "/srv/probe/current")


def test_pages_and_sockets_are_spread_over_both_hosts(web: Web) -> None:
    pages = Counter(web.page().header("X-Request-Id") is not None for _ in range(4))
    assert pages == {True: 4}
    before = web.sockets_of()
    with ExitStack() as stack:
        for _ in range(SOCKETS):
            connection, response = web.socket()
            stack.enter_context(connection)
            assert response.status == 101
        after = web.sockets_of()
    more = {name: after[name] - before[name] for name in HOSTS}
    assert all(abs(count - SOCKETS // 2) <= 1 for count in more.values()), more


def test_what_a_visitor_claims_to_be_is_thrown_away(web: Web) -> None:
    told = web.page("/", "X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https").json()
    assert told["REMOTE_ADDR"] == told["headers"]["HTTP_X_FORWARDED_FOR"] != "203.0.113.9"
    assert told["headers"]["HTTP_X_FORWARDED_PROTO"] == told["scheme"] == "http"


def test_nobody_but_the_balancer_reaches_apache(web: Web) -> None:
    for name in HOSTS:
        with pytest.raises((TimeoutError, ConnectionRefusedError)):
            rawhttp.Connection(web.addresses[name], 443, 3).close()
        reach = f"import socket; socket.create_connection(('{web.addresses[name]}', 443), 3)"
        web.output(BALANCER, "python3", "-c", reach)


def test_root_alone_administrates_the_balancer(web: Web) -> None:
    folder = "/run/switchboard-haproxy"
    assert (
        web.output(BALANCER, "stat", "-c", "%U %a", folder, f"{folder}/admin.sock")
        == "root 700\nroot 600"
    )
    listening = web.output(BALANCER, "ss", "-Hltn").splitlines()
    ports = {line.split()[3] for line in listening if not line.split()[3].startswith("127.")}
    # this host has the scenario's PostgreSQL and Kafka too
    known = {"80", "443", "22", "5432", "9092", "9093"}
    assert {port.rsplit(":", 1)[1] for port in ports} <= known, ports


def test_the_acme_service_vouches_for_a_site_that_it_asked_by_the_balancer(web: Web) -> None:
    path = "/etc/switchboard/certificates/plain/fullchain.pem"
    issuer = web.output(BALANCER, "openssl", "x509", "-noout", "-issuer", "-in", path)
    assert "Pebble" in issuer
    shown = web.output(
        BALANCER,
        "sh",
        "-c",
        f"openssl s_client -connect {web.front}:443 -servername plain.test </dev/null 2>/dev/null"
        " | openssl x509 -noout -issuer",
    )
    assert shown == issuer
    for name in HOSTS:
        assert web.run(name, "test", "-e", path).returncode, name


def test_both_hosts_sign_with_one_key(web: Web) -> None:
    keys = {
        web.output(name, "grep", "^BEACON_SECRET=", "/etc/switchboard/probe/secret_key.env")
        for name in HOSTS
    }
    assert len(keys) == 1
    assert len(keys.pop()) > 40


def test_a_visitor_is_signed_in_on_both_hosts(web: Web) -> None:
    """The rows, with the sessions, are on a third host, and one key signs them."""

    async def visit() -> None:
        target = Target(web.front, 80, "graphspace.test")
        ada = await Person.sign_in(target, "ada", "a-password-for-test-hosts")
        try:
            for _ in range(6):
                assert "ada" in await ada.page("/groups/")  # which asks strangers to sign in
        finally:
            await ada.session.close()

    before = web.logged('"path":"/groups/"')
    asyncio.run(visit())
    after = web.logged('"path":"/groups/"', sum(before.values()) + 6)
    asked = {name: after[name] - before[name] for name in HOSTS}
    assert sum(asked.values()) == 6
    assert all(asked.values()), asked


def test_what_is_posted_on_one_host_is_heard_of_on_both(web: Web) -> None:
    """Kafka brings it, on a third host, where it works without ZooKeeper."""

    async def visit() -> None:
        target = Target(web.front, 80, "graphspace.test")
        people = [
            await Person.sign_in(target, name, "a-password-for-test-hosts")
            for name in ("ada", "grace")
        ]
        load = Load(people[0])
        await load.prepare(people[1])
        begun = {person.name: (await person.listed(0))[1] for person in people}
        pages = [Page(person, begun[person.name]) for person in people for _ in range(4)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(page.stay_open()) for page in pages]
            for page in pages:
                await asyncio.wait_for(page.connected.wait(), 30)
            held = web.sockets_of(9099)
            assert all(held.values()), held
            await load.run(2, 10)
            assert await all_shown(pages, begun, 30)
            for task in tasks:
                task.cancel()
        result = await account(load.changes, pages, begun)
        for person in people:
            await person.close()
        assert result.right, result
        assert result.committed == result.changes == 20, load.failures
        # from Kafka, not from the rows some seconds later; these help where what comes by two topics overtakes
        live = [arrival.live for page in pages for arrival in page.shown]
        assert sum(live) > len(live) / 2, f"{sum(live)} of {len(live)} came by Kafka"

    before = web.logged('"method":"POST"')
    asyncio.run(visit())
    after = web.logged('"method":"POST"', sum(before.values()) + 20)
    assert all(after[name] > before[name] for name in HOSTS), (before, after)


def test_a_timer_is_on_the_first_host_alone(web: Web) -> None:
    timer = ("systemctl", "is-active", "django-graphspace.digest.timer")
    assert [web.run(name, *timer).stdout.strip() for name in HOSTS] == ["active", "inactive"]


@contextmanager
def stopped(web: Web, names: tuple[str, ...], *units: str) -> Iterator[None]:
    """Stop units on some hosts, and start them again."""
    for name in names:
        web.output(name, "systemctl", "stop", *units)
    try:
        yield
    finally:
        for name in names:
            web.output(name, "systemctl", "start", *units)
        web.whole()


def status_of_a_handshake(web: Web) -> int | None:
    connection, response = web.socket()
    connection.close()
    return response.status


def test_a_host_whose_daphne_is_away_gets_no_sockets(web: Web) -> None:
    """Without the check of a handshake it would have the fewest and get them all."""
    with stopped(web, (FIRST,), *UNITS):
        end = time.monotonic() + 2 * NOTICED
        while web.states("probe.sockets")[FIRST] != "DOWN":
            assert time.monotonic() < end, web.states("probe.sockets")
            time.sleep(0.2)  # between two looks; the assertion above ends them
        assert [status_of_a_handshake(web) for _ in range(6)] == [101] * 6
        assert web.page().status == 200


def test_nothing_follows_a_refused_handshake_to_what_refused_it(web: Web) -> None:
    """R24 of the routing contract, with the server of its test in the place of Daphne on both hosts."""
    with stopped(web, HOSTS, *UNITS), ExitStack() as stack:
        for name in HOSTS:
            command = ("systemd-run", "--unit=test-backend", "--collect", "python3", "-c")
            web.output(name, *command, SMUGGLING_BACKEND, "9109")
            stack.callback(web.run, name, "systemctl", "stop", "test-backend.service")
        end = time.monotonic() + 2 * NOTICED
        while set(web.states("probe.sockets").values()) != {"UP"}:
            assert time.monotonic() < end, web.states("probe.sockets")
            time.sleep(0.2)  # between two looks; the assertion above ends them
        connection, refused = web.socket("/live/deny")
        with connection:
            assert (refused.status, refused.answerer) == (403, "backend")
            connection.send(rawhttp.get("/secret", "probe.test"))
            assert connection.response().answerer == "mod_wsgi"


def test_without_a_host_a_visitor_is_told_when_to_come_again(web: Web) -> None:
    with stopped(web, HOSTS, "apache2.service"):
        time.sleep(NOTICED)  # until the balancer's checks have seen it
        page = web.page()
        assert (page.status, page.header("Retry-After")) == (503, "30")
        assert page.answerer == "apache"
        assert b"The site is being looked after" in page.body
        connection, response = web.socket()
        connection.close()
        assert response.status == 503


@pytest.mark.soak
def test_a_site_that_is_closed_is_closed_on_every_host_and_its_hosts_stay_well(web: Web) -> None:
    assert web.play("maintenance", site="probe", state="on").code == 0
    try:
        time.sleep(NOTICED)  # until the balancer's checks have seen it
        pages = [web.page() for _ in range(4)]
        assert {page.status for page in pages} == {503}
        assert {page.header("Retry-After") for page in pages} == {"30"}
        assert web.page("/healthz").status == 200  # which stays open
        assert set(web.states().values()) == {"UP"}
    finally:
        assert web.play("maintenance", site="probe", state="off").code == 0
    assert web.page().status == 200


@pytest.mark.parametrize("how", [pytest.param("apache", marks=pytest.mark.soak), "machine"])
def test_a_host_is_lost_and_its_sockets_come_back_on_the_other(web: Web, how: str) -> None:
    """No page is lost but those that it was answering; each socket is closed, so that its browser opens another."""
    with ExitStack() as stack:
        connections = []
        for _ in range(SOCKETS):
            connection, response = web.socket()
            connections.append(stack.enter_context(connection))
            assert response.status == 101
        with web.visited() as visits:
            time.sleep(1)  # of visits, before and after
            if how == "apache":
                web.output(SECOND, "systemctl", "kill", "--signal=KILL", "apache2.service")
                web.run(SECOND, "systemctl", "stop", "apache2.service")
            else:
                subprocess.run(["docker", "kill", SECOND], check=True, capture_output=True)
            try:
                end = time.monotonic() + 2 * NOTICED
                while any(web.states(one)[SECOND].startswith("UP") for one in BACKENDS):
                    assert time.monotonic() < end, [web.states(one) for one in BACKENDS]
                    time.sleep(0.2)  # between two looks; the assertion above ends them
                time.sleep(2)  # so that the sockets that are to be closed are
                alive = 0
                for connection in connections:
                    try:
                        connection.send_frame(b"still here?")
                        alive += connection.message() == b"still here?"
                    except (rawhttp.ClosedError, OSError):
                        again, response = web.socket()
                        stack.enter_context(again)
                        assert response.status == 101
                assert alive == SOCKETS // 2
            finally:
                if how == "apache":
                    web.output(SECOND, "systemctl", "start", "apache2.service")
                else:
                    subprocess.run(["docker", "start", SECOND], check=True, capture_output=True)
                web.whole(180)
    print(f"{how}: {dict(visits.answers)}, longest {visits.longest:.1f} s")
    assert visits.answers["200"] > 100
    assert visits.failed <= 4, visits.answers  # at most what two visitors had under way
    assert visits.longest < 20


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the probe project, to be changed."""
    shutil.copytree(ROOT / "tests" / "projects" / "probe", tmp_path / "probe")
    return tmp_path / "probe"


STYLED = (
    """
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
""",
    """
from django.templatetags.static import static
urlpatterns.insert(0, path("styled", lambda request: HttpResponse(static("beacon/probe.txt"))))
""",
)


def styled(project: Path) -> None:
    """Let the project have a page that names a static file of its release, by its hash."""
    for name, text in zip(("config.py", "pages.py"), STYLED, strict=True):
        with (project / "beacon" / name).open("a", encoding="utf-8") as file:
            file.write(text)


def sites(web: Web, project: Path) -> dict[str, object]:
    """Return the sites with another source of the probe."""
    text = (ROOT / "molecule" / "web" / "hosts.yml").read_text(encoding="utf-8")
    found = yaml.safe_load(text)["switchboard"]["vars"]["sites"]
    found["probe"]["source"] = {"directory": str(project)}
    return found


def test_an_unchanged_run_leads_no_visitor_elsewhere(web: Web) -> None:
    """The second run of the scenario, which began when the record of the first was written."""
    folder = Path(os.environ.get("SWITCHBOARD_RUN_RECORDS", "/nonexistent"))
    runs = [path for path in sorted(folder.glob("*.json")) if '"converge.yml"' in path.read_text()]
    if len(runs) < 3:
        pytest.skip("needs the whole sequence check, run, run")
    began, ended = (path.stat().st_mtime for path in runs[1:3])
    assert web.drained(began, ended) == set()


def test_what_a_killed_run_has_built_waits_and_is_served_by_none(web: Web, project: Path) -> None:
    before = {name: release_of(web, name) for name in HOSTS}
    styled(project)
    with web.begun("deploy", site="probe", sites=sites(web, project)) as killed:
        while not all(web.waiting(name) for name in HOSTS):
            assert killed.poll() is None
            time.sleep(0.1)  # between two looks; the run ends by itself
    assert {name: release_of(web, name) for name in HOSTS} == before
    web.whole(1)


def test_a_release_goes_from_host_to_host_and_no_request_fails(web: Web, project: Path) -> None:
    """It takes up what the killed run above has built, and each host offers the static files of both releases."""
    began = time.time()
    before = {name: release_of(web, name) for name in HOSTS}
    waiting = only({f"/srv/probe/releases/{one}" for name in HOSTS for one in web.waiting(name)})
    built = {name: web.output(name, "stat", "-c", "%i", waiting) for name in HOSTS}
    styled(project)
    with (
        web.visited() as visits,
        web.visited("/slow?seconds=3", 0.5) as slow,
        web.files_asked() as files,
    ):
        run = web.play("deploy", site="probe", sites=sites(web, project))
    assert run.code == 0, run.output[-4000:]
    after = {name: release_of(web, name) for name in HOSTS}
    assert only(set(after.values())) == f"releases/{Path(waiting).name}"
    assert {name: web.output(name, "stat", "-c", "%i", waiting) for name in HOSTS} == built
    assert set(after.values()).isdisjoint(before.values())
    print(
        f"release: {dict(visits.answers)}, longest {visits.longest:.1f} s; slow {dict(slow.answers)}"
    )
    assert (visits.failed, slow.failed) == (0, 0), (visits, slow)
    assert visits.answers["200"] > 300
    assert len(files["names"]) == 1, files
    assert not files["wrong"], files
    assert web.drained(began) == {f"{one}/{name}" for one in BACKENDS for name in HOSTS}
    web.whole(1)


def test_a_rollback_goes_from_host_to_host_and_each_offers_the_files_of_both(web: Web) -> None:
    """Of the release before, one host serves it first and the other later."""
    before = only({release_of(web, name) for name in HOSTS})
    with web.files_asked() as files:
        run = web.play("rollback", site="probe")
    assert run.code == 0, run.output[-4000:]
    assert only({release_of(web, name) for name in HOSTS}) != before
    assert len(files["names"]) == 1, files
    assert not files["wrong"], files
    web.whole(1)


@pytest.mark.parametrize(
    ("file", "wrong", "why"),
    [
        pytest.param(
            *("config.py", "raise RuntimeError", "it does not import"), marks=pytest.mark.soak
        ),
        (
            "pages.py",
            "urlpatterns = [re_path('', lambda request: 1 / 0)]",
            "the release was asked before any visitor was, and / gives 500",
        ),
    ],
    ids=["check", "try"],
)
def test_a_release_that_the_second_host_refuses_is_served_by_none(
    web: Web, project: Path, file: str, wrong: str, why: str
) -> None:
    """The page is asked for as the balancer asks: over plain HTTP it would lead all to HTTPS, and not be shown."""
    began = time.time()
    before = {name: release_of(web, name) for name in HOSTS}
    with (project / "beacon" / "config.py").open("a", encoding="utf-8") as settings:
        settings.write("\nSECURE_SSL_REDIRECT = True\n")
    with (project / "beacon" / file).open("a", encoding="utf-8") as code:
        code.write(f"\nimport platform\nif platform.node() == '{SECOND}':\n    {wrong}\n")
    with web.visited() as visits:
        run = web.play("deploy", site="probe", sites=sites(web, project))
    assert run.code != 0
    run.says(why)
    assert {name: release_of(web, name) for name in HOSTS} == before
    assert [*web.waiting(FIRST), *web.waiting(SECOND)] == web.refused(SECOND)
    assert web.refused(FIRST) == []
    assert visits.failed == 0, visits.answers
    assert web.drained(began) == set()


def shown(web: Web) -> x509.Certificate:
    """Return the certificate that a visitor of the site with ACME sees."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    bare = socket.create_connection((web.front, 443), 15)
    with context.wrap_socket(bare, server_hostname="plain.test") as connection:
        found = connection.getpeercert(binary_form=True)
    assert found
    return x509.load_der_x509_certificate(found)


def kept(web: Web) -> x509.Certificate:
    """Return the certificate of that site that certbot has."""
    pem = web.output(BALANCER, "cat", "/etc/letsencrypt/live/plain/cert.pem")
    return x509.load_pem_x509_certificate(pem.encode())


def test_a_host_that_a_killed_run_left_drained_comes_back(web: Web) -> None:
    """And the ACME service learns of another address, for which HAProxy is not reloaded."""
    for backend in ("probe", "probe.sockets"):
        web.haproxy(f"set server {backend}/{SECOND} state drain")
    web.haproxy(f"set server plain/{SECOND} state maint")  # an operator's word
    try:
        assert web.states()[SECOND] == "DRAIN"
        run = web.play("balancer", certificates_acme_email="ops@example.org")
        assert run.code == 0, run.output[-4000:]
        web.whole(10)
        assert web.states("plain")[SECOND] == "MAINT"
    finally:
        web.haproxy(f"set server plain/{SECOND} state ready")
    told = web.output(BALANCER, "env", TRUST, "certbot", "show_account", "--server", ACME)
    assert "ops@example.org" in told


@pytest.mark.soak
def test_a_certificate_that_its_hook_left_is_put_in_place_by_the_next_run(web: Web) -> None:
    web.output(BALANCER, "chmod", "-x", "/usr/local/lib/switchboard/deploy-certificate")
    renew = "certbot renew --quiet --force-renewal --no-random-sleep-on-renew --cert-name plain"
    web.run(BALANCER, "env", TRUST, *renew.split())
    assert shown(web) != kept(web)
    run = web.play("balancer")
    assert run.code == 0, run.output[-4000:]
    assert shown(web) == kept(web)


@pytest.mark.soak
def test_another_acme_service_is_asked_at_once(web: Web) -> None:
    """The same Pebble by another name, with which this host has no account."""
    before = shown(web).serial_number
    other = ACME.replace("localhost", "127.0.0.1")
    run = web.play("balancer", certificates_acme_directory=other)
    assert run.code == 0, run.output[-4000:]
    assert shown(web) == kept(web)
    assert shown(web).serial_number != before
    renewal = web.output(BALANCER, "cat", "/etc/letsencrypt/renewal/plain.conf")
    assert f"server = {other}\n" in renewal


@pytest.mark.soak
def test_nobody_is_signed_out_while_the_hosts_get_another_key(web: Web) -> None:
    """A host that signed with a key before the other one accepts it would sign people out there, and so on in turn."""
    before = {web.output(name, "cat", KEY) for name in HOSTS}

    async def visit() -> int:
        ada = await Person.sign_in(
            Target(web.front, 80, "graphspace.test"), "ada", "a-password-for-test-hosts"
        )
        run = asyncio.create_task(asyncio.to_thread(web.play, "rotate_key", site="graphspace"))
        pages = 0
        try:
            while not run.done():
                # Person.page raises where it leads to the form for signing in
                assert "ada" in await ada.page("/groups/")
                pages += 1
                await asyncio.sleep(0.05)  # twenty pages a second at most, until the run ends
        finally:
            await ada.close()
            done = await run
        assert done.code == 0, done.output[-4000:]
        return pages

    assert asyncio.run(visit()) > 100
    after = {web.output(name, "cat", KEY) for name in HOSTS}
    assert len(before) == len(after) == 1
    assert before != after


def test_a_restore_closes_the_site_on_every_host_and_opens_it_again(web: Web) -> None:
    """What was written after the snapshot is gone from both, with both serving the rows of one database."""
    target = Target(web.front, 80, "graphspace.test")
    active = {name: graphspace_units(web, name) for name in HOSTS}

    async def change(count: int) -> int:
        ada = await Person.sign_in(target, "ada", "a-password-for-test-hosts")
        other = await Person.sign_in(target, "grace", "a-password-for-test-hosts")
        try:
            load = Load(ada)
            await load.prepare(other)
            await load.run(count, 1)
            assert not load.failures, load.failures
            return (await ada.listed(0))[1]
        finally:
            await ada.close()
            await other.close()

    async def newest() -> int:
        """Ask both hosts, and return what they agree on."""
        ada = await Person.sign_in(target, "ada", "a-password-for-test-hosts")
        try:
            return only({(await ada.listed(0))[1] for _ in range(4)})
        finally:
            await ada.close()

    kept = asyncio.run(change(1))
    run = web.play("backup_now", site="graphspace")
    assert run.code == 0, run.output[-4000:]
    assert asyncio.run(change(1)) > kept
    # another key than the snapshot's, as after a rotation: it comes back with the rows, to both
    snapshots = only({web.output(name, "cat", KEY) for name in HOSTS})
    for name in HOSTS:
        web.output(name, "sed", "-i", 's/=.*/="another-key-for-a-moment"/', KEY)
    run = web.play("restore", "--limit", SECOND, site="graphspace", restore_confirmed=True)
    assert run.code != 0
    assert "Restore without --limit" in run.output
    run = web.play("restore", site="graphspace", restore_confirmed=True)
    assert run.code == 0, run.output[-4000:]
    assert asyncio.run(newest()) == kept
    assert {name: graphspace_units(web, name) for name in HOSTS} == active
    keys = [web.output(name, "cat", KEY) for name in HOSTS]
    assert keys == [snapshots, snapshots]
    assert [closed(web, name) for name in HOSTS] == [False, False]
    web.whole(10)


@pytest.mark.soak
def test_nothing_is_restored_while_another_host_serves(web: Web) -> None:
    """It can't be closed there; what it needs for that is in order again when the next restore comes, just below."""
    folder = "/var/lib/switchboard/maintenance"
    before = web.output(
        FIRST, "ls", "/srv/graphspace"
    )  # what was there before a restore is kept beside it
    web.output(SECOND, "sh", "-c", f"mv {folder} {folder}.kept && touch {folder}")
    try:
        run = web.play("restore", site="graphspace", restore_confirmed=True)
    finally:
        web.output(SECOND, "sh", "-c", f"rm {folder} && mv {folder}.kept {folder}")
    assert run.code != 0
    assert f"it could not be closed on {SECOND}" in run.output
    assert web.output(FIRST, "ls", "/srv/graphspace") == before
    assert not closed(web, FIRST)
    web.whole(10)
    run = web.play("deploy", "--limit", SECOND, site="graphspace")
    assert "a restore was interrupted while the site was closed for it on this host" in run.output


@pytest.mark.soak
def test_a_restore_that_fails_opens_the_site_on_every_host(web: Web) -> None:
    """The first host can't load the dump; the second had been closed meanwhile."""
    program = "/usr/bin/pg_restore"
    before = {name: graphspace_units(web, name) for name in HOSTS}
    broken = f"mv {program} {program}.kept && printf '#!/bin/sh\nexit 3\n' > {program} && chmod 755 {program}"
    web.output(FIRST, "sh", "-c", broken)
    try:
        run = web.play("restore", site="graphspace", restore_confirmed=True)
    finally:
        web.output(FIRST, "mv", f"{program}.kept", program)
    assert run.code != 0, run.output[-4000:]
    assert "PostgreSQL's database graphspace on" in run.output
    assert {name: graphspace_units(web, name) for name in HOSTS} == before
    assert [closed(web, name) for name in HOSTS] == [False, False]
    web.whole(10)
    assert web.page("/readyz/database", host="graphspace.test").status == 200


@pytest.mark.soak
def test_the_last_host_that_is_well_is_released_with_its_visitors(web: Web) -> None:
    """Nobody could take over, and a release costs no request by itself."""
    with stopped(web, (SECOND,), "apache2.service"):
        time.sleep(NOTICED)  # until the balancer's checks have seen it
        with web.visited() as visits:
            run = web.play("deploy", "--limit", FIRST, site="probe")
        assert run.code == 0, run.output[-4000:]
        assert visits.failed == 0, visits.answers
