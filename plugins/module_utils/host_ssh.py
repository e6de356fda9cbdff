"""How this host is reached over SSH: the ports of sshd and of its socket, and what its configuration says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Run = Callable[[list[str]], tuple[int, str, str]]


def sshd_ports(text: str) -> list[int]:
    """Return the ports that sshd listens on, from the output of `sshd -T`."""
    ports = re.findall(r"^port (\d+)$", text, re.M)
    ports += re.findall(r"^listenaddress \S*:(\d+)$", text, re.M)
    return sorted({int(port) for port in ports})


def socket_ports(text: str) -> list[int]:
    """Return the ports of a socket, from its property Listen: `[::]:22 (Stream)`."""
    return sorted({int(port) for port in re.findall(r":(\d+) \(Stream\)", text)})


def ssh_ports(run: Run) -> list[int]:
    """Return the ports that SSH answers on: those of an active socket, else those of sshd; 22 where nothing tells."""
    code, out, _ = run(["systemctl", "show", "--property=ActiveState,Listen", "ssh.socket"])
    if code == 0 and "ActiveState=active" in out and (ports := socket_ports(out)):
        return ports
    code, out, _ = run(["/usr/sbin/sshd", "-T"])
    return (sshd_ports(out) if code == 0 else []) or [22]


def settings(text: str) -> dict[str, Any]:
    """Return what `sshd -T` says, by the directives' names in small letters."""
    return dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
