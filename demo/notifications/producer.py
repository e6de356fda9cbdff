"""One Kafka producer a process, made when the first record is sent.

A web request only puts records into librdkafka's bounded queue and never waits for the broker. A
daemon thread collects the delivery reports. Made lazily, hence after any fork; a process forked
from one that had a producer already makes its own, for librdkafka's threads do not survive a fork.
"""

import atexit
import logging
import os
import threading
from collections.abc import Iterable
from typing import Any

from notifications.schema import Event, encode
from notifications.topics import servers, topic

log = logging.getLogger(__name__)

CONFIG: dict[str, Any] = {
    "enable.idempotence": True,
    "acks": "all",
    "linger.ms": 5,
    "message.timeout.ms": 300_000,
    "queue.buffering.max.messages": 20_000,
    "queue.buffering.max.kbytes": 32 * 1024,
    "reconnect.backoff.max.ms": 2_000,
    "socket.keepalive.enable": True,
    "log.connection.close": False,
    "client.id": "notifications-producer",
}
FLUSH_AT_EXIT = 3.0  # seconds; mod_wsgi grants a process 5 to end in


class Sender:
    """The producer of one process, with the thread that serves its callbacks."""

    def __init__(self, bootstrap: str) -> None:
        from confluent_kafka import Producer

        self.broken = False
        self._away = False
        self._full = False
        self._stop = threading.Event()
        self._producer = Producer(
            {**CONFIG, "bootstrap.servers": bootstrap, "error_cb": self._failed},
            logger=logging.getLogger("notifications.librdkafka"),
        )
        threading.Thread(target=self._poll, name="notifications-producer", daemon=True).start()

    def send(self, event: Event) -> None:
        """Queue one record, keyed by recipient so that one person's records keep their order."""
        try:
            self._producer.produce(
                topic(event.kind),
                key=str(event.recipient),
                value=encode(event),
                on_delivery=self._delivered,
            )
            self._full = False
        except BufferError:
            if not self._full:
                log.error("The queue to Kafka is full: notifications are stored but not pushed")
            self._full = True

    def close(self) -> None:
        """Wait a little for what is queued, then let go of the producer."""
        self._stop.set()
        left = self._producer.flush(FLUSH_AT_EXIT)
        if left:
            log.error("%d notifications were stored but not pushed: Kafka did not answer", left)

    def _poll(self) -> None:
        while not self._stop.is_set():
            try:
                self._producer.poll(1.0)
            except Exception:
                log.exception("A delivery report could not be handled")
                self._stop.wait(1.0)

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            log.error("A record for topic %s was not delivered: %s", message.topic(), error.str())
        elif self._away:
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
            log.warning("Kafka is away: notifications wait in this process")


_lock = threading.Lock()
_sender: Sender | None = None
_owner = 0


def send(events: Iterable[Event]) -> None:
    """Queue the events for Kafka and return at once; without brokers configured, do nothing."""
    if not servers():
        return
    sender = _current()
    for event in events:
        sender.send(event)


def _current() -> Sender:
    global _sender, _owner
    with _lock:
        if _sender is None or _sender.broken or _owner != os.getpid():
            if _sender is not None and _owner == os.getpid():
                threading.Thread(target=_sender.close, daemon=True).start()
            _sender, _owner = Sender(servers()), os.getpid()
        return _sender


def _forget_after_fork() -> None:
    # The parent may have held the lock at that moment; no thread of the child could release it.
    global _lock
    _lock = threading.Lock()


def _close() -> None:
    if _sender is not None and _owner == os.getpid():
        _sender.close()


atexit.register(_close)
os.register_at_fork(after_in_child=_forget_after_fork)
