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
    rows = Paginator(Notification.objects.filter(recipient=request.user), PAGE)
    return render(
        request, "notifications/index.html", {"page": rows.get_page(request.GET.get("page"))}
    )


@login_required
@require_POST
def read_all(request: HttpRequest) -> HttpResponse:
    """Mark all that the page could have shown as read: those up to the given id."""
    newest = request.POST.get("newest", "")
    if newest.isascii() and newest.isdigit() and len(newest) < 19:
        Notification.objects.filter(
            recipient=request.user, read_at__isnull=True, pk__lte=int(newest)
        ).update(read_at=timezone.now())
    return redirect("notifications:index")
