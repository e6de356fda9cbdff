"""Whether the server is still what the last run left: the next run must predict that it changes nothing.

The run is `site.yml --check --diff` for the inventory of the tests. It begins with the first test and is looked
at by the last, so that it costs little time of its own. Under `molecule test` the sequence itself has such a run
(tests/convergence), so there is none here.
"""

from __future__ import annotations

import os
import re

import pytest
from testinfra.host import Host

from tests.behaviour.conftest import Prediction, recap

pytestmark = pytest.mark.skipif(
    "MOLECULE_SCENARIO_NAME" in os.environ, reason="the sequence of molecule predicts too"
)


def test_the_next_run_would_change_nothing(host: Host, prediction: Prediction) -> None:
    name = host.backend.host
    code, output = prediction.result()
    told = recap(output, name)
    assert told, f"the run did not come to its end ({code}):\n{output[-3000:]}"
    assert (told["failed"], told["unreachable"]) == (0, 0), f"the run would fail:\n{output[-3000:]}"
    tasks = [
        task
        for task in re.split(r"^(?=(?:TASK|RUNNING HANDLER) \[)", output, flags=re.M)
        if f"changed: [{name}]" in task
    ]
    assert told["changed"] == 0, "these tasks would change something:\n\n" + "".join(tasks)
    assert code == 0, f"another host ended the run before its end:\n{output[-3000:]}"
