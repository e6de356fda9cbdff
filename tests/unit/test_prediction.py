"""The prediction of `make verify` counts what a run says of a host."""

from __future__ import annotations

import pytest

from tests.behaviour.conftest import recap


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "lab : ok=9 changed=0 unreachable=1 failed=0",
            {"ok": 9, "changed": 0, "unreachable": 1, "failed": 0},
        ),
        ("lab2 : ok=9 changed=0", {}),
    ],
)
def test_the_last_line_of_a_host(line: str, told: dict[str, int]) -> None:
    assert recap(f"PLAY RECAP ***\n{line}\n", "lab") == told
