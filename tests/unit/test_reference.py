"""docs/reference.md says what the roles say; its generator reads them rightly."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import reference
from tools.common import ROOT, ToolError

SPECS = """---
argument_specs:
  main:
    short_description: A lamp
    options:
      lamp_colour:
        description: "Its colour | in words."
        type: str
        choices: [red, green]
      lamp_owner: {description: Whose it is., type: str, required: true}
      lamp_bulbs:
        description: [The bulbs., Any number.]
        type: list
        elements: dict
        options:
          watt: {description: Power in W., type: int, required: true}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path, text in {
        "lamp/meta/argument_specs.yml": SPECS,
        "lamp/defaults/main.yml": "---\nlamp_colour: red\nlamp_bulbs: []\n",
        "lamp/vars/main.yml": "---\n__lamp_defaults: {colour: '{{ lamp_colour }}'}\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def test_the_committed_page_is_not_stale() -> None:
    stale = reference.page(
        ROOT / "roles", reference.load(reference.KEYS)
    ) != reference.TARGET.read_text(encoding="utf-8")
    assert not stale, "docs/reference.md is stale. Fix it with: python3 -m tools.reference"


def test_a_variable_has_its_type_default_and_description(folder: Path) -> None:
    text = reference.section(folder, "lamp")
    assert "| `lamp_colour` | one of `red`, `green` | `red` | Its colour \\| in words. |" in text
    assert "| `lamp_owner` | str | **required** | Whose it is. |" in text
    assert (
        "| `lamp_bulbs` | list of dict | `[]` | The bulbs. Any number. "
        "`watt` (int, required): Power in W. |" in text
    )


def test_each_row_has_as_many_cells_as_the_head_of_its_table() -> None:
    bars = 0
    for line in reference.page(ROOT / "roles", reference.load(reference.KEYS)).splitlines():
        count = line.replace("\\|", "").count("|")
        if not line.startswith("|"):
            bars = 0
        elif not bars:
            bars = count
        assert count == bars or not line.startswith("|"), line


def test_known_roles_come_in_the_order_of_the_run(tmp_path: Path) -> None:
    for role in ("apache", "zzz", "base", "aaa"):
        path = tmp_path / role / "meta" / "argument_specs.yml"
        path.parent.mkdir(parents=True)
        path.write_text(SPECS)
    assert reference.roles(tmp_path) == ["base", "apache", "aaa", "zzz"]


def test_a_role_without_its_main_entry_point_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lamp" / "meta" / "argument_specs.yml"
    path.parent.mkdir(parents=True)
    path.write_text("---\nargument_specs: {}\n")
    with pytest.raises(ToolError, match="roles/lamp/meta"):
        reference.page(tmp_path, {})


@pytest.mark.parametrize(
    ("value", "text"),
    [("", '`""'), (" a", '`" a"'), (True, "`true"), ({}, "`{}"), ("x|y", "`x\\|y"), (22, "`22")],
)
def test_a_default_is_written_as_in_yaml(value: object, text: str) -> None:
    assert reference.code(value) == f"{text}`"
