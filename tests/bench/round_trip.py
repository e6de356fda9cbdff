"""Time records from a bare producer to a bare consumer: what Kafka and its client allow at best.

    python round_trip.py <bootstrap servers> <topic> <records a second> <seconds>

Both are the client and the settings of demo/notifications, in one process, with nothing around them. Prints the
latencies in seconds, sorted, as a JSON list.
"""

import json
import sys
import threading
import time
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition

PRODUCER = {"enable.idempotence": True, "acks": "all", "linger.ms": 5}
CONSUMER = {
    "enable.auto.commit": False,
    "fetch.wait.max.ms": 100,
    "group.id": f"bench-{uuid.uuid4()}",
}
PADDING = "x" * 350  # a notification's record has about 400 bytes
LATEST = 10.0  # seconds to wait for the last record


def main() -> None:
    """Produce at a steady rate, consume beside it, print the latencies."""
    servers, topic, rate, seconds = sys.argv[1:]
    total = round(float(rate) * float(seconds))
    consumer = Consumer({**CONSUMER, "bootstrap.servers": servers})
    numbers = consumer.list_topics(topic, timeout=LATEST).topics[topic].partitions
    ends = [
        consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=LATEST)[1]
        for number in sorted(numbers)
    ]
    consumer.assign([TopicPartition(topic, number, end) for number, end in enumerate(ends)])
    latencies: list[float] = []

    def consume() -> None:
        until = time.monotonic() + float(seconds) + LATEST
        while len(latencies) < total and time.monotonic() < until:
            message = consumer.poll(0.5)
            if message is not None and not message.error():
                latencies.append(time.perf_counter() - float(message.value().split(b" ")[0]))

    reader = threading.Thread(target=consume)
    reader.start()
    producer = Producer({**PRODUCER, "bootstrap.servers": servers})
    begun = time.perf_counter()
    for number in range(total):
        time.sleep(max(0.0, begun + number / float(rate) - time.perf_counter()))
        value = f"{time.perf_counter()} {PADDING}"
        producer.produce(topic, key=str(number % 7), value=value.encode())
        producer.poll(0)
    producer.flush(LATEST)
    reader.join()
    consumer.close()
    print(json.dumps(sorted(latencies)))


if __name__ == "__main__":
    main()
