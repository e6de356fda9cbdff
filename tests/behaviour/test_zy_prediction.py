"""Whether the server is still what the last run left: the prediction of the next run, which must be that nothing changes.

The run is `site.yml --check --diff` for the inventory of the tests. It begins with the first test and is looked at by the
last, so that it costs little time of its own. Under `molecule test` the sequence itself has such a run
(tests/convergence), so there is none here.
"""

from __future__ import annotations

import os
import re

import pytest
from testinfra.host import Host

from tests.behaviour.conftest import Prediction

pytestmark = pytest.mark.skipif(
    "MOLECULE_SCENARIO_NAME" in os.environ, reason="the sequence of molecule predicts too"
)


def test_the_next_run_would_change_nothing(host: Host, prediction: Prediction) -> None:
    name = host.backend.host
    code, output = prediction.result()
    recap = re.search(rf"^{re.escape(name)} +: .*changed=(\d+) .*failed=(\d+)", output, re.M)
    assert recap, f"the run did not come to its end ({code}):\n{output[-3000:]}"
    changed, failed = recap.groups()
    assert failed == "0", f"the run would be refused:\n{output[-3000:]}"
    tasks = [
        task
        for task in re.split(r"^(?=(?:TASK|RUNNING HANDLER) \[)", output, flags=re.M)
        if f"changed: [{name}]" in task
    ]
    assert changed == "0", f"{changed} tasks would change something:\n\n" + "".join(tasks)
