"""What every response of the site carries."""

from collections.abc import Callable

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponseBase

GetResponse = Callable[[HttpRequest], HttpResponseBase]

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)


class AnsweredBy:
    """Name the server that ran this request in `X-Answered-By`, so that routing can be tested.

    `mod_wsgi` puts its own keys into the WSGI environment; any ASGI request came through Daphne.
    Under another server (the development one, the tests' client) the header is absent.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if isinstance(request, ASGIRequest):
            response.headers["X-Answered-By"] = "daphne"
        elif "mod_wsgi.version" in request.META or "mod_wsgi.process_group" in request.META:
            response.headers["X-Answered-By"] = "mod_wsgi"
        return response


class ContentSecurityPolicy:
    """Let a page load what this site serves and nothing else."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response
