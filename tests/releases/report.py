"""The lines of the table that tests/releases leaves."""

from __future__ import annotations

HEAD = f"{'what':44} {'run':>6} {'requests':>9} {'failed':>7} {'longest':>8} {'sockets back':>13}"
LINES: list[str] = []


def note(what: str, run: float, requests: int, failed: int, longest: float, back: float) -> None:
    """Add a line: seconds of the run, requests and failures meanwhile, the longest page, when all sockets were open."""
    LINES.append(
        f"{what[:44]:44} {run:5.1f}s {requests:9} {failed:7} {longest:7.2f}s {back:12.1f}s"
    )
