"""Producers and a consumer of Kafka, run on one of its hosts: `records.py SERVERS USER PASSWORD TOPIC`.

Producers send numbered records with acks=all until the input ends. Then everything since the beginning is consumed, and
what became of the records is said as JSON.
"""

from __future__ import annotations

import json
import platform
import sys
import threading
import time
from collections import Counter
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition

PRODUCERS = 3
PAUSE = 0.02  # seconds between two records of one producer
PATIENCE = 60  # seconds after which a record counts as failed, and the consumer gives up


class Sender(threading.Thread):
    """One producer, and what it was told of its records."""

    def __init__(self, number: int, common: dict[str, Any], topic: str, ended: threading.Event):
        super().__init__(daemon=True, name=f"{platform.node()}:{number}")
        self.topic, self.ended = topic, ended
        self.producer = Producer(
            {**common, "acks": "all", "linger.ms": 0, "message.timeout.ms": PATIENCE * 1000}
        )
        self.sent, self.acknowledged, self.failed = 0, set[str](), list[str]()
        self.last, self.longest = time.monotonic(), 0.0

    def told(self, error: Any, message: Message) -> None:
        """Note what became of one record."""
        if error:
            self.failed.append(error.name())
            return
        now = time.monotonic()
        self.longest, self.last = max(self.longest, now - self.last), now
        self.acknowledged.add((message.value() or b"").decode())

    def run(self) -> None:
        """Send until the end, and wait for what is on its way."""
        self.last = time.monotonic()
        while not self.sent or not self.ended.is_set():
            self.sent += 1
            value = f"{self.name}:{self.sent}"
            self.producer.produce(self.topic, value.encode(), on_delivery=self.told)
            self.producer.poll(0)
            time.sleep(PAUSE)  # so that the load is the same everywhere
        self.producer.flush(PATIENCE + 10)


def ends(consumer: Consumer, topic: str) -> dict[int, int]:
    """Return the offset behind the last record of each partition."""
    parts = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    return {
        part: consumer.get_watermark_offsets(TopicPartition(topic, part), timeout=30)[1]
        for part in parts
    }


def consumed(consumer: Consumer, topic: str, begin: dict[int, int]) -> Counter[str]:
    """Return how often each record is there since then."""
    behind = ends(consumer, topic)
    consumer.assign([TopicPartition(topic, part, offset) for part, offset in begin.items()])
    open_, found, end = {p for p in behind if behind[p] > begin[p]}, Counter[str](), 0.0
    end = time.monotonic() + PATIENCE
    while open_:
        assert time.monotonic() < end, f"partitions {sorted(open_)} are not read in time"
        message = consumer.poll(1)
        if message is None or message.error():
            continue  # the deadline above ends it
        found[(message.value() or b"").decode()] += 1
        if (message.offset() or 0) + 1 >= behind[message.partition() or 0]:
            open_.discard(message.partition() or 0)
    return found


def main() -> None:
    """Send, consume and tell."""
    servers, user, password, topic = sys.argv[1:]
    common: dict[str, Any] = {
        "bootstrap.servers": servers,
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": "/etc/switchboard/certificates/peers/ca.pem",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": user,
        "sasl.password": password,
        "log_level": 0,
    }
    consumer = Consumer({**common, "group.id": f"{user}.records", "enable.auto.commit": False})
    begin = ends(consumer, topic)
    ended = threading.Event()
    senders = [Sender(number, common, topic, ended) for number in range(PRODUCERS)]
    for sender in senders:
        sender.start()
    print("begun", flush=True)
    sys.stdin.read()
    ended.set()
    for sender in senders:
        sender.join()
    found = consumed(consumer, topic, begin)
    acknowledged = set[str]().union(*(sender.acknowledged for sender in senders))
    told = {
        "sent": sum(sender.sent for sender in senders),
        "acknowledged": len(acknowledged),
        "failed": Counter(error for sender in senders for error in sender.failed),
        "lost": sorted(acknowledged - found.keys()),
        "doubled": sum(count > 1 for count in found.values()),
        "longest": round(max(sender.longest for sender in senders), 2),
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
