"""The converged test host; these tests are the last that it sees."""

from __future__ import annotations

from typing import Any

import pytest

from tests.refusals.conftest import bench

__all__ = ["bench"]


@pytest.fixture(scope="session")
def changed() -> dict[str, Any]:
    """Return what the cases so far have changed, which each later run keeps, so that it has one change of its own."""
    return {}
