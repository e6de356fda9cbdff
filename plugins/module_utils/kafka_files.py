"""Records of Kafka's partitions in files.

A partition is one file. What is in it keeps its order, key, value, headers and time; offsets begin anew at 0, without
the gaps that compaction and transactions have left.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

Partition = tuple[str, int]


class Record(NamedTuple):
    """What Kafka keeps of a record; the time in ms since 1970, -1 for none."""

    offset: int
    time: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    @property
    def content(self) -> tuple[Any, ...]:
        """Return what another cluster has of it too."""
        return self.time, self.key, self.value, self.headers


def _field(data: bytes | None) -> bytes:
    return struct.pack(">i", -1 if data is None else len(data)) + (data or b"")


def packed(record: Record) -> bytes:
    """Return a record as it stands in a file."""
    body = struct.pack(">qq", record.offset, record.time)
    body += _field(record.key) + _field(record.value) + struct.pack(">i", len(record.headers))
    body += b"".join(_field(name.encode()) + _field(value) for name, value in record.headers)
    return struct.pack(">II", len(body), zlib.crc32(body)) + body


def unpacked(body: bytes) -> Record:
    """Return the record that `packed` has made the part behind the sum of."""
    place = 16

    def number() -> int:
        nonlocal place
        (value,) = struct.unpack_from(">i", body, place)
        place += 4
        return int(value)

    def field() -> bytes | None:
        nonlocal place
        length = number()
        if length < 0:
            return None
        place += length
        return body[place - length : place]

    offset, when = struct.unpack_from(">qq", body)
    key, value = field(), field()
    headers = tuple(((field() or b"").decode(), field()) for _ in range(number()))
    return Record(offset, when, key, value, headers)


def records_of(path: Path) -> Iterator[tuple[int, Record]]:
    """Return the records of a file, each with the place behind it, up to one that is cut short or damaged."""
    try:
        source = path.open("rb")
    except FileNotFoundError:
        return
    with source:
        place = 0
        while len(head := source.read(8)) == 8:
            length, checksum = struct.unpack(">II", head)
            body = source.read(length)
            if length < 28 or len(body) < length or zlib.crc32(body) != checksum:
                return
            place += 8 + length
            yield place, unpacked(body)


def file_of(folder: Path, partition: Partition) -> Path:
    """Return where the records of a partition are; no topic's name has a slash."""
    return folder / f"{partition[0]}-{partition[1]}.records"


class Sink:
    """The file of one partition, which goes on where an earlier run ended."""

    def __init__(self, path: Path) -> None:
        end, self.last, self.count = 0, -1, 0
        for end, record in records_of(path):  # noqa: B007 - the last one counts
            self.last, self.count = record.offset, self.count + 1
        self.file = path.open("r+b" if path.exists() else "w+b")
        self.file.truncate(end)
        self.file.seek(end)

    def add(self, record: Record) -> int:
        """Append a record, unless it is there; return how many bytes it took."""
        if record.offset <= self.last:
            return 0
        self.last, self.count = record.offset, self.count + 1
        return self.file.write(packed(record))

    def close(self) -> None:
        """Bring all of it to the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()


def moved(path: Path, offset: int) -> int:
    """Return where an offset is, once the records of a file begin at 0."""
    return sum(1 for _ in _until(path, offset))


def _until(path: Path, offset: int) -> Iterator[Record]:
    for _, record in records_of(path):
        if record.offset >= offset:
            return
        yield record


class Match:
    """How many of a file's records a partition has, in order, whatever others have put between them.

    A record with time 0 has that of the moment in the other cluster, since librdkafka takes 0 for none.
    """

    def __init__(self, path: Path, skipped: int, timed: bool) -> None:
        self.rest = (record for _, record in records_of(path))
        self.found, self.timed = 0, timed
        self.next: Record | None = None
        for _ in range(skipped + 1):  # what retention has removed again was there
            self._go_on()

    def _go_on(self) -> None:
        found, self.next = self.next, next(self.rest, None)
        self.found += found is not None

    def see(self, record: Record) -> None:
        """Look at the next record of the partition."""
        wanted = self.next
        if wanted is None:
            return
        one, other = (
            each.content[0 if self.timed and wanted.time > 0 else 1 :] for each in (record, wanted)
        )
        if one == other:
            self._go_on()
