"""What the logs role refuses, and how its program sends: to the right receiver alone, each line once."""

from __future__ import annotations

import contextlib
import datetime
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plugins.filter.logs import logs_key, logs_receiver, logs_rules, pem

ROOT = Path(__file__).resolve().parents[2]
SENDER = ROOT / "roles" / "logs" / "files" / "log_sender.py"
RECEIVER = ROOT / "tests" / "behaviour" / "log_receiver.py"
FILES = [{"path": "/var/log/apache2/*/access-*.json", "program": "apache2"}]


def certificate(folder: Path, name: str, host: str, issuer: str = "") -> None:
    """Write <name>.crt and <name>.key, signed by <issuer>, or by itself as a CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signer, signed_by = key, subject
    if issuer:
        loaded = serialization.load_pem_private_key((folder / f"{issuer}.key").read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signer = loaded
        signed_by = x509.load_pem_x509_certificate((folder / f"{issuer}.crt").read_bytes()).subject
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signed_by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=not issuer, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )
    (folder / f"{name}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("certificates")
    certificate(path, "ca", "ca.test")
    certificate(path, "foreign", "foreign.test")
    certificate(path, "receiver", "logs.test", "ca")
    certificate(path, "client", "lab.test", "ca")
    certificate(path, "stranger", "lab.test", "foreign")
    return path


# -- what is refused -------------------------------------------------------------------------------------


def whole(folder: Path, **changes: Any) -> dict[str, Any]:
    wanted = {
        "address": "logs.example.org",
        "ca": str(folder / "ca.crt"),
        "certificate": (folder / "client.crt").read_text(),
        "key": str(folder / "client.key"),
    }
    return {key: value for key, value in {**wanted, **changes}.items() if value is not None}


def said(rules: list[dict[str, Any]]) -> list[str]:
    return [f"{r['variable']} is {r['value']}: {r['why']} {r['remedy']}" for r in rules]


def test_what_can_be_sent_is_taken(folder: Path) -> None:
    assert logs_rules({}, 256, FILES) == []
    assert logs_rules(whole(folder), 256, FILES) == []
    assert logs_rules(whole(folder, certificate=None, key=None, port=601), 16, []) == []
    assert logs_rules(whole(folder, address="2001:db8::7", name="logs.test"), 256, FILES) == []


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"address": None}, "logs_to.address is empty: that is neither a name nor an address"),
        ({"address": "a b"}, "logs_to.address is a b: that is neither"),
        ({"name": "x;y"}, "logs_to.name is x;y: that is neither"),
        ({"port": 65536}, "logs_to.port is 65536: that is no port. Use 1 to 65535"),
        ({"port": 0}, "logs_to.port is 0: that is no port."),
        ({"ca": None}, "logs_to.ca is empty: without it this host can't tell the receiver from"),
        (
            {"ca": "/no/such.crt"},
            "logs_to.ca is /no/such.crt: there is no certificate. Write its PEM",
        ),
        ({"certificate": None}, "logs_to.certificate is empty: a key is of no use without"),
        ({"key": None}, "logs_to.key is empty: a certificate is of no use without its key."),
        ({"key": "/no/such.key"}, "logs_to.key is hidden: there is no private key without"),
    ],
)
def test_what_cannot_be_sent_is_refused(folder: Path, changes: dict[str, Any], start: str) -> None:
    (text,) = said(logs_rules(whole(folder, **changes), 256, FILES))
    assert text.startswith(start)


def test_a_key_of_another_certificate_is_refused_and_not_shown(folder: Path) -> None:
    key = (folder / "stranger.key").read_text()
    (text,) = said(logs_rules(whole(folder, key=key), 256, FILES))
    assert text.startswith("logs_to.key is hidden: it is not that of logs_to.certificate.")
    broken = key.replace("\nM", "\nX")
    (text,) = said(logs_rules(whole(folder, key=broken), 256, FILES))
    assert text.startswith("logs_to.key is hidden: there is no private key")


@pytest.mark.parametrize(
    ("queue", "file", "start"),
    [
        (8, FILES[0], "logs_queue_mb is 8: the queue is written in files of 4 MB. Use 16 or more."),
        (
            256,
            {"path": "lab.log", "program": "lab"},
            "logs_files is lab.log: that is no whole path.",
        ),
        (256, {"path": '/a"b', "program": "lab"}, 'logs_files is /a"b: that is no whole path.'),
        (256, {"path": "/a/b", "program": "my lab"}, "logs_files is my lab: that is no name of a"),
    ],
)
def test_other_values_are_refused(
    folder: Path, queue: int, file: dict[str, str], start: str
) -> None:
    (text,) = said(logs_rules(whole(folder), queue, [file]))
    assert text.startswith(start)


def test_the_receiver_has_what_was_not_said_and_no_key(folder: Path) -> None:
    told = logs_receiver(whole(folder))
    assert (told["port"], told["name"]) == (6514, "logs.example.org")
    assert told["ca"] == pem((folder / "ca.crt").read_text())
    assert "key" not in told
    assert logs_key(whole(folder)) == (folder / "client.key").read_text()
    assert logs_receiver({})["ca"] == logs_key({}) == ""


# -- the program -----------------------------------------------------------------------------------------


class Log:
    """The receiver of the behaviour tests, as a process."""

    def __init__(self, folder: Path, path: Path) -> None:
        self.folder, self.path = folder, path
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.start()

    def start(self) -> None:
        words = ["127.0.0.1", str(self.port), str(self.folder), str(self.path)]
        self.process = subprocess.Popen([sys.executable, str(RECEIVER), *words])
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)  # between two looks; the error below ends them
        raise TimeoutError("the receiver does not listen")

    def stop(self, *, kill: bool = False) -> None:
        (self.process.kill if kill else self.process.terminate)()
        self.process.wait(10)

    def lines(self, count: int = 0) -> list[str]:
        end = time.monotonic() + 5
        while True:
            text = self.path.read_text() if self.path.exists() else ""
            found = [json.loads(line) for line in text.splitlines()]
            if len(found) >= count or time.monotonic() > end:
                return found
            time.sleep(0.05)  # between two looks; the caller asserts


class Sender:
    """The program, as rsyslog's omprog has it: a line in, an answer out."""

    def __init__(self, folder: Path, log: Log, *options: str, ca: str = "ca") -> None:
        self.state = log.path.parent
        command = [sys.executable, "-I", str(SENDER), "--ca", str(folder / f"{ca}.crt"), *options]
        command += ["--state", str(self.state), "127.0.0.1", str(log.port)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)
        assert self.answer() == "OK"

    def answer(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def offer(self, text: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{text}\n")

    def give(self, text: str) -> str:
        self.offer(text)
        return self.answer()

    def end(self) -> list[str]:
        """End the program; return what it keeps for the next one."""
        self.process.terminate()
        time.sleep(0.2)  # the signal comes before the end of its input, as from systemd
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait(20) == 0
        kept = self.state / "unsent.json"
        return json.loads(kept.read_text()) if kept.exists() else []


@pytest.fixture
def log(folder: Path, tmp_path: Path) -> Iterator[Log]:
    made = Log(folder, tmp_path / "received")
    yield made
    made.stop(kill=True)


def client(folder: Path, name: str = "client") -> list[str]:
    return ["--certificate", str(folder / f"{name}.crt"), "--key", str(folder / f"{name}.key")]


@pytest.mark.parametrize("kill", [False, True], ids=["takes leave", "is killed"])
def test_no_line_goes_into_a_dead_connection(folder: Path, log: Log, kill: bool) -> None:
    sender = Sender(folder, log, "--name", "logs.test", *client(folder))
    assert sender.give("<13>1 one") == "OK"
    assert log.lines(1) == ["<13>1 one"]
    log.stop(kill=kill)
    sender.offer("<13>1 größer")
    time.sleep(0.5)  # so long the receiver is away
    log.start()
    assert [sender.answer(), sender.give("<13>1 three")] == ["OK", "OK"]
    assert sender.end() == []
    assert log.lines(3) == ["<13>1 one", "<13>1 größer", "<13>1 three"]


def test_what_waits_at_the_end_is_sent_by_the_next_process(folder: Path, log: Log) -> None:
    log.stop()
    for number in (1, 2):
        sender = Sender(folder, log, "--name", "logs.test", *client(folder))
        sender.offer(f"<13>1 größer {number}")
        time.sleep(0.3)  # it has tried once, and waits
        assert len(sender.end()) == number
        assert sender.answer() == "OK"  # rsyslog would forget it otherwise, and has it no longer
    log.start()
    sender = Sender(folder, log, "--name", "logs.test", *client(folder))
    assert sender.give("<13>1 3") == "OK"
    assert sender.end() == []
    assert log.lines(3) == ["<13>1 größer 1", "<13>1 größer 2", "<13>1 3"]


@pytest.mark.parametrize("away", [False, True])
def test_a_process_that_is_told_to_end_alone_ends(folder: Path, log: Log, away: bool) -> None:
    """rsyslog, which goes on, keeps its end of the pipe open and has more lines."""
    sender = Sender(folder, log, "--name", "logs.test", *client(folder))
    if away:
        log.stop()
    sender.process.terminate()
    number = 0
    while number < 200 and sender.process.poll() is None:
        with contextlib.suppress(BrokenPipeError):
            assert sender.give(f"<13>1 {number}") == "OK"
            number += 1
        time.sleep(0.1)  # lines come now and then, for 20 s
    assert sender.process.wait(1) == 0
    assert sender.process.stdin
    with contextlib.suppress(BrokenPipeError):
        sender.process.stdin.close()
    kept = sender.state / "unsent.json"
    texts = json.loads(kept.read_text()) if kept.exists() else log.lines(number)
    assert [text[-len(f"<13>1 {n}") :] for n, text in enumerate(texts)] == [
        f"<13>1 {n}" for n in range(number)
    ]


def test_who_is_not_the_receiver_gets_nothing(folder: Path, log: Log) -> None:
    for name, ca in (("other.test", "ca"), ("logs.test", "foreign")):
        sender = Sender(folder, log, "--name", name, *client(folder), ca=ca)
        sender.offer("<13>1 secret")
        time.sleep(0.7)  # longer than a receiver has to refuse
        assert sender.end()[-1] == "12 <13>1 secret"
    assert log.lines() == []


@pytest.mark.parametrize("name", ["", "stranger"])
def test_a_line_whose_sender_is_refused_is_not_taken_for_sent(
    folder: Path, log: Log, name: str
) -> None:
    """A receiver refuses after the handshake of TLS 1.3, when the first line could have been on its way."""
    sender = Sender(folder, log, "--name", "logs.test", *(client(folder, name) if name else []))
    sender.offer("<13>1 one")
    time.sleep(0.7)  # longer than a receiver has to refuse
    assert sender.end() == ["9 <13>1 one"]


def test_what_is_not_acknowledged_is_sent_again(folder: Path, log: Log) -> None:
    """A receiver stands still until all buffers are full, and is killed: what its kernel had not taken comes again."""
    sender = Sender(folder, log, "--name", "logs.test", *client(folder))
    assert sender.give("<13>1 first") == "OK"
    log.lines(1)
    log.process.send_signal(signal.SIGSTOP)
    done = threading.Event()

    def replace() -> None:
        log.stop(kill=True)
        done.set()
        log.start()

    threading.Timer(1.5, replace).start()
    number = 0
    while not done.is_set():
        assert sender.give(f"{number} {'x' * 60_000}") == "OK"
        number += 1
    assert sender.give(f"{number} {'x' * 60_000}") == "OK"
    assert sender.end() == []
    numbers = [int(line.split()[0]) for line in log.lines(2)[1:]]
    assert numbers[0] < number - 1  # the one that was being sent is no proof
    assert numbers == list(range(numbers[0], number + 1))
