"""The way of Kafka's records from ZooKeeper to KRaft: files that were cut short, what is decided, and folders."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.kafka_files import Match, Record, Sink, moved, packed, records_of

from plugins.filter.kafka_leave import kafka_leave
from plugins.modules.kafka_folders import size_mb
from tests.unit.run_module import run_module

RECORDS = [
    Record(3, 1_700_000_000_000, b"key", b"value", (("one", b"1"), ("none", None), ("one", b""))),
    Record(4, -1, None, None),
    Record(9, 0, b"", b"", (("é", "漢".encode()),)),
]


def written(path: Path, records: list[Record] = RECORDS) -> Path:
    sink = Sink(path)
    for record in records:
        sink.add(record)
    sink.close()
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = written(tmp_path / "some")
    assert [record for _, record in records_of(path)] == RECORDS
    assert [place for place, _ in records_of(path)][-1] == path.stat().st_size


@pytest.mark.parametrize("cut", range(1, len(packed(RECORDS[-1])) + 1))
def test_a_file_that_was_cut_short_goes_on_behind_its_last_whole_record(
    tmp_path: Path, cut: int
) -> None:
    path = written(tmp_path / "some")
    path.write_bytes(path.read_bytes()[:-cut])
    assert Sink(path).last == 4
    written(path)  # those that are there are not added twice
    assert [record for _, record in records_of(path)] == RECORDS


def test_what_a_crash_left_of_zeros_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "some"
    path.write_bytes(packed(RECORDS[0]) + bytes(4096))
    assert [record for _, record in records_of(path)] == RECORDS[:1]
    damaged = bytearray(packed(RECORDS[0]))
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    assert list(records_of(path)) == []


def test_an_offset_is_worked_out_anew(tmp_path: Path) -> None:
    path = written(tmp_path / "some")
    assert [moved(path, offset) for offset in (0, 3, 4, 5, 9, 10, 99)] == [0, 0, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("seen", "skipped", "found"),
    [
        ([], 0, 0),
        ([0, 1], 0, 2),
        ([0, None, 1, None, 2, 2], 0, 3),  # others have put theirs between
        ([1, 2], 0, 0),  # the first one is not there
        ([1, 2], 1, 3),  # retention has removed it again
        ([], 9, 3),
    ],
)
def test_records_that_came_to_the_other_cluster_are_known_again(
    tmp_path: Path, seen: list[int | None], skipped: int, found: int
) -> None:
    match = Match(written(tmp_path / "some"), skipped, timed=True)
    for place, number in enumerate(seen):
        other = Record(0, 5, None, b"other")
        match.see((other if number is None else RECORDS[number])._replace(offset=place))
    assert match.found == found


def test_a_record_of_another_time_is_another_one_unless_kafka_gives_the_time(
    tmp_path: Path,
) -> None:
    path, late = written(tmp_path / "some"), RECORDS[0]._replace(time=5)
    for timed, found in ((True, 0), (False, 1)):
        match = Match(path, 0, timed)
        match.see(late)
        assert match.found == found


# -- what is decided -------------------------------------------------------------------------------------

SEEN = {
    "mode": "zookeeper",
    "aside": False,
    "records": {"whole": False, "written": False},
    "mounted": False,
    "size_mb": 100,
    "free_mb": 5000,
}
WHOLE = {"whole": True, "written": False}
WRITTEN = {"whole": True, "written": True}
MOVED = {"mode": "kraft", "aside": True, "records": WRITTEN}
TOLD = {"said": "", "lacking": [], "behind": []}
SETTINGS = {
    "mode": "kraft",
    "version": "3.9.2",
    "folder": "/data",
    "minimum_mb": 1024,
    "brokers": 1,
    "held": False,
    "back": False,
    "finish": False,
}


def decided(
    seen: list[dict[str, Any]], told: dict[str, Any] | None = None, **settings: Any
) -> dict[str, Any]:
    hosts = {f"bus{number}": {**SEEN, **one} for number, one in enumerate(seen, 1)}
    return kafka_leave(
        hosts, {**TOLD, **(told or {})}, {**SETTINGS, "brokers": len(seen), **settings}
    )


@pytest.mark.parametrize(
    ("seen", "settings", "do"),
    [
        ([{}], {}, "begin"),
        (
            [{"records": WHOLE}],
            {},
            "begin",
        ),  # killed before the stop: others may have written since
        ([{"mode": "", "aside": True, "records": WHOLE}], {}, "go on"),
        ([{"mode": "kraft", "aside": True, "records": WHOLE}], {}, "go on"),
        ([{"mode": "", "aside": True, "records": WHOLE}, {}, {}], {}, "go on"),
        ([MOVED], {}, "again"),
        ([MOVED], {"held": True}, "go on"),  # the one before has not let clients in
        ([MOVED], {"finish": True}, "finish"),
        ([MOVED], {"back": True, "mode": "zookeeper"}, "back"),
        ([{}], {"back": True, "mode": "zookeeper"}, "back"),  # where it was closed alone
    ],
)
def test_each_run_goes_on_where_the_one_before_ended(
    seen: list[dict[str, Any]], settings: dict[str, Any], do: str
) -> None:
    assert decided(seen, **settings) == {"do": do, "fault": ""}


@pytest.mark.parametrize(
    ("seen", "told", "settings", "fault"),
    [
        ([{}], {}, {"mode": "zookeeper"}, "kafka_mode is zookeeper: Write `kafka_mode: kraft` in"),
        ([MOVED], {}, {"back": True}, "kafka_mode is kraft: To go back, write"),
        ([MOVED], {}, {"back": True, "finish": True}, "finish is true: back is true too."),
        ([{}], {}, {"brokers": 3}, "kafka_brokers is bus1: these are 1 of 3 brokers."),
        ([{}], {}, {"version": "4.4.0"}, "kafka_version is 4.4.0: there would be no way back"),
        ([{"mode": "kraft"}], {}, {}, "kafka_mode is kraft: and so it is on the disk."),
        ([{"mode": ""}], {}, {}, "kafka_mode is kraft: /data is empty."),
        ([{"mode": "kraft"}], {}, {"back": True, "mode": "zookeeper"}, "back is true: there is no"),
        ([{}], {}, {"finish": True}, "finish is true: nothing waits for it"),
        ([{}, MOVED], {}, {"finish": True}, "finish is true: nothing waits for it"),
        (
            [MOVED],
            {},
            {"finish": True, "held": True},
            "finish is true: the move is not at its end.",
        ),
        ([{"aside": True}], {}, {}, "kafka_data_dir is /data: bus1 has /data.zookeeper too"),
        ([{"mode": "", "aside": True}], {}, {}, "bus1 lacks the records in /data.records."),
        ([{}, {"mode": ""}], {}, {}, "bus2 has none of ZooKeeper's there, and others have."),
        ([{"mounted": True}], {}, {}, "on bus1 it is a file system of its own"),
        ([{"free_mb": 1200}], {}, {}, "bus1 has 1200 MiB free there, and the records of 100 MiB"),
        ([{}, {"free_mb": 1100}], {}, {}, "bus2 has 1100 MiB free there"),
        ([{}], {"lacking": [1]}, {}, "the cluster is not whole (broker 1 is not there)"),
        ([{}], {"behind": ["a"]}, {}, "the cluster is not whole (replicas are behind in a)"),
        ([{}], {"said": "no", "lacking": [1]}, {}, "the cluster is not whole (no), and its"),
    ],
)
def test_what_can_not_work_is_refused(
    seen: list[dict[str, Any]], told: dict[str, Any], settings: dict[str, Any], fault: str
) -> None:
    found = decided(seen, told, **settings)
    assert found["do"] == ""
    assert fault in found["fault"]


def test_the_first_host_has_room_for_the_records_on_their_way_too() -> None:
    room = {"free_mb": 1124}  # the minimum, and the records once
    assert decided([{}, room])["do"] == "begin"
    assert decided([room, {}])["do"] == ""


# -- folders ---------------------------------------------------------------------------------------------


def folders(data: Path, state: str, *, check: bool = False) -> dict[str, Any]:
    return run_module("kafka_folders", {"data_dir": str(data), "state": state}, check=check)


def test_folders_go_aside_and_come_back(tmp_path: Path) -> None:
    data, aside, records = (tmp_path / name for name in ("data", "data.zookeeper", "data.records"))
    data.mkdir()
    (data / "meta.properties").write_text("version=0\ncluster.id=x\n")
    records.mkdir()
    (records / "cluster.json").write_text(json.dumps({"whole": True}))
    seen = folders(data, "looked")
    assert (seen["mode"], seen["aside"], seen["changed"]) == ("zookeeper", False, False)
    assert seen["records"] == {"whole": True, "written": False}
    assert folders(data, "aside", check=True)["changed"]
    assert data.exists()
    assert folders(data, "aside")["changed"]
    assert not data.exists()
    assert not folders(data, "aside")["changed"]
    seen = folders(data, "looked")
    assert (seen["mode"], seen["aside"]) == ("", True)
    data.mkdir()
    (data / "meta.properties").write_text("version=1\n")
    assert folders(data, "looked")["mode"] == "kraft"
    assert not folders(data, "aside")["changed"], "what was put aside stays"
    folders(data, "back")
    assert (data / "meta.properties").read_text().startswith("version=0")
    (kept,) = tmp_path.glob("data.kraft-*")
    assert (kept / "meta.properties").read_text() == "version=1\n"
    assert not records.exists()
    assert not folders(data, "back")["changed"]
    folders(data, "aside")
    records.mkdir()
    folders(data, "forgotten")
    assert not aside.exists()
    assert records.exists(), "another run would know nothing of an end that was interrupted"
    assert kept.exists()


def test_a_file_that_a_broker_removes_meanwhile_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "topic-0").mkdir()
    for name in ("kept", "gone"):
        (tmp_path / "topic-0" / name).write_bytes(bytes(1 << 20))

    def lstat(path: Any, *told: Any, _kept: Any = os.lstat, **more: Any) -> Any:
        if os.fspath(path).endswith("/gone"):
            raise FileNotFoundError(path)
        return _kept(path, *told, **more)

    monkeypatch.setattr(os, "lstat", lstat)
    assert size_mb(tmp_path) == 1
