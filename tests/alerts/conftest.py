"""The converged test host with monitoring, whose mails go to a mailbox of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alerts.watched import Watched
from tests.refusals.bench import Bench
from tests.refusals.conftest import bench

__all__ = ["bench"]


@pytest.fixture(scope="session")
def watched(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Return the host with monitoring that is in a hurry; afterwards it is as it was before."""
    host = Watched(bench, Path(tmp_path_factory.mktemp("alerts")))
    host.begin()
    try:
        yield host
    finally:
        host.end()
