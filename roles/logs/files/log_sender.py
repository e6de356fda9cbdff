#!/usr/bin/python3 -I
"""Send lines of syslog over TLS (RFC 5425) for rsyslog's module omprog, and say of each when it is on its way.

rsyslog's own output never reads, so it writes what comes next to a receiver that has gone, and that line is lost. This
program reads: it knows a closed connection before it sends. What the receiver's kernel has not acknowledged is sent
again, by the next process where this one is told to end: rsyslog would forget the line that it waits for.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import math
import os
import select
import signal
import socket
import ssl
import struct
import syslog
import termios
import time
from collections import deque
from pathlib import Path
from typing import Any

CONNECT_SECONDS = 5
# A receiver that refuses a certificate says so only after the handshake of TLS 1.3.
REFUSAL_SECONDS = 0.5
SEND_SECONDS = 30
AGAIN_SECONDS = 5
LONGEST_PAUSE = 15
LAST_SECONDS = 3
# Where this process alone is told to end, rsyslog goes on, and never closes the pipe.
LEAVE_SECONDS = 5
ANY = "surrogateescape"  # a line may be no UTF-8


class Gone(OSError):
    """The receiver has closed the connection."""


class Receiver:
    """The connection to the receiver, made when there is something to send."""

    def __init__(self, wanted: argparse.Namespace) -> None:
        self.wanted = wanted
        self.socket: socket.socket | None = None
        self.tried = 0.0
        self.sent = 0  # bytes on this connection
        # frames, and where each ends
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.kept = Path(wanted.state) / "unsent.json"
        if self.kept.exists():
            self.waiting.extend(
                (math.inf, text.encode(errors=ANY)) for text in json.loads(self.kept.read_text())
            )
        self.old = len(self.waiting)  # those of them that are in that file
        self.pause = 1.0
        self.told = ""  # the failure that goes on
        self.ending = False
        self.leaves = math.inf  # when it does not wait for rsyslog's end any longer

    def connect(self) -> None:
        """Connect, and send what was not acknowledged on the former connection."""
        self.tried = time.monotonic()
        wanted = self.wanted
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(wanted.ca)
        if wanted.certificate:
            context.load_cert_chain(wanted.certificate, wanted.key)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=wanted.name)
        self.socket = socket.create_connection((wanted.address, wanted.port), CONNECT_SECONDS)
        self.sent = 0
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SEND_SECONDS * 1000)
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.flush()
                self.take()
            except ssl.SSLError:
                self.flush()  # the alert that tells the receiver why
                raise
        self.flush()
        self.socket.settimeout(SEND_SECONDS)
        end = time.monotonic() + REFUSAL_SECONDS
        while (left := end - time.monotonic()) > 0:
            if select.select([self.socket], [], [], left)[0]:
                self.read()
        for _ in range(len(self.waiting)):
            self.write(self.waiting[0][1])
            self.waiting.popleft()

    def connected(self) -> socket.socket:
        """Return the socket."""
        if self.socket is None:
            raise Gone("there is no connection")
        return self.socket

    def take(self) -> None:
        """Hand what has come in to TLS."""
        data = self.connected().recv(65536)
        if not data:
            raise Gone("the receiver closed the connection")
        self.incoming.write(data)

    def flush(self) -> None:
        """Send what TLS has made."""
        data = self.outgoing.read()
        self.connected().sendall(data)
        self.sent += len(data)

    def read(self) -> None:
        """Read what the receiver sends, which is nothing but TLS's own; raise an OSError where it closes."""
        self.take()
        try:
            while self.tls.read(65536):
                pass
            raise Gone("the receiver closed the connection")
        except ssl.SSLWantReadError:
            self.flush()

    def write(self, frame: bytes) -> None:
        """Send one frame, and keep it until it is acknowledged."""
        self.tls.write(frame)
        self.flush()
        self.waiting.append((self.sent, frame))

    def look(self) -> None:
        """Forget what is acknowledged (SIOCOUTQ of tcp(7)), and see whether the receiver is still there."""
        if self.socket is None:
            return
        try:
            left = fcntl.ioctl(self.socket, termios.TIOCOUTQ, struct.pack("i", 0))
            acknowledged = self.sent - struct.unpack("i", left)[0]
            while self.waiting and self.waiting[0][0] <= acknowledged:
                self.waiting.popleft()
                self.old -= 1
                if self.old == 0:
                    self.kept.unlink(missing_ok=True)
            if select.select([self.socket], [], [], 0)[0]:
                self.read()
        except OSError:
            self.close()

    def send(self, line: bytes) -> None:
        """Send one line, as often as it takes, or keep it where the service ends."""
        frame = b"%d %s" % (len(line), line)
        while True:
            try:
                self.once(frame)
                break
            except OSError as error:
                if str(error) != self.told:
                    self.told = str(error)
                    self.tell(syslog.LOG_WARNING, f"takes nothing: {error}")
                end = time.monotonic() + self.pause
                while not self.ending and time.monotonic() < end:
                    time.sleep(0.1)  # so that an end in the pause is seen soon
                if self.ending:
                    self.waiting.append((math.inf, frame))
                    return
                self.pause = min(2 * self.pause, LONGEST_PAUSE)
        if self.told:
            self.tell(syslog.LOG_NOTICE, "takes lines again")
        self.pause, self.told = 1.0, ""

    def tell(self, priority: int, text: str) -> None:
        """Write to the journal."""
        syslog.syslog(priority, f"{self.wanted.address} port {self.wanted.port} {text}")

    def once(self, frame: bytes) -> None:
        """Send one frame; raise an OSError where it could not be handed over."""
        self.look()
        try:
            if self.socket is None:
                self.connect()
            self.write(frame)
        except OSError:
            self.close()
            raise

    def again(self) -> None:
        """Send what was not acknowledged on a connection that is gone, now and then."""
        if self.waiting and self.socket is None and time.monotonic() > self.tried + AGAIN_SECONDS:
            try:
                self.connect()
            except OSError:
                self.close()

    def finish(self) -> None:
        """Wait a moment for what is under way, take leave, and keep the rest for the next process."""
        end = time.monotonic() + LAST_SECONDS
        self.look()
        while self.waiting and self.socket is not None and time.monotonic() < end:
            time.sleep(0.05)  # between two looks, up to LAST_SECONDS
            self.look()
        if self.waiting:
            new = self.kept.with_suffix(".new")
            with new.open("w", encoding="utf-8") as file:
                json.dump([frame.decode(errors=ANY) for _, frame in self.waiting], file)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.kept)
        if self.socket is not None:
            with contextlib.suppress(OSError, ValueError):
                self.tls.unwrap()  # it would wait for the other's leave, too; its own is made
            with contextlib.suppress(OSError):
                self.flush()
            self.close()

    def close(self) -> None:
        """Close the connection; what waits stays."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None


def answer() -> None:
    """Tell rsyslog that it may go on."""
    with contextlib.suppress(BrokenPipeError):  # it waits no longer, and will have nothing more
        os.write(1, b"OK\n")


def main() -> None:
    """Take lines from rsyslog until it has no more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--state", required=True, help="a folder for what is not sent at the end")
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    receiver = Receiver(parser.parse_args())
    syslog.openlog("switchboard-logs")

    def end(*_: object) -> None:
        receiver.ending = True  # rsyslog is told too as a rule, and closes the pipe in the end
        receiver.leaves = min(receiver.leaves, time.monotonic() + LEAVE_SECONDS)

    signal.signal(signal.SIGTERM, end)
    answer()
    rest = b""
    leaving = False
    while not leaving:
        sources: list[Any] = [0] if receiver.socket is None else [0, receiver.socket]
        ready = select.select(sources, [], [], 0.2 if receiver.waiting else None)[0]
        receiver.look()
        receiver.again()
        if 0 not in ready:
            continue
        data = os.read(0, 65536)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            receiver.send(line)
            leaving = time.monotonic() > receiver.leaves
            if leaving:
                os.close(0)  # before the answer, after which another line would come
            answer()
    receiver.finish()


if __name__ == "__main__":
    main()
