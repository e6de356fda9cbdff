"""Records of all kinds in topics that somebody has made by hand, run on its host as root: `records.py make|hold|tell`.

`make` makes topics, records, and a group of consumers that has read some. `hold` leaves a transaction open, with
records behind it. `tell` says as JSON what is there: of each partition how many records and a sum over all of them,
without their offsets, and what the group reads next.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import Any

sys.path.insert(0, "/usr/local/lib/switchboard")  # where the role has put it

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kafka_client import login_of

COMMON: dict[str, Any] = {
    **login_of("/etc/kafka/admin.properties"),
    "bootstrap.servers": "127.0.0.1:9092",
    "group.id": "byhand.readers",
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "log_level": 0,
}
TOPICS = {"byhand.raw": {"retention.ms": "-1"}, "byhand.state": {"cleanup.policy": "compact"}}
PARTITIONS, RECORDS, READ, HIDDEN = 2, 3000, 700, 5
LONG_AGO = 1_700_000_000_000


def make() -> None:
    """Make topics, records and a group."""
    admin = AdminClient(COMMON)
    new = [NewTopic(name, PARTITIONS, 1, config=config) for name, config in TOPICS.items()]
    for future in admin.create_topics(new).values():
        future.result(30)
    producer = Producer(COMMON)
    for number in range(RECORDS):
        producer.produce(
            "byhand.raw",
            None if number % 50 == 7 else str(number),
            None if number % 10 == 3 else f"k{number % 7}",
            partition=number % PARTITIONS,
            timestamp=LONG_AGO + number,
            headers=[("a", b"1"), ("none", None), ("a", b"")] if number % 4 == 0 else None,
        )
    for number in range(100):
        producer.produce("byhand.state", str(number), f"k{number % 5}", number % PARTITIONS)
    producer.flush(60)
    changing = Producer({**COMMON, "transactional.id": "byhand"})
    changing.init_transactions(60)
    for end in (changing.commit_transaction, changing.abort_transaction) * 2:
        changing.begin_transaction()
        for number in range(20):
            changing.produce("byhand.raw", f"{end.__name__} {number}", partition=0)
        changing.flush(60)
        end(60)
    consumer = Consumer(COMMON)
    consumer.commit(offsets=[TopicPartition("byhand.raw", 0, READ)], asynchronous=False)
    consumer.close()


def hold() -> None:
    """Begin a transaction that Kafka itself ends after 100 seconds, and send others' records meanwhile."""
    changing = Producer(
        {**COMMON, "transactional.id": "byhand.held", "transaction.timeout.ms": 100_000}
    )
    changing.init_transactions(60)
    changing.begin_transaction()
    changing.produce("byhand.raw", "never committed", partition=0)
    changing.flush(60)
    producer = Producer(COMMON)
    for number in range(HIDDEN):
        producer.produce("byhand.raw", f"hidden {number}", partition=0)
    producer.flush(60)
    os._exit(0)  # as a program that is killed, which ends nothing


def tell() -> dict[str, Any]:
    """Return what is there."""
    consumer, found = Consumer(COMMON), {}
    for name, topic in sorted(consumer.list_topics(timeout=30).topics.items()):
        for number in sorted(topic.partitions) if not name.startswith("__") else ():
            consumer.assign([TopicPartition(name, number, -2)])
            total, count = hashlib.sha256(), 0
            # a message has a length, which is 0 where it has no value
            while (message := consumer.poll(30)) is not None and not message.error():
                content = message.key(), message.value(), message.headers(), message.timestamp()
                total.update(repr(content).encode())
                count += 1
            found[f"{name}-{number}"] = [count, total.hexdigest()]
    (told,) = consumer.committed([TopicPartition("byhand.raw", 0)], timeout=30)
    consumer.assign([TopicPartition("byhand.raw", 0, told.offset)])
    message = consumer.poll(30)
    assert message is not None
    return {"records": found, "next": repr((message.key(), message.value()))}


if __name__ == "__main__":
    if sys.argv[1] == "tell":
        print(json.dumps(tell()))
    else:
        {"make": make, "hold": hold}[sys.argv[1]]()
