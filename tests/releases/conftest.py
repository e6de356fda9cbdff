"""The converged test host with its one site under traffic, and the table that is left: one line a release."""

from __future__ import annotations

import pytest

from tests.refusals.conftest import bench
from tests.releases.report import HEAD, LINES

__all__ = ["bench"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if LINES:
        terminalreporter.section("releases under traffic")
        for line in (HEAD, *LINES):
            terminalreporter.write_line(line)
