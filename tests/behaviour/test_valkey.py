"""Valkey: each site that asks for one has its own, which no other site and no network reaches.

What a project does with it, in its Channels layer and its cache, is tried on the chat project of tests/projects.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from testinfra.host import Host

from tests.behaviour import rawhttp
from tests.behaviour.conftest import journal
from tests.behaviour.sites import Site

SITE = "lecture-chat"
PATIENCE = 40  # handshakes, of which each has an even chance to come to the other process


@pytest.fixture(scope="module")
def instances(deployed: dict[str, Any]) -> list[dict[str, Any]]:
    found = [site for site in deployed["valkey"].get("sites", []) if site["enabled"]]
    if not found:
        pytest.skip("no site of this host has a Valkey")
    return found


def ask(host: Host, user: str, site: str, *words: str) -> str:
    """Return what an instance, or the kernel in its place, answers a user of the host."""
    client = "valkey-cli" if host.exists("valkey-cli") else "redis-cli"
    command = "runuser -u %s -- %s -s %s " + " ".join(["%s"] * len(words))
    done = host.run(command, user, client, f"/run/valkey-{site}/valkey.sock", *words)
    return f"{done.stdout}{done.stderr}".strip()


def test_an_instance_answers_its_site(host: Host, instances: list[dict[str, Any]]) -> None:
    """The Valkey of a site answers the site's user."""
    for site in instances:
        unit = f"valkey-{site['name']}.service"
        assert ask(host, site["name"], site["name"], "ping") == "PONG", journal(host, unit)


def test_an_instance_answers_nobody_else(
    host: Host, deployed: dict[str, Any], instances: list[dict[str, Any]]
) -> None:
    """The Valkey of a site cannot be reached by another site, nor by any other user of the host."""
    users = {site["name"] for site in deployed["django"]["sites"]} | {"nobody", "www-data"}
    bad = []
    for site in instances:
        for user in sorted(users - {site["name"]}):
            said = ask(host, user, site["name"], "ping")
            if "Permission denied" not in said:
                bad.append(f"{user} reaches the Valkey of {site['name']}: {said}")
    assert not bad, "\n".join(bad)


def test_an_instance_has_no_port(host: Host, instances: list[dict[str, Any]]) -> None:
    """No Valkey listens on a port, of loopback or any other, and Debian's own service does not run."""
    listening = host.check_output("ss -Hlntup")
    for site in instances:
        assert ask(host, site["name"], site["name"], "config", "get", "port").split()[1] == "0"
        unit = f"valkey-{site['name']}.service"
        pid = host.check_output("systemctl show --property=MainPID --value %s", unit)
        assert f"pid={pid}," not in listening
    for unit in ("valkey-server.service", "redis-server.service"):
        assert host.run("systemctl is-active %s", unit).stdout.strip() == "inactive"


def test_an_instance_is_bounded_as_the_inventory_says(
    host: Host, instances: list[dict[str, Any]]
) -> None:
    """Memory, policy and persistence of each Valkey are those of the inventory."""
    bad = []
    for site in instances:
        wanted = {
            "maxmemory": str(site["memory_mb"] << 20),
            "maxmemory-policy": site["policy"],
            "appendonly": "yes" if site["persistent"] else "no",
        }
        for name, value in wanted.items():
            told = ask(host, site["name"], site["name"], "config", "get", name).split()
            if told != [name, value]:
                bad.append(f"{site['name']}: {name} is {told}, where {value} should be")
    assert not bad, "\n".join(bad)


# -- the chat project ------------------------------------------------------------------------------------


def enter(chat: Site, room: str) -> tuple[rawhttp.Connection, int]:
    """Open a socket in a room; return it and the process that holds it."""
    connection, response = chat.open(f"/ws/rooms/{room}/")
    assert response.status == 101, response
    return connection, json.loads(connection.message())["process"]


def hear(connection: rawhttp.Connection) -> tuple[str, int]:
    told = json.loads(connection.message())
    return told["text"], told["process"]


def talk(chat: Site) -> None:
    """Let two people whose sockets are held by two processes talk to each other."""
    room = f"room-{time.time_ns()}"
    ada, one = enter(chat, room)
    grace, other = enter(chat, room)
    with ada:
        for _ in range(PATIENCE):
            if one != other:
                break
            grace.close()
            grace, other = enter(chat, room)
        with grace:
            assert one != other, f"{PATIENCE} sockets came to one process"
            for speaker, text in ((ada, "hello"), (grace, "hello yourself")):
                speaker.send_frame(json.dumps({"text": text}).encode())
                assert (hear(ada), hear(grace)) == ((text, one), (text, other))


@pytest.mark.disruptive
def test_two_people_on_two_instances_hear_each_other(chat: Site) -> None:
    talk(chat)


@pytest.mark.disruptive
def test_the_cache_is_that_of_all_processes(host: Host, chat: Site) -> None:
    text = f"text-{time.time_ns()}"
    body = f"Content-Length: {len(text)}", "Connection: close"
    head = rawhttp.get("/cache/greeting", chat.host, body, "POST")
    assert chat.ask(head + text.encode()).body.decode() == text
    manage = "from django.core.cache import cache; print(cache.get('greeting'))"
    assert host.check_output(f"{SITE}-manage shell -v 0 -c %s", manage).split()[-1] == text
    for _ in range(8):
        assert chat.page("/cache/greeting").body.decode() == text


@pytest.mark.disruptive
def test_a_restart_is_over_for_the_project_when_it_is_over(host: Host, chat: Site) -> None:
    talk(chat)
    host.check_output(f"systemctl restart valkey-{SITE}.service")
    talk(chat)
    assert chat.page("/cache/greeting").status == 200


@pytest.mark.disruptive
def test_a_full_instance_evicts_the_cache_and_keeps_the_queue(host: Host, chat: Site) -> None:
    """By the default policy: what has an expiry makes room, what has none stays, and nothing grows beyond the bound."""
    job = "job-that-waits"
    assert ask(host, SITE, SITE, "-n", "2", "rpush", job, "x") == "1"
    fill = "for i = 1, 5000 do redis.call('set', KEYS[1] .. i, string.rep('x', 1000), 'EX', 60) end return 'done'"
    try:
        for part in range(12):  # 60 MB; a script makes no room while it runs
            assert ask(host, SITE, SITE, "-n", "1", "eval", fill, "1", f"{part}.") == "done"
        assert ask(host, SITE, SITE, "-n", "2", "llen", job) == "1"
        used = int(ask(host, SITE, SITE, "info", "memory").split("used_memory:")[1].split()[0])
        evicted = ask(host, SITE, SITE, "info", "stats").split("evicted_keys:")[1].split()[0]
        assert used < 36 << 20
        assert int(evicted) > 10_000
    finally:
        ask(host, SITE, SITE, "-n", "1", "flushdb")
        ask(host, SITE, SITE, "-n", "2", "del", job)
