"""`manage.py digest`: the nightly e-mail of what is unread."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from notifications import digest


class Command(BaseCommand):
    """Run once a night."""

    help = "Send everybody who wants it an e-mail of what they have not read."

    def handle(self, *args: Any, **options: Any) -> None:
        """Send, and say how many."""
        if settings.EMAIL_BACKEND.endswith(".dummy.EmailBackend"):
            self.stdout.write("digest: no mail server is set up, nothing was sent")
            return
        sent, failed = digest.send()
        self.stdout.write(f"digest: {sent} sent, {failed} failed")
        if failed:
            raise CommandError(f"{failed} could not be sent; the next run tries them again.")
