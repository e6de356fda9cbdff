"""Pages of the probe project: each says which process answered and what that process received."""

import time

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path, re_path
from django.views.decorators.csrf import csrf_exempt

SLOWEST_SECONDS = 30.0


def answerer(request: HttpRequest) -> str:
    """Name the process that answers: Daphne hands Django an ASGIRequest, mod_wsgi a WSGIRequest."""
    if isinstance(request, ASGIRequest):
        return "daphne"
    return "mod_wsgi" if "mod_wsgi.version" in request.META else "another WSGI server"


@csrf_exempt
def received(request: HttpRequest) -> JsonResponse:
    """Answer any method of any path with what the process received."""
    names = ("REMOTE_ADDR", "SERVER_NAME", "SERVER_PORT", "SCRIPT_NAME", "QUERY_STRING")
    body = {
        "method": request.method,
        "path": request.path,
        "scheme": request.scheme,
        "body_bytes": len(request.body),
        "headers": {
            name: value for name, value in request.META.items() if name.startswith("HTTP_")
        },
        **{name: request.META.get(name) for name in names},
    }
    return JsonResponse(body, headers={"X-Answered-By": answerer(request)})


def slow(request: HttpRequest) -> HttpResponse:
    """Answer after `?seconds=`, at most SLOWEST_SECONDS."""
    seconds = min(max(float(request.GET.get("seconds", "1")), 0.0), SLOWEST_SECONDS)
    time.sleep(seconds)
    return HttpResponse(
        f"{seconds} s\n", content_type="text/plain", headers={"X-Answered-By": answerer(request)}
    )


@csrf_exempt
def keep(request: HttpRequest, name: str) -> HttpResponse:
    """Keep the body, or each uploaded file, as a file of this name, and answer with its URL."""
    content = next(iter(request.FILES.values()), None) or ContentFile(request.body)
    url = default_storage.url(default_storage.save(name, content))
    return HttpResponse(
        url, content_type="text/plain", headers={"X-Answered-By": answerer(request)}
    )


urlpatterns = [
    path("slow", slow),
    path("keep/<path:name>", keep),
    re_path(r"", received),
]
