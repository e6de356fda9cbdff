"""One Kafka producer a process, made when the first record is sent.

A web request only puts records into librdkafka's bounded queue and never waits for the broker. A
daemon thread collects the delivery reports and notes in the outbox, some at a time, what Kafka has
and what it could not get. Made lazily, hence after any fork; a process forked from one that had a
producer already makes its own, for librdkafka's threads do not survive a fork.
"""

import atexit
import logging
import os
import threading
import time
from collections.abc import Iterable
from typing import Any

from django.db import close_old_connections, connections

from notifications import metrics, outbox
from notifications.schema import Event, Record, SchemaError, encode, topic_of
from notifications.topics import login, servers

log = logging.getLogger(__name__)

CONFIG: dict[str, Any] = {
    "enable.idempotence": True,
    "acks": "all",
    "linger.ms": 5,
    # Shorter than outbox.LEASE: what is not delivered by then is the relay's.
    "message.timeout.ms": 10_000,
    "queue.buffering.max.messages": 20_000,
    "queue.buffering.max.kbytes": 32 * 1024,
    "reconnect.backoff.max.ms": 2_000,
    "topic.metadata.refresh.interval.ms": 30_000,
    "socket.keepalive.enable": True,
    "log.connection.close": False,
    "client.id": "notifications-producer",
}
RENEW = 5.0  # seconds that a producer lives at least before it is replaced
FLUSH_AT_EXIT = 3.0  # seconds; mod_wsgi grants a process 5 to end in
GATHER = 0.2  # seconds for which delivery reports are gathered into one transaction
MOST = 2_000  # reports that are noted at once


class Sender:
    """The producer of one process, with the thread that serves its callbacks."""

    def __init__(self, bootstrap: str) -> None:
        from confluent_kafka import Producer

        self.broken = False
        self._made = time.monotonic()
        self._away = False
        self._full = False
        self._sent: list[str] = []
        self._failed_events: list[str] = []
        self._notes = threading.Lock()
        self._stop = threading.Event()
        self._producer = Producer(
            {**CONFIG, **login(), "bootstrap.servers": bootstrap, "error_cb": self._failed},
            logger=logging.getLogger("notifications.librdkafka"),
        )
        self._thread = threading.Thread(
            target=self._poll, name="notifications-producer", daemon=True
        )
        self._thread.start()

    def send(self, record: Record) -> None:
        """Queue one record, keyed by recipient so that one person's records keep their order.

        What cannot be queued is noted as not delivered, and is the relay's.

        Raises:
            SchemaError: no record can be made of it.
        """
        from confluent_kafka import KafkaException

        event = record if isinstance(record, Event) else None
        value, name = encode(record), topic_of(record)
        try:
            self._producer.produce(
                name,
                key=str(record.recipient),
                value=value,
                on_delivery=lambda error, message: self._delivered(event, error, message),
            )
            self._full = False
        except BufferError:
            if not self._full:
                log.error("The queue to Kafka is full: the relay sends what does not fit")
            self._full = True
            self._not_queued(event)
        except KafkaException as error:
            log.warning("A record for topic %s was not queued: %s", name, error.args[0].str())
            self._not_queued(event)
            self._doubt(error.args[0])

    def flush(self, seconds: float) -> int:
        """Wait until all that is queued is delivered or given up, and noted.

        For the relay; never for a request. Returns how many records are still on their way.
        """
        left = self._producer.flush(seconds)
        self.note()
        return left

    def topics(self, seconds: float) -> dict[str, int]:
        """Return the broker's topics and how many partitions each has.

        Raises:
            KafkaException: no broker answered in that time.
        """
        found = self._producer.list_topics(timeout=seconds).topics
        return {name: len(data.partitions) for name, data in found.items()}

    def close(self) -> None:
        """Wait a little for what is queued, note what arrived, then let go of the producer."""
        self._stop.set()
        left = self._producer.flush(FLUSH_AT_EXIT)
        if left:
            log.warning("%d records did not reach Kafka in time: the relay sends them", left)
        self.note()

    def note(self) -> None:
        """Write down what became of the records since the last time."""
        with self._notes:
            while self._sent or self._failed_events:
                sent, failed = self._sent[:MOST], self._failed_events[:MOST]
                try:
                    outbox.mark_sent(sent)
                    outbox.release(failed)
                except Exception as error:
                    # Unnoted, they are due again when their lease ends: sent twice, shown once.
                    log.error("Delivery reports wait to be noted: %s", error)
                    return
                del self._sent[: len(sent)], self._failed_events[: len(failed)]

    def _poll(self) -> None:
        noted = time.monotonic()
        while not self._stop.is_set():
            try:
                waiting = bool(self._sent or self._failed_events)
                self._producer.poll(GATHER if waiting else 1.0)
                now = time.monotonic()
                if (self._sent or self._failed_events) and now - noted > GATHER:
                    noted = now
                    close_old_connections()
                    self.note()
                    noted = time.monotonic()
            except Exception:
                log.exception("A delivery report could not be handled")
                self._stop.wait(1.0)

    def _not_queued(self, event: Event | None) -> None:
        if event is not None:
            metrics.add("failed")
            self._failed_events.append(event.event)

    def _doubt(self, error: Any) -> None:
        """Ask for another producer where this one would keep refusing.

        A broker that starts may say for a moment that it has no such topic. The client remembers
        that, and refuses the topic for minutes although it is there (seen with librdkafka 2.16).
        """
        from confluent_kafka import KafkaError

        wrong = {KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError._FATAL}
        if error.code() in wrong and time.monotonic() - self._made > RENEW:
            self.broken = True

    def _delivered(self, event: Event | None, error: Any, message: Any) -> None:
        if error is not None:
            log.log(
                logging.DEBUG if self._away else logging.WARNING,
                "A record for topic %s was not delivered: %s",
                message.topic(),
                error.str(),
            )
            self._not_queued(event)
            self._doubt(error)
            return
        if event is not None:
            metrics.add(f"produced.{event.kind}")
            self._sent.append(event.event)
        if self._away:
            self._away = False
            log.info("Kafka takes notifications again")

    def _failed(self, error: Any) -> None:
        from confluent_kafka import KafkaError

        if error.fatal():
            log.error("The producer must be made anew: %s", error.str())
            self.broken = True
        elif (
            error.code() == KafkaError._ALL_BROKERS_DOWN and len(self._producer) and not self._away
        ):
            self._away = True
            log.warning("Kafka is away: notifications wait in the outbox")


_lock = threading.Lock()
_sender: Sender | None = None
_owner = 0


def send(records: Iterable[Record]) -> None:
    """Queue the records for Kafka and return at once; without brokers configured, do nothing."""
    if not servers():
        return
    sender = current()
    for record in records:
        try:
            sender.send(record)
        except SchemaError as error:
            log.error("A record was not sent: %s", error)


def current() -> Sender:
    """Return this process's producer, made now where there is none."""
    global _sender, _owner
    with _lock:
        if _sender is None or _sender.broken or _owner != os.getpid():
            if _sender is not None and _owner == os.getpid():
                threading.Thread(target=_retire, args=[_sender], daemon=True).start()
            _sender, _owner = Sender(servers()), os.getpid()
        return _sender


def _retire(sender: Sender) -> None:
    try:
        sender.close()
    finally:
        connections.close_all()


def _forget_after_fork() -> None:
    # The parent may have held the lock at that moment; no thread of the child could release it.
    global _lock
    _lock = threading.Lock()


def _close() -> None:
    if _sender is not None and _owner == os.getpid():
        _sender.close()


atexit.register(_close)
os.register_at_fork(after_in_child=_forget_after_fork)
