#!/usr/bin/python3 -I
"""Send lines of syslog over TLS (RFC 5425) for rsyslog's module omprog, and say of each that it is on its way, or why not.

rsyslog's own output never reads, so it writes what comes next to a receiver that has gone, and that line is lost. This program
reads: it knows a closed connection before it sends. What the receiver's kernel has not acknowledged is sent again.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import select
import signal
import socket
import ssl
import struct
import sys
import termios
import time
from collections import deque

CONNECT_SECONDS = 10
# A receiver that refuses a certificate says so only after the handshake of TLS 1.3.
REFUSAL_SECONDS = 0.5
SEND_SECONDS = 30
AGAIN_SECONDS = 5
# rsyslog writes three lines for each failure that it is told, so it is told each new one, and the same once a minute.
PATIENCE_SECONDS = 60
LONGEST_PAUSE = 15
LAST_SECONDS = 3


class Gone(OSError):
    """The receiver has closed the connection."""


class Receiver:
    """The connection to the receiver, made when there is something to send."""

    def __init__(self, wanted: argparse.Namespace) -> None:
        self.wanted = wanted
        self.socket: socket.socket | None = None
        self.tried = 0.0
        self.sent = 0  # bytes on this connection
        self.waiting: deque[tuple[int, bytes]] = deque()  # frames, and where each ends
        self.pause = 1.0
        self.told = ""  # the failure that goes on
        self.ending = False

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
            if select.select([self.socket], [], [], 0)[0]:
                self.read()
        except OSError:
            self.close()

    def send(self, line: bytes) -> None:
        """Send one line; raise an OSError where it fails, after a minute where it goes on as before."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self.once(line)
                self.pause, self.told = 1.0, ""
                return
            except OSError as error:
                if self.ending or str(error) != self.told or time.monotonic() > end:
                    self.told = str(error)
                    raise
                self.sleep()
                self.pause = min(2 * self.pause, LONGEST_PAUSE)

    def sleep(self) -> None:
        """Wait for the pause to pass, or for the end of the service."""
        end = time.monotonic() + self.pause
        while time.monotonic() < end and not self.ending:
            time.sleep(0.1)

    def once(self, line: bytes) -> None:
        """Send one line; raise an OSError where it could not be handed over."""
        self.look()
        try:
            if self.socket is None:
                self.connect()
            self.write(b"%d %s" % (len(line), line))
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
        """Wait a moment for what is under way, and take leave."""
        end = time.monotonic() + LAST_SECONDS
        while self.waiting and time.monotonic() < end:
            self.look()
            self.again()
            time.sleep(0.05)
        if self.socket is not None:
            try:
                self.tls.unwrap()
            except (OSError, ValueError):
                pass  # it waits for the other's leave; its own is made
            try:
                self.flush()
            except OSError:
                pass  # nobody is there to hear it
            self.close()

    def close(self) -> None:
        """Close the connection; what waits stays."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None


def answer(text: str) -> None:
    """Tell rsyslog: OK, or in one line what went wrong."""
    sys.stdout.write(" ".join(text.split())[:1000] + "\n")
    sys.stdout.flush()


def main() -> None:
    """Take lines from rsyslog until it has no more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    receiver = Receiver(parser.parse_args())
    rest = b""

    def end(*_: object) -> None:
        receiver.ending = True  # rsyslog has been told too, and closes the pipe when it has handed over what it can

    signal.signal(signal.SIGTERM, end)
    answer("OK")
    while True:
        sources = [0] if receiver.socket is None else [0, receiver.socket]
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
            try:
                receiver.send(line)
                answer("OK")
            except OSError as error:
                place = f"{receiver.wanted.address} port {receiver.wanted.port}"
                answer(f"{place} takes nothing: {error}")
    receiver.finish()


if __name__ == "__main__":
    main()
