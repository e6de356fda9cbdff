"""What a site says and writes down: headers, logs, maintenance, compressed files. The limits are in tests/attacks."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from testinfra.host import Host

from tests.behaviour import rawhttp
from tests.behaviour.sites import Site, rewrite_sites


@pytest.fixture(scope="module")
def sites(deployed: dict[str, Any], address: str) -> list[Site]:
    return rewrite_sites(deployed, address)


def logged(host: Host, site: Site, mark: str) -> dict[str, Any]:
    """Return the line of the access log in which a mark stands."""
    # a line is written when the answer is out, so it may come a moment later
    script = "for i in $(seq 50); do grep %s %s && exit; sleep 0.1; done; exit 1"
    line = host.check_output(script, mark, f"/var/log/apache2/{site.name}/access.json")
    entry: dict[str, Any] = json.loads(line.splitlines()[-1])
    return entry


def test_answers_carry_the_headers_of_security(sites: list[Site]) -> None:
    """Each answer carries the security headers of the inventory, once."""
    for site in sites:
        for answer in (site.page("/"), site.page("/no-such-page-6f1c")):
            for name in site.settings["security_headers"]:
                assert len(answer.all(name)) == 1, f"{site.name}: {name} {answer.headers}"


def test_a_page_may_open_the_sites_own_sockets(sites: list[Site]) -> None:
    """The content security policy lets a page open the site's own WebSockets."""
    for site in sites:
        policy = site.page("/").header("Content-Security-Policy") or ""
        if site.prefix and "connect-src" in policy:
            (sources,) = [
                p.split()[1:] for p in policy.split(";") if p.split()[:1] == ["connect-src"]
            ]
            own = site.origin.replace("http", "ws", 1)
            assert own in sources or "'self'" in sources, f"{site.name}: {policy}"


@pytest.mark.probe
def test_where_the_project_says_nothing_the_policy_names_the_sockets(probe: Site) -> None:
    """Where the project sets no content security policy, the one of the inventory names the site's WebSockets."""
    policy = probe.page("/").header("Content-Security-Policy") or ""
    public = probe.settings.get("public_url") or probe.origin  # a proxy may take TLS off
    scheme, _, place = public.replace("http", "ws", 1).partition("://")
    place = place.removesuffix(":443" if scheme == "wss" else ":80")
    assert f"{scheme}://{place};" in policy


@pytest.mark.probe
def test_a_request_has_one_number_everywhere(host: Host, probe: Site) -> None:
    """A request has the same number in the answer, in Django, in Daphne and in the log."""
    answer = probe.page("/")
    number = answer.header("X-Request-Id")
    assert number
    assert answer.json()["headers"]["HTTP_X_REQUEST_ID"] == number
    assert logged(host, probe, number)["answerer"] == "mod_wsgi"
    spoofed = probe.page("/", 15, "X-Request-Id: mine")
    assert "mine" not in json.dumps(spoofed.json())
    connection, response = probe.open(probe.under("info"))
    with connection:
        assert response.status == 101
        headers = dict(json.loads(connection.message())["headers"])
    entry = logged(host, probe, headers["x-request-id"])
    assert (entry["answerer"], entry["status"], entry["upgrade"]) == ("daphne", 101, "websocket")


@pytest.mark.probe
def test_the_log_tells_who_answered(host: Host, probe: Site) -> None:
    """The access log says who answered each request."""
    mark = f"mark{time.time_ns()}"
    for path, answerer, status in (
        ("/{mark}", "mod_wsgi", 200),
        ("/static/beacon/probe.txt/{mark}", "apache", 404),
        (probe.under("{mark}"), "apache", 426),
    ):
        path = path.format(mark=mark)
        assert probe.page(path + "?token=secret", 15, f"User-Agent: {mark}").status == status
        entry = logged(host, probe, f'"path":"{path}"')
        assert (entry["answerer"], entry["status"]) == (answerer, status)
        assert entry["method"] == "GET"
        assert entry["agent"] == mark
        assert "secret" not in json.dumps(entry)
    probe.ask(rawhttp.handshake(probe.under("refused"), probe.host, probe.origin))
    assert logged(host, probe, probe.under("refused"))["answerer"] == "daphne"
    agent = f"User-Agent: {mark}"
    assert probe.page("/static/beacon/probe.txt", 15, agent + "static").status == 200
    assert logged(host, probe, mark + "static")["answerer"] == "static"


def test_logs_are_for_administrators_alone(host: Host, sites: list[Site]) -> None:
    """Only administrators may read a site's logs."""
    for site in sites:
        folder = host.file(f"/var/log/apache2/{site.name}")
        assert (folder.user, folder.group, folder.mode) == ("root", "adm", 0o750)


def test_logs_begin_anew_each_day_without_a_reload(host: Host, sites: list[Site]) -> None:
    """Logs begin anew each day, and old ones are removed."""
    running = host.check_output("ps -eo args=")
    for site in sites:
        site.page("/")
        name = f"/var/log/apache2/{site.name}/access"
        assert f"rotatelogs -l -L {name}.json {name}-%Y%m%d.json 86400" in running
        today = host.check_output("date +%Y%m%d")
        assert host.file(f"{name}-{today}.json").exists
    # Debian's logrotate reloads Apache for what lies in this folder itself; nothing writes there any more
    assert (
        host.run(
            "find /var/log/apache2 -maxdepth 1 -name '*.log' -newer /run/apache2/apache2.pid -size +0"
        ).stdout
        == ""
    )
    kept = host.check_output("cat /etc/tmpfiles.d/switchboard-apache.conf")
    for site in sites:
        assert f"/var/log/apache2/{site.name} " in kept


def test_apaches_account_of_itself_is_for_the_host_alone(
    host: Host, deployed: dict[str, Any], sites: list[Site]
) -> None:
    """Apache's server-status is for the host alone."""
    port = deployed["apache"]["status_port"]
    told = host.check_output(
        "python3 -c %s",
        f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{port}/server-status?auto').read().decode())",
    )
    assert "BusyWorkers" in told
    for site in sites:
        answer = site.page("/server-status?auto")
        assert b"BusyWorkers" not in answer.body, site.name


@contextmanager
def maintenance(host: Host, site: Site) -> Iterator[None]:
    flag = f"{site.settings['maintenance_dir']}/{site.name}"
    host.check_output("touch %s", flag)
    try:
        yield
    finally:
        host.check_output("rm -f %s", flag)


@pytest.mark.disruptive
def test_a_flag_closes_one_site_for_maintenance(host: Host, sites: list[Site]) -> None:
    for site in sites:
        with maintenance(host, site):
            answer = site.page("/")
            assert (answer.status, answer.answerer) == (503, "apache"), site.name
            assert answer.header("Retry-After") == str(site.settings["retry_after"])
            for path in site.settings["maintenance_exempt"]:
                assert site.page(path).answerer == "mod_wsgi", f"{site.name}: {path}"
            if site.prefix:
                assert site.ask(site.handshake(site.socket_path)).status == 503
            for other in sites:
                if other.name != site.name:
                    assert other.page("/").answerer == "mod_wsgi", other.name
        assert site.page("/").answerer == "mod_wsgi", site.name


def test_errors_are_told_in_plain_words(sites: list[Site]) -> None:
    """Apache's own error pages are in plain words."""
    for site in sites:
        if site.settings["static_url"]:
            body = site.page(site.settings["static_url"] + "no-such-file").body
            assert b"There is no such page." in body, site.name


def static_files(host: Host, site: Site) -> list[str]:
    root = site.settings["static_root"]
    found = host.run("find -L %s -name '*.css.gz' -size +0", root).stdout.split()
    return [path.removeprefix(root).removesuffix(".gz").lstrip("/") for path in found]


def test_static_files_are_compressed_beforehand_and_kept(host: Host, sites: list[Site]) -> None:
    """Static files are sent compressed, and browsers keep them."""
    found = {site.name: static_files(host, site) for site in sites}
    if not any(found.values()):
        pytest.skip("no project of this host has style sheets")
    for site in sites:
        for name in found[site.name][:6]:
            url = site.settings["static_url"] + name
            plain, small = site.page(url), site.page(url, 15, "Accept-Encoding: gzip, br")
            assert plain.header("Content-Encoding") is None
            assert small.header("Content-Encoding") == "gzip", url
            assert len(small.body) < len(plain.body)
            assert {plain.header("Content-Type"), small.header("Content-Type")} == {"text/css"}
            assert "Accept-Encoding" in (plain.header("Vary") or "")
            hashed = name.split("/")[-1].count(".") == 2
            for answer in (plain, small):
                kept = "immutable" in (answer.header("Cache-Control") or "")
                assert kept == hashed, f"{url}: {answer.headers}"
            asked = site.page(f"{url}.gz", 15, "Accept-Encoding: gzip")
            assert asked.header("Content-Encoding") is None, f"{url}.gz would arrive unpacked"


@pytest.mark.probe
@pytest.mark.disruptive
def test_a_long_body_waits_on_the_disk_and_leaves_nothing(host: Host, probe: Site) -> None:
    folder = "/var/cache/apache2/bodies"
    assert host.file(folder).mode == 0o700
    assert host.check_output("stat -f -c %%T %s", folder) != "tmpfs"
    size = 2_000_000
    head = f"Content-Length: {size}"
    with probe.connect() as connection:
        connection.send(rawhttp.get("/", probe.host, (head,), "POST") + b"x" * (size // 2))
        waiting = "for i in $(seq 50); do find %s -type f -size +500k | grep . && exit; sleep 0.1; done; exit 1"
        host.check_output(waiting, folder)
        connection.send(b"x" * (size // 2))
        assert connection.response("POST").json()["body_bytes"] == size
    gone = 'for i in $(seq 50); do test -z "$(find %s -type f)" && exit; sleep 0.1; done; exit 1'
    host.check_output(gone, folder)
