"""What the runs of a scenario predicted and did: no surprise, no second change, no needless restart.

The records are written by plugins/callback/run_record.py while `molecule test` goes through its
sequence: check on the fresh host, converge, converge again, check on the converged host. A scenario may leave the last
to the check after the reboot (tests/behaviour/test_zz_reboot.py).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

Record = dict[str, Any]
SHARED = {"apt", "file", "group"}
NAMES = ("fresh_check", "first_run", "second_run", "converged_check")
WHOLE = ["check", "run", "run", "check"]


@pytest.fixture(scope="module")
def runs() -> dict[str, Record]:
    folder = Path(os.environ.get("SWITCHBOARD_RUN_RECORDS", "/nonexistent"))
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    records = [record for record in records if record["playbook"] == "converge.yml"]
    kinds = ["check" if record["check"] else "run" for record in records]
    if kinds not in (WHOLE, WHOLE[:-1]):
        pytest.skip(f"needs the whole sequence check, run, run, check; the host saw {kinds}")
    return dict(zip(NAMES, records, strict=False))


@pytest.fixture
def checked(runs: dict[str, Record]) -> Record:
    """Return the record of the check on the converged host."""
    if NAMES[-1] not in runs:
        pytest.skip("this scenario checks the host after its reboot alone")
    return runs[NAMES[-1]]


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


def test_check_on_the_fresh_host_predicts_each_change(runs: dict[str, Record]) -> None:
    unknown = changes(runs["fresh_check"], "unknown")
    unpredicted = changes(runs["first_run"]) - changes(runs["fresh_check"]) - unknown
    assert unpredicted == set()


def test_check_on_the_fresh_host_predicts_nothing_else(runs: dict[str, Record]) -> None:
    # What two roles both ask for, a package, a folder or a group, the first of them brings; a dry run, in which
    # nothing comes, predicts it of both.
    check = runs["fresh_check"]
    alone = {**check, "tasks": [task for task in check["tasks"] if task["action"] not in SHARED]}
    assert changes(alone) - changes(runs["first_run"]) == set()


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
