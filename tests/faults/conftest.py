"""The deployed host that the tests of faults share, and the table that they leave: one line a fault."""

from __future__ import annotations

import pytest

from tests.behaviour.conftest import address, deployed, descriptions
from tests.faults.report import HEAD, LINES

__all__ = ["address", "deployed", "descriptions"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if LINES:
        terminalreporter.section("faults")
        for line in (HEAD, *LINES):
            terminalreporter.write_line(line)
