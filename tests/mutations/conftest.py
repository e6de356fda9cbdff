"""The host that is broken, and the table that is left: one line a mutation, then the score."""

from __future__ import annotations

import pytest

from tests.mutations.report import HEAD, LINES, score


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if LINES:
        terminalreporter.section("mutations")
        for line in (HEAD, *(line for line, _ in LINES), score()):
            terminalreporter.write_line(line)
