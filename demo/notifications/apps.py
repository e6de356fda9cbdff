"""The app's entry in INSTALLED_APPS."""

from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    """Live notifications."""

    name = "notifications"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Listen for what ends a session. Nothing else starts here: no thread, no client."""
        from notifications import signals

        signals.connect()
