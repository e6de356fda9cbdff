"""`manage.py metrics`: the site's metrics, once, on standard output."""

from typing import Any

from django.core.management.base import BaseCommand

from notifications import metrics


class Command(BaseCommand):
    """Print what the relay serves."""

    help = "Print the site's metrics in Prometheus' text format."

    def handle(self, *args: Any, **options: Any) -> None:
        """Print."""
        self.stdout.write(metrics.exposition(), ending="")
