"""The length of a body that came without one, as the WSGI script counts it."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tests.unit.test_site_settings import plugin

request_length = plugin("../roles/django/files/request_length.py")


def called(**environ: Any) -> dict[str, Any]:
    """Return the environment that the application is called with."""
    seen: dict[str, Any] = {}

    def application(given: dict[str, Any], start_response: object) -> list[bytes]:
        seen.update(given, body=given["wsgi.input"].read())
        return []

    whole = {"SERVER_PROTOCOL": "HTTP/1.1", "wsgi.input": io.BytesIO(b"hello"), **environ}
    assert request_length.with_length(application)(whole, lambda *_: None) == []
    return seen


@pytest.mark.parametrize(
    "environ", [{"HTTP_TRANSFER_ENCODING": "chunked"}, {"SERVER_PROTOCOL": "HTTP/2.0"}]
)
@pytest.mark.parametrize("size", [0, 5, 200_000])
def test_a_body_without_a_length_is_counted(environ: dict[str, Any], size: int) -> None:
    seen = called(**environ, **{"wsgi.input": io.BytesIO(b"x" * size)})
    assert seen["CONTENT_LENGTH"] == str(size)
    assert seen["body"] == b"x" * size
    assert "HTTP_TRANSFER_ENCODING" not in seen


def test_the_scheme_is_what_apache_says_that_the_visitor_used() -> None:
    told = called(**{"wsgi.url_scheme": "https", "switchboard_scheme": "http"})
    assert told["wsgi.url_scheme"] == "http"
    assert called(**{"wsgi.url_scheme": "https"})["wsgi.url_scheme"] == "https"


@pytest.mark.parametrize("environ", [{"CONTENT_LENGTH": "5"}, {}])
def test_any_other_body_is_left_alone(environ: dict[str, Any]) -> None:
    body = io.BytesIO(b"hello")
    seen = called(**environ, **{"wsgi.input": body})
    assert seen["wsgi.input"] is body
    assert seen.get("CONTENT_LENGTH") == environ.get("CONTENT_LENGTH")
