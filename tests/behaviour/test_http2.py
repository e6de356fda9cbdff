"""The routing contract over HTTP/2: the column `http2` of routing.yml."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
import yaml

from tests.behaviour.sites import Site, web_sites

TABLE = yaml.safe_load((Path(__file__).parent / "routing.yml").read_text(encoding="utf-8"))
COLUMN: dict[str, Any] = TABLE["http2"]
PATIENCE = 10.0  # seconds for an answer

pytestmark = [pytest.mark.tls, pytest.mark.probe]


@dataclass
class Answer:
    """What came over one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    connect: bool = False  # whether the server offers extended CONNECT

    @property
    def status(self) -> int | str:
        return int(self.headers[":status"]) if self.headers else "reset"

    @property
    def answerer(self) -> str:
        if not self.headers:
            return "nobody"
        # Apache signs what Daphne refuses; unlike what it refuses itself that has no type.
        refused = self.status == 403 and "content-type" not in self.headers
        if refused or self.headers.get("server") == "daphne":
            return "daphne"
        return self.headers.get("x-answered-by", "apache")


def exchange(site: Site, headers: list[tuple[str, str]], body: bytes = b"") -> Answer:
    """Send one request over a connection of its own; a body goes without a length."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # test_tls.py looks at that
    context.set_alpn_protocols(["h2"])
    tunnel = dict(headers)[":method"] == "CONNECT"
    config = h2.config.H2Configuration(
        header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
    )
    answer = Answer()
    bare = socket.create_connection((site.address, site.port), PATIENCE)
    with context.wrap_socket(bare, server_hostname=site.settings["server_name"]) as stream:
        assert stream.selected_alpn_protocol() == "h2"
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        stream.sendall(connection.data_to_send())
        connection.receive_data(stream.recv(65536))
        answer.connect = bool(connection.remote_settings.enable_connect_protocol)
        number = connection.get_next_available_stream_id()
        connection.send_headers(number, headers, end_stream=not tunnel and not body)
        if body:
            connection.send_data(number, body, end_stream=True)
        stream.sendall(connection.data_to_send())
        over = False
        while not over:
            data = stream.recv(65536)
            assert data, "the connection was closed"
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    answer.headers = dict(event.headers)  # type: ignore[arg-type]
                elif isinstance(event, h2.events.DataReceived):
                    answer.body += event.data
                    over = tunnel and answer.status == 200
                elif isinstance(event, h2.events.StreamReset | h2.events.StreamEnded):
                    over = True
            stream.sendall(connection.data_to_send())
    return answer


@pytest.fixture(scope="module")
def probe(deployed: dict[str, Any], address: str) -> Site:
    for site in web_sites(deployed, address):
        if site.is_probe and site.tls and site.settings["http2"]:
            return site
    pytest.skip("the probe project has no HTTP/2 on this host")


def request(site: Site, method: str, path: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    authority = dict(more).get(":authority", site.host)
    head = [(":method", method), (":authority", authority), (":scheme", "https"), (":path", path)]
    return head + [pair for pair in more if pair[0] != ":authority"]


def connect(site: Site, path: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    given = dict(more)
    usual = {"origin": site.origin, "sec-websocket-version": "13"}
    rest = [(name, given.pop(name, value)) for name, value in usual.items()]
    return [*request(site, "CONNECT", path), (":protocol", "websocket"), *rest, *given.items()]


def pseudo_first(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted(headers, key=lambda pair: not pair[0].startswith(":"))


def test_every_row_has_its_word() -> None:
    """The contract of routing says of each row what it is over HTTP/2."""
    assert sorted(COLUMN) == sorted(row["id"] for row in TABLE["rows"])


@pytest.mark.parametrize("row", [name for name, told in COLUMN.items() if isinstance(told, dict)])
def test_row(probe: Site, row: str) -> None:
    """A request over HTTP/2 is answered by whom the contract of routing names."""
    echo = probe.under("echo")
    upgrade, h2c = ("upgrade", "websocket"), ("upgrade", "h2c")
    asked: dict[str, list[list[tuple[str, str]]]] = {
        "R01": [connect(probe, echo)],
        "R04": [request(probe, "GET", "/"), request(probe, "POST", "/")],
        "R05": [request(probe, "GET", "/", ("connection", "upgrade"), h2c)],
        "R06": [request(probe, "GET", "/", ("connection", "upgrade, http2-settings"), h2c)],
        "R07": [request(probe, "GET", "/", ("connection", "upgrade"))],
        "R08": [request(probe, "GET", "/", upgrade)],
        "R10": [request(probe, "GET", echo)],
        "R11": [request(probe, "POST", echo, ("connection", "upgrade"), upgrade)],
        "R26": [request(probe, "GET", "/", (":authority", "evil.example"))],
        "R34": [request(probe, "GET", "/icons/")],
        "R35": [request(probe, "POST", "/")],
    }
    for headers in asked[row]:
        body = b"hello" if row == "R35" else b""
        answer = exchange(probe, pseudo_first(headers), body)
        assert not body or b'"body_bytes": 5,' in answer.body
        print(row, headers, answer.status, answer.answerer, answer.body[:60])
        told = COLUMN[row]
        assert (answer.status, answer.answerer) == (told["status"], told["answerer"]), answer
        assert not answer.connect, "extended CONNECT is offered"
