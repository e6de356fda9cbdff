"""What the tests of faults found, for the table at the end of their run."""

from __future__ import annotations

from tests.live.load import Account

HEAD = (
    f"{'what was done':44} {'changes':>8} {'committed':>9} {'shown':>7} {'lost':>5} {'doubled':>7} "
    f"{'longest wait of a page':>22} {'all shown after':>15}"
)
LINES: list[str] = []


def note(what: str, result: Account, wait: float, shown_after: float) -> str:
    """Keep one line, and return it. Times are in seconds."""
    line = (
        f"{what:44} {result.changes:8} {result.committed:9} {result.shown:7} {result.lost:5} "
        f"{result.doubled:7} {wait:20.2f} s {shown_after:13.2f} s"
    )
    LINES.append(line)
    return line
