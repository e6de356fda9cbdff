"""Pages of the chat project: one that gives out work, and one that keeps a text in the cache."""

from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.http import require_POST

from parlour.jobs import work


def index(request: HttpRequest) -> HttpResponse:
    """Say that this process answers."""
    return HttpResponse("chat\n", content_type="text/plain")


def cached(request: HttpRequest, key: str) -> HttpResponse:
    """Keep the body of a POST for a minute, and give it to a GET."""
    if request.method == "POST":
        cache.set(key, request.body.decode(), 60)
    return HttpResponse(cache.get(key, ""), content_type="text/plain")


@require_POST
def hand_out(request: HttpRequest, name: str) -> HttpResponse:
    """Hand out a job of `?seconds=`."""
    work.delay(name, float(request.GET["seconds"]))
    return HttpResponse(status=202)


urlpatterns = [
    path("", index),
    path("cache/<slug:key>", cached),
    path("jobs/<slug:name>", hand_out),
]
