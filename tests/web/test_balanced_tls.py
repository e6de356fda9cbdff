"""What is between the balancer and Apache is nobody else's, and who is not the web host gets no visitors."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.web.conftest import BACKENDS, BALANCER, HOSTS, Web

FIRST, SECOND = HOSTS
FOLDER = "/etc/switchboard/certificates/peers/apache"
MARK = "a-word-that-nobody-may-read"
# Prints how many packets came and went, by the port at the other end, and in how many of them the word was.
LISTEN = """
import collections, json, select, socket, sys
seen, read = collections.Counter(), collections.Counter()
line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
print("ready", flush=True)
while sys.stdin not in select.select([line, sys.stdin], [], [])[0]:
    packet = line.recv(65536)
    if packet[12:14] == b"\\x08\\x00" and packet[23] == 6:
        start = 14 + (packet[14] & 15) * 4
        for port in (int.from_bytes(packet[start + at:start + at + 2]) for at in (0, 2)):
            seen[port] += 1
            read[port] += sys.argv[1].encode() in packet
print(json.dumps([seen, read]))
"""


def test_nobody_between_the_balancer_and_apache_reads_what_a_visitor_sees(web: Web) -> None:
    listener = subprocess.Popen(
        ["docker", "exec", "-i", BALANCER, "python3", "-c", LISTEN, MARK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert listener.stdout
    assert listener.stdout.readline() == "ready\n"
    for _ in range(4):
        assert MARK.encode() in web.page(f"/?{MARK}", f"Cookie: {MARK}").body
        connection, response = web.socket()
        with connection:
            assert response.status == 101
            connection.send_frame(MARK.encode())
            assert connection.message() == MARK.encode()
    said, _ = listener.communicate("end\n", timeout=15)
    seen, read = json.loads(said)
    assert read["80"] > 8, "visitors of this test ask without TLS"
    assert seen["443"] > 40
    assert read["443"] == 0


def test_apache_answers_by_tls_alone(web: Web) -> None:
    reach = "import socket; socket.create_connection(('{}', 80), 3)"
    for name in HOSTS:
        refused = web.run(BALANCER, "python3", "-c", reach.format(web.addresses[name]))
        assert "ConnectionRefusedError" in refused.stderr
        plain = f"curl -s -o /dev/null -w '%{{http_code}}' http://{web.addresses[name]}:443/"
        assert web.run(name, "sh", "-c", plain).stdout in ("400", "000")


def why(web: Web, name: str) -> str:
    """Return what the last check of a web host told HAProxy."""
    rows = csv.DictReader(io.StringIO(web.haproxy("show stat").lstrip("# ")))
    (row,) = (one for one in rows if (one["pxname"], one["svname"]) == ("probe", name))
    return row["check_status"]


@contextmanager
def stranger(web: Web, files: dict[str, str]) -> Iterator[None]:
    """Let the first web host show another certificate; by the name of a file, what prints its text."""
    web.output(FIRST, "cp", "-a", FOLDER, f"{FOLDER}.kept")
    try:
        for name, text in files.items():
            web.output(FIRST, "sh", "-c", f"cat >{FOLDER}/{name} <<'end'\n{text}\nend")
        web.output(FIRST, "systemctl", "reload", "apache2")
        yield
    finally:
        web.output(FIRST, "sh", "-c", f"cp -a {FOLDER}.kept/* {FOLDER}/ && rm -r {FOLDER}.kept")
        web.output(FIRST, "systemctl", "reload", "apache2")
        web.whole()


@pytest.mark.parametrize(
    "kind", ["another-name", pytest.param("another-ca", marks=pytest.mark.soak)]
)
def test_a_host_that_shows_another_certificate_gets_no_visitors(web: Web, kind: str) -> None:
    names = ("fullchain.pem", "privkey.pem")
    if kind == "another-name":
        files = {name: web.output(SECOND, "cat", f"{FOLDER}/{name}") for name in names}
    else:
        make = (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj / -days 9"
            f" -addext subjectAltName=DNS:{FIRST},IP:{web.addresses[FIRST]}"
            " -keyout /dev/stdout -out /dev/stdout 2>/dev/null"
        )
        both = web.output(FIRST, "sh", "-c", make)
        files = dict.fromkeys(names, both)
    with web.visited() as visits, stranger(web, files):
        end = time.monotonic() + 15
        while {web.states(one)[FIRST] for one in BACKENDS} != {"DOWN"}:
            assert time.monotonic() < end, [web.states(one) for one in BACKENDS]
            time.sleep(0.2)  # between two looks; the assertion above ends them
        assert why(web, FIRST) == "L6RSP"  # the answer was no TLS that it takes
        connection, response = web.socket()
        connection.close()
        assert response.status == 101
    # what came between the reload and the check that saw it, at most
    assert visits.failed <= 3, visits.answers


def test_the_balancer_does_not_ask_as_nobody_answers(web: Web) -> None:
    """Apache answers by TLS alone, until its own tier has run."""
    before = web.output(BALANCER, "sha256sum", "/etc/haproxy/haproxy.cfg")
    run = web.play("balancer", switchboard_balanced_tls=False)
    assert run.code != 0
    run.says(f"{FIRST} does not answer at {web.addresses[FIRST]}:80 without TLS yet")
    assert web.output(BALANCER, "sha256sum", "/etc/haproxy/haproxy.cfg") == before


@pytest.mark.soak
@pytest.mark.parametrize("tls", [False, True])
def test_no_request_is_lost_when_balancers_ask_in_another_way(web: Web, tls: bool) -> None:
    with web.visited() as visits, web.visited("/slow?seconds=3", 0.5) as slow:
        for tier in ("messaging", "web", "balancer"):
            run = web.play(tier, switchboard_balanced_tls=tls)
            assert run.code == 0, run.output[-4000:]
    assert (visits.failed, slow.failed) == (0, 0), (visits, slow)
    for name in HOSTS:
        listening = web.output(name, "ss", "-Hltn", "src", web.addresses[name])
        assert [line.split()[3].rsplit(":", 1)[1] for line in listening.splitlines()] == [
            "443" if tls else "80"
        ]
    web.whole(1)
