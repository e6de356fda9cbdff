"""The list of one's own notifications. It works without JavaScript."""

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from notifications.models import Notification

PAGE = 50


@login_required
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Show the signed-in person's notifications, newest first."""
    rows = Notification.objects.filter(recipient=request.user)
    newest = rows.first()
    page = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    return render(
        request,
        "notifications/index.html",
        {"page": page, "newest": newest.pk if newest else 0},
    )


@login_required
@require_POST
def read_all(request: HttpRequest) -> HttpResponse:
    """Mark all as read that the person could have seen: those up to the given id."""
    newest = request.POST.get("newest", "")
    if newest.isascii() and newest.isdigit() and len(newest) < 19:
        Notification.objects.filter(
            recipient=request.user, read_at__isnull=True, pk__lte=int(newest)
        ).update(read_at=timezone.now())
    return redirect("notifications:index")
