"""The thread that reads Kafka for one process, and hands every record to the event loop.

Where it starts: with the first scope that the ASGI application handles (Daphne sends no lifespan
event, and an import must not start anything). Where it ends: with the process.

Each process reads all partitions of all topics by itself, with `assign` and from their ends; a
consumer group shared between processes would hand each record to one of them only. What was missed
before an assignment is in the database, so every assignment is followed by a catch-up of all the
sockets that this process holds. A row is committed before its record is sent: one that the catch-up
does not see yet has its record behind the assigned offsets, so it comes live.
"""

import asyncio
import atexit
import logging
import random
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from notifications import metrics, topics
from notifications.hub import Hub, hub
from notifications.schema import SchemaError, decode

log = logging.getLogger(__name__)

CONFIG: dict[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # An offset that the broker no longer has is an error here, answered by a new assignment.
    "auto.offset.reset": "error",
    "allow.auto.create.topics": False,
    "fetch.wait.max.ms": 100,
    "fetch.error.backoff.ms": 100,
    "reconnect.backoff.max.ms": 2_000,
    "socket.keepalive.enable": True,
    "log.connection.close": False,
    "client.id": "notifications-listener",
}
ASK_TIMEOUT = 5.0  # seconds for one question to the broker
REFRESH = 60.0  # seconds between two looks for new partitions
MEASURE = 1.0  # seconds between two looks at how far behind this process is
BACK_OFF = (0.5, 5.0)  # seconds before the second attempt, and at most


class AwayError(Exception):
    """Why the listener must assign its partitions anew."""


class Listener:
    """Reads every notification topic in a daemon thread, for as long as the process lives."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: Hub) -> None:
        self._loop = loop
        self._hub = target
        self._stop = threading.Event()
        self._down: str | None = None
        self._said: str | None = None
        self._thread = threading.Thread(target=self._run, name="notifications", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """Ask the thread to end and wait for it, `timeout` seconds at most."""
        self._stop.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        pause = BACK_OFF[0]
        metrics.put("listener", 1)
        while not self._stop.is_set():
            metrics.put("heartbeat", time.time())
            begun = time.monotonic()
            try:
                self._listen()
            except AwayError as reason:
                self._say(f"Kafka cannot be read ({reason}): trying again", logging.WARNING)
            except Exception as error:
                # Whatever it was, the thread goes on: the database holds what is missed meanwhile.
                text = f"Kafka cannot be read ({type(error).__name__}: {error}): trying again"
                self._say(text, logging.ERROR)
                log.debug("The listener failed", exc_info=True)
            if time.monotonic() - begun > 2 * BACK_OFF[1]:
                pause = BACK_OFF[0]
            self._stop.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause = min(2 * pause, BACK_OFF[1])
        metrics.put("listener", 0)

    def _say(self, text: str, level: int) -> None:
        """Log once for each change of state, not once for each attempt."""
        if text != self._said:
            self._said = text
            log.log(level, "%s", text)

    def _listen(self) -> None:
        """Assign, catch up, deliver. Returns when told to stop.

        Raises:
            AwayError: no broker, a topic is missing, or the partitions changed.
        """
        from confluent_kafka import Consumer, KafkaException

        self._down = None
        consumer = Consumer(
            {
                **CONFIG,
                **topics.login(),
                "bootstrap.servers": topics.servers(),
                # Required by the client; nothing joins it, for partitions are assigned by hand.
                "group.id": topics.group(f"notifications-{uuid.uuid4()}"),
                "error_cb": self._failed,
            },
            logger=logging.getLogger("notifications.librdkafka"),
        )
        try:
            partitions = self._partitions(consumer)
            consumer.assign(partitions)
            self._say(f"Listening to {len(partitions)} partitions of Kafka", logging.INFO)
            self._loop.call_soon_threadsafe(self._hub.catch_up)
            metrics.put("listening", 1)
            looked = time.monotonic()
            measured = 0.0
            while not self._stop.is_set():
                # poll returns with the first record; consume would wait until it has its number.
                message = consumer.poll(0.5)
                if message is not None:
                    self._handle(message)
                if self._down:
                    raise AwayError(self._down)
                now = time.monotonic()
                if now - measured > MEASURE:
                    self._measure(consumer, partitions)
                    measured = now
                if now - looked > REFRESH:
                    self._compare(consumer, partitions)
                    looked = now
        except KafkaException as error:
            raise AwayError(error.args[0].str()) from error
        finally:
            metrics.put("listening", 0)
            consumer.close()

    def _measure(self, consumer: Any, assigned: list[Any]) -> None:
        """Note that this thread goes round, and how many records it has yet to read."""
        lag = 0
        for position in consumer.position(assigned):
            # Cached: what the last fetch said; no question to the broker.
            _low, high = consumer.get_watermark_offsets(position, cached=True)
            if position.offset >= 0 and high >= 0:
                lag += max(0, high - position.offset)
        metrics.put("lag", lag)
        metrics.put("heartbeat", time.time())

    def _failed(self, error: Any) -> None:
        from confluent_kafka import KafkaError

        if error.fatal() or error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._down = "no broker answers" if not error.fatal() else error.str()

    def _partitions(self, consumer: Any) -> list[Any]:
        """Return every partition of every topic, at the offset where it ends now."""
        from confluent_kafka import TopicPartition

        found = []
        for topic, numbers in self._numbers(consumer).items():
            for number in sorted(numbers):
                partition = TopicPartition(topic, number)
                _low, end = consumer.get_watermark_offsets(partition, timeout=ASK_TIMEOUT)
                found.append(TopicPartition(topic, number, end))
        return found

    def _numbers(self, consumer: Any) -> dict[str, set[int]]:
        known = consumer.list_topics(timeout=ASK_TIMEOUT).topics
        wanted = topics.topics()
        missing = [name for name in wanted if name not in known or not known[name].partitions]
        if missing:
            raise AwayError(f"no such topic: {', '.join(missing)}")
        return {name: set(known[name].partitions) for name in wanted}

    def _compare(self, consumer: Any, assigned: list[Any]) -> None:
        held: dict[str, set[int]] = {}
        for partition in assigned:
            held.setdefault(partition.topic, set()).add(partition.partition)
        if self._numbers(consumer) != held:
            raise AwayError("the partitions changed")

    def _handle(self, message: Any) -> None:
        if message.error():
            raise AwayError(message.error().str())
        try:
            record = decode(message.value())
        except SchemaError as error:
            metrics.add("skipped")
            log.warning(
                "Skipped a record of %s at offset %s: %s", message.topic(), message.offset(), error
            )
            return
        self._loop.call_soon_threadsafe(self._hub.publish, record)


class WithListener:
    """An ASGI application that starts the listener with the first scope it is given."""

    def __init__(self, application: Callable[..., Awaitable[None]]) -> None:
        self._application = application
        self._listener: Listener | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._listener is None and topics.servers():
            self._listener = Listener(asyncio.get_running_loop(), hub)
            self._listener.start()
            atexit.register(self._listener.stop)
        await self._application(scope, receive, send)
