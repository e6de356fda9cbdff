#!/usr/bin/python3
"""Note which servers an operator or a release has taken out of HAProxy, for the process that comes after this one.

haproxy_states.py CONFIG SOCKET FILE

HAProxy reads the file when it starts (server-state-file). It would take addresses and ports from it too, so of what it
says (`show servers state`) only servers in maintenance or drained are kept, with the ports of the configuration.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from pathlib import Path

MAINTENANCE, DRAINED = 0x01, 0x08  # srv_admin_state (management guide, "show servers state")
FIELDS = 20  # of a line of version 1, up to srvrecord
SECONDS = 10.0


def said(path: str) -> str:
    """Return what HAProxy says of its servers.

    Raises:
        OSError: nobody answers.
        ValueError: the answer is of another version, or none.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(SECONDS)
        connection.connect(path)
        connection.sendall(b"show servers state\n")
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    if not answer.startswith(b"1\n"):
        raise ValueError(f"it answers {answer[:80]!r}")
    return answer.decode()


def ports_of(config: str) -> dict[tuple[str, str], str]:
    """Return the port of each server by its backend and its name."""
    found, backend = {}, ""
    for line in config.splitlines():
        words = line.split()
        if words[:1] == ["backend"]:
            backend = words[1]
        elif words[:1] == ["server"]:
            found[backend, words[1]] = words[2].rpartition(":")[2]
    return found


def kept(states: str, ports: Mapping[tuple[str, str], str]) -> str:
    """Return the administrative states alone, of servers that the configuration has."""
    lines = ["1"]
    for line in states.splitlines():
        words = line.split()
        if len(words) < FIELDS or line.startswith("#"):
            continue
        state, port = int(words[6]) & (MAINTENANCE | DRAINED), ports.get((words[1], words[3]))
        if state and port:
            words[6] = str(MAINTENANCE if state & MAINTENANCE else DRAINED)
            words[4] = words[17] = words[19] = "-"  # srv_addr, srv_fqdn, srvrecord
            words[18] = port
            lines.append(" ".join(words[:FIELDS]))
    return "".join(f"{line}\n" for line in lines)


def main(config: str, path: str, target: str) -> int:
    """Write the file; where that fails there is none, which is better than an old one."""
    file = Path(target)
    file.unlink(missing_ok=True)
    try:
        text = kept(said(path), ports_of(Path(config).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        print(
            f"HAProxy does not say at {path} which web hosts are taken out: {error}",
            file=sys.stderr,
        )
        return 1
    draft = file.with_name(f".{file.name}.new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
