"""What verify noticed, for the tables at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

HEAD = f"{'batch':5} {'kind':10} {'what was broken':55} noticed by"


@dataclass(frozen=True)
class Seen:
    """One thing that was broken, and the failing tests that say it, none where nobody noticed."""

    batch: str
    kind: str
    name: str
    tests: tuple[str, ...]


SEEN: list[Seen] = []
UNBROKEN: list[int] = []  # how many tests failed in each run on an unbroken server


def note(batch: str, kind: str, name: str, tests: list[str]) -> None:
    """Keep what became of one mutation."""
    SEEN.append(Seen(batch, kind, name, tuple(tests)))


def lines() -> list[str]:
    """Return a line for each mutation, the score of each batch and kind, and the sum with the false alarms."""
    told = [HEAD] if SEEN else []
    for seen in SEEN:
        by = ", ".join(seen.tests[:2]) or "-- nobody --"
        told.append(f"{seen.batch:5} {seen.kind:10} {seen.name:55} {by}")
    if SEEN:
        told += ["", f"{'batch':12} noticed", *scores(lambda seen: seen.batch)]
        told += ["", f"{'kind':12} noticed", *scores(lambda seen: seen.kind)]
        noticed = sum(bool(seen.tests) for seen in SEEN)
        told += ["", f"{noticed} of {len(SEEN)} noticed ({100 * noticed / len(SEEN):.0f} %)"]
    if UNBROKEN:
        told.append(f"{sum(UNBROKEN)} false alarms in {len(UNBROKEN)} runs on an unbroken server")
    return told


def scores(part: Callable[[Seen], str]) -> list[str]:
    """Return `name  noticed of broken` for each part that the mutations fall into."""
    found = []
    for name in sorted({part(seen) for seen in SEEN}):
        those = [bool(seen.tests) for seen in SEEN if part(seen) == name]
        found.append(f"{name:12} {sum(those)} of {len(those)}")
    return found
