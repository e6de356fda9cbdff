"""The long forms of the tests: `make soak` asks for them."""

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `soak`, unless SWITCHBOARD_SOAK is set."""
    if os.environ.get("SWITCHBOARD_SOAK"):
        return
    for item in items:
        if item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.skip(reason="the long form: make soak"))
