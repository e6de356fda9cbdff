"""The converged test host, which has what its inventory says again when these tests are over."""

from __future__ import annotations

from typing import Any

import pytest

from tests.refusals.conftest import bench

__all__ = ["bench"]


@pytest.fixture(scope="session")
def changed() -> dict[str, Any]:
    """Return what the cases so far have changed, which each later run keeps, so that it has one change of its own."""
    return {}
