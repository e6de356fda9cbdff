"""The site's metrics over HTTP, at a loopback address alone."""

import ipaddress
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from django.db import connections

from notifications import metrics

log = logging.getLogger(__name__)


class _Handler(BaseHTTPRequestHandler):
    timeout = 5  # seconds that a client may take for its request
    server_version = "notifications"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer /metrics."""
        if self.path.split("?")[0] != "/metrics":
            self.send_error(404)
            return
        try:
            body = metrics.exposition().encode()
        except Exception:
            log.exception("The metrics could not be read")
            self.send_error(500)
            return
        finally:
            connections.close_all()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Keep every scrape out of the log."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 16


class _Server6(_Server):
    import socket

    address_family = socket.AF_INET6


def serve(address: str) -> ThreadingHTTPServer:
    """Serve `/metrics` at `address:port` in a daemon thread.

    Raises:
        ValueError: that is no address, or others than this machine could reach it.
        OSError: the port is taken.
    """
    host, _colon, port = address.rpartition(":")
    place = ipaddress.ip_address(host.strip("[]"))
    if not place.is_loopback:
        raise ValueError("others can reach that address. Use 127.0.0.1 or [::1].")
    if not port.isdigit() or not 0 <= int(port) < 65536:
        raise ValueError("that is no port.")
    server = (_Server if place.version == 4 else _Server6)((str(place), int(port)), _Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
