"""How records come from Kafka's partitions into files, and back, through librdkafka (python3-confluent-kafka)."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.kafka_client import Connection
from ansible.module_utils.kafka_files import (
    Match,
    Partition,
    Record,
    Sink,
    file_of,
    packed,
    records_of,
)

INIT_PRODUCER_ID = 22  # API key
COORDINATOR_LOAD_IN_PROGRESS = 14  # what a broker says that waits for its next thousand numbers
IDLE = 60.0  # seconds without any progress
OPEN = 90.0  # the same where a transaction is open; brokers abort most of them after 60 to 70
CHECKED = 64 << 20  # bytes between two looks at the free space
QUEUED = 32 << 20  # bytes that wait to be sent; librdkafka itself would take 1 GiB
BATCH = 16_384  # bytes, below any max.message.bytes that makes sense


class RecordsError(Exception):
    """Records can't be read or written; the text says why."""


def record(message: Any) -> Record:
    """Return a message of librdkafka as a record."""
    kind, when = message.timestamp()
    headers = tuple((name, value) for name, value in message.headers() or ())
    return Record(message.offset(), when if kind else -1, message.key(), message.value(), headers)


def consumer(server: str, login: Mapping[str, str], **more: Any) -> Any:
    """Return a consumer of nobody's group."""
    from confluent_kafka import Consumer

    return Consumer(
        {
            **login,
            "bootstrap.servers": server,
            "group.id": "switchboard-records",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "check.crcs": True,
            "isolation.level": "read_committed",
            "queued.max.messages.kbytes": 8_192,
            "log_level": 0,
            "error_cb": lambda error: None,
            **more,
        }
    )


def read_all(
    client: Any,
    begin: Mapping[Partition, int],
    see: Callable[[Partition, Record], None],
    ends: Mapping[Partition, int] | None = None,
) -> None:
    """Read partitions from an offset each to their ends, -2 being the first that is there.

    Args:
        client: as `consumer` returns it. What it takes for the end is the beginning of an open transaction, behind
            which others may have written.
        begin: the offsets.
        see: what is done with each record.
        ends: how far each partition has to be read at least.

    Raises:
        RecordsError: a broker refuses, or says nothing for a minute, or a transaction stays open.
    """
    from confluent_kafka import KafkaError, TopicPartition

    left, moving, ends = set(begin), time.monotonic(), ends or {}
    held: set[Partition] = set()
    if not left:
        return
    client.assign([TopicPartition(*partition, offset) for partition, offset in begin.items()])
    while left:
        for message in client.consume(500, 0.5):
            error, partition = message.error(), (message.topic(), message.partition())
            if error and error.code() == KafkaError._PARTITION_EOF:
                behind = message.offset() < ends.get(partition, 0)
                (held.add if behind else left.discard)(partition)
            elif error and not error.retriable():
                raise RecordsError(f"{message.topic()}: {error.str()}")
            elif not error:
                see(partition, record(message))
            moving = time.monotonic()
        if time.monotonic() - moving > (OPEN if left <= held else IDLE):
            names = ", ".join(sorted({name for name, _ in left}))
            if left <= held:
                raise RecordsError(
                    f"a transaction is open in {names}, and hides what came after it. End its program, or the "
                    "transaction by `kafka-transactions.sh abort`"
                )
            raise RecordsError(f"nothing came of {names} for {IDLE:.0f} seconds")


def fetch(
    server: str,
    login: Mapping[str, str],
    folder: Path,
    partitions: Iterable[Partition],
    least_mb: int,
    whole: bool = False,
) -> dict[Partition, int]:
    """Bring what is lacking of partitions into a folder, and return how many records each file has.

    Args:
        server: host:port of a broker.
        login: as `kafka_client.login_of` returns it.
        folder: where the files are.
        partitions: which.
        least_mb: MiB that have to stay free there.
        whole: whether nobody writes any more, so that all that was written is to be read.
    """
    sinks = {partition: Sink(file_of(folder, partition)) for partition in partitions}
    unseen = CHECKED

    def see(partition: Partition, found: Record) -> None:
        nonlocal unseen
        if unseen >= CHECKED:
            unseen = 0
            numbers = os.statvfs(folder)
            free = numbers.f_bavail * numbers.f_frsize >> 20
            if free < least_mb:
                raise RecordsError(
                    f"{folder} has {free} MiB left, and {least_mb} have to stay free: kafka_disk_minimum_mb, and what "
                    "the records take once more. Here they are not compressed. Make room"
                )
        unseen += sinks[partition].add(found)

    client = consumer(server, login)
    try:
        begin = {key: sink.last + 1 if sink.count else -2 for key, sink in sinks.items()}
        read_all(client, begin, see, ends_of(server, login, sinks) if whole else None)
    finally:
        client.close()
        for sink in sinks.values():
            sink.close()
    return {partition: sink.count for partition, sink in sinks.items()}


def ends_of(
    server: str, login: Mapping[str, str], partitions: Iterable[Partition]
) -> dict[Partition, int]:
    """Return the high watermark of each partition, open transactions or not."""
    from confluent_kafka import TopicPartition

    client = consumer(server, login, **{"isolation.level": "read_uncommitted"})
    try:
        return {
            key: client.get_watermark_offsets(TopicPartition(*key), timeout=30)[1]
            for key in partitions
        }
    finally:
        client.close()


def there(
    server: str,
    login: Mapping[str, str],
    folder: Path,
    counts: Mapping[Partition, int],
    policies: Mapping[str, Mapping[str, str]],
) -> dict[Partition, int]:
    """Return how many of the records of a folder each partition has.

    Args:
        server: as `fetch` takes it.
        login: as `fetch` takes it.
        folder: of the files.
        counts: how many each of them has.
        policies: the settings that each topic has, its own or the brokers'. A compacted one is counted, since Kafka may
            have removed some again.

    Raises:
        RecordsError: a partition is full, and of something else.
    """
    from confluent_kafka import TopicPartition

    found, matches, client = {}, {}, consumer(server, login)
    highs: dict[Partition, int] = {}
    try:
        for partition, count in counts.items():
            low, high = client.get_watermark_offsets(TopicPartition(*partition), timeout=30)
            own, highs[partition] = policies.get(partition[0], {}), high
            if high == 0 or "compact" in own.get("cleanup.policy", ""):
                found[partition] = min(high, count)
                continue
            timed = own.get("message.timestamp.type") != "LogAppendTime"
            matches[partition] = Match(file_of(folder, partition), low, timed)
        read_all(client, dict.fromkeys(matches, -2), lambda key, one: matches[key].see(one))
    finally:
        client.close()
    for (name, number), match in matches.items():
        if match.found == 0 < counts[name, number] <= highs[name, number]:
            raise RecordsError(
                f"{name}-{number} has {highs[name, number]} records already, and none as it was"
            )
    return {**found, **{key: match.found for key, match in matches.items()}}


def send(
    server: str, login: Mapping[str, str], folder: Path, done: Mapping[Partition, int]
) -> None:
    """Append records of files to partitions, behind the first ``done`` of each.

    Raises:
        RecordsError: Kafka does not take one.
    """
    from confluent_kafka import Producer

    failed: list[str] = []
    queued = 0

    def delivered(error: Any, message: Any) -> None:
        if error:
            failed.append(f"{message.topic()}: {error.str()}")

    def judge(left: int) -> None:
        if failed or left:
            raise RecordsError(failed[0] if failed else f"{left} records are not acknowledged")

    producer = Producer(
        {
            **login,
            "bootstrap.servers": server,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 20,
            "batch.size": BATCH,
            "compression.type": "lz4",
            "message.max.bytes": 1_000_000_000,  # the topic says it
            "log_level": 0,
            "error_cb": lambda error: None,
        }
    )
    for partition, begun in done.items():
        for number, (_, one) in enumerate(records_of(file_of(folder, partition))):
            if number < begun:
                continue
            when = {"timestamp": one.time} if one.time > 0 else {}
            words = {
                "partition": partition[1],
                "headers": list(one.headers),
                "on_delivery": delivered,
            }
            while True:
                try:
                    producer.produce(partition[0], one.value, one.key, **words, **when)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
            queued += len(packed(one))
            if queued > QUEUED:
                judge(producer.flush(IDLE * 5))
                queued = 0
            judge(0)
    judge(producer.flush(IDLE * 5))


# -- groups and numbers ----------------------------------------------------------------------------------


def committed(
    server: str, login: Mapping[str, str], partitions: Iterable[Partition]
) -> dict[str, Any]:
    """Return the offsets that groups of consumers have committed: ``{group: [[topic, partition, offset]]}``."""
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    wanted = [TopicPartition(*partition) for partition in partitions]
    admin = AdminClient({**login, "bootstrap.servers": server, "log_level": 0})
    found = {}
    for group in sorted(one.id for one in admin.list_groups(timeout=30)) if wanted else ():
        client = consumer(server, login, **{"group.id": group})
        try:
            told = [one for one in client.committed(wanted, timeout=30) if one.offset >= 0]
        finally:
            client.close()
        if told:
            found[group] = [[one.topic, one.partition, one.offset] for one in told]
    return found


def commit(server: str, login: Mapping[str, str], groups: Mapping[str, Any]) -> list[str]:
    """Let groups have offsets, and return those that have members, who have committed some themselves."""
    from confluent_kafka import KafkaException, TopicPartition

    used = []
    for group, told in groups.items():
        client = consumer(server, login, **{"group.id": group})
        try:
            client.commit(offsets=[TopicPartition(*one) for one in told], asynchronous=False)
        except KafkaException as error:
            if error.args[0].name() not in ("UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION"):
                raise RecordsError(f"group {group}: {error.args[0].str()}") from error
            used.append(group)
        finally:
            client.close()
    return used


def next_producer(connection: Connection) -> int:
    """Return a number that no producer of this broker has had (KIP-98)."""
    while True:
        answer = connection.ask(
            INIT_PRODUCER_ID, 2, b"\0" + struct.pack(">i", 60_000), flexible=True
        )
        answer.take(">i")  # throttling
        code, number = answer.take(">h"), answer.take(">q")
        if code == 0:
            return int(number)
        if code != COORDINATOR_LOAD_IN_PROGRESS:
            raise RecordsError(f"no number for a producer: error {code}")
        time.sleep(0.02)  # until the broker has its next numbers
