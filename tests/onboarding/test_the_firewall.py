"""Which ports of a managed server answer to another host, over IPv4 and IPv6."""

from __future__ import annotations

import json
import os
import shlex

from tests.onboarding.conftest import Managed
from tests.onboarding.server import ROLE, SOAK, Server, docker, until

# Listens on all addresses at ports that are nobody's, as a forgotten service does.
FORGOTTEN = (80, 443, 2181, 8000, 9092, 9099)
LISTEN = """
import socket, sys, threading, time
def serve(port):
    with socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        while True:
            listener.accept()[0].close()
for port in sys.argv[1:]:
    threading.Thread(target=serve, args=[int(port)], daemon=True).start()
time.sleep(600)  # the listeners live for ten minutes at most
"""
SCAN = """
import json, socket, sys
def answers(address, port):
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True
print(json.dumps([port for port in map(int, sys.argv[2:]) if answers(sys.argv[1], port)]))
"""


def scan(where: Server, address: str, *ports: int) -> list[int]:
    """Return which ports of an address answer to a server."""
    words = [address, *map(str, ports)]
    return json.loads(
        docker("exec", "--interactive", where.name, "python3", "-", *words, text=SCAN)
    )


def test_only_ssh_and_http_answer_to_another_host(managed13: Managed, managed12: Managed) -> None:
    server, other = managed13[0], managed12[0]
    ports = sorted([22, *FORGOTTEN])
    server.shell(
        f"systemd-run --quiet --unit=forgotten python3 -c {shlex.quote(LISTEN)} {' '.join(map(str, FORGOTTEN))}"
    )
    try:
        assert until(lambda: scan(server, "::1", *ports) == ports, 10), "the services do not listen"
        for address in (server.address, server.address6):
            assert scan(server, address, *ports) == ports, "loopback is open"
            assert scan(other, address, *ports) == [22, 80, 443], address
        allowed = {"port": 8000, "from": [f"{other.address6}/128"], "comment": "of a test"}
        server.onboard(ROLE, role="firewall", firewall_allow=[allowed]).succeeds()
        assert scan(other, server.address6, 8000, 9092) == [8000]
        assert scan(other, server.address, 8000, 9092) == []
        if os.environ.get(SOAK):
            server.onboard(ROLE, role="firewall", firewall_enabled=False).succeeds()
            assert scan(other, server.address, *ports) == ports
    finally:
        server.shell("systemctl stop forgotten")
