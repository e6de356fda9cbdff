"""docs/routing.md shows the table of the routing contract as tests/behaviour/routing.yml has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TABLE = yaml.safe_load((ROOT / "tests/behaviour/routing.yml").read_text(encoding="utf-8"))
ROWS: list[dict[str, Any]] = TABLE["rows"]
ANSWERERS = {"mod_wsgi", "daphne", "apache", "nobody", "backend"}
NEEDS = {"probe", "app", "disruptive", "other host", "tls"}


def outcome(one: dict[str, Any], row: dict[str, Any]) -> str:
    """Put one outcome into words: the status, who answered, what else was seen."""
    status = one.get("status", row.get("status"))
    statuses = status if isinstance(status, list) else [status]
    named = {"socket": "101", "page": "", None: ""}
    numbers = " or ".join(named[s] if s in named else str(s) for s in statuses)
    words = f"{numbers} {one.get('answerer', row.get('answerer'))}".strip()
    seen = one.get("seen", "")
    return f"{words}, {seen}" if seen else words


def outcomes(several: list[dict[str, Any]], row: dict[str, Any]) -> str:
    return "; ".join(dict.fromkeys(outcome(one, row) for one in several))


def table_row(row: dict[str, Any]) -> str:
    must = outcomes(row.get("each", [row]), row)
    seeds = row["seed"] if isinstance(row["seed"], list) else [row["seed"]]
    seed = outcomes(seeds, {})
    # what does not differ is told apart at a glance; the probe's pages are all 200
    same = seed.replace("200 ", "") == must if row.get("status") == "page" else seed == must
    cells = [row["id"], row["event"], must, "the same" if same else seed, row["reason"]]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_the_page_has_the_row_as_it_is_tested(row: dict[str, Any]) -> None:
    lines = (ROOT / "docs/routing.md").read_text(encoding="utf-8").splitlines()
    assert table_row(row) in lines, f"docs/routing.md should have:\n{table_row(row)}"


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_a_row_has_all_that_a_reader_needs(row: dict[str, Any]) -> None:
    assert row["path"] in {"websocket", "page"}
    assert ("requests" in row) != ("test" in row)
    assert set(row.get("needs", [])) <= NEEDS
    assert row["event"]
    assert row["reason"].endswith(".")
    assert row["source"]
    each = row.get("each", [row])
    seeds = row["seed"] if isinstance(row["seed"], list) else [row["seed"]]
    for one in [*each, *seeds]:
        assert one["answerer"] in ANSWERERS
        assert "status" in one
    if len(seeds) > 1:
        assert len(seeds) == len(row.get("requests") or row.get("suffixes") or each)


def test_ids_are_unique_and_complete() -> None:
    ids = [row["id"] for row in ROWS]
    assert len(ids) == len(set(ids))
    # R27 is R01 and R05 over TLS, which no site has yet
    assert {f"R{n:02}" for n in range(1, 31)} - {"R27"} <= set(ids)
