"""The module host_files: all that is wanted, or nothing."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from plugins.action.host_files import in_one_line
from plugins.modules import host_files
from tests.unit.run_module import run_module

USER, GROUP = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name


def run(*files: dict[str, Any], check: bool = False) -> dict[str, Any]:
    """Run the module as Ansible does, and return what it answers."""
    wanted = [{"owner": USER, "group": GROUP, **file} for file in files]
    return run_module("host_files", {"files": wanted}, check=check)


@pytest.fixture
def files(tmp_path: Path) -> list[dict[str, Any]]:
    return [
        {"path": f"{tmp_path}/lab", "state": "directory", "mode": "0750"},
        {"path": f"{tmp_path}/lab/a.conf", "content": "one\n"},
        {"path": f"{tmp_path}/lab/b.conf", "state": "link", "target": "a.conf"},
    ]


def modes(folder: Path) -> dict[str, str]:
    return {path.name: f"{path.lstat().st_mode & 0o7777:04o}" for path in folder.iterdir()}


def test_what_is_wanted_is_made_and_the_second_time_is_there(
    tmp_path: Path, files: list[dict[str, Any]]
) -> None:
    first = run(*files)
    assert first["changed"]
    assert first["paths"] == [file["path"] for file in files]
    assert (tmp_path / "lab" / "b.conf").read_text() == "one\n"
    assert modes(tmp_path) == {"lab": "0750"}
    assert modes(tmp_path / "lab")["a.conf"] == "0644"
    second = run(*files)
    assert (second["changed"], second["paths"], second["diff"]) == (False, [], [])


def test_a_dry_run_predicts_and_changes_nothing(
    tmp_path: Path, files: list[dict[str, Any]]
) -> None:
    said = run(*files, check=True)
    assert said["paths"] == [file["path"] for file in files]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "after"),
    [
        ({"content": "two\n"}, "two\n"),
        ({"mode": "0600"}, "mode 0600"),
        ({"state": "absent"}, "remove"),
        ({"state": "link", "target": "/nowhere"}, "link"),
        ({"state": "directory"}, "folder"),
    ],
)
def test_each_kind_of_difference_is_shown_and_made(
    tmp_path: Path, change: dict[str, Any], after: str
) -> None:
    path = f"{tmp_path}/a.conf"
    run({"path": path, "content": "one\n"})
    wanted = {"path": path, **({} if "state" in change else {"content": "one\n"}), **change}
    said = run(wanted)
    assert said["paths"] == [path]
    (told,) = said["diff"]
    assert after in told.get("after", told.get("prepared", ""))
    assert not run(wanted)["changed"]


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("theirs\n")
    (tmp_path / "a.conf").symlink_to("elsewhere")
    run({"path": f"{tmp_path}/a.conf", "content": "ours\n"})
    assert (tmp_path / "elsewhere").read_text() == "theirs\n"
    assert not (tmp_path / "a.conf").is_symlink()


def test_a_secret_stands_in_no_answer(tmp_path: Path) -> None:
    said = run({"path": f"{tmp_path}/key", "secret_content": "hush-hush", "mode": "0600"})
    assert (tmp_path / "key").read_text() == "hush-hush"
    assert "hush" not in str(said)


def test_a_secret_of_several_lines_is_sent_in_one_which_a_journal_hides(tmp_path: Path) -> None:
    file = {"path": f"{tmp_path}/key", "secret_content": "hush\nhush\n", "mode": "0600"}
    sent = in_one_line(file)
    assert "hush" not in str(sent)
    assert in_one_line({"path": "/x", "content": "y\n"}) == {"path": "/x", "content": "y\n"}
    said = run(sent)
    assert (tmp_path / "key").read_text() == "hush\nhush\n"
    assert "hush" not in str(said)
    assert sent["secret_base64"] not in str(said)
    assert not run(sent)["changed"]


def test_what_is_refused_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "b.conf").write_text("old\n")
    check = "/bin/grep -q good %s"
    said = run(
        {"path": f"{tmp_path}/a.conf", "content": "good\n", "validate": check},
        {"path": f"{tmp_path}/b.conf", "content": "bad\n", "validate": check},
    )
    assert said["failed"]
    assert f"{tmp_path}/b.conf is refused, so no file was changed" in said["msg"]
    assert not (tmp_path / "a.conf").exists()
    assert (tmp_path / "b.conf").read_text() == "old\n"


def test_files_that_are_validated_see_each_other_under_their_names(tmp_path: Path) -> None:
    judge = tmp_path / "judge"
    judge.write_text('#!/bin/sh\ncd "${1%/*}" && test -e a.service && test -e b.socket\n')
    judge.chmod(0o755)
    said = run(
        {"path": f"{tmp_path}/a.service", "content": "a\n", "validate": f"{judge} %s"},
        {"path": f"{tmp_path}/b.socket", "content": "b\n", "validate": f"{judge} %s"},
    )
    assert said["changed"], said


def test_a_write_that_fails_takes_back_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("old\n")
    (tmp_path / "gone").mkdir()
    said = run(
        {"path": f"{tmp_path}/a.conf", "content": "new\n"},
        {"path": f"{tmp_path}/c.conf", "state": "link", "target": "a.conf"},
        {"path": f"{tmp_path}/nowhere/b.conf", "content": "b\n"},
    )
    assert said["failed"]
    assert "so all files are as they were" in said["msg"]
    assert (tmp_path / "a.conf").read_text() == "old\n"
    assert not (tmp_path / "c.conf").is_symlink()


def test_what_a_program_refuses_with_all_in_place_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("old\n")
    judge = {"prove": f"/bin/grep -q good {path}"}

    def wanted(text: str) -> dict[str, Any]:
        file = {"path": str(path), "content": text, "owner": USER, "group": GROUP}
        return run_module("host_files", {"files": [file], **judge})

    said = wanted("bad\n")
    assert said["failed"]
    assert f"{path} could not be put in place, so all files are as they were" in said["msg"]
    assert judge["prove"] in said["msg"]
    assert path.read_text() == "old\n"
    assert wanted("good\n")["changed"]
    assert path.read_text() == "good\n"


def test_an_account_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = f"{tmp_path}/a.conf"
    said = run({"path": path, "content": "a\n", "owner": "nobody-here"})
    assert f"{path}: the host has no user nobody-here" in said["msg"]
    assert run({"path": path, "content": "a\n", "owner": "nobody-here"}, check=True)["changed"]


def test_a_folder_that_is_a_link_now_is_refused_and_what_it_leads_to_left_alone(
    tmp_path: Path,
) -> None:
    """A user who owns the folder above may lead to anything, and who has moved data away would lose sight of them."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "data").symlink_to(tmp_path / "elsewhere")
    said = run({"path": f"{tmp_path}/data", "state": "directory", "mode": "0755"}, check=True)
    assert said["failed"]
    assert f"{tmp_path}/data is a link to {tmp_path}/elsewhere" in said["msg"]
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        host_files.give(tmp_path / "data", (os.getuid(), os.getgid()), 0o755)
    assert modes(tmp_path)["elsewhere"] == "0700"
