"""The module that builds a release, as far as it goes without a host: its order, its files and its words."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils import site_build as built
from ansible.module_utils import site_history as history_of
from ansible.module_utils import site_project as project_of

from plugins.modules import site_release as released
from plugins.modules import site_rollback as rolled

# as Ansible finds them, and with what they import
site_build: Any = built
site_history: Any = history_of
site_project: Any = project_of
site_release: Any = released
site_rollback: Any = rolled

KEY = "k" * 64


def options(home: Path, **more: Any) -> dict[str, Any]:
    return {
        "site": "lab",
        "id": "new000000000",
        "archive": str(home / "archives" / "new000000000.tar.gz"),
        "home": str(home),
        "environment_dir": str(home / "etc"),
        "settings": 'LAB_MODE="new"\n',
        "secrets": 'LAB_TOKEN="a-secret-token"\n',
        "secret_key": 'LAB_KEY=""\n',
        "wsgi_script": "# wsgi\n",
        "project_dir": ".",
        "requirements": "requirements.txt",
        "require_hashes": True,
        "pip_args": [],
        "python": "/usr/bin/python3",
        "settings_module": "lab.settings",
        "wsgi_module": "lab.wsgi",
        "wsgi_callable": "application",
        "asgi_module": "lab.asgi",
        "asgi_callable": "application",
        "static_root_variable": "LAB_STATIC",
        "check_fail_level": "WARNING",
        "checks_silenced": ["security.W008"],
        "migrate": True,
        "commands": ["loaddata 'first names'"],
        "keep": 2,
        "unsafe_migrations": "allow",
        "hooks": {},
        "until": "",
        "again": False,
        "rotate_key": False,
        "forget_keys": False,
        "move_database": False,
        "move_program": "",
        "move_without": [],
        "database_empty": False,
        "commit": "abc",
        "by": "ada@desk",
        "url": "",
        "smoke": {},
        **more,
    }


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a site's home with a running release, and let the current user stand in for root and the site."""
    home = tmp_path / "lab"
    for folder in ("archives", "etc", "releases/old000000000", "venvs"):
        (home / folder).mkdir(parents=True)
    (home / "releases" / "old000000000" / ".ready").touch()
    (home / "current").symlink_to("releases/old000000000")
    (home / "etc" / "secret_key.env").write_text(f'LAB_KEY="{KEY}"\n')
    (home / "etc" / "settings.env").write_text('LAB_MODE="old"\n')
    source = tmp_path / "source"
    source.mkdir()
    (source / "manage.py").write_text("")
    (source / "requirements.txt").write_text("django==5.2\n")
    with tarfile.open(home / "archives" / "new000000000.tar.gz", "w:gz") as archive:
        archive.add(source, ".")
    me = SimpleNamespace(pw_uid=os.getuid(), pw_gid=os.getgid(), gr_gid=os.getgid())
    for module in (site_build, site_project):
        monkeypatch.setattr(module, "grp", SimpleNamespace(getgrnam=lambda name: me))
    monkeypatch.setattr(site_build, "pwd", SimpleNamespace(getpwnam=lambda name: me))
    done = SimpleNamespace(returncode=0, stdout="{}")
    monkeypatch.setattr(site_build.subprocess, "run", lambda *words, **more: done)
    for name in ("chown", "fchown"):
        monkeypatch.setattr(site_build.os, name, lambda *arguments: None)
    return home


PROGRAMS = {site_build.PROVE: "prove", site_build.TRY: "try", site_build.MIGRATIONS: "migrations"}


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record what a release runs instead of running it; the virtual environment is taken as made."""
    ran: list[str] = []

    def started(self: Any, command: list[str], text: str = "", timeout: float = 0) -> Any:
        words = [PROGRAMS.get(word, word) for word in command]
        ran.append(" ".join(words).replace(f"{self.python} ", "").replace("-c ", ""))
        answers = dict.fromkeys(json.loads(text)["paths"], 200) if words[-1] == "try" else {}
        return SimpleNamespace(returncode=0, stdout=json.dumps(answers))

    monkeypatch.setattr(site_build.Release, "started", started)
    monkeypatch.setattr(site_build.Release, "virtualenv", lambda self: ran.append("virtualenv"))
    return ran


def release(home: Path, **more: Any) -> Any:
    return site_build.Release(options(home, **more), site_history.Releases(home))


# -- the order of a release ----------------------------------------------------------------------------


def test_everything_is_proven_before_the_database_is_touched(
    home: Path, commands: list[str]
) -> None:
    new = release(home)
    new.build()
    new.migrate()
    new.attempt("https://lab.example.org", {"/": "any"})
    assert commands == [
        "virtualenv",
        "prove",
        "manage.py collectstatic --noinput --verbosity 0",
        "manage.py migrate --noinput",
        "manage.py loaddata first names",
        "try",
    ]
    assert list(new.seconds) == ["requirements", "check", "collectstatic", "migrate", "try"]


def test_the_projects_own_commands_stand_before_and_after_a_step(
    home: Path, commands: list[str]
) -> None:
    hooks = {"before_migrate": ["./dump 'all of it'"], "after_migrate": ["./tell"]}
    release(home, hooks=hooks).migrate()
    assert commands == [
        "./dump all of it",
        "manage.py migrate --noinput",
        "manage.py loaddata first names",
        "./tell",
    ]


def test_building_touches_neither_the_link_nor_the_environment(
    home: Path, commands: list[str]
) -> None:
    release(home).build()
    assert os.readlink(home / "current") == "releases/old000000000"
    assert (home / "etc" / "settings.env").read_text() == 'LAB_MODE="old"\n'
    assert not (home / "etc" / "secrets.env").exists()


@pytest.mark.parametrize(
    ("code", "variable"),
    [
        (10, "django_settings_module is lab.settings"),
        (11, "django_wsgi_module is lab.wsgi"),
        (12, "django_asgi_module is lab.asgi"),
        (13, "django_check_fail_level is WARNING"),
    ],
)
def test_a_refusal_names_what_failed(
    home: Path, monkeypatch: pytest.MonkeyPatch, code: int, variable: str
) -> None:
    answer = SimpleNamespace(returncode=code, stdout="no such package")
    monkeypatch.setattr(site_build.Release, "started", lambda self, *of: answer)
    with pytest.raises(site_build.Refused, match=f"(?s)^{variable}: .*It said:\nno such package"):
        release(home).prove()


@pytest.mark.parametrize(
    ("answers", "smoke", "said"),
    [
        ({"/": 500}, {"/": "any"}, "/ gives 500"),
        ({"/": 404}, {"/": 200}, "/ gives 404"),
        ({}, {"/": "any"}, "/ gives no answer"),
    ],
)
def test_a_release_that_answers_wrongly_is_refused(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    answers: dict[str, int],
    smoke: dict[str, Any],
    said: str,
) -> None:
    answer = SimpleNamespace(returncode=0, stdout=f"a warning\n{json.dumps(answers)}")
    monkeypatch.setattr(site_build.Release, "started", lambda self, *of: answer)
    with pytest.raises(site_build.Refused, match=said):
        release(home).attempt("", smoke)


def test_a_failed_build_is_kept_for_a_look_and_the_one_before_it_goes(
    home: Path, commands: list[str]
) -> None:
    (home / "failed" / "former000000").mkdir(parents=True)
    new = release(home)
    new.build()
    assert new.keep_for_a_look() == str(home / "failed" / "new000000000")
    assert [path.name for path in (home / "failed").iterdir()] == ["new000000000"]
    assert [path.name for path in (home / "releases").iterdir()] == ["old000000000"]
    assert not list((home / "archives").iterdir())


def test_a_failed_build_goes_where_the_disk_is_nearly_full(
    home: Path, commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        site_build.shutil, "disk_usage", lambda path: SimpleNamespace(free=1024 * 1024)
    )
    new = release(home)
    new.build()
    assert new.keep_for_a_look() == ""
    assert not new.path.exists()


def test_the_project_runs_with_the_new_environment(home: Path) -> None:
    assert release(home).environment == {
        "LAB_MODE": "new",
        "LAB_TOKEN": "a-secret-token",
        "LAB_KEY": KEY,
    }


def test_old_releases_packs_and_environments_go_and_the_running_one_stays(home: Path) -> None:
    for number, name in enumerate(("a", "b", "c", "new000000000")):
        path = home / "releases" / name
        path.mkdir()
        (path / ".ready").touch()
        os.utime(path / ".ready", (number + 1, number + 1))
        (home / "venvs" / name).mkdir()
        (path / "venv").symlink_to(f"../../venvs/{name}")
        (home / "archives" / f"{name}.tar.gz").touch()
    os.utime(home / "releases" / "old000000000" / ".ready", (0, 0))
    (home / "archives" / "refused.tar.gz").touch()
    os.utime(home / "archives" / "refused.tar.gz", (1, 1))
    (home / "archives" / "waits.tar.gz").touch()  # somebody else's, for the lock
    (home / "releases" / "cut-off").mkdir()
    site_history.Releases(home).prune(2, "new000000000", "old000000000")
    assert {path.name for path in (home / "releases").iterdir()} == {
        "new000000000",
        "c",
        "old000000000",
    }
    assert {path.name for path in (home / "venvs").iterdir()} == {"new000000000", "c"}
    assert {path.name for path in (home / "archives").iterdir()} == {
        "new000000000.tar.gz",
        "c.tar.gz",
        "waits.tar.gz",
    }


def test_a_release_that_a_killed_run_switched_to_goes_back_to_the_one_that_was_proven(
    home: Path,
) -> None:
    releases = site_history.Releases(home)
    releases.note("released", "old000000000")
    new = release(home)
    new.path.mkdir()
    new.ready.touch()
    releases.switch(new.id)
    change = site_release.Change(options(home), releases, None)
    assert (change.previous, change.former) == ("new000000000", "old000000000")
    releases.note("released", new.id)
    assert site_release.Change(options(home), releases, None).former == "new000000000"


def test_a_release_that_was_rolled_back_from_is_left_until_it_is_asked_for_again(
    home: Path,
) -> None:
    releases = site_history.Releases(home)
    new = release(home)
    new.path.mkdir()
    new.ready.touch()
    releases.mark(new.id)
    change = site_release.Change(options(home), releases, None)
    assert (change.release.id, change.left) == ("old000000000", new.id)
    again = site_release.Change(options(home, again=True), releases, None)
    assert (again.release.id, again.left) == (new.id, "")


@pytest.mark.parametrize("word", ["rotate_key", "forget_keys"])
def test_another_key_is_for_the_release_that_is_served(home: Path, word: str) -> None:
    """Were it a release, a leaked key would bring in what nobody has asked for, or had just rolled back from."""
    new = release(home)
    change = site_release.Change(
        options(home, again=True, **{word: True}), site_history.Releases(home), None
    )
    assert (change.release.id, change.left) == ("old000000000", "")
    assert change.release.id != new.id


def test_what_a_user_filled_is_taken_without_following_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []
    monkeypatch.setattr(site_build.os, "chown", lambda path, *of, **more: taken.append(str(path)))
    monkeypatch.setattr(site_build.os, "fchown", lambda *of: None)
    secret, other = tmp_path / "secret", tmp_path / "other"
    secret.write_text("x")
    secret.chmod(0o600)
    other.mkdir(mode=0o700)
    static = tmp_path / "static"
    (static / "css").mkdir(parents=True)
    (static / "css" / "a.css").write_text("a")
    (static / "css" / "a.css").chmod(0o600)
    (static / "link").symlink_to(secret)
    (static / "css" / "folder").symlink_to(other)
    os.mkfifo(static / "pipe")
    site_build.take(static)
    assert secret.stat().st_mode & 0o777 == 0o600
    assert other.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in sorted(static.rglob("*"))] == ["css", "a.css"]
    assert (static / "css" / "a.css").stat().st_mode & 0o777 == 0o644
    assert taken[0] == str(static)  # from now on nobody else can put anything there


class Served:
    """What serves a site, in the place of Apache and systemd: its processes load, or do not."""

    def __init__(self, *refused: Exception | None) -> None:
        self.refused, self.loads = list(refused), 0

    def behind(self) -> bool:
        return False

    def running(self) -> list[str]:
        return []

    def load(self) -> list[str]:
        self.loads += 1
        if self.refused and (error := self.refused.pop(0)):
            raise error
        return []

    def smoke(self) -> str:
        return ""


@pytest.mark.parametrize("error", [site_build.Refused("no"), OSError("full"), RuntimeError("odd")])
def test_the_former_release_is_served_again_whatever_fails_after_the_switch(
    home: Path, commands: list[str], error: Exception
) -> None:
    releases, serving = site_history.Releases(home), Served(error)
    change = site_release.Change(options(home, unsafe_migrations="allow"), releases, serving)
    with pytest.raises(Exception, match=str(error)):
        change.done()
    assert releases.live() == "old000000000"
    assert (home / "etc" / "settings.env").read_text() == 'LAB_MODE="old"\n'
    assert serving.loads == 2


def test_a_release_whose_run_was_killed_before_it_was_asked_is_asked_by_the_next(
    home: Path, commands: list[str]
) -> None:
    releases = site_history.Releases(home)
    done = options(home, smoke={}, url="")
    assert site_release.Change(done, releases, Served()).done()["changed"]
    assert not site_release.Change(done, releases, Served()).done()["changed"]
    releases.history.unlink()
    releases.note("released", "old000000000")
    predicted = site_release.Change(done, releases, Served()).predicted()
    assert (predicted["changed"], predicted["due"]) == (True, True)
    serving = Served()
    assert site_release.Change(done, releases, serving).done()["changed"]
    assert not site_release.Change(done, releases, Served()).predicted()["due"]
    assert (serving.loads, releases.proven()) == (1, "new000000000")


def test_a_kept_release_that_is_served_again_migrates(home: Path, commands: list[str]) -> None:
    releases = site_history.Releases(home)
    wanted = options(home, smoke={}, url="")
    site_release.Change(wanted, releases, Served()).done()
    releases.switch("old000000000")
    commands.clear()
    site_release.Change(wanted, releases, Served()).done()
    assert "manage.py migrate --noinput" in commands


# -- on several hosts ----------------------------------------------------------------------------------

BUILD = ["virtualenv", "prove", "manage.py collectstatic --noinput --verbosity 0"]
TRIED = ["manage.py migrate --noinput", "manage.py loaddata first names", "try"]


def test_each_step_is_done_once_and_nothing_is_switched_to_before_the_last_call(
    home: Path, commands: list[str]
) -> None:
    releases = site_history.Releases(home)
    wanted = options(home, url="https://lab.example.org", smoke={"/": "any"})

    def call(until: str, **more: Any) -> dict[str, Any]:
        commands.clear()
        # what the other hosts may change of the call: the key, which one of them makes
        params = wanted | {"until": until, "secret_key": f'LAB_KEY="{until}"\n'} | more
        told: dict[str, Any] = site_release.Change(params, releases, Served()).done()
        return told

    told = call("collectstatic")
    assert (told["changed"], told["waits"]) == (True, "new000000000")
    assert told["release"] == releases.live() == "old000000000"
    assert commands == BUILD
    call("collectstatic")  # as after a run that was killed
    assert commands == ["prove"]
    call("try")
    assert commands == TRIED
    assert (releases.live(), releases.waiting()) == ("old000000000", ["new000000000"])
    told = call("")
    assert commands == []
    assert (told["changed"], releases.live(), releases.waiting()) == (True, "new000000000", [])
    steps = ["requirements", "check", "collectstatic", "migrate", "try"]
    assert list(told["seconds"])[:5] == steps
    assert releases.events()[-1]["seconds"].keys() >= set(steps)
    assert not call("collectstatic")["changed"]


def test_what_was_built_with_another_environment_or_long_ago_is_built_anew(
    home: Path, commands: list[str]
) -> None:
    releases = site_history.Releases(home)

    def call(until: str, **more: Any) -> list[str]:
        commands.clear()
        site_release.Change(options(home, until=until, **more), releases, Served()).done()
        return list(commands)

    call("collectstatic")
    assert call("collectstatic", settings='LAB_MODE="third"\n') == BUILD
    mark = releases.path("new000000000") / site_history.WAITS
    os.utime(mark, (0, 0))
    assert call("collectstatic", settings='LAB_MODE="third"\n') == ["prove"]
    os.utime(mark, (0, 0))
    assert call("", settings='LAB_MODE="third"\n') == [*BUILD, *TRIED[:2]]


def test_a_release_that_waits_and_is_refused_leaves_nothing_that_is_served(
    home: Path, commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    releases = site_history.Releases(home, r"\.[0-9a-f]{8}\.css$")
    served = releases.path("old000000000") / "static"
    served.mkdir()
    new = releases.path("new000000000") / "static"
    monkeypatch.setattr(
        site_build.Release,
        "collect",
        lambda self: (new.mkdir(), (new / "style.0123abcd.css").touch()),
    )
    site_release.Change(options(home, until="collectstatic"), releases, Served()).done()
    assert (served / "style.0123abcd.css").is_file()

    def wrong(self: Any, *of: object) -> None:
        raise site_build.Refused("no")

    monkeypatch.setattr(site_build.Release, "attempt", wrong)
    change = site_release.Change(options(home, until="try"), releases, Served())
    with pytest.raises(site_build.Refused, match=r"The running release is untouched\."):
        change.done()
    assert list(served.iterdir()) == releases.waiting() == []
    assert [row["state"] for row in releases.table()] == ["live", "failed"]


def test_the_first_release_of_a_site_waits_for_nobody(home: Path, commands: list[str]) -> None:
    (home / "current").unlink()
    releases = site_history.Releases(home)
    params = options(home, until="collectstatic")
    assert not site_release.Change(params, releases, Served()).predicted()["changed"]
    assert not site_release.Change(params, releases, Served()).done()["changed"]
    assert commands == []


# -- the way back --------------------------------------------------------------------------------------


def rollback(home: Path, serving: Any, **more: Any) -> Any:
    (home / "etc" / "secrets.env").write_text("")
    params = options(home, to="", migrations="refuse", url="", smoke={}, **more)
    return site_rollback.Rollback(params, site_history.Releases(home), serving)


@pytest.fixture
def two(home: Path, commands: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the releases when a second one is served."""
    releases = site_history.Releases(home)
    (home / "releases" / "old000000000" / "wsgi.py").write_text("# old\n")
    releases.note("released", "old000000000")
    wanted = options(home, smoke={}, url="")
    site_release.Change(wanted, releases, Served()).done()
    monkeypatch.setattr(
        site_build.Release, "migrations", lambda self, ask=(): {"standing": [], "leaves": {}}
    )
    return releases


def test_a_rollback_serves_the_one_before_and_remembers(home: Path, two: Any) -> None:
    told = rollback(home, Served()).done()
    assert (told["previous"], told["release"]) == ("new000000000", "old000000000")
    assert (two.live(), two.taken_back("new000000000")) == ("old000000000", True)


def test_a_rollback_that_was_killed_is_finished_by_the_next(home: Path, two: Any) -> None:
    two.mark("new000000000")
    two.switch("old000000000")  # and no line in the history
    told = rollback(home, Served()).done()
    assert (told["previous"], told["release"]) == ("new000000000", "old000000000")
    assert two.proven() == "old000000000"


@pytest.mark.parametrize("error", [site_build.Refused("no"), OSError("full")])
def test_a_rollback_that_fails_leaves_what_was_served(
    home: Path, two: Any, error: Exception
) -> None:
    serving = Served(error)
    with pytest.raises(site_build.Refused, match=rf"(?s){error}.*new000000000 is served on"):
        rollback(home, serving).done()
    assert (two.live(), two.taken_back("new000000000"), serving.loads) == ("new000000000", False, 2)


def test_a_reversal_that_fails_is_brought_forward_again(
    home: Path, two: Any, commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    standing = {"standing": [["a", "2"], ["b", "2"]], "leaves": {"a": "1"}, "irreversible": []}
    known: dict[str, Any] = {"standing": [], "irreversible": []}
    monkeypatch.setattr(
        site_build.Release, "migrations", lambda self, ask=(): known if ask else standing
    )
    way = rollback(home, Served())
    way.params = {**way.params, "migrations": "reverse"}

    def run(command: list[str], *words: Any) -> str:
        commands.append(" ".join(command[1:]))
        if command[-2:] == ["b", "zero"]:
            raise site_build.Refused("b can't")
        return ""

    monkeypatch.setattr(way.source, "run", run)
    commands.clear()
    with pytest.raises(site_build.Refused, match="b can't"):
        way.done()
    assert [text for text in commands if "migrate" in text] == [
        "manage.py migrate --noinput a 1",
        "manage.py migrate --noinput b zero",
        "manage.py migrate --noinput",
    ]
    assert two.live() == "new000000000"


# -- environment files ---------------------------------------------------------------------------------


def test_a_key_that_the_host_has_is_kept(home: Path) -> None:
    assert release(home).files["secret_key.env"] == f'LAB_KEY="{KEY}"\n'


def test_a_key_keeps_its_value_under_another_name(home: Path) -> None:
    assert release(home, secret_key='OTHER=""\n').files["secret_key.env"] == f'OTHER="{KEY}"\n'


def test_a_key_that_is_given_wins_and_the_former_one_is_accepted_until_it_is_forgotten(
    home: Path,
) -> None:
    text = 'LAB_KEY="given"\n'
    both = f'{text}LAB_KEY_FALLBACKS="{KEY}"\n'
    assert release(home, secret_key=text).files["secret_key.env"] == both
    (home / "etc" / "secret_key.env").write_text(both)
    assert release(home, secret_key=text).files["secret_key.env"] == both
    assert release(home, secret_key=text, forget_keys=True).files["secret_key.env"] == text


def test_a_key_that_the_host_made_is_rotated(home: Path) -> None:
    found = release(home, rotate_key=True)
    assert len(found.environment["LAB_KEY"]) == 64
    assert found.environment["LAB_KEY"] != KEY
    assert found.environment["LAB_KEY_FALLBACKS"] == KEY
    assert (
        found.hide(f"old {KEY}, new {found.environment['LAB_KEY']}") == "old ********, new ********"
    )
    (home / "etc" / "secret_key.env").write_text(found.files["secret_key.env"])
    again = release(home, rotate_key=True)
    assert again.environment["LAB_KEY_FALLBACKS"].split(",") == [found.environment["LAB_KEY"], KEY]
    assert again.hide(f"the oldest is {KEY}") == "the oldest is ********"
    # as a rollback reads it from the host, and as a run writes it
    for text in (found.files["secret_key.env"], 'LAB_KEY=""\n'):
        kept = release(home, secret_key=text)
        assert kept.files["secret_key.env"] == found.files["secret_key.env"]


def test_a_key_is_made_where_there_is_none(home: Path) -> None:
    (home / "etc" / "secret_key.env").unlink()
    keys = {release(home).environment["LAB_KEY"] for _ in range(2)}
    assert [len(key) for key in keys] == [64, 64]


def test_each_file_that_differs_is_told(home: Path) -> None:
    assert release(home).changed_files() == ["settings.env", "secrets.env", "secret_key.env"]


def test_a_file_with_other_rights_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = release(home)
    new.write_environment(list(new.files))

    def stat(mode: int) -> Any:
        return lambda self, **more: os.stat_result((mode, 0, 0, 1, 0, os.getgid(), 9, 0, 0, 0))

    monkeypatch.setattr(Path, "stat", stat(0o100640))
    assert new.changed_files() == []
    monkeypatch.setattr(Path, "stat", stat(0o100644))
    assert new.changed_files() == list(new.files)


def test_files_are_written_for_root_and_the_site_alone(home: Path) -> None:
    new = release(home)
    new.write_environment(["settings.env", "secrets.env"])
    for name in ("settings.env", "secrets.env"):
        path = home / "etc" / name
        assert path.read_text() == new.files[name]
        assert path.stat().st_mode & 0o777 == 0o640
    assert {path.name for path in (home / "etc").iterdir()} == {
        "settings.env",
        "secrets.env",
        "secret_key.env",
    }


def test_a_host_without_the_site_predicts_all_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(name: str) -> Any:
        raise KeyError(name)

    monkeypatch.setattr(site_project, "grp", SimpleNamespace(getgrnam=unknown))
    assert release(tmp_path / "none").changed_files() == [
        "settings.env",
        "secrets.env",
        "secret_key.env",
    ]


def test_a_diff_shows_settings_and_no_secret(home: Path) -> None:
    new = release(home)
    text = str(site_release.differences(new, "old000000000", new.changed_files()))
    assert "current -> releases/new" not in text
    assert "old000000000" in text
    assert 'LAB_MODE="old"' in text
    assert 'LAB_MODE="new"' in text
    assert "a-secret-token" not in text
    assert KEY not in text


# -- words ---------------------------------------------------------------------------------------------


def failing(home: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> str:
    new = release(home)
    answer = SimpleNamespace(returncode=1, stdout=output)
    monkeypatch.setattr(site_build.subprocess, "run", lambda *words, **more: answer)
    with pytest.raises(site_build.Refused) as caught:
        new.run(
            ["x"], "django_settings_module", "lab.settings", "it does not import.", "Correct it."
        )
    return str(caught.value)


def test_a_failure_names_variable_value_mend_and_what_was_said(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = failing(home, monkeypatch, "\n".join(str(number) for number in range(100)))
    assert text.startswith(
        "django_settings_module is lab.settings: it does not import. Correct it. It said:\n88\n"
    )
    assert text.endswith("\n99")


def test_what_a_failing_program_says_hides_each_secret(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = failing(home, monkeypatch, f"no login with a-secret-token and {KEY} in mode new")
    assert text.endswith("no login with ******** and ******** in mode new")


def test_the_wsgi_script_is_written_once(home: Path) -> None:
    new = release(home)
    new.path.mkdir()
    assert new.write_script(write=False) is True
    assert new.write_script(write=True) is True
    assert (new.path / "wsgi.py").read_text() == "# wsgi\n"
    assert new.write_script(write=True) is False
