"""Send records by librdkafka, as the sites do, run on a broker's host; say as JSON what came of it.

    python3 kafka_load.py <client properties> <topic> most <records>
    python3 kafka_load.py <client properties> <topic> steady <records a second> <seconds>

`most` sends as fast as it can and tells the rate; `steady` tells, in seconds, how long each record took until it was
acknowledged, and until a consumer had it. All records have 400 bytes, and acks=all.
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

SIZE = 400
WARM = 200  # records, for which all still connect
LATEST = 30.0  # seconds to wait for the last record


def told(path: str) -> dict[str, Any]:
    """Return the settings of a file of client properties."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def send(producer: Producer, topic: str, value: bytes, acknowledged: Any = None) -> None:
    """Send one record, also where many wait already; a failed one ends the program."""

    def done(error: Any, _message: Any) -> None:
        if error:
            raise KafkaException(error)
        if acknowledged:
            acknowledged()

    while True:
        try:
            producer.produce(topic, value.ljust(SIZE, b"x"), on_delivery=done)
            break
        except BufferError:
            producer.poll(0.01)
    producer.poll(0)


def most(settings: dict[str, Any], topic: str, records: int) -> float:
    """Return how many records a second were sent."""
    producer = Producer({**settings, "acks": "all", "linger.ms": 5})
    for _ in range(WARM):
        send(producer, topic, b"warm")
    producer.flush(LATEST)
    begun = time.perf_counter()
    for number in range(records):
        send(producer, topic, str(number).encode())
    if left := producer.flush(LATEST):
        raise SystemExit(f"{left} records were not sent within {LATEST:.0f} s")
    return records / (time.perf_counter() - begun)


def steady(
    settings: dict[str, Any], topic: str, rate: float, seconds: float
) -> dict[str, list[float]]:
    """Return how long records took until they were acknowledged, and until they were consumed, sorted."""
    total = int(rate * seconds)
    consumer = Consumer({**settings, "group.id": "tests.bench", "fetch.wait.max.ms": 100})
    parts = consumer.list_topics(topic, timeout=LATEST).topics[topic].partitions
    ends = [
        consumer.get_watermark_offsets(TopicPartition(topic, part), timeout=LATEST)[1]
        for part in sorted(parts)
    ]
    consumer.assign([TopicPartition(topic, part, end) for part, end in enumerate(ends)])
    acknowledged, consumed, warmed = list[float](), list[float](), 0

    def read() -> None:
        nonlocal warmed
        until = time.monotonic() + seconds + 2 * LATEST
        while len(consumed) < total and time.monotonic() < until:
            message = consumer.poll(0.5)
            if message is None or message.error():
                continue
            word = (message.value() or b"").rstrip(b"x")
            if word == b"warm":
                warmed += 1
            else:
                consumed.append(time.perf_counter() - float(word))

    reader = threading.Thread(target=read)
    reader.start()
    producer = Producer({**settings, "acks": "all", "linger.ms": 0})
    for _ in range(WARM):
        send(producer, topic, b"warm")
    producer.flush(LATEST)
    until = time.monotonic() + LATEST
    while warmed < WARM and time.monotonic() < until:
        time.sleep(0.05)  # the consumer connects
    begun = time.perf_counter()
    for number in range(total):
        while begun + number / rate > time.perf_counter():
            producer.poll(max(0.0, begun + number / rate - time.perf_counter()))
        now = time.perf_counter()
        send(
            producer,
            topic,
            repr(now).encode(),
            lambda now=now: acknowledged.append(time.perf_counter() - now),
        )
    producer.flush(LATEST)
    reader.join()
    consumer.close()
    if len(consumed) < total or len(acknowledged) < total:
        raise SystemExit(
            f"of {total} records {len(acknowledged)} were acknowledged, {len(consumed)} consumed"
        )
    return {"acknowledged": sorted(acknowledged), "consumed": sorted(consumed)}


def main() -> None:
    """Do what the arguments say."""
    path, topic, job, *numbers = sys.argv[1:]
    settings = told(path)
    if job == "most":
        print(json.dumps(most(settings, topic, int(numbers[0]))))
    else:
        print(json.dumps(steady(settings, topic, float(numbers[0]), float(numbers[1]))))


if __name__ == "__main__":
    main()
