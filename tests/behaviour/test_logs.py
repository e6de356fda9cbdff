"""Logs elsewhere: what the host and Apache write arrives at the receiver, once, and nowhere else.

The receiver is log_receiver.py on the test host itself; molecule/shared/tasks/log_receiver.yml starts it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from testinfra.host import Host

from tests.behaviour.conftest import journal
from tests.behaviour.sites import web_sites

UNIT = "switchboard-logs.service"
HOME = "/opt/log-receiver"
RECEIVED = "/var/lib/log-receiver/received"
PATIENCE = 60  # seconds: the sender pauses for 1, 2, 4, 8 and then 15 before it tries again
# RFC 5424, section 6: priority, version, time, host, program, process, kind, no structured data, text
FRAME = re.compile(r"<(\d+)>1 (\S+) (\S+) (\S+) (\S+) (\S+) - (.*)", re.S)


@pytest.fixture(scope="module")
def receiver(deployed: dict[str, Any]) -> dict[str, Any]:
    if not deployed["logs"]:
        pytest.skip("the logs of this host go nowhere")
    return deployed["logs"]


def test_the_receiver_takes_what_is_sent(host: Host, receiver: dict[str, Any]) -> None:
    """The receiver of the logs is reached, and takes what is sent."""
    host.run("logger -p user.debug 'make verify looks for the receiver of the logs'")
    for _ in range(PATIENCE):
        connections = host.check_output(
            "ss -Htnp state established dport = :%s", str(receiver["port"])
        )
        if "log_sender" in connections:
            return
        time.sleep(1)  # between two looks; the failure below ends them
    pytest.fail(f"there is no connection to {receiver['address']}\n{journal(host, UNIT)}")


def arrived(host: Host, mark: str) -> list[tuple[str, ...]]:
    """Return host, program, kind and text of each frame at the receiver whose text has a mark."""
    frames = [
        json.loads(line) for line in host.run("grep -F %s %s", mark, RECEIVED).stdout.splitlines()
    ]
    found = [match.groups() for frame in frames if (match := FRAME.fullmatch(frame))]
    assert len(found) == len(frames), f"not as RFC 5424 has it: {frames}"
    # sudo, by which these tests become root, writes their commands to the journal
    return [(f[2], f[3], f[5], f[6]) for f in found if f[3] != "sudo"]


def wait(host: Host, mark: str, count: int) -> list[tuple[str, ...]]:
    """Wait until so many frames have arrived, and a moment longer for those that should not."""
    end = time.monotonic() + PATIENCE
    while len(found := arrived(host, mark)) < count and time.monotonic() < end:
        time.sleep(0.5)  # between two looks; the caller asserts
    time.sleep(1)  # what comes twice, comes now
    return arrived(host, mark) or found


def fresh() -> str:
    return f"mark-{time.time_ns()}"


def write(host: Host, *texts: str) -> None:
    """Write lines to the journal."""
    for text in texts:
        host.check_output("logger --tag greeter -- %s", text)


def stand_in(host: Host, certificate: str) -> None:
    """Let a receiver listen whose certificate is good, misnamed (of another name) or strange (of another CA)."""
    use = "cp {0}/{1}.crt {0}/receiver.crt; cp {0}/{1}.key {0}/receiver.key; systemctl restart log-receiver.service"
    host.check_output(use.format(HOME, certificate))


@contextmanager
def away(host: Host) -> Iterator[None]:
    """Take the receiver away for a while."""
    host.check_output("systemctl stop log-receiver.service")
    try:
        yield
    finally:
        stand_in(host, "good")


@pytest.mark.disruptive
def test_a_line_of_the_journal_arrives_once(host: Host, receiver: dict[str, Any]) -> None:
    mark = fresh()
    write(host, f"{mark} größer")
    name = host.check_output("hostname")
    assert wait(host, mark, 1) == [(name, "greeter", "-", f"{mark} größer")], journal(host, UNIT)


FORGE = """import socket, struct, sys
mark = sys.argv[1].encode()
forged = b"1\\n<0>1 2026-01-01T00:00:00Z elsewhere sshd 1 - - " + mark
field = b"SYSLOG_PID\\n" + struct.pack("<Q", len(forged)) + forged + b"\\n"
to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
to.sendto(field + b"SYSLOG_IDENTIFIER=greeter\\nMESSAGE=" + mark + b"\\n", "/run/systemd/journal/socket")"""


@pytest.mark.disruptive
def test_nobody_writes_in_the_name_of_another_host(host: Host, receiver: dict[str, Any]) -> None:
    """Whoever writes to the journal chooses what its fields say, line breaks too (systemd's native protocol)."""
    mark = fresh()
    host.check_output("runuser -u nobody -- python3 -c %s %s", FORGE, mark)
    name = host.check_output("hostname")
    assert wait(host, mark, 1) == [(name, "greeter", "-", mark)], journal(host, UNIT)


@pytest.mark.disruptive
def test_a_request_arrives_once(
    host: Host, receiver: dict[str, Any], deployed: dict[str, Any], address: str
) -> None:
    sites = web_sites(deployed, address)
    if not sites:
        pytest.skip("no Apache on this host")
    mark = fresh()
    for site in sites:
        site.page(f"/{mark}")
    found = wait(host, mark, len(sites))
    requests = [frame for frame in found if frame[2] == "access"]
    assert sorted(frame[1] for frame in requests) == sorted(
        f"apache2/{site.name}" for site in sites
    )
    assert {json.loads(frame[3])["path"] for frame in requests} == {f"/{mark}"}


@pytest.mark.disruptive
def test_nothing_is_lost_or_sent_twice_while_the_receiver_is_away(
    host: Host, receiver: dict[str, Any]
) -> None:
    mark = fresh()
    texts = [f"{mark} {number}." for number in range(9)]
    write(host, *texts[:2])
    wait(host, mark, 2)
    with away(host):
        write(host, *texts[2:5])
        host.check_output("systemctl restart %s", UNIT)
        write(host, *texts[5:8])
    write(host, texts[8])
    assert sorted(frame[3] for frame in wait(host, mark, 9)) == texts, journal(host, UNIT)


@pytest.mark.disruptive
def test_another_receiver_gets_nothing(host: Host, receiver: dict[str, Any]) -> None:
    """One whose certificate has another name, or is signed by another CA; the journal says why."""
    mark, since = fresh(), host.check_output("date +%s")
    with away(host):
        write(host, mark)
        for certificate, why in (("misnamed", "Hostname mismatch"), ("strange", "local issuer")):
            stand_in(host, certificate)
            host.check_output("systemctl restart %s", UNIT)  # it would pause for longer each time
            end = time.monotonic() + PATIENCE
            told = ""
            while why not in told and time.monotonic() < end:
                told = host.check_output("journalctl --since=@%s --unit=%s", since, UNIT)
            assert why in told
            assert arrived(host, mark) == []
        host.check_output("systemctl restart %s", UNIT)
    assert len(wait(host, mark, 1)) == 1, journal(host, UNIT)


def test_the_key_is_for_the_service_alone(host: Host, receiver: dict[str, Any]) -> None:
    """The key by which the receiver knows this host is for root and the service alone."""
    key = host.file("/etc/switchboard/logs/client.key")
    assert (key.user, key.group, key.mode) == ("root", "switchboard-logs", 0o640)
