"""The hosts of the scenario `web` together: two web hosts and the balancer through which their visitors come."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.behaviour import rawhttp
from tests.refusals.bench import Together
from tools.common import ROOT, environment

BALANCER = "switchboard-web-balancer"
HOSTS = ("switchboard-web-1", "switchboard-web-2")
BACKENDS = ("probe", "probe.sockets")  # of HAProxy
ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect("/run/switchboard-haproxy/admin.sock")
    connection.sendall(sys.argv[1].encode() + b"\\n")
    while piece := connection.recv(65536):
        sys.stdout.write(piece.decode())
"""
# Asks each host, as the balancer does by TLS, for the page that names a static file of its release, and all of them for
# each file that any of them has named until now, until its input ends; prints what was named and what was not answered
# with the file.
FILES = r"""
import http.client, json, re, select, ssl, sys
names, wrong, count = set(), {}, 0
anybody = ssl._create_unverified_context()  # tests/web/test_balanced_tls.py looks at the certificates
def ask(host, path):
    try:
        connection = http.client.HTTPSConnection(host, 443, timeout=15, context=anybody)
        connection.request("GET", path, headers={"Host": "probe.test"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return repr(error), ""
while not select.select([sys.stdin], [], [], 0.02)[0]:
    for asked in sys.argv[1:]:
        status, text = ask(asked, "/styled")
        found = [(asked, "/styled", status)]
        names |= set(re.findall(r"/static/[\w./-]+", text))
        found += [(host, name, ask(host, name)[0]) for name in names for host in sys.argv[1:]]
        count += len(found)
        for one in found:
            if one[2] != 200:
                wrong[" ".join(map(str, one))] = wrong.get(" ".join(map(str, one)), 0) + 1
print(json.dumps({"names": sorted(names), "wrong": wrong, "count": count}))
"""


@dataclass
class Web(Together):
    """Two web hosts and a balancer, by the inventory's names."""

    longest = 120

    @property
    def front(self) -> str:
        """The address of the balancer."""
        return self.addresses[BALANCER]

    def haproxy(self, command: str) -> str:
        """Return what HAProxy answers to its administrator."""
        return self.output(BALANCER, "python3", "-c", ASK, command)

    def states(self, backend: str = "probe") -> dict[str, str]:
        """Return the state of each web host for a backend, as HAProxy names it."""
        rows = csv.DictReader(io.StringIO(self.haproxy("show stat").lstrip("# ")))
        return {
            row["svname"]: row["status"]
            for row in rows
            if row["pxname"] == backend and row["svname"] != "BACKEND"
        }

    def drained(self, since: float, until: float | None = None) -> set[str]:
        """Return the servers, backend/name, that HAProxy was told to drain in some time."""
        words = ["--unit=haproxy.service", "--output=cat", f"--since=@{since:.0f}"]
        words += [f"--until=@{until:.0f}"] if until else []
        said = self.output(BALANCER, "journalctl", "--no-pager", *words)
        return set(re.findall(r"Server (\S+) enters drain state", said))

    def whole(self, seconds: float = 60) -> None:
        """Wait until HAProxy finds both hosts well, for pages and for WebSockets."""
        end = time.monotonic() + seconds
        while True:
            seen = {backend: self.states(backend) for backend in BACKENDS}
            if all(set(states.values()) == {"UP"} for states in seen.values()):
                return
            assert time.monotonic() < end, seen
            time.sleep(0.5)  # between two looks; the assertion above ends them

    def page(self, path: str = "/", *headers: str, host: str = "probe.test") -> rawhttp.Response:
        """Ask for a page by the balancer."""
        return rawhttp.ask(self.front, 80, rawhttp.get(path, host, headers), 15)

    def socket(self, path: str = "/live/echo") -> tuple[rawhttp.Connection, rawhttp.Response]:
        """Open a WebSocket by the balancer; the caller closes the connection."""
        connection = rawhttp.Connection(self.front, 80, 15)
        connection.send(rawhttp.handshake(path, "probe.test"))
        return connection, connection.response()

    def logged(self, text: str, least: int = 0) -> dict[str, int]:
        """Return how many lines of the demonstration site's log have a text, on each web host.

        It waits until they are ``least`` in all, since rotatelogs writes them a moment later; fewer are returned too.
        """
        count = f"grep -c {shlex.quote(text)} /var/log/apache2/graphspace/access.json || true"
        end = time.monotonic() + 15
        while True:
            found = {name: int(self.output(name, "sh", "-c", count)) for name in HOSTS}
            if sum(found.values()) >= least or time.monotonic() > end:
                return found
            time.sleep(0.2)  # until rotatelogs has written them; the caller judges

    def sockets_of(self, port: int = 9109) -> dict[str, int]:
        """Return how many connections to a site's Daphne each web host has."""
        return {
            name: len(
                self.output(
                    name, "ss", "-Htn", "state", "established", f"sport = :{port}"
                ).splitlines()
            )
            for name in HOSTS
        }

    def waiting(self, name: str) -> list[str]:
        """Return the ids of the probe's releases that are built on a host and wait for their switch."""
        found = self.output(
            name, "find", "/srv/probe/releases", "-maxdepth", "2", "-name", ".waits"
        )
        return [Path(path).parent.name for path in found.splitlines()]

    def refused(self, name: str) -> list[str]:
        """Return the id of the probe's release that a host has refused, if any."""
        return self.run(name, "ls", "/srv/probe/failed").stdout.split()

    @contextmanager
    def begun(self, playbook: str, **extra: object) -> Iterator[subprocess.Popen[bytes]]:
        """Begin a run of a playbook, and kill it in the end."""
        command = ["ansible-playbook", "-i", self.inventory, f"playbooks/{playbook}.yml"]
        with subprocess.Popen(
            [*command, "-e", json.dumps(extra)],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        ) as run:
            try:
                yield run
            finally:
                os.killpg(run.pid, signal.SIGKILL)

    @contextmanager
    def files_asked(self) -> Iterator[dict[str, Any]]:
        """Ask both hosts for the static files that a page of either names, meanwhile; the result is known after."""
        command = ["docker", "exec", "-i", BALANCER, "python3", "-c", FILES]
        told: dict[str, Any] = {}
        with subprocess.Popen(
            [*command, *(self.addresses[name] for name in HOSTS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as asking:
            try:
                yield told
            finally:
                told.update(json.loads(asking.communicate()[0]))

    @contextmanager
    def visited(self, path: str = "/", pause: float = 0.02) -> Iterator[Visits]:
        """Ask for a page again and again meanwhile, on two connections at a time."""
        visits, ended = Visits(), threading.Event()

        def visit() -> None:
            while not ended.is_set():
                began = time.monotonic()
                try:
                    status = str(self.page(path).status)
                except (OSError, rawhttp.ClosedError, rawhttp.TimedOutError) as error:
                    status = type(error).__name__
                visits.answers[status] += 1
                visits.longest = max(visits.longest, time.monotonic() - began)
                time.sleep(pause)  # it is a visitor, no benchmark

        threads = [threading.Thread(target=visit) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield visits
        finally:
            ended.set()
            for thread in threads:
                thread.join()


@dataclass
class Visits:
    """How the requests of some time were answered, and the longest wait in seconds."""

    answers: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0

    @property
    def failed(self) -> int:
        """How many were not answered with the page."""
        return self.answers.total() - self.answers["200"]


@pytest.fixture(scope="session")
def web(request: pytest.FixtureRequest) -> Web:
    """Return the hosts."""
    text = (ROOT / "molecule" / "web" / "hosts.yml").read_text(encoding="utf-8")
    hosts: dict[str, Any] = yaml.safe_load(text)["switchboard"]["hosts"]
    addresses = {name: told["switchboard_address"] for name, told in hosts.items()}
    found = Web(request.config.option.ansible_inventory, addresses)
    found.whole()
    return found
