"""What the django role writes into an environment file comes back as it went in."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.unit.test_site_settings import plugin

environment_file = plugin("filter/switchboard.py").environment_file
site_environment = plugin("module_utils/site_environment.py")

NASTY = [
    "",
    " ",
    "  two  spaces  ",
    "plain",
    "it's",
    '"quoted"',
    "'single'",
    "back\\slash",
    "trailing\\",
    '\\"',
    "\\n is no line break",
    "$HOME and ${HOME} and $(id) and `id`",
    "# no comment",
    "; no comment",
    "a=b=c",
    "%n %% %i",
    "!history",
    "*?[]{}~|&<>()",
    "ünïcödé ☃ 日本語 🎉",
    "one\u2028two\u2029three\x85four",
    "\u00a0no-break\u3000wide",
    "x" * 4096,
]


def back(folder: Path, values: Mapping[str, object]) -> dict[str, str]:
    (folder / "settings.env").write_text(environment_file(values), encoding="utf-8")
    return site_environment.read(folder)


@pytest.mark.parametrize("value", NASTY, ids=range(len(NASTY)))
def test_a_nasty_value_comes_back_as_it_was(tmp_path: Path, value: str) -> None:
    assert back(tmp_path, {"BEFORE": "1", "VALUE": value, "Z_AFTER": "2"}) == {
        "BEFORE": "1",
        "VALUE": value,
        "Z_AFTER": "2",
    }


def test_thousands_of_random_values_come_back_as_they_were(tmp_path: Path) -> None:
    generator = random.Random(20260401)
    common = "\\\"'$`#;= %!\u2028\u2029\x85\xa0aZ09äß☃🎉"
    others = [*range(32, 127), *range(160, 0xD800), *range(0xE000, 0xFDD0)]
    values = {}
    for number in range(3000):
        size = generator.randrange(0, 24)
        text = "".join(
            generator.choice(common) if generator.random() < 0.8 else chr(generator.choice(others))
            for _ in range(size)
        )
        values[f"V_{number}"] = text
    assert back(tmp_path, values) == values


def test_the_alphabet_of_the_random_values_is_nasty_enough() -> None:
    assert {unicodedata.category(character) for character in "\u2028\u2029\x85\xa0"} == {
        "Zl",
        "Zp",
        "Cc",
        "Zs",
    }


def test_true_and_false_and_numbers_are_text(tmp_path: Path) -> None:
    assert back(tmp_path, {"A": True, "B": False, "C": 5, "D": 1.5}) == {
        "A": "1",
        "B": "0",
        "C": "5",
        "D": "1.5",
    }


def test_each_value_stands_on_a_line_of_its_own_in_the_order_of_names() -> None:
    assert environment_file({"B": 'x"y', "A": "\\"}) == 'A="\\\\"\nB="x\\"y"\n'


def test_a_later_file_wins_and_other_files_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "secrets.env").write_text('A="first"\nB="1"\n')
    (tmp_path / "settings.env").write_text('# A="no"\n\nA="second"\n')
    (tmp_path / "settings.env.bak").write_text('A="no"\n')
    (tmp_path / "notes.txt").write_text('A="no"\n')
    assert site_environment.read(tmp_path) == {"A": "second", "B": "1"}


def test_a_candidate_is_read_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "extra.env").write_text('A="extra"\nC="kept"\n')
    (tmp_path / "settings.env").write_text('A="old"\nB="old"\n')
    found = site_environment.read(tmp_path, {"settings.env": 'A="new"\n'})
    assert found == {"A": "new", "C": "kept"}


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        site_environment.read(tmp_path / "none")


SERVER = "postgresql://lab:a%2Bb%40c@10.0.0.5:5433/lab?sslmode=verify-full&sslrootcert=/ca.pem"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("", "sqlite"),
        ("sqlite:////srv/lab/data/lab.sqlite3", "sqlite"),
        ("postgresql:///lab?host=/run/postgresql&port=5432", "postgresql"),
        (SERVER, "postgresql at 10.0.0.5"),
        ("postgres://lab:x@[2001:db8::5]/lab", "postgresql at 2001:db8::5"),
        ("postgres://lab:x@db1:5432,db2:5432/lab", "postgresql at db1:5432,db2:5432"),
    ],
)
def test_an_environment_says_where_the_rows_are(url: str, place: str) -> None:
    assert site_environment.database_of({"DATABASE_URL": url}) == place


def test_programs_of_postgresql_get_in_by_what_the_url_says() -> None:
    assert site_environment.postgresql_of({"DATABASE_URL": SERVER}) == {
        "PGHOST": "10.0.0.5",
        "PGPORT": "5433",
        "PGUSER": "lab",
        "PGPASSWORD": "a+b@c",
        "PGDATABASE": "lab",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/ca.pem",
    }
