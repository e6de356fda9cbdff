"""Which users a broker without ZooKeeper would stumble over when it starts, out of what it has on its disk.

A broker that starts takes its last snapshot and then, at once, all that its log has behind it. Where that ends with the
deletion of a user, Kafka 3.9.2 and 4.4.0 may forget all users (``ScramDelta.apply``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# Record batch, version 2: first offset, length, epoch, magic, CRC, attributes, the last offset's distance, …, count
BATCH = struct.Struct(">qiibIhiqqqhii")
CONTROL = 0x20  # attributes of a batch that has no record of metadata
SCRAM, REMOVE_SCRAM = (
    11,
    22,
)  # apiKey of UserScramCredentialRecord and RemoveUserScramCredentialRecord


def _number(data: bytes, place: int) -> tuple[int, int]:
    """Return an unsigned number of seven bits a byte, and the place behind it."""
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place


def _signed(data: bytes, place: int) -> tuple[int, int]:
    value, place = _number(data, place)
    return (value >> 1) ^ -(value & 1), place


def values(data: bytes, count: int) -> Iterator[bytes]:
    """Return the values of the records of a batch, which metadata never compresses."""
    place = 0
    for _ in range(count):
        length, place = _signed(data, place)
        end = place + length
        place += 1  # attributes
        for _ in range(2):  # distances of time and offset
            _, place = _signed(data, place)
        key, place = _signed(data, place)
        place += max(key, 0)
        size, place = _signed(data, place)
        yield data[place : place + max(size, 0)]
        place = end


def _begin(log: Path, base: int, offset: int) -> int:
    """Return a place in a segment before which all offsets are smaller, out of its index."""
    place = 0
    index = log.with_suffix(".index")
    data = index.read_bytes() if index.exists() else b""
    for relative, position in struct.iter_unpack(">ii", data[: len(data) // 8 * 8]):
        if base + relative > offset or (relative == 0 and position == 0):
            break
        place = position
    return place


def batches(source: BinaryIO, offset: int) -> Iterator[tuple[bytes, int]]:
    """Return the records of each batch from an offset on, and how many there are."""
    while len(head := source.read(BATCH.size)) == BATCH.size:
        first, length, *_, count = fields = BATCH.unpack(head)
        rest = length + 12 - BATCH.size
        if rest < 0 or fields[3] != 2:
            return
        data = source.read(rest)
        if len(data) == rest and first + fields[6] >= offset and not fields[5] & CONTROL:
            yield data, count


def deleted_users(folder: Path) -> list[str]:
    """Return the users that were deleted since the last snapshot, and not made again.

    Args:
        folder: of the partition ``__cluster_metadata-0``; nothing is deleted where it is not there.
    """
    snapshots = [int(path.name.split("-")[0]) for path in folder.glob("*-*.checkpoint")]
    offset = max(snapshots, default=0)
    logs = sorted((int(path.stem), path) for path in folder.glob("*.log"))
    gone: dict[str, bool] = {}
    for number, (base, log) in enumerate(logs):
        if number + 1 < len(logs) and logs[number + 1][0] <= offset:
            continue
        with log.open("rb") as source:
            source.seek(_begin(log, base, offset))
            for data, count in batches(source, offset):
                for value in values(data, count):
                    _, place = _number(value, 0)  # of the frame
                    kind, place = _number(value, place)
                    if kind in (SCRAM, REMOVE_SCRAM):
                        _, place = _number(value, place)
                        length, place = _number(value, place)
                        gone[value[place : place + length - 1].decode()] = kind == REMOVE_SCRAM
    return sorted(name for name, deleted in gone.items() if deleted)


def deleted_faults(data_dir: str) -> list[str]:
    """Return a sentence where a restart of the broker would forget its users."""
    names = deleted_users(Path(data_dir) / "__cluster_metadata-0")
    if not names:
        return []
    return [
        f"kafka_users is a list without {', '.join(names)}: somebody has deleted that by hand, and a broker that "
        "restarts now may let nobody in. Make it again with any password, `kafka-configs.sh --alter --entity-type "
        f"users --entity-name {names[0]} --add-config SCRAM-SHA-512=[password=…]`, and leave it (docs/kafka.md, KRaft)."
    ]
