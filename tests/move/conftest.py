"""The converged test host, whose site is on SQLite before these tests and on PostgreSQL after them."""

from tests.refusals.conftest import bench

__all__ = ["bench"]
