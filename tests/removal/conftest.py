"""The converged test host, as the tests of refusals have it."""

from __future__ import annotations

from tests.refusals.conftest import bench

__all__ = ["bench"]
