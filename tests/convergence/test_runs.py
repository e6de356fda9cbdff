"""What the runs of a scenario predicted and did: no surprise, no second change, no needless restart.

The records are written by plugins/callback/run_record.py while `molecule test` goes through its
sequence: check on the fresh host, converge, converge again, check on the converged host.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

Record = dict[str, Any]
SHARED = {"apt", "file"}


@pytest.fixture(scope="module")
def runs() -> dict[str, Record]:
    folder = Path(os.environ.get("SWITCHBOARD_RUN_RECORDS", "/nonexistent"))
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    records = [record for record in records if record["playbook"] == "converge.yml"]
    kinds = ["check" if record["check"] else "run" for record in records]
    if kinds != ["check", "run", "run", "check"]:
        pytest.skip(f"needs the whole sequence check, run, run, check; the host saw {kinds}")
    names = ("fresh_check", "first_run", "second_run", "converged_check")
    return dict(zip(names, records, strict=True))


def changes(record: Record, wanted: str = "changed") -> set[str]:
    """Return "host: task (file:line)" for each task with that mark."""
    return {
        f"{task['host']}: {task['task']} ({task['path']})"
        for task in record["tasks"]
        if task[wanted]
    }


@pytest.mark.parametrize("name", ["fresh_check", "first_run", "second_run", "converged_check"])
def test_no_task_failed(runs: dict[str, Record], name: str) -> None:
    assert changes(runs[name], "failed") == set()


def test_first_run_changed_something(runs: dict[str, Record]) -> None:
    assert changes(runs["first_run"])


def test_check_on_the_fresh_host_predicts_each_change(runs: dict[str, Record]) -> None:
    unknown = changes(runs["fresh_check"], "unknown")
    unpredicted = changes(runs["first_run"]) - changes(runs["fresh_check"]) - unknown
    assert unpredicted == set()


def test_check_on_the_fresh_host_predicts_nothing_else(runs: dict[str, Record]) -> None:
    # What two roles both ask for, a package or a folder, the first of them brings; a dry run, in which
    # nothing comes, predicts it of both.
    check = runs["fresh_check"]
    alone = {**check, "tasks": [task for task in check["tasks"] if task["action"] not in SHARED]}
    assert changes(alone) - changes(runs["first_run"]) == set()


def test_second_run_changes_nothing(runs: dict[str, Record]) -> None:
    assert changes(runs["second_run"]) == set()


def test_check_on_the_converged_host_predicts_nothing(runs: dict[str, Record]) -> None:
    assert changes(runs["converged_check"]) == set()


@pytest.mark.parametrize("name", ["second_run", "converged_check"])
def test_no_process_was_replaced(runs: dict[str, Record], name: str) -> None:
    before, after = runs[name]["processes"]
    assert before.keys() == after.keys()
    for host in before:
        assert before[host], f"{host}: no service was running before the run"
        assert after[host] == before[host], host
