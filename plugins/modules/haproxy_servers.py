#!/usr/bin/python
"""Take servers of HAProxy out of rotation before something is done to them, and give them back when they are well."""

from __future__ import annotations

import csv
import io
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: haproxy_servers
short_description: Drain servers of HAProxy, and give them back when they are well
description:
  - Asks a running HAProxy by the socket of its administration. A site has one backend of its own name, and one with
    C(.sockets) at the end for its WebSockets.
  - What an operator has put into maintenance stays there. A server that is the last one of its backend stays in
    rotation, since nobody could take over. Servers and sites that HAProxy does not know yet, and an HAProxy that does
    not run, have no visitors to be led elsewhere.
options:
  servers:
    description: The names of the servers.
    type: list
    elements: str
    required: true
  sites:
    description: The names of the sites.
    type: list
    elements: str
    required: true
  state:
    description:
      - C(drained), no new request or WebSocket comes, and each request that the server has is answered; open
        WebSockets stay.
      - C(served), it is in rotation again, once HAProxy has found it well for longer than a failing check takes to
        count.
      - C(seen), nothing is done; RV(ways) says how HAProxy asks them.
      - C(tried), nothing is done; those of I(addresses) that HAProxy has asked otherwise so far, by TLS or without,
        must answer there as they are to be asked.
      - C(back), it is in rotation again at once, whatever its state, which HAProxy goes on to look at.
    type: str
    choices: [drained, served, back, seen, tried]
    required: true
  timeout: {description: Seconds to wait at most., type: int, default: 90}
  steady: {description: Seconds that a server has to be well., type: int, default: 5}
  addresses:
    description: How HAProxy is to ask the servers, each with C(name), C(address) with a port, and C(tls).
    type: list
    elements: dict
    default: []
  ca: {description: The certificate of the CA by which those with C(tls) are known., type: path}
  socket: {description: The socket., type: path, default: /run/switchboard-haproxy/admin.sock}
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Lead no visitor to the host
  haproxy_servers: {servers: [web1], sites: [lab], state: drained}
"""

RETURN = r"""
servers:
  description: What was taken out or given back, as backend/server; with I(state=tried) the names of what was tried.
  type: list
  elements: str
  returned: success
ways:
  description: Whether HAProxy asks the servers by TLS; both where it asks some so and others not.
  type: list
  elements: bool
  returned: success
"""

DRAINED, MAINTENANCE = 0x18, 0x27  # srv_admin_state (management guide, "show servers state")


class TroubleError(Exception):
    """What HAProxy says, or why it says nothing, as a sentence."""


@dataclass
class Server:
    """What HAProxy knows of a server."""

    well: bool
    drained: bool
    kept_out: bool  # by an operator
    sessions: int
    tls: bool

    @property
    def takes(self) -> bool:
        """Whether visitors are led to it."""
        return self.well and not (self.drained or self.kept_out)


Key = tuple[str, str]


class HAProxy:
    """A running HAProxy."""

    def __init__(self, path: str) -> None:
        self.path = path

    def ask(self, command: str) -> str:
        """Send one command and return the answer; OSError where nobody listens."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(10)
            connection.connect(self.path)
            connection.sendall(command.encode() + b"\n")
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        return answer.decode()

    def servers(self) -> dict[Key, Server]:
        """Return each server by its backend and its name."""
        lines = self.ask("show stat").lstrip("# ")
        sessions = {
            (row["pxname"], row["svname"]): int(row["scur"] or 0)
            for row in csv.DictReader(io.StringIO(lines))
        }
        found = {}
        for line in self.ask("show servers state").splitlines():
            words = line.split()
            if len(words) < 21 or line.startswith("#"):
                continue
            key = (words[1], words[3])
            admin = int(words[6])
            found[key] = Server(
                words[5] == "2",  # SRV_ST_RUNNING
                bool(admin & DRAINED),
                bool(admin & MAINTENANCE),
                sessions.get(key, 0),
                words[20] == "1",  # srv_use_ssl
            )
        return found

    def put(self, keys: list[Key], state: str) -> None:
        """Set the state of servers: drain or ready."""
        for backend, server in keys:
            said = self.ask(f"set server {backend}/{server} state {state}").strip()
            if said:
                raise TroubleError(f"HAProxy does not set {backend}/{server} to {state}: {said}")


def drain(haproxy: HAProxy, keys: list[Key], pages: set[str], timeout: float) -> list[Key]:
    """Take servers out of rotation, and wait until their requests are answered."""
    known = haproxy.servers()
    leaving = [
        key
        for key in keys
        if not known[key].kept_out
        and any(
            there.takes and other[0] == key[0] and other[1] not in {name for _, name in keys}
            for other, there in known.items()
        )
    ]
    haproxy.put(leaving, "drain")
    end = time.monotonic() + timeout
    while True:
        known = haproxy.servers()
        busy = {key: known[key].sessions for key in leaving if key[0] in pages}
        if not any(busy.values()):
            return leaving
        if time.monotonic() > end:
            haproxy.put(leaving, "ready")
            told = ", ".join(f"{'/'.join(key)}: {count}" for key, count in busy.items() if count)
            raise TroubleError(
                f"After {timeout:.0f} s requests are unanswered still ({told}), so nothing was done to the host. "
                "Raise loadbalancer_drain_timeout, or run it again at a quieter time."
            )
        time.sleep(0.2)  # between two looks; the time-out above ends them


def serve(haproxy: HAProxy, keys: list[Key], timeout: float, steady: float) -> list[Key]:
    """Give servers back that were taken out, once they have been well for some time."""
    known = haproxy.servers()
    back = [key for key in keys if known[key].drained]
    asked = [key for key in keys if not known[key].kept_out]
    since, end = time.monotonic(), time.monotonic() + timeout
    while time.monotonic() < since + steady:
        known = haproxy.servers()
        ill = [key for key in asked if not known[key].well]
        if ill:
            since = time.monotonic()
            if since > end:
                haproxy.put(back, "ready")  # it is HAProxy's own word that keeps visitors away
                raise TroubleError(
                    f"After {timeout:.0f} s HAProxy does not find {', '.join(map('/'.join, ill))} well. "
                    "Look at the site's health path on that host."
                )
        time.sleep(0.5)  # between two looks; the time-out above ends them
    haproxy.put(back, "ready")
    return back


def answers(server: dict[str, Any], ca: str) -> None:
    """Connect to a server as HAProxy is to ask it.

    Raises:
        OSError: it does not answer, or shows no certificate of the CA for its name.
    """
    address, _, port = server["address"].rpartition(":")
    with socket.create_connection((address.strip("[]"), int(port)), 5) as bare:
        if server["tls"]:
            context = ssl.create_default_context(cafile=ca)
            # as HAProxy judges a CA that says nothing of what its key is for
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            context.wrap_socket(bare, server_hostname=server["name"]).close()


def tried(known: dict[Key, Server], addresses: list[dict[str, Any]], ca: str) -> list[str]:
    """Try the servers that HAProxy is to ask otherwise than so far, and return their names."""
    anew = {
        server["name"]: server
        for server in addresses
        for key, there in known.items()
        if key[1] == server["name"] and there.tls != server["tls"]
    }
    for name, server in anew.items():
        try:
            answers(server, ca)
        except OSError as error:
            tls, how = ("true", "by") if server["tls"] else ("false", "without")
            raise TroubleError(
                f"switchboard_balanced_tls is {tls}: {name} does not answer at {server['address']} {how} TLS yet "
                f"({error}). HAProxy goes on asking it as before. Run site.yml for all hosts."
            ) from error
    return list(anew)


def main() -> None:
    """Run the module."""
    names: dict[str, Any] = {"type": "list", "elements": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "servers": names,
            "sites": names,
            "state": {
                "choices": ["drained", "served", "back", "seen", "tried"],
                "required": True,
            },
            "addresses": {"type": "list", "elements": "dict", "default": []},
            "ca": {"type": "path"},
            "timeout": {"type": "int", "default": 90},
            "steady": {"type": "int", "default": 5},
            "socket": {"type": "path", "default": "/run/switchboard-haproxy/admin.sock"},
        },
        supports_check_mode=True,
    )
    params = module.params
    haproxy, pages = HAProxy(params["socket"]), set(params["sites"])
    try:
        known = haproxy.servers()
    except OSError:
        module.exit_json(changed=False, servers=[], ways=[])
    keys = [
        (backend, server)
        for site in params["sites"]
        for backend in (site, f"{site}.sockets")
        for server in params["servers"]
        if (backend, server) in known
    ]
    ways = sorted({known[key].tls for key in keys})
    try:
        if params["state"] in ("seen", "tried"):
            # in check mode they are not set up for it yet
            addresses = [] if module.check_mode else params["addresses"]
            anew = tried(known, addresses, params["ca"]) if params["state"] == "tried" else []
            module.exit_json(changed=False, servers=anew, ways=ways)
        if params["state"] == "back":
            done = [key for key in keys if known[key].drained]
            if not module.check_mode:
                haproxy.put(done, "ready")
        elif module.check_mode:
            done = []
        elif params["state"] == "drained":
            done = drain(haproxy, keys, pages, params["timeout"])
        else:
            done = serve(haproxy, keys, params["timeout"], params["steady"])
    except (TroubleError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(done), servers=["/".join(key) for key in done], ways=ways)


if __name__ == "__main__":
    main()
