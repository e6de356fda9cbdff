"""The releases of a site on a host: what a rollback goes to, the history, and the lock that ends with its holder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from plugins.module_utils.site_history import LINES, Refused, Releases, Waiting, locked

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    """Return the releases a, b and c, deployed in that order; c is served."""
    for number, name in enumerate("abc"):
        path = tmp_path / "releases" / name
        path.mkdir(parents=True)
        (path / ".ready").touch()
        os.utime(path / ".ready", (number, number))
    (tmp_path / "releases" / "half").mkdir()
    found = Releases(tmp_path)
    found.switch("c")
    return found


def test_the_link_moves_in_one_step_and_is_known_afterwards(releases: Releases) -> None:
    assert releases.live() == "c"
    releases.switch("a")
    assert os.readlink(releases.current) == "releases/a"
    assert releases.live() == "a"
    assert not (releases.home / ".current.new").is_symlink()


def test_why_a_release_was_refused_is_one_line_with_the_end_of_what_a_command_said(
    tmp_path: Path,
) -> None:
    found = Releases(tmp_path)
    for why in (
        "It is wrong. It said:\n  File x\nSyntaxError: invalid syntax\n\n",
        "No.\nNor that.",
    ):
        found.note("refused", "a", why=why)
    assert [event["why"] for event in found.events()] == [
        "It is wrong. It said: SyntaxError: invalid syntax",
        "No.",
    ]


def test_no_link_is_no_release(tmp_path: Path) -> None:
    assert Releases(tmp_path).live() == ""
    assert Releases(tmp_path).table() == []


def test_what_is_half_built_is_not_kept(releases: Releases) -> None:
    assert releases.kept() == ["c", "b", "a"]


def test_a_rollback_goes_to_the_one_before(releases: Releases) -> None:
    assert releases.before("c") == "b"
    assert releases.before("a") == ""


def test_a_rollback_passes_over_what_was_rolled_back_from(releases: Releases) -> None:
    releases.mark("b")
    assert releases.before("c") == "a"
    releases.unmark("b")
    assert releases.before("c") == "b"


def test_the_table_tells_state_and_reason(releases: Releases) -> None:
    (releases.home / "failed" / "d").mkdir(parents=True)
    releases.mark("b")
    releases.note("released", "c", by="ada@desk", commit="abc")
    releases.note("refused", "d", step="check", why="it does not import")
    releases.note("rolled back", "c", **{"from": "d"})
    rows = releases.table()
    assert [(row["release"], row["state"]) for row in rows] == [
        ("c", "live"),
        ("b", "rolled back"),
        ("a", "kept"),
        ("d", "failed"),
    ]
    assert rows[0]["by"] == "ada@desk"
    assert (rows[3]["step"], rows[3]["why"]) == ("check", "it does not import")


def test_a_line_that_a_crash_cut_off_is_left_out(releases: Releases) -> None:
    releases.note("released", "a")
    with releases.history.open("a") as file:
        file.write('{"event": "rele')
    releases.note("released", "b")
    assert [event["release"] for event in releases.events()] == ["a", "b"]
    assert releases.history.stat().st_mode & 0o777 == 0o640


def test_the_history_is_bounded(releases: Releases) -> None:
    line = '{"event": "released", "release": "a"}\n'
    releases.history.write_text(line * (LINES + 50))
    releases.note("released", "b")
    assert len(releases.events()) == LINES
    assert releases.events()[-1]["release"] == "b"


HOLDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from plugins.module_utils.site_history import locked
with locked(Path(sys.argv[2]), "ada@desk", 0):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_tells_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(ROOT), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(Refused, match=r"^ada@desk \(since 20.*\) changes this site's release"),
            locked(tmp_path, "grace@desk", 0.1),
        ):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with locked(tmp_path, "grace@desk", 0):
        assert "grace@desk" in (tmp_path / ".release.lock").read_text()


def test_a_release_offers_the_hashed_files_of_those_that_are_kept(releases: Releases) -> None:
    """Pages from before the switch name them; what has no hash is the release's own alone."""
    hashed = Releases(releases.home, r"\.[0-9a-f]{12}\.[a-z]+$")
    for name, digest in (("a", "a" * 12), ("b", "b" * 12), ("c", "c" * 12)):
        folder = hashed.path(name) / "static" / "css"
        folder.mkdir(parents=True)
        for file in (f"style.{digest}.css", f"style.{digest}.css.gz", "style.css", f"{name}.css"):
            (folder / file).write_text(name)
    hashed.switch("b")
    served = hashed.current / "static" / "css"
    assert {path.name for path in served.iterdir()} == {
        *(f"style.{letter * 12}.css{end}" for letter in "abc" for end in ("", ".gz")),
        *("style.css", "b.css"),
    }
    assert (served / "style.css").read_text() == "b"
    # what b has from a is not handed on to d, once a is gone
    (releases.home / "venvs").mkdir()
    hashed.prune(2, "b")
    assert hashed.kept() == ["c", "b"]
    (hashed.path("d") / "static").mkdir(parents=True)
    hashed.switch("d")
    names = {path.name for path in (hashed.current / "static" / "css").iterdir()}
    assert names == {f"style.{letter * 12}.css{end}" for letter in "bc" for end in ("", ".gz")}
    before = sorted(hashed.path("d").rglob("*"))
    hashed.switch("d")
    assert sorted(hashed.path("d").rglob("*")) == before


def test_what_cannot_be_lent_keeps_nobody_from_the_way_back(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = Releases(releases.home, r"\.[0-9a-f]{12}\.js$")
    for name in "abc":
        (hashed.path(name) / "static").mkdir()
    # where the newer one has a file, the older has a folder
    (hashed.path("c") / "static" / "app").touch()
    (hashed.path("b") / "static" / "app" / "parts").mkdir(parents=True)
    (hashed.path("b") / "static" / "app" / "parts" / "one.0123456789ab.js").touch()
    (hashed.path("a") / "static" / "two.0123456789ab.js").touch()
    hashed.switch("c")
    assert (hashed.current / "static" / "two.0123456789ab.js").is_file()
    umask = os.umask(0o077)
    try:
        hashed.switch("a")
    finally:
        os.umask(umask)
    assert (hashed.current / "static" / "app" / "parts").stat().st_mode & 0o777 == 0o755

    def full(*of: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("plugins.module_utils.site_history.put", full)
    (hashed.path("a") / "static" / "three.0123456789ab.js").touch()
    hashed.switch("b")
    assert hashed.live() == "b"


def test_what_waits_for_its_switch_lends_its_files_and_takes_them_along(releases: Releases) -> None:
    """Nobody rolls back to it, and nothing of it stays when it is not wanted any longer."""
    hashed = Releases(releases.home, r"\.[0-9a-f]{12}\.css$")
    for name, files in (("c", "c"), ("half", "cd"), ("d", "e")):
        for letter in files:
            path = hashed.path(name) / "static" / f"style.{letter * 12}.css"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(letter)
    waiting = Waiting(hashed.path("half"), {"secrets": "S"}, 60)
    assert (waiting.built, waiting.tried) == (False, False)
    waiting.keep(tried=True, seconds={"check": 1.0}, by="ada@desk", commit="abc")
    assert waiting.file.stat().st_mode & 0o777 == 0o600
    assert Waiting(hashed.path("half"), {"secrets": "S"}, 60).tried
    assert not Waiting(hashed.path("half"), {"secrets": "S"}, 0).tried
    assert not Waiting(hashed.path("half"), {"secrets": "T"}, 60).built
    assert hashed.waiting() == ["half"]
    assert "half" not in hashed.kept()
    row = hashed.table()[0]
    assert (row["release"], row["state"], row["by"]) == ("half", "waiting", "ada@desk")
    hashed.lend("c")
    served = hashed.current / "static"
    assert (served / "style.dddddddddddd.css").samefile(
        hashed.path("half") / "static" / "style.dddddddddddd.css"
    )
    hashed.discard("half")
    assert hashed.waiting() == ["half"]
    hashed.discard("")
    assert hashed.waiting() == []
    assert not hashed.path("half").exists()
    assert [path.name for path in served.iterdir()] == ["style.cccccccccccc.css"]
    Waiting(hashed.path("d"), {}, 60).keep(tried=True, seconds={}, by="", commit="")
    (hashed.path("d") / ".ready").touch()  # a run that was killed just there
    assert hashed.waiting() == []
    assert hashed.kept()[0] == "d"


def test_without_a_pattern_a_release_offers_its_own_files_alone(releases: Releases) -> None:
    for name in "ac":
        (releases.path(name) / "static").mkdir()
    (releases.path("c") / "static" / "style.cccccccccccc.css").touch()
    releases.switch("a")
    assert list((releases.path("a") / "static").iterdir()) == []
