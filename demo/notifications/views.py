"""The list of one's own notifications, and what one wants to hear of. Both work without JavaScript."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from notifications import reading, store
from notifications.forms import PreferencesForm
from notifications.models import Notification
from notifications.schema import unread_frame

PAGE = 50


@login_required
@never_cache
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Show the signed-in person's notifications, newest first, equal ones of an hour together."""
    rows = Notification.objects.filter(recipient=request.user).order_by("-sequence")
    newest = rows.first()
    page = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    return render(
        request,
        "notifications/index.html",
        {
            "page": page,
            "groups": reading.groups(page),
            # The bell begins where the first page ends, so that nothing falls between the two.
            "notifications_newest": newest.sequence if newest else 0,
        },
    )


@login_required
@require_POST
def read_all(request: HttpRequest) -> HttpResponse:
    """Mark all as read that the person could have seen: those up to the given sequence."""
    reading.mark(request.user, up_to=_number(request.POST.get("newest")) or 0)
    return redirect("notifications:index")


@login_required
@require_POST
def read_some(request: HttpRequest) -> HttpResponse:
    """Mark the given ones as read."""
    given = [_number(text) for text in request.POST.getlist("sequence")]
    reading.mark(request.user, sequences=[number for number in given if number])
    return redirect("notifications:index")


@login_required
@never_cache
@require_safe
def after(request: HttpRequest) -> JsonResponse:
    """Answer what came after a sequence, in the words of the WebSocket's first frame."""
    person = request.user.pk
    last = _number(request.GET.get("after"))
    step = store.missed({(person, last)})[person, last]
    count = store.unread_counts([person])[person]
    return JsonResponse(unread_frame(count, step.sequence, step.events))


@login_required
def preferences(request: HttpRequest) -> HttpResponse:
    """Say of which kinds one wants to hear, and how."""
    form = PreferencesForm(request.user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, "Saved.")
        return redirect("notifications:preferences")
    return render(request, "notifications/preferences.html", {"form": form})


def _number(text: str | None) -> int | None:
    """Return a sequence that a browser sent; None where it is none."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None
