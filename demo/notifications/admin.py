"""Notifications in Django's admin site, for looking at."""

from django.contrib import admin

from notifications.models import Notification


@admin.register(Notification)
class NotificationAdmin(admin.ModelAdmin):
    """Which notification went to whom."""

    list_display = ["created_at", "recipient", "kind", "message", "read_at"]
    list_filter = ["kind", "action"]
    raw_id_fields = ["recipient"]
