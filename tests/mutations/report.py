"""What verify noticed, for the table at the end."""

from __future__ import annotations

HEAD = f"{'kind':10} {'what was broken':55} noticed by"
LINES: list[tuple[str, bool]] = []


def note(kind: str, name: str, tests: list[str]) -> None:
    """Keep one line; ``tests`` are the failing tests that say it, none where nobody noticed."""
    LINES.append((f"{kind:10} {name:55} {', '.join(tests[:2]) or '-- nobody --'}", bool(tests)))


def score() -> str:
    """Return how many were noticed."""
    noticed = sum(seen for _, seen in LINES)
    return f"{noticed} of {len(LINES)} noticed ({100 * noticed / len(LINES):.0f} %)"
