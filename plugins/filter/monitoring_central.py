"""One Prometheus for several hosts: who sends it what is measured, who reads it, and by which passwords."""

from __future__ import annotations

import base64
import ctypes
import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

ADDRESS = "switchboard_address"
GROUP = "monitoring"
PORT = 9095
# Who logs in to it: the hosts that send, and whoever reads.
USERS = ("hosts", "reader")
LEAST, MOST = 16, 72  # characters of a password; bcrypt reads no more than 72
LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2")  # libxcrypt, as Debian and Fedora call it
STANDARD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
OF_BCRYPT = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
COST = 10  # what Prometheus' own documentation uses ("Securing Prometheus API and UI endpoints")


def monitoring_central(
    groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any], host: str
) -> dict[str, Any]:
    """Return what one host is told of the Prometheus that hears of all hosts.

    There is one on each host of the group ``monitoring``. Every host that is watched sends to all of them.

    Returns:
        ``address``, where the one of this host listens, empty without one; ``send_to``, where this host sends, each
        with name and url; ``users``, who has a password, none without the group; ``hosts``, the central ones; and
        ``readers``, who else gets to this one: ``port``, ``hosts`` and ``from``.
    """
    centers = [name for name in groups.get(GROUP, []) if hostvars[name].get(ADDRESS)]
    watched = [
        name
        for name in (groups.get("switchboard", []) if centers else [])
        if hostvars[name].get("monitoring_mail_to")
    ]
    own, here = hostvars[host], host in centers
    return {
        "address": own[ADDRESS] if here else "",
        "send_to": [_place(name, hostvars[name]) for name in centers if host in watched],
        "users": list(USERS) if centers else [],
        "hosts": centers,
        "readers": {
            "port": own.get("monitoring_central_port", PORT),
            "hosts": [name for name in watched if name != host],
            "from": list(own.get("monitoring_central_readers") or []),
        }
        if here
        else {},
    }


def _place(name: str, variables: Mapping[str, Any]) -> dict[str, str]:
    address = str(variables[ADDRESS])
    address = f"[{address}]" if ":" in address else address
    port = variables.get("monitoring_central_port", PORT)
    return {"name": name, "url": f"https://{address}:{port}/api/v1/write"}


def monitoring_central_faults(
    groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any], host: str
) -> list[str]:
    """Return what keeps a host from hearing of the others, or from being read, as sentences; no password is in one."""
    own, found = hostvars[host], []
    if host in groups.get(GROUP, []):
        for variable, why in (
            (ADDRESS, "the others send to the private address of a host in the group monitoring"),
            ("monitoring_mail_to", "a host in the group monitoring is watched like the others"),
        ):
            if not own.get(variable):
                found.append(
                    f"{variable} of {host} is empty: {why}. Set it, or take {host} out of that group (hosts.yml)."
                )
    readers = own.get("monitoring_central_readers") or []
    if readers and not groups.get(GROUP):
        found.append(
            f"monitoring_central_readers is {', '.join(map(str, readers))}: no host is in the group monitoring, so "
            "there is nothing to read. Add one to it (hosts.yml)."
        )
    found += [
        f"monitoring_central_readers is {text}: that is neither an address nor a network. Write one such as 192.0.2.7."
        for text in readers
        if not _is_network(text)
    ]
    given = (own.get("switchboard_secrets") or {}).get("monitoring") or {}
    for user, word in given.items():
        name = f"switchboard_secrets.monitoring.{user} is hidden"
        if user not in USERS:
            found.append(f"{name}: nobody is called so. Use {' or '.join(USERS)}.")
        elif len(str(word).split()) != 1 or not LEAST <= len(str(word).encode()) <= MOST:
            found.append(
                f"{name}: a password is {LEAST} to {MOST} bytes without spaces. Take it away, and one is made."
            )
    return found


def _is_network(text: Any) -> bool:
    try:
        ipaddress.ip_network(str(text), strict=False)
    except ValueError:
        return False
    return True


def monitoring_central_web(
    passwords: Mapping[str, str], host: str, certificate: str, key: str
) -> dict[str, Any]:
    """Return by which certificate a Prometheus answers, and whom it lets in (its "web configuration")."""
    return {
        "tls_server_config": {"cert_file": certificate, "key_file": key},
        "basic_auth_users": {
            user: bcrypt_hash(word, f"{host} {user}") for user, word in sorted(passwords.items())
        },
    }


def bcrypt_hash(password: str, place: str) -> str:
    """Return what bcrypt makes of a password, always the same at the same place (crypt(5)).

    The salt is of the place alone: one that came of the password too would be a quicker way to guess it.

    Raises:
        AnsibleFilterError: the control node's libcrypt is not there, or does not know bcrypt.
    """
    salt = base64.b64encode(hashlib.sha256(place.encode()).digest()[:16]).rstrip(b"=")
    setting = f"$2b${COST:02}$".encode() + salt.translate(bytes.maketrans(STANDARD, OF_BCRYPT))
    for name in LIBRARIES:
        try:
            crypt = ctypes.CDLL(name).crypt
        except OSError:
            continue
        crypt.restype = ctypes.c_char_p
        made = crypt(password.encode(), setting) or b""
        if made.startswith(b"$2b$"):
            return str(made.decode())
    raise AnsibleFilterError(
        f"The control node has no libcrypt ({', '.join(LIBRARIES)}) that knows bcrypt, by which Prometheus keeps "
        "passwords. Run this on Linux."
    )


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "monitoring_central": monitoring_central,
            "monitoring_central_faults": monitoring_central_faults,
            "monitoring_central_web": monitoring_central_web,
        }
