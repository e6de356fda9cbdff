"""What an operator or a release has taken out of HAProxy stays so over a reload; what the configuration says holds."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.web.conftest import ASK, BALANCER, HOSTS, Web

FIRST, SECOND = HOSTS
CONFIG = "/etc/haproxy/haproxy.cfg"
ADDRESS, STATE, PORT = 4, 6, 18  # the fields of a server in `show servers state`
MAINTENANCE = "1"


def now(web: Web, backend: str) -> dict[str, str]:
    """Return the state of each web host, also before HAProxy has asked it twice (`UP 1/2`)."""
    return {name: state.split()[0] for name, state in web.states(backend).items()}


def told(web: Web, backend: str, server: str) -> list[str]:
    """Return what HAProxy knows of a server, nothing of one that it does not have."""
    lines = [line.split() for line in web.haproxy(f"show servers state {backend}").splitlines()]
    return next((words for words in lines if len(words) > PORT and words[3] == server), [])


def process(web: Web) -> str:
    """Return the number of the process that answers now, empty without one."""
    found = re.search(
        r"^Pid: (\d+)$", web.run(BALANCER, "python3", "-c", ASK, "show info").stdout, re.M
    )
    return found[1] if found else ""


def anew(web: Web, command: str) -> None:
    """Reload or restart HAProxy, and wait for the process that takes over."""
    before, end = process(web), time.monotonic() + 30
    web.output(BALANCER, "systemctl", command, "haproxy")
    while process(web) in ("", before):
        assert time.monotonic() < end, f"no other process after a {command}"
        time.sleep(0.2)  # between two looks; the assertion above ends them


@contextmanager
def taken_out(web: Web, **states: str) -> Iterator[None]:
    """Set the state of the second web host for some sites' pages, and give it back."""
    for backend, state in states.items():
        web.haproxy(f"set server {backend}/{SECOND} state {state}")
    try:
        yield
    finally:
        for backend in states:
            web.haproxy(f"set server {backend}/{SECOND} state ready")
        web.whole()


@pytest.mark.parametrize("command", ["reload", pytest.param("restart", marks=pytest.mark.soak)])
def test_what_is_taken_out_stays_so_and_can_be_given_back(web: Web, command: str) -> None:
    with taken_out(web, probe="maint", plain="drain"):
        anew(web, command)
        assert now(web, "probe") == {FIRST: "UP", SECOND: "MAINT"}
        assert now(web, "plain") == {FIRST: "UP", SECOND: "DRAIN"}
        assert now(web, "probe.sockets") == {FIRST: "UP", SECOND: "UP"}
        anew(web, command)  # from a process that has it from another one
        assert now(web, "probe")[SECOND] == "MAINT"
        assert {web.page().status for _ in range(4)} == {200}
    anew(web, command)
    assert set(now(web, "probe").values()) | set(now(web, "plain").values()) == {"UP"}


@pytest.mark.soak
def test_what_the_configuration_says_of_a_server_holds_all_the_same(web: Web) -> None:
    """Another port of a server in maintenance, and a server that has got another name."""
    port = f"/^backend probe$/,/^backend/ s/server {SECOND} \\([0-9.]*\\):[0-9]*/server {SECOND} \\1:81/"
    name = f"/^backend plain$/,/^backend/ s/server {SECOND} /server another /"
    change = f"cp -a {CONFIG} /root/haproxy.kept && sed -i '{port}; {name}' {CONFIG}"
    before = told(web, "probe", SECOND)[PORT]
    with taken_out(web, probe="maint", plain="maint"):
        web.output(BALANCER, "sh", "-c", change)
        try:
            anew(web, "reload")
            server = told(web, "probe", SECOND)
            assert server[ADDRESS] == web.addresses[SECOND]
            assert (server[STATE], server[PORT]) == (MAINTENANCE, "81")
            assert told(web, "plain", SECOND) == []
            assert now(web, "plain")["another"] == "UP"
        finally:
            web.output(
                BALANCER, "sh", "-c", f"cp -a /root/haproxy.kept {CONFIG} && rm /root/haproxy.kept"
            )
            anew(web, "reload")
        assert told(web, "probe", SECOND)[PORT] == before


@pytest.mark.soak
def test_a_crash_forgets_what_may_be_old(web: Web) -> None:
    with taken_out(web, probe="maint"):
        anew(web, "reload")
    before = process(web)
    web.output(BALANCER, "systemctl", "kill", "--signal=KILL", "haproxy")
    end = time.monotonic() + 30
    while process(web) in ("", before):
        assert time.monotonic() < end, "systemd does not start it again"
        time.sleep(0.2)  # between two looks; the assertion above ends them
    assert now(web, "probe")[SECOND] == "UP"
    web.whole()


def test_a_configuration_that_haproxy_does_not_take_is_not_loaded(web: Web) -> None:
    before = process(web)
    change = f"cp -a {CONFIG} /root/haproxy.kept && echo nonsense >>{CONFIG}"
    web.output(BALANCER, "sh", "-c", change)
    try:
        assert web.run(BALANCER, "systemctl", "reload", "haproxy").returncode
        assert process(web) == before
        assert web.page().status == 200
    finally:
        web.output(
            BALANCER, "sh", "-c", f"cp -a /root/haproxy.kept {CONFIG} && rm /root/haproxy.kept"
        )
        anew(web, "reload")
