"""Apache as it runs: its size, its users, what it serves itself, what it logs, and what a change does to it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from typing import Any

import pytest
from testinfra.host import Host

from plugins.module_utils.wsgi_group import title
from tests.behaviour import rawhttp
from tests.behaviour.conftest import ROOT, journal
from tests.behaviour.sites import Site, web_sites

UNIT = "apache2.service"
SITE_FOLDERS = "/etc/apache2/sites-available /etc/apache2/conf-available /etc/apache2/ports.conf"


@pytest.fixture(scope="module")
def sites(host: Host, deployed: dict[str, Any], address: str) -> list[Site]:
    found = web_sites(deployed, address)
    if not found:
        pytest.skip("the inventory gives this host no site")
    return found


def show(host: Host, name: str) -> str:
    return host.check_output("systemctl show --property=%s --value %s", name, UNIT)


def children(host: Host) -> list[dict[str, str]]:
    """Return what /proc tells of each process of Apache's unit, with its command line."""
    script = (
        "for p in $(cat /sys/fs/cgroup/systemd$1/cgroup.procs 2>/dev/null "
        "|| cat /sys/fs/cgroup$1/cgroup.procs); do "
        "printf 'Args:\\t'; tr '\\0' ' ' < /proc/$p/cmdline; echo; cat /proc/$p/status; "
        "sed -n 's/^Max open files  */Files:\\t/p' /proc/$p/limits; echo; done"
    )
    group = show(host, "ControlGroup")
    text = host.check_output("sh -c %s sh %s", script, group)
    blocks = [block for block in text.split("\n\n") if "Pid:" in block]
    return [
        dict(line.split(":", 1) for line in block.splitlines() if ":" in line) for block in blocks
    ]


def configured(host: Host, directive: str) -> int:
    """Return the last value of a directive in the files that are enabled."""
    found = host.check_output(
        "grep -hRiE %s /etc/apache2/conf-enabled/", f"^ *{directive} +[0-9]+"
    ).splitlines()
    return int(found[-1].split()[1])


def test_children_have_the_threads_that_the_sockets_need(
    host: Host, deployed: dict[str, Any], sites: list[Site]
) -> None:
    """Apache has a thread for each WebSocket that the inventory allows, and more for pages."""
    threads = configured(host, "ThreadsPerChild")
    workers = configured(host, "MaxRequestWorkers")
    assert workers > deployed["apache"]["max_websockets"]
    serving = [
        child
        for child in children(host)
        if "wsgi:" not in child["Args"] and int(child["Threads"]) >= threads
    ]
    assert len(serving) * threads >= workers, children(host)


@pytest.fixture
def apache(deployed: dict[str, Any]) -> None:
    if not deployed["apache"]:
        pytest.skip("no Apache on this host")


def test_server_limit_has_room_for_children_that_wait_for_their_sockets(
    host: Host, apache: None
) -> None:
    """Apache has room for new processes while old ones wait for their WebSockets to close."""
    generation = configured(host, "MaxRequestWorkers") // configured(host, "ThreadsPerChild")
    assert configured(host, "ServerLimit") >= 2 * generation
    assert configured(host, "ThreadLimit") >= configured(host, "ThreadsPerChild")


def test_open_files_suffice_for_two_connections_a_thread(host: Host, apache: None) -> None:
    """Apache may open as many files as all its threads need at the same time."""
    need = 2 * configured(host, "ThreadsPerChild")
    for child in children(host):
        assert int(child["Files"].split()[0]) > need, child["Args"]
    assert int(show(host, "TasksMax")) > configured(host, "MaxRequestWorkers")


def test_each_site_has_wsgi_processes_of_its_own_user(host: Host, sites: list[Site]) -> None:
    """Each site has as many Django processes as it should, all of its own user."""
    running = children(host)
    # how the threads that the inventory says are spread may follow from the host's cores
    written = host.check_output("cat /etc/apache2/sites-enabled/*.conf")
    daemon = r"WSGIDaemonProcess (\S+) .*\\\n\s+processes=(\d+) threads=(\d+) "
    wanted = {name: (int(count), int(each)) for name, count, each in re.findall(daemon, written)}
    for site in sites:
        uid = host.check_output("id -u %s", site.settings["wsgi_user"])
        mine = [child for child in running if title(site.name) in child["Args"]]
        count, each = wanted[site.name]
        assert len(mine) == count, f"{site.name}: {len(mine)}"
        assert count * each == site.settings["wsgi_processes"] * site.settings["wsgi_threads"]
        assert {child["Uid"].split()[0] for child in mine} == {uid}, site.name


def test_no_process_but_the_parent_and_its_loggers_is_root(host: Host) -> None:
    """No process of Apache runs as root but the first one and those that write its logs."""
    parent = show(host, "MainPID")
    for child in children(host):
        if child["Pid"].strip() != parent and "rotatelogs" not in child["Args"]:
            assert child["Uid"].split()[1] != "0", child["Args"]


def test_modules_are_those_of_the_mode(host: Host, sites: list[Site]) -> None:
    """Apache has loaded the modules that it needs, and none that lists folders."""
    loaded = host.check_output("apache2ctl -M 2>/dev/null")
    seed = any(site.is_seed for site in sites)
    for module in ("rewrite", "proxy", "proxy_wstunnel", "wsgi", "mpm_event"):
        assert f" {module}_module" in loaded, module
    for module in ("proxy_http", "headers", "qos", "status"):
        assert (f" {module}_module" in loaded) is not seed, module
    assert " autoindex_module" not in loaded
    assert host.file("/etc/apache2/mods-available/ssl.load").exists


def test_the_server_tells_its_name_alone(sites: list[Site]) -> None:
    """Answers name the server Apache, without a version."""
    for site in sites:
        assert site.page("/").header("Server") == "Apache"


def test_the_page_of_debian_is_gone(sites: list[Site]) -> None:
    """Nobody sees the page that Debian's package brings."""
    for site in sites:
        assert b"Debian" not in site.page("/").body
        assert b"Debian" not in site.ask(rawhttp.get("/", "no-such-site.invalid")).body


@pytest.mark.probe
def test_static_files_come_from_apache_itself(probe: Site) -> None:
    """Static files come from Apache, not from Django."""
    response = probe.page("/static/beacon/probe.txt")
    assert response.status == 200
    assert response.body == b"a static file of the probe project\n"
    assert response.header("X-Answered-By") is None
    assert response.header("Last-Modified")


@pytest.mark.probe
def test_folders_of_static_files_are_not_listed(probe: Site) -> None:
    """Nobody can list a folder of static files."""
    for path in ("/static/", "/static/beacon/"):
        assert probe.page(path).status in (403, 404), path


@pytest.mark.probe
def test_a_path_above_the_static_files_is_not_reached(probe: Site) -> None:
    """No path leads from the static files to what lies above them."""
    for path in ("/static/../wsgi.py", "/static/%2e%2e/wsgi.py", "/static/..%2fwsgi.py"):
        assert b"import" not in probe.page(path).body, path


@pytest.mark.probe
def test_a_body_above_the_limit_is_refused(probe: Site) -> None:
    """A request with a body above the limit is refused."""
    limit = probe.settings["limit_request_body"]
    head = f"POST / HTTP/1.1\r\nHost: {probe.host}\r\nContent-Length: {limit + 1}\r\n\r\n"
    assert probe.ask(head.encode()).status == 413


@pytest.mark.probe
def test_django_gets_the_authorization_header(probe: Site) -> None:
    """Django receives the Authorization header."""
    told = probe.page("/", 15, "Authorization: Basic dGVzdDp0ZXN0").json()
    assert told["headers"]["HTTP_AUTHORIZATION"] == "Basic dGVzdDp0ZXN0"


@pytest.mark.probe
def test_query_strings_stay_out_of_the_logs(host: Host, probe: Site) -> None:
    """Query strings, which may hold tokens, are in no log."""
    secret = f"token{time.time_ns()}"
    mark = f"page{time.time_ns()}"
    referer = f"Referer: http://{probe.host}/from?ticket={secret}"
    assert probe.page(f"/{mark}?ticket={secret}", 15, referer).status == 200
    with probe.connect() as connection:
        connection.send(probe.handshake(probe.under("echo") + f"?ticket={secret}"))
        assert connection.response().status == 101
    log = f"/var/log/apache2/{probe.name}/access.json"
    wait = "for i in $(seq 100); do grep -q %s %s && exit; sleep 0.1; done; exit 1"
    assert host.run(wait, mark, log).rc == 0, "the request is not in the log at all"
    assert host.run("grep -rl %s /var/log/apache2/", secret).stdout == ""
    told = json.loads(host.check_output("grep %s %s", mark, log))
    assert told["answerer"] == ("-" if probe.is_seed else "mod_wsgi")  # mod_headers tells it


@pytest.mark.probe
@pytest.mark.disruptive
def test_a_reload_keeps_open_sockets(host: Host, probe: Site) -> None:
    connection, response = probe.open(probe.under("echo"))
    assert response.status == 101
    with connection:
        before = show(host, "MainPID")
        host.check_output("systemctl reload %s", UNIT)
        end = time.monotonic() + 10
        while probe.page("/").status != 200 and time.monotonic() < end:
            time.sleep(0.2)
        assert probe.page("/").status == 200
        connection.send_frame(b"still here")
        assert connection.message() == b"still here"
        assert show(host, "MainPID") == before
        newer, response = probe.open(probe.under("echo"))
        newer.close()
        assert response.status == 101


def ansible(
    request: pytest.FixtureRequest, name: str, module: str, options: dict[str, Any]
) -> dict[str, Any]:
    """Run one module on a host of the inventory under test and return its result."""
    inventory = request.config.option.ansible_inventory or str(ROOT / "inventory" / "demo")
    command = [
        "ansible",
        "-i",
        inventory,
        "--become",
        "-m",
        module,
        "-a",
        json.dumps(options),
        name,
    ]
    result = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
    )
    text = result.stdout
    told: dict[str, Any] = json.loads(text[text.index("=> {") + 3 : text.rindex("}") + 1])
    return told


@pytest.mark.disruptive
def test_a_refused_configuration_changes_nothing(
    request: pytest.FixtureRequest, host: Host, deployed: dict[str, Any], sites: list[Site]
) -> None:
    sums = f"find {SITE_FOLDERS} -type f -exec sha256sum {{}} + | sort; ls /etc/apache2/*-enabled"
    before = host.check_output(sums)
    since = show(host, "ExecMainStartTimestamp")
    for content, complaint in (
        ("NoSuchDirective On\n", "NoSuchDirective"),
        ("WSGIDaemonProcess broken user=no-such-user\n", "no-such-user"),
    ):
        told = ansible(
            request,
            deployed["host"],
            "apache_files",
            {
                "files": [
                    {"path": f"sites-available/{sites[0].name}.conf", "content": content},
                    {"path": "sites-available/broken.conf", "content": content},
                ],
                "enabled": ["sites-available/broken.conf"],
            },
        )
        assert "no file was changed" in told["msg"], told
        assert complaint in told["msg"], told
        assert f"/etc/apache2/sites-available/{sites[0].name}.conf" in told["paths"]
    assert host.check_output(sums) == before
    assert show(host, "ExecMainStartTimestamp") == since, journal(host, UNIT)
    assert sites[0].page("/").answerer == "mod_wsgi"


@pytest.mark.probe
@pytest.mark.disruptive
def test_new_code_is_loaded_process_by_process_and_without_a_reload(
    request: pytest.FixtureRequest, host: Host, deployed: dict[str, Any], probe: Site
) -> None:
    def pids() -> set[str]:
        return {c["Pid"].strip() for c in children(host) if title(probe.name) in c["Args"]}

    def reloads() -> str:
        return host.check_output(
            "cat /var/log/apache2/server/error-*.log | grep -c AH00493 || true"
        )

    if probe.is_seed:
        pytest.skip("in this mode mod_wsgi looks at its script itself")
    before, counted, waits = pids(), reloads(), []
    # how many processes have loaded the project (roles/django/templates/wsgi.py.j2 gives them this name)
    unit, ready = "loaded-of-a-test", f"--euid {probe.settings['wsgi_user']} --exact wsgi-loaded"
    look = f"while :; do pgrep --count {ready}; sleep 0.05; done >/run/{unit}"
    host.check_output("systemd-run --quiet --collect --unit=%s sh -c %s", unit, look)
    over = threading.Event()

    def visit() -> None:
        while not over.wait(0.02):
            answer = probe.page("/")
            waits.append(answer.seconds if answer.status == 200 else float("inf"))

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        told = ansible(request, deployed["host"], "wsgi_renew", {"group": probe.name})
    finally:
        over.set()
        visitor.join()
        host.check_output("systemctl stop %s", unit)
    counts = [
        int(line) for line in host.check_output("cat /run/%s; rm /run/%s", unit, unit).split()
    ]
    assert told["changed"], told
    assert told["renewed"] == len(before)
    assert not pids() & before
    assert reloads() == counted
    # all at once a page waits for the project to load, a second and more; one after another it waits for none
    print(f"{len(waits)} pages, longest {max(waits):.3f} s")
    assert min(counts) >= len(before) - 1, "processes were renewed at once"
    assert max(waits) < float("inf"), "a page failed"
