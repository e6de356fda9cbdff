"""Sends what the processes of the site could not: the loop behind `manage.py relay`."""

import logging
import threading

from django.db import close_old_connections

from notifications import outbox, producer
from notifications.schema import Event, SchemaError
from notifications.topics import topics

log = logging.getLogger(__name__)

BATCH = 500  # rows that are claimed at a time
FLUSH = 12.0  # seconds; the producer gives a record up after 10, the lease ends after 15
ASK = 5.0  # seconds for the question whether Kafka is there


class Relay:
    """Claims what is due in the outbox and hands it to Kafka, a batch at a time."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._said: str | None = None

    def stop(self) -> None:
        """End `run` after the batch that it is at."""
        self._stop.set()

    def run(self, interval: float) -> None:
        """Look every `interval` seconds, until told to stop. Nothing that goes wrong ends it."""
        while not self._stop.is_set():
            try:
                close_old_connections()
                self.drain()
            except Exception as error:
                self._say(f"The outbox waits ({type(error).__name__}: {error})", logging.ERROR)
            self._stop.wait(interval)

    def drain(self) -> int:
        """Send all that is due now, where Kafka is there; return how many Kafka was handed."""
        total = 0
        while not self._stop.is_set() and outbox.due():
            # Before anything is claimed: what waits while Kafka is away is no failed attempt.
            away = self._away()
            if away:
                self._say(f"The outbox waits: {away}", logging.WARNING)
                return total
            self._say("The outbox is sent", logging.INFO)
            total += self.batch()
        return total

    def batch(self) -> int:
        """Claim one batch and send it; return how many records that were."""
        sender = producer.current()
        rows = outbox.claim(BATCH)
        unreadable = []
        for row in rows:
            try:
                sender.send(Event.of(row))
            except SchemaError as error:
                log.error("Notification %s was given up: %s", row.event_id, error)
                unreadable.append(str(row.event_id))
        outbox.refuse(unreadable)
        sender.flush(FLUSH)
        return len(rows) - len(unreadable)

    def _away(self) -> str | None:
        """Return why nothing can be sent now; None where it can."""
        from confluent_kafka import KafkaException

        try:
            known = producer.current().topics(ASK)
        except KafkaException as error:
            return f"Kafka does not answer ({error.args[0].str()})"
        missing = [name for name in topics() if not known.get(name)]
        return f"no such topic: {', '.join(missing)}" if missing else None

    def _say(self, text: str, level: int) -> None:
        """Log once for each change of state, not once for each attempt."""
        if text != self._said:
            self._said = text
            log.log(level, "%s", text)
