"""How a site is asked for its pages after a release: by a real web server that answers as Apache would."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from plugins.module_utils import site_serving

serving_of: Any = site_serving


class Web(BaseHTTPRequestHandler):
    """Answers each path with the status in its first part, and a handshake with 101 or 502."""

    def do_GET(self) -> None:
        first = self.path.split("/")[1]
        status = int(first) if first.isdigit() else 200
        if self.headers["Host"] == "stranger.example.org":
            status = 421
        scheme = self.headers["X-Forwarded-Proto"] or "http"
        if self.path == "/secure/":
            status = 500 if scheme == "https" else 301
        if self.headers["Upgrade"] == "websocket":
            assert self.headers["Origin"] == f"{scheme}://lab.example.org"
        self.send_response(status)
        self.end_headers()

    def log_message(self, *of: Any) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_of.wsgi_group, "processes", lambda group: [1])
    monkeypatch.setattr(serving_of, "SMOKE_SECONDS", 0)


def smoke(port: int, url: str = "http://lab.example.org", **params: Any) -> str:
    known = {"url": url, "server": f"http://127.0.0.1:{port}", "smoke": {"/": "any"}}
    known |= {"socket_path": "", "maintenance": "/nonexistent"}
    return str(serving_of.Serving("lab", ["a.service"], [], None, known | params).smoke())


def test_answers_that_are_right_are_enough(port: int) -> None:
    assert smoke(port, smoke={"/": 200, "/302/": 302, "/404/": "any"}, socket_path="/403/") == ""


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"smoke": {"/500/": "any"}}, r"/500/ 500 \(wanted: no server error\)"),
        ({"smoke": {"/404/": 200}}, r"/404/ 404 \(wanted: 200\)"),
        ({"socket_path": "/502/"}, r"a WebSocket at /502/ 502"),
    ],
)
def test_a_wrong_answer_is_refused(port: int, params: dict[str, Any], said: str) -> None:
    with pytest.raises(serving_of.Refused, match=said):
        smoke(port, **params)


def test_a_site_whose_tls_a_balancer_takes_off_is_asked_as_the_balancer_does(port: int) -> None:
    """Asked without, it leads all that comes to HTTPS and shows no page."""
    assert smoke(port, smoke={"/secure/": "any"}, socket_path="/403/") == ""
    with pytest.raises(serving_of.Refused, match="/secure/ 500"):
        smoke(port, "https://lab.example.org", smoke={"/secure/": "any"}, socket_path="/403/")


def test_a_site_that_apache_does_not_know_yet_is_not_asked(port: int) -> None:
    """Its domain, its port or its TLS is another one now, which Apache learns of after the release."""
    said = smoke(port, "http://stranger.example.org", smoke={"/": 200})
    assert said == "Apache does not know http://stranger.example.org yet"


def test_a_site_that_apache_serves_at_another_address_is_known_as_such(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strange(url: str) -> bool:
        known = {"url": url, "server": f"http://127.0.0.1:{port}", "smoke": {}}
        return bool(serving_of.Serving("lab", [], [], None, known).strange())

    assert strange("http://stranger.example.org")
    assert not strange("http://lab.example.org")
    assert not strange("")
    monkeypatch.setattr(serving_of.wsgi_group, "processes", lambda group: [])
    assert not strange("http://stranger.example.org")  # Apache serves it nowhere yet


def test_an_apache_that_does_not_listen_there_yet_is_not_asked(port: int) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as other:
        free = other.server_port
    assert smoke(free, smoke={"/": 200}) == "Apache does not know http://lab.example.org yet"


def test_a_closed_site_is_not_asked(port: int, tmp_path: Any) -> None:
    flag = tmp_path / "lab"
    flag.touch()
    said = smoke(port, maintenance=str(flag), smoke={"/500/": 200})
    assert said == "the site is closed for maintenance"
