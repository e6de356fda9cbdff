"""The table at the end of `make verify`, and the words for what it looks at."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.behaviour.summary import SUBJECTS, Seen, brief, table

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "behaviour"
SEEN = [
    Seen("test_files", "Files are root's", "one", "good"),
    Seen("test_files", "Modes are right", "one", "bad", "AssertionError: 0777\nmore"),
    Seen("test_files", "Files are root's", "two", "good"),
    Seen("test_tls", "Keys are secret", "two", "absent"),
]


def test_each_subject_and_host_has_a_row() -> None:
    lines = table(SEEN)
    assert [line.split() for line in lines[1:4]] == [
        ["TLS", "two", "0", "0", "1"],
        ["owners,", "modes,", "secrets", "one", "1", "1", "0"],
        ["owners,", "modes,", "secrets", "two", "1", "0", "0"],
    ]


def test_what_fell_short_is_told_with_host_reason_and_remedy() -> None:
    lines = table(SEEN, "inventory/lab")
    place = lines.index("  on one: Modes are right")
    assert lines[place + 1] == "    found: 0777"
    assert "-i inventory/lab site.yml" in lines[-1]
    assert lines[-1].startswith("  owners, modes, secrets (1): ")


def test_nothing_is_to_do_where_all_is_good() -> None:
    assert "What fell short:" in table(SEEN)
    assert "What fell short:" not in table(SEEN[:1])
    assert len(table(SEEN[:1])) == 2


def test_a_host_that_was_not_seen_has_a_column() -> None:
    assert "not seen" not in table(SEEN)[0]
    lines = table([*SEEN, Seen("test_tls", "Keys are secret", "three", "unseen")])
    assert lines[0].endswith("not seen")
    assert lines[1].split() == ["TLS", "three", "0", "0", "0", "1"]


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("AssertionError: 0777\nassert 1 == 2", "0777: 1, where 2 should be"),
        (
            "AssertionError: assert ['conf-enabled: mine.conf'] == []\n  \n  Left",
            "['conf-enabled: mine.conf']",
        ),
        (
            "AssertionError: these tasks would change something:\n  \n  TASK [apache : Write] *****\n",
            "these tasks would change something: TASK [apache : Write]",
        ),
        (
            'AssertionError: Unexpected exit code 1 for CommandResult(backend=<x>, exit_status=1, command=b"sudo '
            "/bin/sh -c 'apache2ctl -M'\", _stdout=b'a', _stderr=b'No such\\n')\nassert 1 == 0",
            "`apache2ctl -M` ended with 1: No such",
        ),
        (
            "AssertionError: a.env\nassert ('root', 'www-data', 420) == ('root', 'www-data', 416)",
            "a.env: root:www-data 0644, where root:www-data 0640 should be",
        ),
        ("tests.x.TimedOutError: no answer", "no answer"),
        ("", ""),
    ],
)
def test_what_a_check_said_is_one_line_for_people(said: str, line: str) -> None:
    assert brief(said) == line


def test_every_file_of_tests_has_its_subject() -> None:
    assert {path.stem for path in FOLDER.glob("test_*.py")} == set(SUBJECTS)


@pytest.mark.parametrize("module", SUBJECTS)
def test_every_subject_has_a_remedy_and_a_page_that_is_there(module: str) -> None:
    subject = SUBJECTS[module]
    assert subject.remedy.endswith(".")
    path, _, anchor = subject.page.partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(encoding="utf-8"), re.M)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert not anchor or anchor in anchors, sorted(anchors)


def harmless() -> list[tuple[str, ast.FunctionDef]]:
    """Return the tests that `make verify` runs: those that are not disruptive."""
    found = []
    for path in sorted(FOLDER.glob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        marks = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Assign)]
        if any(text.startswith("pytestmark") and "disruptive" in text for text in marks):
            continue
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            if not any("disruptive" in ast.unparse(one) for one in node.decorator_list):
                found.append((path.stem, node))
    return found


@pytest.mark.parametrize(
    ("module", "test"), harmless(), ids=lambda value: getattr(value, "name", value)
)
def test_what_verify_runs_says_in_a_sentence_what_should_be(
    module: str, test: ast.FunctionDef
) -> None:
    """The report shows the first sentence of its docstring to people who never read the test."""
    text = ast.get_docstring(test) or ""
    assert re.match(r"[A-Zs].{8,}[.]", text, re.S), f"{module}: {test.name} has no docstring"
    assert "_" not in text.split(".")[0], "words, no names of variables"
