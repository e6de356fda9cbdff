"""The row that a notification is before it is anything else."""

import uuid

from django.conf import settings
from django.db import models

from notifications.topics import Kind


class Notification(models.Model):
    """One thing that one person should know."""

    event_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    recipient = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notifications"
    )
    kind = models.CharField(max_length=16, choices=Kind)
    action = models.CharField(max_length=32)
    actor = models.CharField(max_length=150)
    resource = models.CharField(max_length=32)
    resource_id = models.BigIntegerField()
    message = models.CharField(max_length=500)
    url = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["recipient", "-id"], name="notification_by_recipient"),
            models.Index(
                fields=["recipient"],
                condition=models.Q(read_at__isnull=True),
                name="notification_unread",
            ),
        ]

    def __str__(self) -> str:
        return self.message
