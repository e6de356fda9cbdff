"""Notifications in Django's admin site, for looking at."""

from django.contrib import admin

from notifications.models import Notification, Preference


@admin.register(Notification)
class NotificationAdmin(admin.ModelAdmin):
    """Which notification went to whom."""

    list_display = [
        "created_at", "recipient", "sequence", "kind", "message", "read_at", "state", "attempts",
    ]  # fmt: skip
    list_filter = ["kind", "action", "state"]
    raw_id_fields = ["recipient"]


@admin.register(Preference)
class PreferenceAdmin(admin.ModelAdmin):
    """Who wants to hear of what."""

    list_display = ["person", "kind", "delivery"]
    list_filter = ["kind", "delivery"]
    raw_id_fields = ["person"]
