"""Tell a WSGI application how long a body without a Content-Length is, and over which scheme its visitor came.

Django reads as many bytes as CONTENT_LENGTH says, and none where it is missing (PEP 3333 knows no other way).
A chunked body, and one of HTTP/2, may come without. Apache has read and bounded it by then, so that it is all
there: it is copied to learn its length, in memory or, where it is long, in a file.

Behind a balancer that asks Apache by TLS mod_wsgi takes each request for https; Apache says where it was not.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

IN_MEMORY_BYTES = 131072


def with_length(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Return the application, called with CONTENT_LENGTH for each request that may have a body."""

    def called(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if scheme := environ.get("switchboard_scheme"):
            environ["wsgi.url_scheme"] = scheme
        if not environ.get("CONTENT_LENGTH") and (
            environ.get("HTTP_TRANSFER_ENCODING") or environ["SERVER_PROTOCOL"] == "HTTP/2.0"
        ):
            # closed with the environment, when the last of the request is gone
            body = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115
            shutil.copyfileobj(environ["wsgi.input"], body)
            environ["CONTENT_LENGTH"] = str(body.tell())
            body.seek(0)
            environ["wsgi.input"] = body
            environ.pop("HTTP_TRANSFER_ENCODING", None)
        return application(environ, start_response)

    return called
