"""Pages of the chat project: a room, one that gives out work, and one that keeps a text in the cache."""

from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.http import require_POST

from parlour.jobs import work

ROOM = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>A room</title>
<p role="status"></p>
<ol></ol>
<form><label>Say <input autocomplete="off"></label> <button>Send</button></form>
<script src="/rooms.js"></script></html>
"""
SCRIPT = """
"use strict";
const socket = new WebSocket(location.href.replace("http", "ws").replace("/rooms/", "/ws/rooms/"));
const input = document.querySelector("input");
socket.addEventListener("message", (event) => {
  const told = JSON.parse(event.data);
  if ("text" in told) {
    document.querySelector("ol").append(Object.assign(document.createElement("li"), { textContent: told.text }));
  } else {
    document.querySelector("[role=status]").textContent = `held by ${told.process}`;
  }
});
document.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  socket.send(JSON.stringify({ text: input.value }));
  input.value = "";
});
"""


def index(request: HttpRequest) -> HttpResponse:
    """Say that this process answers."""
    return HttpResponse("chat\n", content_type="text/plain")


def room(request: HttpRequest, room: str) -> HttpResponse:
    """Show a room, in which one can speak."""
    return HttpResponse(ROOM)


def script(request: HttpRequest) -> HttpResponse:
    """Return what a room's page runs."""
    return HttpResponse(SCRIPT, content_type="text/javascript")


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
    path("rooms/<slug:room>/", room),
    path("rooms.js", script),
    path("cache/<slug:key>", cached),
    path("jobs/<slug:name>", hand_out),
]
