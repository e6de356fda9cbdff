"""The benchmark's result has the shape that others read, and judges by the right side."""

from __future__ import annotations

import json

import pytest

from tools import bench_deploy as bench
from tools.common import ToolError

KEYS = {"what", "unit", "ours", "peers", "limit", "goal", "met"}


@pytest.fixture
def samples() -> bench.Samples:
    return bench.Samples(
        converge=[190.0],
        converge_by_hand=[90.0, 110.0],
        unchanged=[39.0, 45.0, 38.0],
        task=[0.4],
        release=[20.0],
        release_by_hand=[7.0],
    )


def test_each_row_has_the_agreed_keys(samples: bench.Samples) -> None:
    for row in json.loads(json.dumps(bench.rows(samples))):
        assert row.keys() == KEYS
        for figures in (row["ours"], *row["peers"].values()):
            assert figures.keys() == {"median", "min", "max"}
            assert figures["min"] <= figures["median"] <= figures["max"]


def test_goals_are_judged_by_the_median(samples: bench.Samples) -> None:
    rows = {row["what"]: row for row in bench.rows(samples)}
    assert rows["first converge, warm caches"]["goal"] == 200.0
    assert rows["first converge, warm caches"]["met"] is True
    assert rows["unchanged run"]["met"] is True
    assert rows["release of changed code"]["met"] is None
    samples.unchanged = [39.0, 45.0, 41.0]
    assert {row["what"]: row for row in bench.rows(samples)}["unchanged run"]["met"] is False


def test_the_table_tells_what_was_not_met(samples: bench.Samples) -> None:
    samples.converge = [201.0]
    line = next(line for line in bench.table(bench.rows(samples)).splitlines() if "first" in line)
    assert line.endswith("200.0  no")


@pytest.mark.parametrize("text", ["0", "-1", "many", ""])
def test_a_number_of_runs_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("RUNS", text)
    with pytest.raises(ToolError, match="RUNS is"):
        bench.number("RUNS", 1)
