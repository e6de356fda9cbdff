"""The pages; each says in `X-Answered-By` which server ran it."""

from django.http import HttpRequest, HttpResponse

from entries.models import Entry


def _answer(request: HttpRequest, text: str) -> HttpResponse:
    response = HttpResponse(text, content_type="text/plain; charset=utf-8")
    if "mod_wsgi.version" in request.META:
        response.headers["X-Answered-By"] = "mod_wsgi"
    return response


def index(request: HttpRequest) -> HttpResponse:
    """Say how many entries the database holds, which fails where it was not migrated."""
    return _answer(request, f"ledger: {Entry.objects.count()} entries\n")


def alive(request: HttpRequest) -> HttpResponse:
    """Say that this process answers."""
    return _answer(request, "alive\n")
