"""What cannot be backed up is refused; databases are copied whole while others write; restic speaks in sentences."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest

from plugins.filter.backup import backup_rules, snapshot_lines
from plugins.module_utils import site_data as place
from plugins.module_utils import site_databases as databases
from plugins.module_utils import site_environment
from plugins.modules import site_restore as restored

site_restore: Any = restored  # as Ansible finds it, and with what it imports

FILES = Path(__file__).resolve().parents[2] / "roles" / "backup" / "files"
GOOD = {
    "repository": "/mnt/backup/lab",
    "password_lines": 1,
    "ssh_key": False,
    "ssh_known_hosts": [],
    "on_calendar": "daily",
    "check_on_calendar": "weekly",
    "check_subset": "5%",
    "stage_dir": "/mnt/scratch",
    "keep_daily": 7,
    "keep_weekly": 0,
    "keep_monthly": 0,
}
LAB = {"name": "lab", "paths": ["/var/lib/lab"], "exclude": [], "postgresql": ""}


def program(name: str) -> ModuleType:
    """Load a file of the role as a module."""
    spec = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


copying, restic = program("backup_copy"), program("backup_restic")


def broken(site: dict[str, Any] | None = None, **changes: Any) -> list[tuple[str, str]]:
    found = backup_rules(
        {**GOOD, **changes}, [{**LAB, **(site or {})}], {"daily": "", "weekly": "", "never": "no"}
    )
    assert all(rule["remedy"].endswith((".", ")")) for rule in found)
    return [(rule["variable"], f"{rule['value']}: {rule['why']}") for rule in found]


SFTP: dict[str, Any] = {"ssh_key": True, "ssh_known_hosts": ["192.0.2.20 ssh-ed25519 AAAA"]}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"repository": "sftp:backup@192.0.2.20:/srv/lab", **SFTP},
        {"repository": "sftp://backup@192.0.2.20:2222//srv/lab", **SFTP},
        {"repository": "sftp://backup@192.0.2.20//srv/lab", **SFTP},
        {"repository": "sftp://backup@[2001:db8::1]:2222//srv/lab", **SFTP},
        {"repository": "sftp://backup@[fe80::1%25eth0]//srv/lab", **SFTP},
        {"repository": "s3:https://s3.example.org/lab"},
        {"repository": "/srv/laboratory"},
        {"check_subset": "1/7", "keep_daily": 0, "keep_monthly": 1},
    ],
)
def test_what_restic_can_work_with_is_let_through(changes: dict[str, Any]) -> None:
    assert broken(**changes) == []


@pytest.mark.parametrize(
    "repository",
    [
        "sftp:backup@[2001:db8::1]:/srv/lab",
        "sftp:backup@host/srv/lab",
        "sftp://backup@host:/srv/lab",
        "sftp://backup@2001:db8::1//srv/lab",
        "sftp://backup@[host]//srv/lab",
    ],
)
def test_an_address_that_sftp_cannot_reach_is_refused(repository: str) -> None:
    ((variable, said),) = broken(repository=repository, **SFTP)
    assert variable == "backup_repository"
    assert "names no user, host and path" in said


@pytest.mark.parametrize(
    ("changes", "variable", "told"),
    [
        ({"password_lines": 0}, "backup_password", "empty: restic encrypts each snapshot with it."),
        ({"password_lines": 2}, "backup_password", "a password is one line."),
        ({"repository": "backup"}, "backup_repository", "no place that restic knows"),
        ({"repository": "ftp:x@y:/z"}, "backup_repository", "no place that restic knows"),
        ({"repository": "/srv/lab/data/backup"}, "backup_repository", "it lies inside /srv/lab,"),
        ({"repository": "/srv/lab"}, "backup_repository", "it lies inside /srv/lab,"),
        (
            {"repository": "/etc/switchboard/lab/x"},
            "backup_repository",
            "inside /etc/switchboard/lab",
        ),
        ({"repository": "/var/lib/lab/x"}, "backup_repository", "it lies inside /var/lib/lab,"),
        (
            {"repository": "/mnt/scratch/stage/lab"},
            "backup_repository",
            "it lies inside /mnt/scratch/stage,",
        ),
        ({"stage_dir": "scratch"}, "backup_stage_dir", "scratch: that is no whole path"),
        ({"stage_dir": "/srv/lab/data"}, "backup_stage_dir", "it lies inside /srv/lab, which is"),
        ({"repository": "/mnt/../srv/lab"}, "backup_repository", "it lies inside another folder"),
        (
            {"repository": "rest:https://me:word@h/"},
            "backup_repository",
            "an address with a password",
        ),
        (
            {"repository": "sftp:host:/path", **SFTP},
            "backup_repository",
            "names no user, host and path",
        ),
        (
            {"repository": "sftp:me@host:/p", **SFTP, "ssh_key": False},
            "backup_ssh_key",
            "empty: root",
        ),
        (
            {"repository": "sftp:me@host:/p", **SFTP, "ssh_known_hosts": []},
            "backup_ssh_known_hosts",
            "empty: by it",
        ),
        ({"on_calendar": "never"}, "backup_on_calendar", "never: systemd does not understand"),
        ({"check_on_calendar": ""}, "backup_check_on_calendar", "empty: systemd does not"),
        ({"check_subset": "all"}, "backup_check_subset", "restic does not know that amount"),
        ({"keep_daily": 0}, "backup_keep_daily", "0: nor do keep_weekly and keep_monthly"),
        ({"keep_weekly": -1}, "backup_keep_weekly", "-1: that is no number"),
        ({"site": {"paths": ["lab"]}}, "backup_paths", "lab: that is no whole path"),
        ({"site": {"paths": ["/srv"]}}, "backup_paths", "/srv: that is no whole path"),
        ({"site": {"paths": ["/srv/lab/x"]}}, "backup_paths", "/srv/lab/x: of /srv/lab"),
        ({"site": {"postgresql": "a b"}}, "backup_postgresql", "a b: that is no name"),
    ],
)
def test_what_cannot_be_backed_up_is_refused(
    changes: dict[str, Any], variable: str, told: str
) -> None:
    ((found, said),) = broken(**changes)
    assert found == variable
    assert told in said


def test_no_secret_is_told() -> None:
    (rule,) = backup_rules({**GOOD, "repository": "rest:https://me:word@h/"}, [], {})[:1]
    assert "me:word" not in rule["value"]


def test_databases_are_copied_whole_while_others_write(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "target"
    (data / "deep").mkdir(parents=True)
    target.mkdir()
    (data / "letter.sqlite3").write_text("no database")
    (data / "link.sqlite3").symlink_to(data / "deep" / "lab.sqlite3")
    path, done = data / "deep" / "lab.sqlite3", threading.Event()
    with sqlite3.connect(path) as live:
        live.execute("PRAGMA journal_mode = WAL")
        live.execute("CREATE TABLE pair (one, other)")

    def write() -> None:
        writer = sqlite3.connect(path, timeout=30)
        number = 0
        while not done.is_set():
            number += 1
            with writer:
                writer.execute("INSERT INTO pair VALUES (?, 0)", (number,))
                writer.execute("UPDATE pair SET other = ? WHERE one = ?", (number, number))
        writer.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        while sqlite3.connect(path).execute("SELECT count(*) FROM pair").fetchone()[0] < 20:
            pass
        (told,) = copying.copy_databases(str(data), str(target))["sqlite"]
    finally:
        done.set()
        thread.join()
    assert told["path"] == "deep/lab.sqlite3"
    copy = target / told["copy"]
    assert copying.digest(copy) == told["sha256"]
    assert sorted(one.name for one in target.iterdir()) == [told["copy"]]
    count, torn = (
        sqlite3.connect(copy).execute("SELECT count(*), sum(one != other) FROM pair").fetchone()
    )
    assert count >= 20
    assert torn == 0


def database(path: Path | str) -> Path:
    """Make a database with some pages."""
    with sqlite3.connect(f"file:{quote(os.fsencode(path))}", uri=True) as live:
        live.execute("CREATE TABLE page (text)")
        live.executemany("INSERT INTO page VALUES (?)", [("x" * 3000,)] * 50)
    live.close()
    return Path(path)


def test_what_is_no_sound_database_keeps_no_other_from_its_copy(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "target"
    data.mkdir()
    target.mkdir()
    good = database(data / "lab.sqlite3").read_bytes()
    (data / "cut.db").write_bytes(good[: len(good) // 2])
    (data / "empty.db").write_bytes(copying.SQLITE)
    (data / "hole.db").write_bytes(good[:4096] + b"\0" * 8192 + good[12288:])
    # the number of the schema's format
    (data / "later.db").write_bytes(good[:47] + b"\x09" + good[48:])
    (data / "name.db").write_bytes(good.replace(b"tablepagepage", b"table\xffage\xffage"))
    (data / "noise.db").write_bytes(copying.SQLITE + os.urandom(5000))
    told = copying.copy_databases(str(data), str(target))
    assert [one["path"] for one in told["sqlite"]] == ["lab.sqlite3"]
    assert told["damaged"].keys() == {
        f"{name}.db" for name in ("cut", "empty", "hole", "later", "name", "noise")
    }
    assert told["damaged"]["noise.db"] == "file is not a database"
    assert [one.name for one in target.iterdir()] == [told["sqlite"][0]["copy"]]
    assert copying.digest(target / "0") == told["sqlite"][0]["sha256"]


@pytest.mark.parametrize("writes", [0, 3, 1000])
def test_others_write_while_a_database_without_wal_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """Between two steps; each write begins the copy anew, and too many end in a copy of the whole file."""
    path, left = database(tmp_path / "lab.db"), [writes]
    (tmp_path / "target").mkdir()

    def write(_: float) -> None:
        left[0] -= 1
        if left[0] >= 0:
            with contextlib.closing(sqlite3.connect(path, timeout=0)) as writer, writer:
                writer.execute("INSERT INTO page VALUES ('new')")

    monkeypatch.setattr(copying, "PAGES", 10)
    monkeypatch.setattr(copying, "time", SimpleNamespace(sleep=write))
    (told,) = copying.copy_databases(str(tmp_path), str(tmp_path / "target"))["sqlite"]
    assert copying.digest(tmp_path / "target" / "0") == told["sha256"]
    with contextlib.closing(sqlite3.connect(tmp_path / "target" / "0")) as copy:
        (found,) = copy.execute("SELECT count(*) FROM page WHERE text = 'new'").fetchone()
    assert found == min(writes, copying.RESTARTS + 1)
    assert sorted(os.listdir(tmp_path / "target")) == ["0"]


def test_a_lock_that_does_not_end_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "LOCK_SECONDS", 0.1)
    (tmp_path / "target").mkdir()
    with contextlib.closing(sqlite3.connect(database(tmp_path / "lab.db"))) as live:
        live.execute("BEGIN EXCLUSIVE")
        with pytest.raises(copying.Failed, match=r"lab\.db: database is locked\. .* who holds"):
            copying.copy_databases(str(tmp_path), str(tmp_path / "target"))


def test_a_database_whose_copy_is_felt_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = database(tmp_path / "lab.db").stat().st_size
    database(tmp_path / "log.db")
    (tmp_path / "target").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as live:
        live.execute("PRAGMA journal_mode = WAL")
    for least, slow in ((size, {"lab.db": "0.2 MiB"}), (size + 1, {})):
        monkeypatch.setattr(copying, "LARGE", least)
        for one in (tmp_path / "target").iterdir():
            one.unlink()
        told = copying.copy_databases(str(tmp_path), str(tmp_path / "target"))
        assert told["slow"] == slow


def test_a_database_whose_name_is_no_utf8_is_copied(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    database(tmp_path / os.fsdecode(b"caf\xe9?.db"))
    told = json.loads(
        subprocess.run(
            [sys.executable, "-I", FILES / "backup_copy.py", tmp_path, tmp_path / "target"],
            capture_output=True,
            check=True,
        ).stdout
    )
    assert os.fsencode(told["sqlite"][0]["path"]) == b"caf\xe9?.db"
    assert copying.shown(told["sqlite"][0]["path"]) == "caf\\xe9?.db"


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        # each as restic 0.14 itself decides
        ("*.db", "a.db cache/b.db cache/deep/c.db"),
        ("cache", "cache/b.db cache/deep/c.db"),
        ("/srv/lab/data/cache/", "cache/b.db cache/deep/c.db"),
        ("/srv/lab/data/*/b.db", "cache/b.db"),
        ("/srv/**/c.db", "cache/deep/c.db"),
        ("data/?.db", "a.db"),
        ("/cache", ""),
        ("ache", ""),
        ("b.d", ""),
        ("", ""),
        ("[ab].db", ""),  # restic leaves these out, and the copies stay
        ("\\a.db", ""),
    ],
)
def test_a_database_that_is_left_out_is_not_copied(pattern: str, left: str) -> None:
    files = ["a.db", "cache/b.db", "cache/deep/c.db"]
    found = [name for name in files if copying.leaves_out(pattern, f"/srv/lab/data/{name}")]
    assert found == left.split()


def test_the_database_of_the_environment_stays_unless_its_whole_path_is_left_out() -> None:
    path = "/srv/lab/data/lab.db"
    assert not copying.stays(path, ["*.db"], [])
    assert copying.stays(path, ["*.db"], [path])
    assert not copying.stays(path, ["/srv/lab/data/*.db"], [path])
    assert copying.stays(path, ["*.db", "!lab.db"], [])


@pytest.fixture
def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what fills the stage of a site that has lab.sqlite3 and a damaged holiday.db, as this user."""
    monkeypatch.setitem(sys.modules, "site_environment", site_environment)
    backup = program("backup_stage")
    monkeypatch.setattr(backup, "LIBRARY", FILES)
    monkeypatch.setattr(
        backup, "as_user", lambda _, words, *__, **more: subprocess.run(words, text=True, **more)
    )
    monkeypatch.setattr(backup.os, "chown", lambda *_: None)
    monkeypatch.setattr(backup.grp, "getgrnam", lambda _: SimpleNamespace(gr_gid=0))
    data, environment, stage = (tmp_path / name for name in ("data", "environment", "stage"))
    for folder in (data, environment, stage):
        folder.mkdir()
    database(data / "lab.sqlite3")
    (data / "holiday.db").write_bytes(copying.SQLITE + os.urandom(5000))
    former: dict[str, Any] = {}
    site = {
        **LAB,
        "paths": [],
        "data": str(data),
        "environment": str(environment),
        "current": str(tmp_path / "current"),
        "postgresql_host": "",
    }

    def fill(names: str = "", had: str = "") -> dict[str, Any]:
        (environment / "a.env").write_text(f'LAB_DB="sqlite:///{data}/{names}?timeout=20"\n')
        former["sqlite"] = [{"path": had}]
        dump = ("dump", "--no-lock", "a" * 64, "/mnt/stage/lab/manifest.json")
        asked = SimpleNamespace(
            config={"kafka": "", "host": "one"},
            snapshots=lambda _: [FOUND[0] | {"paths": ["/srv/lab/data", "/mnt/stage/lab"]}],
            run=lambda *words: SimpleNamespace(stdout=json.dumps(former) * (words == dump)),
        )
        told: dict[str, Any] = backup.prepare(asked, site, stage)
        return told

    return fill, backup


def test_copies_leave_others_their_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = database(tmp_path / "lab.db").stat().st_size
    Path(f"{tmp_path}/lab.db-wal").write_bytes(b"x" * 5000)
    (tmp_path / "target").mkdir()
    free = [2 * size]
    monkeypatch.setattr(copying.shutil, "disk_usage", lambda _: SimpleNamespace(free=free[0]))
    with pytest.raises(copying.Failed, match=r"target has room for 0\.2 MiB of copies, and not"):
        copying.copy_databases(str(tmp_path), str(tmp_path / "target"))
    assert list((tmp_path / "target").iterdir()) == []
    free[0] += 10000
    assert copying.copy_databases(str(tmp_path), str(tmp_path / "target"))["sqlite"]
    free[0] = 3 * 2**30
    assert copying.room(tmp_path) == 2 * 2**30


def test_a_dump_that_finds_no_room_ends(
    staged: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, backup = staged
    (tmp_path / "pg_dump").write_text("#!/bin/sh\nexec head -c 200000 /dev/zero\n")
    (tmp_path / "pg_dump").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    site = {"name": "lab", "postgresql": "lab", "postgresql_host": ""}
    target = tmp_path / "postgresql.dump"
    monkeypatch.setattr(backup, "room", lambda _: 200_000)
    backup.dump(site, {"postgresql_port": 5432}, target)
    assert target.stat().st_size == 200_000
    monkeypatch.setattr(backup, "room", lambda _: 100_000)
    with pytest.raises(
        backup.Refused, match=r"lab can't be dumped\. The disk with .* has room for"
    ):
        backup.dump(site, {"postgresql_port": 5432}, target)


def test_a_damaged_file_of_a_visitor_is_a_note(staged: Any) -> None:
    fill, _ = staged
    told = fill(names="lab.sqlite3", had="lab.sqlite3")
    assert [one["path"] for one in told["sqlite"]] == ["lab.sqlite3"]
    (note,) = told["notes"]
    assert note.endswith(
        "/data/holiday.db is no sound database, and is stored as any other file: file is not a database"
    )


@pytest.mark.parametrize("about", [{"names": "holiday.db"}, {"had": "holiday.db"}])
def test_a_damaged_database_of_the_site_is_a_fault(staged: Any, about: dict[str, str]) -> None:
    fill, backup = staged
    with pytest.raises(
        backup.Refused, match=r"/data/holiday\.db: file is not a database\. Restore it"
    ):
        fill(**about)


FOUND = [
    {
        "id": "aaaaaaaa",
        "whole": "a" * 64,
        "at": "2026-11-27T02:30:00Z",
        "site": "lab",
        "host": "one",
    },
    {
        "id": "bbbbbbbb",
        "whole": "b" * 64,
        "at": "2026-11-28T02:30:00Z",
        "site": "lab",
        "host": "one",
    },
]


@pytest.mark.parametrize(
    ("at", "wanted"),
    [
        ("latest", "b"),
        ("", "b"),
        ("aaaaaaaa", "a"),
        ("2026-11-28T02:29", "a"),
        ("2026-11-28 02:30", "b"),
        ("2026-11-28T03:30:00+02:00", "a"),
    ],
)
def test_a_snapshot_is_named_by_its_id_or_a_time(at: str, wanted: str) -> None:
    assert restic.chosen(FOUND, at, "lab")["whole"][0] == wanted


@pytest.mark.parametrize(
    ("at", "told"),
    [
        ("cccccccc", "lab has no such snapshot. `make backups` lists them, from 2026-11-27"),
        ("2026-11-01", "no snapshot of lab is that old"),
        ("yesterday", "neither a snapshot nor a time"),
    ],
)
def test_a_snapshot_that_is_not_there_is_refused(at: str, told: str) -> None:
    with pytest.raises(restic.Refused, match=told):
        restic.chosen(FOUND, at, "lab")
    with pytest.raises(restic.Refused, match="the repository has no snapshot of it"):
        restic.chosen([], at, "lab")


def test_snapshots_are_the_lines_of_a_table() -> None:
    head, newest, _ = snapshot_lines(FOUND)
    assert head.split() == ["snapshot", "when", "(UTC)", "site", "host"]
    assert newest.split() == ["bbbbbbbb", "2026-11-28T02:30:00Z", "lab", "one"]
    assert snapshot_lines([]) == ["no snapshot yet"]


@pytest.mark.parametrize(
    ("repository", "wanted"),
    [
        ("/mnt/lab", ["restic", "check"]),
        ("sftp:me@host:/srv/lab", "-o StrictHostKeyChecking=yes me@host -s sftp"),
        ("sftp://me@host:2222//srv/lab", "backup.ssh-key -p 2222 "),
        ("sftp://me@host//srv/lab", "-o StrictHostKeyChecking=yes me@host -s sftp"),
    ],
)
def test_over_sftp_ssh_gets_its_own_key(repository: str, wanted: Any) -> None:
    command = restic.Restic({"repository": repository, "host": "one"}).command("check")
    if isinstance(wanted, list):
        assert command == wanted
        return
    assert command[:2] == ["restic", "-o"]
    assert wanted in command[2]
    assert "me@host " in command[2]


def test_ssh_gets_an_address_of_ipv6_without_brackets() -> None:
    for end in ("", ":2222"):
        repository = f"sftp://me@[2001:db8::1]{end}//srv/lab"
        (option,) = restic.Restic({"repository": repository, "host": "one"}).command("check")[2:3]
        assert " me@2001:db8::1 -s sftp" in option
        assert ("-p 2222 " in option) == bool(end)


@pytest.mark.parametrize(
    ("verb", "said", "told"),
    [
        ("backup", "Fatal: wrong password or no key found", "backup_password does not open it."),
        (
            "restore",
            "ignoring error for /srv/lab: no space left on device\nFatal: There were 1 errors",
            "not all of the snapshot came back (1 errors). ignoring error for /srv/lab: no space left",
        ),
        (
            "backup",
            "subprocess ssh: Host key verification failed.\nFatal: x",
            "is none of backup_ssh_known_hosts",
        ),
        ("check", "something else\nFatal: odd\n", "restic failed. Fatal: odd"),
    ],
)
def test_what_restic_says_is_a_sentence_with_a_remedy(verb: str, said: str, told: str) -> None:
    text = restic.Restic({"repository": "/mnt/lab", "host": "one"}).meaning(verb, said)
    assert text.startswith("backup_repository is /mnt/lab: ")
    assert told in text


@pytest.fixture
def folders(tmp_path: Path) -> Any:
    """Return a place with two old entries, for which two new ones wait, one under the same name."""
    (tmp_path / "data" / "media").mkdir(parents=True)
    (tmp_path / "data" / "media" / "old").touch()
    (tmp_path / "data" / "rows").write_text("old")
    (tmp_path / "draft" / "media").mkdir(parents=True)
    (tmp_path / "draft" / "media" / "new").touch()
    (tmp_path / "draft" / "rows").write_text("new")
    one = place.Place(tmp_path / "data", tmp_path / "draft", tmp_path / "kept")
    one.prepare()
    return one


def test_a_place_changes_places_and_back(folders: Any) -> None:
    number = folders.path.stat().st_ino
    folders.take()
    assert (folders.path / "rows").read_text() == "new"
    assert os.listdir(folders.path / "media") == ["new"]
    assert (folders.kept / "rows").read_text() == "old"
    (folders.path / "made-meanwhile").touch()
    folders.back()
    assert sorted(os.listdir(folders.path)) == ["media", "rows"]
    assert (folders.path / "rows").read_text() == "old"
    assert os.listdir(folders.path / "media") == ["old"]
    assert not folders.kept.exists()
    folders.back()  # once more does no harm
    assert (folders.path / "rows").read_text() == "old"
    # a sandbox has the folder mounted, and would follow it to another name
    assert folders.path.stat().st_ino == number


@pytest.mark.parametrize("last", range(1, 5))
def test_a_place_that_was_half_changed_is_as_it_was(
    folders: Any, last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, left = Path.rename, [last]

    def failing(self: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] < 0:
            raise OSError("no space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    if last < 4:
        with pytest.raises(OSError, match="no space"):
            folders.take()
    else:
        folders.take()
    monkeypatch.setattr(Path, "rename", rename)
    folders.back()
    assert (folders.path / "rows").read_text() == "old"
    assert os.listdir(folders.path / "media") == ["old"]
    assert (folders.new / "rows").read_text() == "new"
    assert not folders.kept.exists()


def test_a_restore_sorts_large_indexes_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL's temp_file_limit is not for it, as its superuser and as the site's own role."""
    asked: list[dict[str, Any]] = []

    def run(_: list[str], **more: Any) -> SimpleNamespace:
        asked.append(more["env"])
        return SimpleNamespace(returncode=0, stdout="")

    monkeypatch.setattr(vars(place)["subprocess"], "run", run)
    databases.Database("lab", tmp_path, "1").ask("SELECT 1")
    assert asked[0]["PGOPTIONS"] == "-c temp_file_limit=-1"
    said: list[str] = []
    distant = databases.Distant("lab", {}, tmp_path, "1")
    monkeypatch.setattr(distant, "script", lambda text, **_: said.append(text))
    distant.take()
    assert said[-1].startswith(databases.UNLIMITED)


def test_a_place_that_was_empty_is_empty_again(tmp_path: Path) -> None:
    (tmp_path / "draft").mkdir()
    one = place.Place(tmp_path / "more" / "data", tmp_path / "draft", tmp_path / "kept")
    one.prepare()
    one.take()
    assert (tmp_path / "more" / "data").is_dir()
    one.back()
    assert not (tmp_path / "more" / "data").exists()


def test_a_snapshot_without_data_takes_none_away(
    folders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stopped at the first of what is there: nothing of that is the snapshot's."""
    for path in sorted(folders.new.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folders.came = []
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        raise OSError("device or resource busy")

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="busy"):
        folders.take()
    monkeypatch.setattr(Path, "rename", rename)
    folders.back()
    assert sorted(os.listdir(folders.path)) == ["media", "rows"]


def test_a_file_system_of_its_own_below_the_data_is_refused(
    folders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.lstat

    def lstat(path: Any, **more: Any) -> Any:
        told = status(path, **more)
        if not str(path).endswith("data/media"):
            return told
        return os.stat_result((*told[:2], told.st_dev + 1, *told[3:10]))

    monkeypatch.setattr(os, "lstat", lstat)
    with pytest.raises(vars(place)["Refused"], match=r"data/media is a file system of its own"):
        folders.prepare()


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what lays a snapshot out, given what its manifest says of its one database, and where it was laid out."""
    monkeypatch.setitem(sys.modules, "site_environment", site_environment)
    program("backup_stage")
    backup, whole = program("switchboard_backup"), tmp_path / "whole"
    site = {**LAB, "data": "/srv/lab/data", "environment": "/etc/lab", "paths": ["/var/stage/lab"]}
    paths = {"paths": ["/mnt/big/stage/lab", "/srv/lab/data", "/var/stage/lab"]}
    stage = whole / "mnt/big/stage/lab"
    (stage / "sqlite").mkdir(parents=True)
    (stage / "sqlite" / "0").write_text("rows")
    (whole / "srv/lab/data").mkdir(parents=True)

    def lay_out(**changes: Any) -> dict[str, Any]:
        told = {"path": "cache/rows.db", "copy": "0", "mode": 0o640} | changes
        told |= {"sha256": copying.digest(stage / "sqlite" / "0")}
        manifest = {"sqlite": [told], "release": "", "topics": None, "postgresql": "", "paths": []}
        (stage / "manifest.json").write_text(json.dumps(manifest))
        found: dict[str, Any] = backup.laid_out(FOUND[0] | paths, site, whole)
        return found

    return lay_out, whole, backup


def test_a_database_comes_back_where_its_folder_was_left_out(snapshot: Any) -> None:
    lay_out, whole, _ = snapshot
    lay_out()
    assert (whole / "srv/lab/data/cache/rows.db").read_text() == "rows"


@pytest.mark.parametrize(
    "changes",
    [{"path": "/etc/cron.d/lab"}, {"path": "../../etc/lab"}, {"copy": "../manifest.json"}],
)
def test_what_a_sites_own_user_has_forged_goes_nowhere(
    snapshot: Any, changes: dict[str, Any]
) -> None:
    lay_out, _, backup = snapshot
    with pytest.raises(backup.Refused, match="is none of its files"):
        lay_out(**changes)


def test_a_copy_that_is_a_link_is_none(snapshot: Any, tmp_path: Path) -> None:
    lay_out, whole, backup = snapshot
    (tmp_path / "secret").write_text("rows")
    copy = next(whole.rglob("sqlite/0"))
    copy.unlink()
    copy.symlink_to(tmp_path / "secret")
    with pytest.raises(backup.Refused, match="is none of its files"):
        lay_out(mode=0o777)
    assert (tmp_path / "secret").stat().st_mode & 0o777 != 0o777


def test_a_pattern_that_takes_the_dump_away_is_noticed(snapshot: Any) -> None:
    _, _, backup = snapshot
    listed = ["/stage/lab", "/stage/lab/manifest.json", "/stage/lab/sqlite/0"]
    lines = "\n".join(json.dumps({"path": path}) for path in listed)
    restic = SimpleNamespace(run=lambda *_: SimpleNamespace(stdout=lines))
    manifest: dict[str, Any] = {"postgresql": "", "sqlite": [{"copy": "0"}]}
    assert backup.left_out(restic, "id", Path("/stage/lab"), manifest) == ""
    manifest["postgresql"] = "lab"
    assert backup.left_out(restic, "id", Path("/stage/lab"), manifest) == "postgresql.dump"


def test_another_run_is_waited_for(
    snapshot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is that of another process; one that does not end in time is refused with what it says of itself."""
    _, _, backup = snapshot
    monkeypatch.setattr(backup, "STATE", tmp_path)
    words = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print('process 7', file=f, flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{words}; print(flush=True); sys.stdin.read()", tmp_path / ".lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        for seconds in (0, 0.6):
            refused = pytest.raises(backup.Refused, match="another run is at work: process 7")
            with refused, backup.locked(seconds):
                pass
        threading.Timer(0.2, other.stdin.close).start()
        with backup.locked(60):
            assert other.wait() == 0


def test_what_a_killed_restore_has_fetched_goes_before_the_next_one_fetches(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("releases/one")
    (tmp_path / ".restore-20261128T231815Z" / "whole").mkdir(parents=True)
    (tmp_path / "data.before-restore-20261128T231815Z").mkdir()
    (tmp_path / ".restoring.json").write_text("{}")
    seen: list[str] = []

    def fetch(_: list[str]) -> tuple[int, str, str]:
        seen.extend(sorted(os.listdir(tmp_path)))
        return 1, "", "no room"

    params = {"site": "lab", "at": "latest", "host": "", "maintenance": ""}
    module = SimpleNamespace(params=params, run_command=fetch)
    restore = site_restore.Restore(module, site_restore.Releases(tmp_path), None)
    with pytest.raises(site_restore.Refused, match="no room"):
        restore.done()
    assert seen == [".restoring.json", "current", "data.before-restore-20261128T231815Z"]


def test_a_host_without_sites_of_its_own_backs_up_none(
    snapshot: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, backup = snapshot
    assert backup.run({"sites": []}, "") == backup.check({"sites": []}) == 0
    assert "backs up no site" in capsys.readouterr().out
