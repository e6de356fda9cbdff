"""Filters of the zookeeper role: who may ask, as Java reads it, and in which order an ensemble is restarted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

USER = re.compile(r"[A-Za-z0-9._-]{1,64}")
PASSWORD = re.compile(r"[^\\\"'\x00-\x1f\x7f]+")


def zookeeper_users_fault(users: Mapping[str, Any]) -> str:
    """Return what is wrong with the users, without a password in it, or an empty text."""
    for name, password in users.items():
        if not USER.fullmatch(str(name)):
            return f"{name!r} is no name."
        if not isinstance(password, str) or not PASSWORD.fullmatch(password):
            return f"the password of {name} is empty, no text, or has a character that Java's file of log-ins can't hold."
    return ""


def zookeeper_jaas(users: Mapping[str, str]) -> str:
    """Return a server's file of log-ins (JAAS, DigestLoginModule) with the password of each user."""
    lines = [f'  user_{name}="{password}"' for name, password in sorted(users.items())]
    body = "\n".join(["  org.apache.zookeeper.server.auth.DigestLoginModule required", *lines])
    return f"// Ansible managed\nServer {{\n{body};\n}};\n"


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "zookeeper_jaas": zookeeper_jaas,
            "zookeeper_users_fault": zookeeper_users_fault,
        }
