"""Users that were deleted by hand are found in the log of Kafka's metadata, until a snapshot is behind them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from ansible.module_utils.kafka_client import compact, varint
from ansible.module_utils.kafka_log import BATCH, CONTROL, deleted_faults, deleted_users

MADE, DELETED, OTHER = 11, 22, 12


def record(kind: int, name: str) -> bytes:
    value = varint(1) + varint(kind) + varint(0) + compact(name.encode()) + b"\2\0"
    body = b"\0\0\0" + b"\1" + varint(2 * len(value)) + value + b"\0"  # no key
    return varint(2 * len(body)) + body


def batch(first: int, *records: tuple[int, str], attributes: int = 0) -> bytes:
    data = b"".join(record(*one) for one in records)
    head = BATCH.pack(
        first,
        BATCH.size - 12 + len(data),
        1,
        2,
        0,
        attributes,
        len(records) - 1,
        0,
        0,
        -1,
        -1,
        -1,
        len(records),
    )
    return head + data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "__cluster_metadata-0"
    found.mkdir()
    return found


def segment(folder: Path, base: int, *batches: bytes) -> Path:
    path = folder / f"{base:020}.log"
    path.write_bytes(b"".join(batches))
    return path


def test_a_deleted_user_is_found_and_one_that_was_made_again_is_not(folder: Path) -> None:
    segment(
        folder,
        0,
        batch(0, (MADE, "ada"), (MADE, "grace"), (OTHER, "linus")),
        batch(3, (DELETED, "ada"), (DELETED, "grace")),
    )
    assert deleted_users(folder) == ["ada", "grace"]
    segment(folder, 5, batch(5, (MADE, "ada")), batch(6, (DELETED, "é" * 70)), b"cut short")
    assert deleted_users(folder) == ["grace", "é" * 70]
    (said,) = deleted_faults(str(folder.parent))
    assert said.startswith(f"kafka_users is a list without grace, {'é' * 70}: somebody has deleted")


def test_what_is_before_a_snapshot_does_not_count(folder: Path) -> None:
    first, second = batch(0, (MADE, "ada"), (DELETED, "ada")), batch(2, (DELETED, "grace"))
    log = segment(folder, 0, first, second)
    (folder / "00000000000000000002-0000000001.checkpoint").touch()
    assert deleted_users(folder) == ["grace"]
    # the index leads behind what needs not be read, and has zeros at its end
    log.with_suffix(".index").write_bytes(struct.pack(">iiii", 2, len(first), 0, 0))
    log.write_bytes(bytes(len(first)) + second)
    assert deleted_users(folder) == ["grace"]
    (folder / "00000000000000000003-0000000001.checkpoint").touch()
    assert deleted_users(folder) == []


def test_batches_of_the_quorum_itself_are_no_metadata(folder: Path) -> None:
    segment(folder, 0, batch(0, (DELETED, "ada"), attributes=CONTROL))
    assert deleted_users(folder) == []


def test_there_is_nothing_without_a_log(tmp_path: Path) -> None:
    assert deleted_faults(str(tmp_path)) == []
