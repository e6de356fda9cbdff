"""The host that is broken, and the tables that are left: a line a mutation, then the scores."""

from __future__ import annotations

import pytest

from tests.mutations.report import lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if told := lines():
        terminalreporter.section("mutations")
        for line in told:
            terminalreporter.write_line(line)
