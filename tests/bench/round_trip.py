"""Time records from a bare producer to a bare consumer: what Kafka and its client allow at best.

    python round_trip.py <bootstrap servers> <topic> <records a second> <seconds>

Both are the client and the settings of demo/notifications, in one process, with nothing around them; they log in as the
environment of a site says. Prints the latencies in seconds, sorted, as a JSON list. The first records, for which the
two still connect, are not counted.
"""

import json
import os
import sys
import threading
import time
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition

LOGIN = {
    setting: os.environ[name]
    for setting, name in (
        ("security.protocol", "KAFKA_SECURITY_PROTOCOL"),
        ("sasl.mechanism", "KAFKA_SASL_MECHANISM"),
        ("sasl.username", "KAFKA_SASL_USERNAME"),
        ("sasl.password", "KAFKA_SASL_PASSWORD"),
    )
    if os.environ.get(name)
}
PRODUCER = {"enable.idempotence": True, "acks": "all", "linger.ms": 5}
CONSUMER = {
    "enable.auto.commit": False,
    "fetch.wait.max.ms": 100,
    "group.id": f"{LOGIN.get('sasl.username', 'bench')}.bench-{uuid.uuid4()}",
}
PADDING = "x" * 350  # a notification's record has about 400 bytes
WARM = 20  # records
LATEST = 10.0  # seconds to wait for the last record


def main() -> None:
    """Produce at a steady rate, consume beside it, print the latencies."""
    servers, topic, rate, seconds = sys.argv[1:]
    total = round(float(rate) * float(seconds))
    consumer = Consumer({**CONSUMER, **LOGIN, "bootstrap.servers": servers})
    numbers = consumer.list_topics(topic, timeout=LATEST).topics[topic].partitions
    ends = [
        consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=LATEST)[1]
        for number in sorted(numbers)
    ]
    consumer.assign([TopicPartition(topic, number, end) for number, end in enumerate(ends)])
    latencies: list[float] = []

    warm = threading.Event()
    seen = 0

    def consume() -> None:
        nonlocal seen
        until = time.monotonic() + float(seconds) + LATEST
        while len(latencies) < total and time.monotonic() < until:
            message = consumer.poll(0.5)
            if message is None or message.error():
                continue
            if seen < WARM:
                seen += 1
                if seen == WARM:
                    warm.set()
            else:
                latencies.append(time.perf_counter() - float(message.value().split(b" ")[0]))

    reader = threading.Thread(target=consume)
    reader.start()
    producer = Producer({**PRODUCER, **LOGIN, "bootstrap.servers": servers})
    for number in range(WARM):
        producer.produce(topic, key=str(number % 7), value=b"warm")
    producer.flush(LATEST)
    warm.wait(LATEST)
    begun = time.perf_counter()
    for number in range(total):
        time.sleep(max(0.0, begun + number / float(rate) - time.perf_counter()))  # the steady rate
        value = f"{time.perf_counter()} {PADDING}"
        producer.produce(topic, key=str(number % 7), value=value.encode())
        producer.poll(0)
    producer.flush(LATEST)
    reader.join()
    consumer.close()
    print(json.dumps(sorted(latencies)))


if __name__ == "__main__":
    main()
