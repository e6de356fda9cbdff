"""`{% load notifications %}{% notification_bell %}` puts the bell on a page."""

from typing import Any

from django import template
from django.db.models import Max

from notifications.models import Notification

register = template.Library()


@register.inclusion_tag("notifications/bell.html", takes_context=True)
def notification_bell(context: dict[str, Any], socket: str = "/ws/notifications/") -> dict:
    """Render the bell of the signed-in person; `socket` is the path of the WebSocket."""
    user = getattr(context.get("request"), "user", None)
    if user is None or not user.is_authenticated:
        return {"user": None}
    rows = Notification.objects.filter(recipient=user)
    latest = context.get("notifications_newest")
    if latest is None:
        latest = rows.aggregate(latest=Max("sequence"))["latest"] or 0
    return {
        "user": user,
        "socket": socket,
        "count": rows.filter(read_at__isnull=True).count(),
        "latest": latest,
    }
