"""Which clusters an upgrade of PostgreSQL takes along, and what room it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugins.modules.postgresql_upgrade import OURS, UPGRADED, Refused, older_of, room_for, size_of


def cluster(version: int, name: str = "main") -> dict[str, object]:
    return {"version": version, "cluster": name}


def configured(etc: Path, *versions: str) -> Path:
    for version in versions:
        path = etc / version / "main" / OURS
        path.parent.mkdir(parents=True)
        path.write_text("")
    return etc


def test_those_of_ours_are_taken_the_newest_first(tmp_path: Path) -> None:
    etc = configured(tmp_path, "9.6", "13", "15", "17")
    clusters = [cluster(17), cluster(13), cluster(15), {"version": 9.6, "cluster": "main"}]
    assert older_of(clusters, "17", etc=etc) == ["15", "13", "9.6"]


def test_a_cluster_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    etc = configured(tmp_path, "15")
    assert older_of([cluster(13), cluster(14, "other"), cluster(15, "other")], "17", etc=etc) == []


def test_one_that_was_upgraded_is_not_upgraded_again(tmp_path: Path) -> None:
    etc = configured(tmp_path, "15")
    ours = etc / "15" / "main" / OURS
    ours.rename(ours.with_name(Path(UPGRADED).name))
    assert older_of([cluster(15), cluster(17)], "17", etc=etc) == []
    assert older_of([cluster(15), cluster(17)], "17", UPGRADED, etc) == ["15"]


def test_a_copy_without_room_is_refused_with_both_sizes(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "1").write_bytes(b"x" * 3000)
    assert size_of(tmp_path) == 3000
    room_for(tmp_path)
    with (tmp_path / "base" / "2").open("wb") as file:
        file.truncate(1 << 43)  # a hole: it takes no room itself
    with pytest.raises(Refused, match=r"takes \d{7,} MiB to copy, and its disk has \d+ MiB left"):
        room_for(tmp_path)
