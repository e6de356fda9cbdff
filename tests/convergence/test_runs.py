"""What the runs of a scenario predicted and did: no surprise, no second change, no needless restart.

The records are written by plugins/callback/run_record.py while `molecule test` goes through its
sequence: check on the fresh host, converge, converge again, check on the converged host. A scenario may leave out
either check: the last one where it checks the host after a reboot (tests/behaviour/test_zz_reboot.py).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

Record = dict[str, Any]
SHARED = {"apt", "file", "group"}
CA = "roles/certificates/tasks/ca.yml"  # on the control node, for all hosts: the first of them makes it
NAMES = ("fresh_check", "first_run", "second_run", "converged_check")
WHOLE = ["check", "run", "run", "check"]


@pytest.fixture(scope="module")
def runs() -> dict[str, Record]:
    folder = Path(os.environ.get("SWITCHBOARD_RUN_RECORDS", "/nonexistent"))
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    records = [record for record in records if record["playbook"] == "converge.yml"]
    kinds = ["check" if record["check"] else "run" for record in records]
    first = 0 if kinds[:1] == WHOLE[:1] else 1
    if kinds.count("run") != 2 or kinds != WHOLE[first : first + len(kinds)]:
        pytest.skip(f"needs the sequence {', '.join(WHOLE)}; the host saw {', '.join(kinds)}")
    return dict(zip(NAMES[first:], records, strict=False))


def the_check(runs: dict[str, Record], name: str) -> Record:
    """Return the record of one of the two checks."""
    if name not in runs:
        pytest.skip("this scenario leaves this check out")
    return runs[name]


@pytest.fixture
def predicted(runs: dict[str, Record]) -> Record:
    """Return the record of the check on the fresh host."""
    return the_check(runs, NAMES[0])


@pytest.fixture
def checked(runs: dict[str, Record]) -> Record:
    """Return the record of the check on the converged host."""
    return the_check(runs, NAMES[-1])


def changes(record: Record, wanted: str = "changed") -> set[str]:
    """Return "host: task (file:line)" for each task with that mark."""
    return {
        f"{task['host']}: {task['task']} ({task['path']})"
        for task in record["tasks"]
        if task[wanted]
    }


def test_no_task_failed(runs: dict[str, Record]) -> None:
    failed = {name: changes(run, "failed") for name, run in runs.items()}
    assert not any(failed.values()), failed


def test_first_run_changed_something(runs: dict[str, Record]) -> None:
    assert changes(runs["first_run"])


def test_check_on_the_fresh_host_predicts_each_change(
    runs: dict[str, Record], predicted: Record
) -> None:
    unknown = changes(predicted, "unknown")
    unpredicted = changes(runs["first_run"]) - changes(predicted) - unknown
    assert unpredicted == set()


def test_check_on_the_fresh_host_predicts_nothing_else(
    runs: dict[str, Record], predicted: Record
) -> None:
    # What two roles both ask for, a package, a folder or a group, the first of them brings; a dry run, in which
    # nothing comes, predicts it of both.
    made = {task["path"] for task in runs["first_run"]["tasks"] if task["changed"]}
    alone = [
        task
        for task in predicted["tasks"]
        if task["action"] not in SHARED and not (CA in task["path"] and task["path"] in made)
    ]
    assert changes({"tasks": alone}) - changes(runs["first_run"]) == set()


def test_second_run_changes_nothing(runs: dict[str, Record]) -> None:
    assert changes(runs["second_run"]) == set()


def test_check_on_the_converged_host_predicts_nothing(checked: Record) -> None:
    assert changes(checked) == set()


def test_no_process_was_replaced_by_the_second_run(runs: dict[str, Record]) -> None:
    compare_processes(runs["second_run"])


def test_no_process_was_replaced_by_the_check(checked: Record) -> None:
    compare_processes(checked)


def compare_processes(run: Record) -> None:
    before, after = run["processes"]
    assert before.keys() == after.keys()
    for host in before:
        assert before[host], f"{host}: no service was running before the run"
        assert after[host] == before[host], host
