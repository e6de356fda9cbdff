"""The table at the end of `make verify`."""

from __future__ import annotations

from pathlib import Path

from tests.behaviour.summary import REMEDY, SUBJECTS, table

FOLDER = Path(__file__).resolve().parents[1] / "behaviour"


def test_what_failed_is_told_with_its_reason() -> None:
    lines = table(
        [
            ("tests/behaviour/test_files.py::test_a[ansible://x]", "passed", ""),
            (
                "tests/behaviour/test_files.py::test_a_mode[ansible://x]",
                "failed",
                "AssertionError: 0777\nmore",
            ),
            ("tests/behaviour/test_tls.py::test_b[ansible://x]", "skipped", ""),
        ]
    )
    assert lines[1].split() == ["owners,", "modes,", "secrets", "1", "1", "0"]
    assert lines[2].split() == ["TLS", "0", "0", "1"]
    assert "  a mode: 0777" in lines
    assert lines[-1] == REMEDY


def test_nothing_is_to_do_where_all_is_good() -> None:
    assert REMEDY not in table([("tests/behaviour/test_tls.py::test_b", "passed", "")])


def test_every_file_of_tests_has_its_subject() -> None:
    assert {path.stem for path in FOLDER.glob("test_*.py")} == set(SUBJECTS)
