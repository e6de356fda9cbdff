"""A small client of Kafka's own protocol, for what no library of Debian's can do: users, ACLs and quotas.

It needs nothing but Python, so that programs on a host use it too, who only want to know whether a broker answers. The
layout of each message is that of the Kafka protocol guide, in the oldest version that Kafka 3.9 and 4 both understand.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import pwd
import re
import secrets
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

METADATA, HANDSHAKE, DESCRIBE_CONFIGS, AUTHENTICATE = 3, 17, 32, 36  # API keys
DESCRIBE_QUORUM = 55
CLIENT = "switchboard"
MOST = 64 * 2**20  # bytes of an answer
SCRAM = "SCRAM-SHA-512"
# Kafka protocol guide, "Error Codes"
AUTHENTICATION_FAILED = 58
TOPIC, BROKER = 2, 4  # ConfigResource.Type


class KafkaError(OSError):
    """A broker refused a request; the text is its own, or the number of the error."""

    def __init__(self, what: str, code: int, text: str | None = None) -> None:
        super().__init__(f"{what}: {text or f'error {code}'}")
        self.code = code


class LoginRefused(KafkaError):
    """The broker does not know this name with this password."""


def login_of(path: str | Path) -> dict[str, str]:
    """Return how a file of client properties logs in, as librdkafka names it; nothing without the file.

    The file is as the role kafka writes it, and as Kafka's own tools take it (``--command-config``).
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    lines = [line.partition("=") for line in text.splitlines() if not line.startswith("#")]
    given = {key.strip(): value.strip() for key, _, value in lines if key.strip()}
    names = {"security.protocol": "security.protocol", "sasl.mechanism": "sasl.mechanism"}
    names["ssl.truststore.location"] = "ssl.ca.location"
    found = {name: given[key] for key, name in names.items() if key in given}
    for key in ("username", "password"):
        if told := re.search(rf'\b{key}="([^"]*)"', given.get("sasl.jaas.config", "")):
            found[f"sasl.{key}"] = told[1]
    return found


def text(value: str | None) -> bytes:
    """Return a text, or null, with its length in 2 bytes."""
    data = (value or "").encode()
    return struct.pack(">h", -1 if value is None else len(data)) + data


def array(items: Sequence[bytes]) -> bytes:
    """Return a list with its length in 4 bytes."""
    return struct.pack(">i", len(items)) + b"".join(items)


def varint(value: int) -> bytes:
    """Return an unsigned number, seven bits a byte."""
    data = b""
    while value > 127:
        data += bytes([value & 127 | 128])
        value >>= 7
    return data + bytes([value])


def compact(data: bytes) -> bytes:
    """Return bytes, or a text's, as a flexible version writes them."""
    return varint(len(data) + 1) + data


def compact_array(items: Sequence[bytes]) -> bytes:
    """Return a list of structures as a flexible version writes it, each with no tagged field."""
    return varint(len(items) + 1) + b"".join(item + b"\0" for item in items)


class Answer:
    """An answer of a broker, read from front to back.

    Raises:
        struct.error: it is cut short.
    """

    def __init__(self, data: bytes, flexible: bool = False) -> None:
        self.data, self.position, self.flexible = data, 0, flexible

    def take(self, form: str) -> Any:
        """Return the next number, of a format of the module struct."""
        (value,) = struct.unpack_from(form, self.data, self.position)
        self.position += struct.calcsize(form)
        return value

    def varint(self) -> int:
        """Return the next unsigned number of seven bits a byte."""
        value = shift = 0
        while True:
            byte = self.take(">B")
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def bytes(self, form: str = ">h") -> bytes | None:
        """Return the next bytes, which may be null; ``form`` is their length's in a version that is not flexible."""
        length = self.varint() - 1 if self.flexible else self.take(form)
        if length < 0:
            return None
        if self.position + length > len(self.data):
            raise struct.error("an answer that is cut short")
        found = self.data[self.position : self.position + length]
        self.position += length
        return found

    def text(self) -> str:
        """Return the next text, empty for null."""
        return (self.bytes() or b"").decode()

    def array(self, read: Callable[[], Any]) -> list[Any]:
        """Return the next list, each entry read by a function."""
        count = self.varint() - 1 if self.flexible else self.take(">i")
        found = []
        for _ in range(count):
            found.append(read())
            self.tags()
        return found

    def tags(self) -> None:
        """Skip the tagged fields at the end of a structure."""
        for _ in range(self.varint() if self.flexible else 0):
            self.varint()  # its number
            length = self.varint()
            self.position += length


class Connection:
    """A connection to one broker, logged in.

    Args:
        address: host:port.
        login: as `login_of` returns it; empty to be nobody.
        timeout: seconds for each answer.

    Raises:
        LoginRefused: name or password is wrong.
        OSError: nobody answers, or something else than a broker.
    """

    def __init__(self, address: str, login: dict[str, str] | None = None, timeout: float = 10):
        host, _, port = address.rpartition(":")
        host, login, self.count = host.strip("[]"), login or {}, 0
        self.socket: socket.socket = socket.create_connection((host, int(port)), timeout)
        try:
            protocol = login.get("security.protocol", "PLAINTEXT")
            if protocol.endswith("SSL"):
                context = ssl.create_default_context(cafile=login.get("ssl.ca.location"))
                # as Java and librdkafka judge a CA that says nothing of what its key is for
                context.verify_flags &= ~ssl.VERIFY_X509_STRICT
                self.socket = context.wrap_socket(self.socket, server_hostname=host)
            if protocol.startswith("SASL_"):
                mechanism = login["sasl.mechanism"]
                self._handshake(mechanism)
                log_in = self._scram if mechanism == SCRAM else self._plain
                log_in(login["sasl.username"], login["sasl.password"])
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, key: int, version: int, body: bytes, flexible: bool = False) -> Answer:
        """Send one request and return the answer behind its header.

        Args:
            key: the API's key.
            version: of the request.
            body: of the request; for a flexible version without the tagged fields at its end.
            flexible: whether that version is.
        """
        self.count += 1
        header = struct.pack(">hhi", key, version, self.count) + text(CLIENT)
        whole = header + (b"\0" + body + b"\0" if flexible else body)
        self.socket.sendall(struct.pack(">i", len(whole)) + whole)
        (size,) = struct.unpack(">i", self._read(4))
        if not 4 <= size <= MOST:
            raise ConnectionError(f"an answer of {size} bytes, which no broker gives")
        answer = Answer(self._read(size), flexible)
        if answer.take(">i") != self.count:
            raise ConnectionError("an answer to another request")
        answer.tags()
        return answer

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise ConnectionError("the broker closed the connection")
            data += piece
        return bytes(data)

    def _handshake(self, mechanism: str) -> None:
        answer = self.ask(HANDSHAKE, 1, text(mechanism))
        if code := answer.take(">h"):
            offered = ", ".join(answer.array(answer.text))
            raise KafkaError("log-in", code, f"{mechanism} is not offered, but {offered}")

    def _send(self, message: bytes) -> bytes:
        """Hand one message of a log-in over, and return the broker's."""
        answer = self.ask(AUTHENTICATE, 1, struct.pack(">i", len(message)) + message)
        code, told = answer.take(">h"), answer.text()
        if code:
            kind = LoginRefused if code == AUTHENTICATION_FAILED else KafkaError
            raise kind("log-in", code, told)
        return answer.bytes(">i") or b""

    def _plain(self, name: str, password: str) -> None:
        # while Kafka is down its port, above 1024, is anybody's
        if not isinstance(self.socket, ssl.SSLSocket) and not brokers(owner(self.socket)):
            raise ConnectionError("it is not the user kafka that answers, so no password is sent")
        self._send(f"\0{name}\0{password}".encode())

    def _scram(self, name: str, password: str) -> None:
        """Log in as RFC 5802 has it; the password does not leave this process."""
        nonce = secrets.token_urlsafe(24)
        name = name.replace("=", "=3D").replace(",", "=2C")
        first = f"n={name},r={nonce}"
        told = self._send(f"n,,{first}".encode()).decode()
        parts = dict(part.split("=", 1) for part in told.split(","))
        if not parts["r"].startswith(nonce):
            raise ConnectionError("the broker answered another log-in")
        final = f"c=biws,r={parts['r']}"
        key = salted(password, base64.b64decode(parts["s"]), int(parts["i"]))
        client = hmac.digest(key, b"Client Key", "sha512")
        words = f"{first},{told},{final}".encode()
        signature = hmac.digest(hashlib.sha512(client).digest(), words, "sha512")
        proof = bytes(one ^ other for one, other in zip(client, signature, strict=True))
        said = self._send(f"{final},p={base64.b64encode(proof).decode()}".encode()).decode()
        server = hmac.digest(hmac.digest(key, b"Server Key", "sha512"), words, "sha512")
        if not hmac.compare_digest(said, f"v={base64.b64encode(server).decode()}"):
            raise ConnectionError("the broker does not know the password that it let in")

    def layout(self, all_topics: bool = False) -> dict[str, Any]:
        """Return ``brokers`` ({id: (host:port, rack)}), ``controller`` (an id, -1 for none) and ``topics``.

        A topic is ``{partition: (leader, replicas, in sync)}``: an id, -1 for none, and two lists of ids.
        """
        body = struct.pack(">i?", -1 if all_topics else 0, False)
        answer = self.ask(METADATA, 4, body)
        answer.take(">i")  # throttling

        def broker() -> tuple[int, tuple[str, str]]:
            number, host, port = answer.take(">i"), answer.text(), answer.take(">i")
            return number, (f"[{host}]:{port}" if ":" in host else f"{host}:{port}", answer.text())

        def numbers() -> list[int]:
            return answer.array(lambda: answer.take(">i"))

        def partition() -> tuple[int, tuple[int, list[int], list[int]]]:
            answer.take(">h")  # its error
            return answer.take(">i"), (answer.take(">i"), numbers(), numbers())

        def topic() -> tuple[str, dict[int, tuple[int, list[int], list[int]]]]:
            answer.take(">h")
            name = answer.text()
            answer.take(">?")  # whether it is Kafka's own
            return name, dict(answer.array(partition))

        brokers = dict(answer.array(broker))
        answer.text()  # the cluster
        controller = answer.take(">i")
        return {"brokers": brokers, "controller": controller, "topics": dict(answer.array(topic))}

    def quorum(self) -> tuple[int, dict[int, int]]:
        """Return the controller that leads in KRaft, -1 for none, and for how many ms each has been behind it.

        Metadata names any broker as the controller there (KIP-590). A controller that never answered the leader has
        -1 ms. KafkaError where there is no quorum, as with ZooKeeper.
        """
        partition = compact_array([struct.pack(">i", 0)])
        body = compact_array([compact(b"__cluster_metadata") + partition])
        answer = self.ask(DESCRIBE_QUORUM, 1, body, flexible=True)
        if code := answer.take(">h"):
            raise KafkaError("quorum", code)

        def replica() -> tuple[int, int]:
            number, _, _, caught_up = (answer.take(form) for form in (">i", ">q", ">q", ">q"))
            return number, caught_up

        def one() -> tuple[int, dict[int, int]]:
            answer.take(">i")  # its number
            if code := answer.take(">h"):
                raise KafkaError("quorum", code)
            leader, _, _ = (answer.take(form) for form in (">i", ">i", ">q"))
            voters = dict(answer.array(replica))
            answer.array(replica)  # observers
            now = voters.get(leader, 0)
            return leader, {who: now - at if at >= 0 else -1 for who, at in voters.items()}

        def topic() -> tuple[int, dict[int, int]]:
            answer.text()
            (found,) = answer.array(one)
            return found  # type: ignore[no-any-return]

        (found,) = answer.array(topic)
        return found  # type: ignore[no-any-return]

    def metadata(self, all_topics: bool = False) -> dict[str, Any]:
        """Return ``brokers`` ({id: host:port}), ``controller`` (an id, -1 for none) and ``topics``.

        A topic is a list of its partitions, each ``(leader, replicas, in sync)``: an id, -1 for none, and two counts.
        """
        told = self.layout(all_topics)
        return {
            "brokers": {number: address for number, (address, _) in told["brokers"].items()},
            "controller": told["controller"],
            "topics": counted(told["topics"]),
        }

    def settings(self, names: Sequence[str], key: str, kind: int = TOPIC) -> dict[str, str]:
        """Return the value of one setting of each topic, its own or the broker's, or of this broker, by its number."""
        wanted = [struct.pack(">b", kind) + text(name) + array([text(key)]) for name in names]
        answer = self.ask(DESCRIBE_CONFIGS, 1, array(wanted) + struct.pack(">?", False))
        answer.take(">i")  # throttling

        def entry() -> str:
            answer.text()  # the key
            value = answer.text()
            for form in (">?", ">b", ">?"):  # not to be changed, its source, secret
                answer.take(form)
            answer.array(lambda: (answer.text(), answer.text(), answer.take(">b")))  # synonyms
            return value

        def topic() -> tuple[str, list[str]]:
            answer.take(">h")  # its error; a topic that has just gone has no values
            answer.text()
            answer.take(">b")
            return answer.text(), answer.array(entry)

        return {name: values[0] for name, values in answer.array(topic) if values}


def counted(topics: dict[str, Any]) -> dict[str, list[tuple[int, int, int]]]:
    """Return the topics of `Connection.layout` with the numbers of replicas in the place of lists."""
    return {
        name: [(first, len(all_), len(kept)) for _, (first, all_, kept) in sorted(parts.items())]
        for name, parts in topics.items()
    }


def owner(connection: socket.socket) -> int:
    """Return the user id behind the other end of a connection that stays on this host (proc(5)), -1 for none.

    A connection that nobody has accepted yet counts as root's, so the other end must have answered before.
    """
    host, port = connection.getsockname()[:2]
    other = connection.getpeername()[1]
    packed = socket.inet_pton(connection.family, host)
    words = struct.unpack(f"<{len(packed) // 4}I", packed)
    ours = "".join(f"{word:08X}" for word in words) + f":{port:04X}"
    for name in ("tcp", "tcp6"):  # Java has IPv4 in the second one
        path = Path("/proc/net") / name
        for line in path.read_text(encoding="ascii").splitlines()[1:] if path.exists() else ():
            _, local, remote, _, _, _, _, uid = line.split()[:8]
            if remote.endswith(ours) and local.endswith(f":{other:04X}"):
                return int(uid)
    return -1


def brokers(uid: int) -> bool:
    """Return whether that is the user that Kafka runs as."""
    try:
        return uid == pwd.getpwnam("kafka").pw_uid
    except KeyError:
        return False


def salted(password: str, salt: bytes, iterations: int) -> bytes:
    """Return the salted password of RFC 5802 for SCRAM-SHA-512."""
    return hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)
