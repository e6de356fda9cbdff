"""What is asked of Kafka's brokers about users, ACLs and quotas, by their own protocol.

A user is a SCRAM credential; one that was made here is known again by the number of its iterations, since Kafka keeps
no note with a user. The password itself goes to no broker.
"""

from __future__ import annotations

import secrets
import struct
import time
from collections.abc import Iterable
from typing import NamedTuple

from ansible.module_utils.kafka_client import (
    Answer,
    Connection,
    KafkaError,
    LoginRefused,
    array,
    compact,
    compact_array,
    salted,
    text,
)

DESCRIBE_ACLS, CREATE_ACLS, DELETE_ACLS = 29, 30, 31
DESCRIBE_QUOTAS, ALTER_QUOTAS = 48, 49
DESCRIBE_SCRAM, ALTER_SCRAM = 50, 51
SHA_512 = 2  # ScramMechanism
# Kafka takes 4096 to 16384. Of its own tools' making none is likely to have this number.
ITERATIONS = 8_209
# A user that is taken away in KRaft stays with this number and a password that nobody knows: once one is deleted there,
# a broker of Kafka 3.9.2 or 4.4.0 that restarts reads its log and may know no user at all.
GONE = 8_211
# ResourceType, PatternType, AclOperation and AclPermissionType of Kafka
TYPES = {
    "topic": 2,
    "group": 3,
    "cluster": 4,
    "transactional_id": 5,
    "delegation_token": 6,
    "user": 7,
}
PATTERNS = {"literal": 3, "prefixed": 4}
OPERATIONS = {
    **{"all": 2, "read": 3, "write": 4, "create": 5, "delete": 6, "alter": 7, "describe": 8},
    **{"cluster_action": 9, "describe_configs": 10, "alter_configs": 11, "idempotent_write": 12},
    **{"create_tokens": 13, "describe_tokens": 14, "two_phase_commit": 15},
}
PERMISSIONS = {"deny": 2, "allow": 3}
ANY = 1
RESOURCE_NOT_FOUND, SECURITY_DISABLED = 91, 54
SCRAM_LOGIN = {"sasl.mechanism": "SCRAM-SHA-512"}


class Acl(NamedTuple):
    """One entry of Kafka's access control; the numbers of Kafka as its words."""

    type: str
    name: str
    pattern: str
    principal: str
    host: str
    operation: str
    permission: str

    def __str__(self) -> str:
        """Return it in the words of a diff."""
        star = "*" if self.pattern == "prefixed" else ""
        host = "" if self.host == "*" else f" from {self.host}"
        return f"{self.permission} {self.operation} {self.type} {self.name}{star}{host}"

    @property
    def user(self) -> str:
        """Return the user's name, empty where the principal is something else."""
        kind, _, name = self.principal.partition(":")
        return name if kind == "User" else ""

    def packed(self) -> bytes:
        """Return it as CreateAcls and, as a filter that fits it alone, DeleteAcls take it."""
        resource = struct.pack(">b", TYPES[self.type]) + text(self.name)
        resource += (
            struct.pack(">b", PATTERNS[self.pattern]) + text(self.principal) + text(self.host)
        )
        operation, permission = OPERATIONS[self.operation], PERMISSIONS[self.permission]
        return resource + struct.pack(">bb", operation, permission)


def word(words: dict[str, int], number: int) -> str:
    """Return Kafka's word for one of its numbers; the number itself for one that came after."""
    return next((key for key, value in words.items() if value == number), str(number))


class Access:
    """Users, ACLs and quotas of a cluster, through its controller."""

    def __init__(self, address: str, login: dict[str, str], timeout: int, quorum: bool = False):
        self.address, self.login, self.timeout, self.quorum = address, login, timeout, quorum
        self.connection = self._controller()

    def _controller(self) -> Connection:
        """Connect to the controller, which alone changes users; a cluster that has just begun may have none yet."""
        end = time.monotonic() + self.timeout
        while True:
            connection = Connection(self.address, self.login, self.timeout)
            told = connection.metadata()
            leader = told["brokers"].get(told["controller"])
            if leader == self.address:
                return connection
            connection.socket.close()
            if leader:
                return Connection(leader, self.login, self.timeout)
            if time.monotonic() > end:
                raise TimeoutError(f"the brokers have no controller after {self.timeout} seconds")
            time.sleep(0.2)  # until the brokers have elected one; the time-out above raises

    def users(self) -> dict[str, int]:
        """Return each user with a password for SCRAM-SHA-512, and the number of its iterations."""
        answer = self.connection.ask(DESCRIBE_SCRAM, 0, b"\0", flexible=True)  # null: all of them
        answer.take(">i")  # throttling
        refuse("users", answer.take(">h"), answer.text())

        def credential() -> tuple[int, int]:
            return answer.take(">b"), answer.take(">i")

        def user() -> tuple[str, dict[int, int]]:
            name = answer.text()
            code, told = answer.take(">h"), answer.text()
            if code != RESOURCE_NOT_FOUND:
                refuse(f"user {name}", code, told)
            return name, dict(answer.array(credential))

        found = answer.array(user)
        return {name: kinds[SHA_512] for name, kinds in found if kinds.get(SHA_512, GONE) != GONE}

    def known(self, name: str, password: str) -> bool:
        """Say whether a user gets in with a password."""
        login = {**self.login, **SCRAM_LOGIN, "sasl.username": name, "sasl.password": password}
        try:
            Connection(self.address, login, self.timeout).socket.close()
        except LoginRefused:
            return False
        return True

    def change_users(self, passwords: dict[str, str], removed: Iterable[str]) -> None:
        """Set passwords and take users away."""
        removed = list(removed)
        gone = [compact(name.encode()) + struct.pack(">b", SHA_512) for name in removed]
        wanted = [(name, password, ITERATIONS) for name, password in passwords.items()]
        if self.quorum:
            gone, wanted = [], wanted + [(name, secrets.token_hex(32), GONE) for name in removed]
        made = []
        for name, password, iterations in wanted:
            salt = secrets.token_bytes(24)
            head = compact(name.encode()) + struct.pack(">bi", SHA_512, iterations)
            made.append(head + compact(salt) + compact(salted(password, salt, iterations)))
        body = compact_array(gone) + compact_array(made)
        answer = self.connection.ask(ALTER_SCRAM, 0, body, flexible=True)
        answer.take(">i")  # throttling
        answer.array(lambda: refuse(f"user {answer.text()}", answer.take(">h"), answer.text()))
        end = time.monotonic() + self.timeout
        for name, password in passwords.items():
            while not self.known(name, password):
                if time.monotonic() > end:
                    raise TimeoutError(f"{name} does not get in after {self.timeout} seconds")
                time.sleep(0.1)  # until the broker has heard of it; the time-out above raises

    def acls(self) -> set[Acl]:
        """Return all ACLs."""
        everything = struct.pack(">b", ANY) + text(None) + struct.pack(">b", ANY)
        everything += text(None) + text(None) + struct.pack(">bb", ANY, ANY)
        answer = self.connection.ask(DESCRIBE_ACLS, 1, everything)
        answer.take(">i")  # throttling
        refuse("ACLs", answer.take(">h"), answer.text())
        found = set()

        def resource() -> None:
            kind, name = word(TYPES, answer.take(">b")), answer.text()
            pattern = word(PATTERNS, answer.take(">b"))

            def entry() -> None:
                principal, host = answer.text(), answer.text()
                operation = word(OPERATIONS, answer.take(">b"))
                permission = word(PERMISSIONS, answer.take(">b"))
                found.add(Acl(kind, name, pattern, principal, host, operation, permission))

            answer.array(entry)

        answer.array(resource)
        return found

    def change_acls(self, granted: Iterable[Acl], revoked: Iterable[Acl]) -> None:
        """Add ACLs, and take others away."""
        for key, acls in ((CREATE_ACLS, granted), (DELETE_ACLS, revoked)):
            wanted = [acl.packed() for acl in acls]
            if not wanted:
                continue
            answer = self.connection.ask(key, 1, array(wanted))
            answer.take(">i")  # throttling
            if key == CREATE_ACLS:
                answer.array(lambda answer=answer: refuse("ACL", answer.take(">h"), answer.text()))
            else:
                answer.array(lambda answer=answer: deleted(answer))

    def quotas(self) -> dict[str, dict[str, float]]:
        """Return the quotas of each user that has some."""
        every = text("user") + struct.pack(">b", 2) + text(None)  # any name
        answer = self.connection.ask(DESCRIBE_QUOTAS, 0, array([every]) + struct.pack(">?", True))
        answer.take(">i")  # throttling
        refuse("quotas", answer.take(">h"), answer.text())

        def entry() -> tuple[str, dict[str, float]]:
            names = answer.array(lambda: (answer.text(), answer.text()))
            values = answer.array(lambda: (answer.text(), answer.take(">d")))
            return dict(names)["user"], dict(values)

        found = dict(answer.array(entry))
        found.pop("", None)  # that of all who have none of their own
        return found

    def change_quotas(self, changes: dict[str, dict[str, float | None]]) -> None:
        """Set quotas of users; null takes one away."""
        entries = []
        for name, values in changes.items():
            steps = [
                text(key) + struct.pack(">d?", value or 0.0, value is None)
                for key, value in values.items()
            ]
            entries.append(array([text("user") + text(name)]) + array(steps))
        answer = self.connection.ask(ALTER_QUOTAS, 0, array(entries) + struct.pack(">?", False))
        answer.take(">i")  # throttling

        def result() -> None:
            code, told = answer.take(">h"), answer.text()
            names = answer.array(lambda: (answer.text(), answer.text()))
            refuse(f"quota of {dict(names).get('user', '')}", code, told)

        answer.array(result)


def refuse(what: str, code: int, told: str) -> None:
    """Raise the error that a broker has put into its answer, if it has."""
    if code:
        raise KafkaError(what, code, told)


def deleted(answer: Answer) -> None:
    """Read what DeleteAcls says of one filter, and raise its error."""
    code, told = answer.take(">h"), answer.text()

    def match() -> tuple[int, str]:
        failed = answer.take(">h"), answer.text()
        answer.take(">b")
        answer.text()
        answer.take(">b")
        answer.text()
        answer.text()
        answer.take(">h")
        return failed

    matches: list[tuple[int, str]] = answer.array(match)
    for found in [(code, told), *matches]:
        refuse("ACL", *found)
