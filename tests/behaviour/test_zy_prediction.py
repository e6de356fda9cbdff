"""Whether the server is still what the last run left: the next run must predict that it changes nothing.

The run is `site.yml --check --diff` for the inventory of the tests. It begins with the first test and is looked
at by the last, so that it costs little time of its own. Under `molecule test` the sequence itself has such a run
(tests/convergence), so there is none here.
"""

from __future__ import annotations

import os

import pytest
from testinfra.host import Host

from tests.behaviour.conftest import Prediction

pytestmark = pytest.mark.skipif(
    "MOLECULE_SCENARIO_NAME" in os.environ, reason="the sequence of molecule predicts too"
)


def test_the_next_run_would_change_nothing(host: Host, prediction: Prediction) -> None:
    """The next run would change nothing: the server is what the last run left."""
    prediction.judge(host.backend.host)
