"""The host of these tests: Debian 12 at first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tools.bench import Host


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    made = Host("switchboard-postgresql", tmp_path_factory.mktemp("host") / "h", release="12")
    try:
        made.create()
        yield made
    finally:
        made.remove()
