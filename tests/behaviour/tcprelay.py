"""A TCP relay on loopback that a test can cut: a network that goes away."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread


@dataclass
class Pair:
    """A connection from the browser, and the one that continues it."""

    near: socket.socket
    far: socket.socket
    lost: bool = False  # nothing passes any more, and neither end is told


class Relay:
    """Passes connections on to one address until it is cut, and new ones from when it is restored.

    Two ways to be cut: `closed`, as by a proxy that ends, where both ends hear of it at once and new
    connections are closed; `silent`, as by a pulled cable, where nothing passes and nobody hears.
    """

    def __init__(self, address: str, port: int) -> None:
        self._target = (address, port)
        self._pairs: list[Pair] = []
        self._cut = ""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        Thread(target=self._accept, daemon=True).start()

    def cut(self, way: str) -> None:
        """Let nothing pass from now on: `closed` or `silent`."""
        self._cut = way
        for pair in self._pairs:
            if way == "closed":
                _close(pair)
            pair.lost = True

    def restore(self) -> None:
        """Pass new connections on again; those that were cut stay so."""
        self._cut = ""

    def close(self) -> None:
        """End, with all connections."""
        self._listener.close()
        for pair in self._pairs:
            _close(pair)

    def _accept(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                near, _address = self._listener.accept()
                if self._cut == "closed":
                    near.close()
                    continue
                pair = Pair(near, socket.create_connection(self._target), lost=bool(self._cut))
                self._pairs.append(pair)
                for source, sink in ((pair.near, pair.far), (pair.far, pair.near)):
                    Thread(target=_pump, args=(pair, source, sink), daemon=True).start()


def _pump(pair: Pair, source: socket.socket, sink: socket.socket) -> None:
    """Pass on what one end sends, then its end; a connection that is lost keeps both to itself."""
    with suppress(OSError):  # the other end is gone, or the relay is cut
        while data := source.recv(65536):
            if not pair.lost:
                sink.sendall(data)
        if not pair.lost:
            sink.shutdown(socket.SHUT_WR)


def _close(pair: Pair) -> None:
    for end in (pair.near, pair.far):
        with suppress(OSError):  # it may be closed already
            end.shutdown(socket.SHUT_RDWR)
        end.close()
