"""Where the logs go: the receiver with its certificates, and what the logs role refuses before it changes anything."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

PORT = 6514  # RFC 5425, section 4.1
LEAST_MB = 16
NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
PATH = re.compile(r"/[A-Za-z0-9._*?/-]+")
PROGRAM = re.compile(r"[A-Za-z0-9_.-]{1,16}")
PEM = "-----BEGIN "
FILE = "Write its PEM, or the path of a file on the control node."

# variable, value, why, remedy
Broken = tuple[str, Any, str, str]


def pem(value: Any) -> str:
    """Return what is given as PEM, or as a file with it; empty where it is neither."""
    text = str(value or "")
    if text and PEM not in text:
        path = Path(text).expanduser()
        try:
            text = path.read_text(encoding="ascii") if path.is_file() else ""
        except (OSError, ValueError):
            text = ""
    return f"{text.strip()}\n" if PEM in text else ""


def logs_receiver(logs_to: Mapping[str, Any]) -> dict[str, Any]:
    """Return the receiver with all its keys but the secret one; ca and certificate are their PEMs."""
    address = str(logs_to.get("address") or "")
    return {
        "address": address,
        "port": int(logs_to.get("port") or PORT),
        "name": str(logs_to.get("name") or address),
        "ca": pem(logs_to.get("ca")),
        "certificate": pem(logs_to.get("certificate")),
    }


def logs_key(logs_to: Mapping[str, Any]) -> str:
    """Return the PEM of the key, empty where none is given."""
    return pem(logs_to.get("key"))


def logs_rules(
    logs_to: Mapping[str, Any], queue_mb: int, files: Sequence[Mapping[str, str]]
) -> list[dict[str, Any]]:
    """Return what can't work, as rules that do not hold; empty when all is well.

    Args:
        logs_to: the receiver, as the inventory has it; empty for none.
        queue_mb: the bound of the queue, in megabytes.
        files: mappings of path and program.

    Returns:
        Mappings of variable, value, why and remedy. No value is that of the key.
    """
    if not logs_to:
        return []
    broken = [
        *_broken_receiver(logs_to),
        *_broken_certificates(logs_to),
        *_broken_rest(queue_mb, files),
    ]
    return [
        {
            "variable": variable,
            "value": "empty" if value in ("", None) else value,
            "why": why,
            "remedy": remedy,
        }
        for variable, value, why, remedy in broken
    ]


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return bool(NAME.fullmatch(text))
    return True


def _broken_receiver(logs_to: Mapping[str, Any]) -> Iterator[Broken]:
    for key in ("address", "name"):
        value = str(logs_to.get(key) or "")
        if not _is_host(value) and (value or key == "address"):
            why = "that is neither a name nor an address of a host."
            yield f"logs_to.{key}", value, why, "Write one such as logs.example.org."
    port = logs_to.get("port", PORT)
    if not re.fullmatch("[0-9]+", str(port)) or not 1 <= int(port) <= 65535:
        yield (
            "logs_to.port",
            port,
            "that is no port.",
            f"Use 1 to 65535; {PORT} is syslog's over TLS.",
        )


def _broken_certificates(logs_to: Mapping[str, Any]) -> Iterator[Broken]:
    shown = {key: _shown(logs_to.get(key)) for key in ("ca", "certificate")}
    shown["key"] = "hidden" if logs_to.get("key") else ""
    loaded: dict[str, Any] = {}
    for key, why in {
        "ca": "without it this host can't tell the receiver from somebody else.",
        "certificate": "a key is of no use without its certificate.",
        "key": "a certificate is of no use without its key.",
    }.items():
        if not logs_to.get(key):
            if key == "ca" or logs_to.get("key") or logs_to.get("certificate"):
                yield f"logs_to.{key}", "", why, FILE
            continue
        try:
            loaded[key] = _loaded(key, pem(logs_to[key]))
        except (ValueError, TypeError):  # TypeError: a key behind a password
            what = "no private key without a password" if key == "key" else "no certificate"
            yield f"logs_to.{key}", shown[key], f"there is {what}.", FILE
    if {"certificate", "key"} <= loaded.keys() and loaded["certificate"] != loaded["key"]:
        yield (
            "logs_to.key",
            "hidden",
            "it is not that of logs_to.certificate.",
            "Name the key that belongs to it.",
        )


def _shown(value: Any) -> str:
    return "a PEM" if PEM in str(value or "") else str(value or "")


def _loaded(key: str, text: str) -> bytes:
    """Return the public key of a PEM; raise a ValueError or TypeError where it has none."""
    data = text.encode()
    if key == "key":
        public = serialization.load_pem_private_key(data, None).public_key()
    else:
        public = x509.load_pem_x509_certificates(data)[0].public_key()
    return public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _broken_rest(queue_mb: int, files: Sequence[Mapping[str, str]]) -> Iterator[Broken]:
    if int(queue_mb) < LEAST_MB:
        yield (
            "logs_queue_mb",
            queue_mb,
            "the queue is written in files of 4 MB.",
            f"Use {LEAST_MB} or more.",
        )
    for file in files:
        if not PATH.fullmatch(file["path"]) or ".." in file["path"]:
            yield (
                "logs_files",
                file["path"],
                "that is no whole path.",
                "Write one such as /var/log/lab/*.log.",
            )
        if not PROGRAM.fullmatch(file["program"]):
            why = "that is no name of a program."
            yield "logs_files", file["program"], why, "Use up to 16 letters, digits, _, . and -."


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {"logs_receiver": logs_receiver, "logs_key": logs_key, "logs_rules": logs_rules}
