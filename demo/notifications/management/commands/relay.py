"""`manage.py relay`: hand Kafka what the outbox still holds, and answer with the site's metrics."""

import signal
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from notifications import exporter
from notifications.relay import Relay
from notifications.topics import servers


class Command(BaseCommand):
    """Run beside the web processes, once a site. A second one does no harm."""

    help = "Send the notifications that wait in the outbox; serve the site's metrics."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--once", action="store_true", help="send what is due now, and end")
        parser.add_argument(
            "--interval", type=float, default=1.0, help="seconds between two looks (default 1)"
        )
        parser.add_argument(
            "--metrics",
            metavar="ADDRESS:PORT",
            default="",
            help="a loopback address to serve Prometheus' text format at, such as 127.0.0.1:9464",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Send until told to stop, or once."""
        if not servers():
            raise CommandError("NOTIFICATIONS_KAFKA_SERVERS is empty: there is no Kafka. Set it.")
        if options["interval"] < 0.1:
            raise CommandError(
                f"--interval is {options['interval']}: it would keep the database busy. "
                "Use 0.1 seconds or more."
            )
        relay = Relay()
        if options["once"]:
            self.stdout.write(f"relay: {relay.drain()} sent")
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_ignored: relay.stop())
        server = None
        if options["metrics"]:
            try:
                server = exporter.serve(options["metrics"])
            except (ValueError, OSError) as error:
                raise CommandError(f"--metrics is {options['metrics']}: {error}") from error
        try:
            relay.run(options["interval"])
        finally:
            if server is not None:
                server.shutdown()
