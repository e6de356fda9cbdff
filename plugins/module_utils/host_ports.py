"""Who listens on which TCP port of this host, and which of the wanted ports cannot be had."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import socket
import struct
from typing import Any

ANY = {"*", "0.0.0.0", "::", ""}  # noqa: S104 - compared with, not bound to


def decode_address(text: str) -> str:
    """Decode the hexadecimal address of /proc/net/tcp or tcp6 (proc(5)): native-endian words of 32 bits."""
    words = [struct.pack("=I", int(text[i : i + 8], 16)) for i in range(0, len(text), 8)]
    raw = b"".join(words)
    if len(raw) == 16 and raw[:12] == b"\0" * 10 + b"\xff\xff":
        raw = raw[12:]
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def listening_sockets(root: str = "/proc") -> list[tuple[str, int, str]]:
    """Return (address, port, inode) of each listening TCP socket; state 0A is TCP_LISTEN."""
    found = []
    for name in ("tcp", "tcp6"):
        try:
            with open(f"{root}/net/{name}", encoding="ascii") as table:
                rows = table.readlines()[1:]
        except OSError:
            continue  # a host without IPv6 has no tcp6
        for row in rows:
            fields = row.split()
            if fields[3] == "0A":
                address, port = fields[1].split(":")
                found.append((decode_address(address), int(port, 16), fields[9]))
    return found


def holders(inodes: set[str], root: str = "/proc") -> dict[str, list[tuple[int, str, str]]]:
    """Map each socket inode to its holders, as (process id, command name, systemd unit)."""
    result: dict[str, list[tuple[int, str, str]]] = {}
    for link in glob.glob(f"{root}/[0-9]*/fd/*"):
        try:
            target = os.readlink(link)
        except OSError:
            continue  # the process or the descriptor is gone
        match = re.match(r"socket:\[(\d+)\]$", target)
        if not match or match.group(1) not in inodes:
            continue
        pid = int(link[len(root) + 1 :].split("/")[0])
        holder = (pid, command_of(pid, root), unit_of(pid, root))
        if holder not in result.setdefault(match.group(1), []):
            result[match.group(1)].append(holder)
    return result


def socket_users(inodes: set[str], root: str = "/proc") -> dict[str, int]:
    """Map each TCP socket's inode to the user id that made it (proc(5), the column uid)."""
    users: dict[str, int] = {}
    for name in ("tcp", "tcp6"):
        try:
            with open(f"{root}/net/{name}", encoding="ascii") as table:
                rows = [row.split() for row in table.readlines()[1:]]
        except OSError:
            continue  # a host without IPv6 has no tcp6
        users |= {row[9]: int(row[7]) for row in rows if row[9] in inodes}
    return users


def likely_holders(
    user: int, wanted: list[dict[str, Any]], root: str = "/proc"
) -> list[tuple[int, str, str]]:
    """Return who may hold a socket of ``user`` where the kernel hides it (root without CAP_SYS_PTRACE).

    That is a process of that user in one of the wanted units, or else any process of that user.
    """
    processes = []
    for path in glob.glob(f"{root}/[0-9]*"):
        try:
            owner = os.stat(path).st_uid
        except OSError:
            continue  # it has ended
        if owner == user:
            pid = int(path[len(root) + 1 :])
            processes.append((pid, command_of(pid, root), unit_of(pid, root)))
    known = [process for process in processes if any(belongs(process, entry) for entry in wanted)]
    # a unit's own processes tell more than a session's
    processes.sort(key=lambda process: (not process[2].endswith(".service"), process[0]))
    return known[:1] or processes[:1] or [(0, "a process", f"user {user}")]


def command_of(pid: int, root: str = "/proc") -> str:
    """Return the command name of a process, or "?" when it has ended."""
    try:
        with open(f"{root}/{pid}/comm", encoding="utf-8", errors="replace") as source:
            return source.read().strip()
    except OSError:
        return "?"


def unit_of(pid: int, root: str = "/proc") -> str:
    """Return the systemd unit of a process by its control group, or "" when it is in none."""
    try:
        with open(f"{root}/{pid}/cgroup", encoding="ascii", errors="replace") as source:
            lines = source.read().splitlines()
    except OSError:
        return ""
    for line in lines:
        hierarchy, controller, path = line.split(":", 2)
        if controller == "name=systemd" or (hierarchy == "0" and controller == ""):
            units = [
                part for part in path.split("/") if part.endswith((".service", ".socket", ".scope"))
            ]
            if units:
                return units[-1]
    return ""


def belongs(holder: tuple[int, str, str], entry: dict[str, Any]) -> bool:
    """Tell whether a holder is the entry's unit; systemd (process 1) holds the sockets of socket units."""
    if holder[0] == 1:
        return bool(entry.get("socket_activated"))
    return fnmatch.fnmatchcase(holder[2], entry["unit"])


def refusals(
    wanted: list[dict[str, Any]],
    sockets: list[tuple[str, int, str]],
    owners: dict[str, list[tuple[int, str, str]]],
) -> list[str]:
    """Return one sentence for each port that can't be had; an empty list when all is well."""
    errors = []
    seen: dict[tuple[int, str], str] = {}
    for entry in wanted:
        # text or number, as it comes out of a template; int() would cut a fraction off
        text = str(entry["port"]).strip()
        port = int(text) if text.isdecimal() else 0
        if not 1 <= port <= 65535:
            errors.append(
                f"{entry['variable']} is {entry['port']}: a TCP port is a whole number from 1 to 65535. Choose one."
            )
            continue
        for (other_port, other_address), variable in seen.items():
            if other_port == port and (
                {other_address, entry["address"]} & ANY or other_address == entry["address"]
            ):
                errors.append(
                    f"{entry['variable']} is {port}: {variable} names the same port. Give each service its own."
                )
        seen[(port, entry["address"])] = entry["variable"]
        for address, held, inode in sockets:
            if held != port or not (
                {address, entry["address"]} & ANY or address == entry["address"]
            ):
                continue
            strangers = [holder for holder in owners.get(inode, []) if not belongs(holder, entry)]
            if strangers:
                pid, command, unit = strangers[0]
                errors.append(
                    f"{entry['variable']} is {port}: {command} (process {pid}, {unit or 'no unit'}) listens on "
                    f"{address}:{port} already. Stop it, or choose another port."
                )
                break
    return errors


def port_faults(wanted: list[dict[str, Any]]) -> list[str]:
    """Return one sentence for each port that a service could not bind.

    Args:
        wanted: mappings of variable, port (1 to 65535), address (all of them without one), unit (that may hold it
            already, or a shell pattern such as ``daphne-lab@*``), and socket_activated (systemd may hold it).
    """
    wanted = [{"address": "*", "socket_activated": False, **entry} for entry in wanted]
    numbers = {int(entry["port"]) for entry in wanted if str(entry["port"]).strip().isdecimal()}
    sockets = [row for row in listening_sockets() if row[1] in numbers]
    owners = holders({row[2] for row in sockets}) if sockets else {}
    users = socket_users({row[2] for row in sockets} - owners.keys()) if sockets else {}
    for _address, port, inode in sockets:
        if inode in users:
            entries = [entry for entry in wanted if str(entry["port"]).strip() == str(port)]
            owners[inode] = likely_holders(users[inode], entries)
    return refusals(wanted, sockets, owners)
