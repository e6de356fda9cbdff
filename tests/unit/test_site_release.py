"""The module that builds a release, as far as it goes without a host: its order, its files and its words."""

from __future__ import annotations

import json
import os
import tarfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils import site_build as built
from ansible.module_utils import site_history as history_of
from ansible.module_utils import site_project as project_of
from ansible.module_utils import site_serving as serving_of
from ansible.module_utils import site_venv as venv_of

from plugins.modules import site_release as released
from plugins.modules import site_rollback as rolled

# as Ansible finds them, and with what they import
site_build: Any = built
site_history: Any = history_of
site_project: Any = project_of
site_serving: Any = serving_of
site_venv: Any = venv_of
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
        "lock_timeout": 5,
        "commands": ["loaddata 'first names'"],
        "keep": 2,
        "unsafe_migrations": "allow",
        "hooks": {},
        "until": "",
        "again": False,
        "alone": False,
        "rotate_key": False,
        "next_key": "",
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

    def started(
        self: Any, command: list[str], text: str = "", timeout: float = 0, **more: Any
    ) -> Any:
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


@pytest.mark.parametrize(
    ("failures", "seconds", "own", "options_of_postgresql", "refused"),
    [
        (0, 5, "", "-c lock_timeout=5s", ""),
        (2, 5, "", "-c lock_timeout=5s", ""),
        (3, 5, "", "-c lock_timeout=5s", r"^django_lock_timeout is 5: .* 5 s for a lock .*3 times"),
        (
            0,
            5,
            "-c lock_timeout=1s",
            "-c lock_timeout=5s -c lock_timeout=1s",
            "",
        ),  # the last one counts
        (0, 0, "-c jit=off", "-c jit=off", ""),
    ],
)
def test_a_migration_waits_for_a_lock_for_some_seconds_three_times(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    failures: int,
    seconds: int,
    own: str,
    options_of_postgresql: str,
    refused: str,
) -> None:
    said = [SimpleNamespace(returncode=1, stdout="psycopg.errors.LockNotAvailable: …")] * failures
    answers = [*said, SimpleNamespace(returncode=0, stdout="")]
    given = []

    def run(command: list[str], **more: Any) -> Any:
        given.append(more["env"]["PGOPTIONS"])
        return answers.pop(0)

    monkeypatch.setattr(site_project.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(site_build.subprocess, "run", run)
    settings = f'PGOPTIONS="{own}"\n' if own else ""
    new = release(home, lock_timeout=seconds, commands=[], settings=settings)
    with pytest.raises(site_build.Refused, match=refused) if refused else nullcontext():
        new.migrate()
    assert set(given) == {options_of_postgresql}
    assert len(given) == min(failures + 1, 3)


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


@pytest.mark.parametrize("told", [{"rotate_key": True}, {"next_key": "c"}, {"forget_keys": True}])
def test_another_key_is_for_the_release_that_is_served(home: Path, told: dict[str, Any]) -> None:
    """Were it a release, a leaked key would bring in what nobody has asked for, or had just rolled back from."""
    new = release(home)
    change = site_release.Change(
        options(home, again=True, **told), site_history.Releases(home), None
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
        self.refused, self.loads, self.url = list(refused), 0, "https://new.example.org"

    def behind(self) -> bool:
        return False

    def running(self) -> list[str]:
        return []

    def strange(self) -> bool:
        return self.url != "https://old.example.org"

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


def test_an_environment_for_an_address_that_apache_lacks_waits_for_site_yml(
    home: Path, commands: list[str]
) -> None:
    """Else the site would be down, and all green: Apache serves the former address, which the settings refuse."""
    releases, deploy = site_history.Releases(home), options(home, alone=True)
    for way in ("predicted", "done"):
        change = site_release.Change(deploy, releases, Served())
        with pytest.raises(
            site_build.Refused,
            match=r"^sites\.lab\.domain .* https://new.* Run site\.yml in the place of this",
        ):
            getattr(change, way)()
    assert (commands, releases.live()) == ([], "old000000000")
    site_release.Change(options(home), releases, Served()).done()  # site.yml itself
    key = {**deploy, "secret_key": 'LAB_KEY="given"\n'}  # and a key that is rotated
    assert site_release.Change(key, releases, Served()).done()["changed"]
    known = Served()
    known.url = "https://old.example.org"
    other = {**deploy, "settings": 'LAB_MODE="other"\n'}
    assert site_release.Change(other, releases, known).done()["changed"]


def test_a_kept_release_that_is_served_again_migrates(home: Path, commands: list[str]) -> None:
    releases = site_history.Releases(home)
    wanted = options(home, smoke={}, url="")
    site_release.Change(wanted, releases, Served()).done()
    releases.switch("old000000000")
    commands.clear()
    site_release.Change(wanted, releases, Served()).done()
    assert "manage.py migrate --noinput" in commands


@pytest.fixture
def collecting(commands: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let collectstatic write what its environment says, in the folder that it names."""
    started = site_build.Release.started

    def collected(self: Any, command: list[str], *words: Any, **more: Any) -> Any:
        if "collectstatic" in command:
            mode = self.environment["LAB_MODE"]
            (self.static / "plain.css").write_text(mode)
            (self.static / f"{mode}.0123456789ab.css").write_text(mode)
        return started(self, command, *words, **more)

    monkeypatch.setattr(site_build.Release, "started", collected)
    monkeypatch.setattr(site_build, "take", lambda folder: None)


@pytest.mark.parametrize("error", [None, site_build.Refused("no")])
def test_another_environment_has_its_own_static_files_beside_those_that_pages_name_still(
    home: Path, collecting: None, error: Exception | None
) -> None:
    releases = site_history.Releases(home, r"\.[0-9a-f]{12}\.[a-z]+$")
    site_release.Change(options(home), releases, Served()).done()
    other = options(home, settings='LAB_MODE="other"\n')
    with pytest.raises(site_build.Refused) if error else nullcontext():
        site_release.Change(other, releases, Served(error)).done()
    served = {path.name: path.read_text() for path in (home / "current" / "static").iterdir()}
    before = {"new.0123456789ab.css": "new"}
    after = {"other.0123456789ab.css": "other", "plain.css": "other"}
    assert served == before | ({"plain.css": "new"} if error else after)
    assert not (home / "current" / "static.new").exists()


def test_static_files_that_a_killed_run_has_left_are_not_served(
    home: Path, collecting: None
) -> None:
    releases = site_history.Releases(home)
    site_release.Change(options(home), releases, Served()).done()
    left = home / "current" / "static.new"
    left.mkdir()
    releases.note("released", "old000000000")  # as if this one had not been asked yet
    assert site_release.Change(options(home), releases, Served()).done()["changed"]
    assert (home / "current" / "static" / "plain.css").read_text() == "new"
    assert not left.exists()


@pytest.mark.parametrize("known", [True, False])
def test_two_folders_change_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """A file system that can't in one step, as NFS, does it in three."""
    if not known:
        refuses = SimpleNamespace(renameat2=lambda *words: -1)
        monkeypatch.setattr(site_build.ctypes, "CDLL", lambda *words, **more: refuses)
    for name in ("one", "other"):
        (tmp_path / name / name).mkdir(parents=True)
    site_build.exchange(tmp_path / "one", tmp_path / "other")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*/*")) == [
        "one/other",
        "other/one",
    ]


def made_for(home: Path, name: str, python: str) -> Path:
    """Give a release a virtual environment as one Debian or another has made it; return where its packages are."""
    path = home / "venvs" / "as-it-was" / "lib" / python
    path.mkdir(parents=True)
    (home / "releases" / name / "venv").symlink_to("../../venvs/as-it-was")
    return path


@pytest.fixture
def debian_13(monkeypatch: pytest.MonkeyPatch) -> None:
    said = SimpleNamespace(returncode=0, stdout="Python 3.13.5 (main, Jun 25 2025) [GCC 14.2.0]\n")
    monkeypatch.setattr(site_build.subprocess, "run", lambda *words, **more: said)


def test_a_release_whose_python_debian_has_replaced_gets_another_environment(
    home: Path, commands: list[str], debian_13: None
) -> None:
    releases, wanted = site_history.Releases(home), options(home, smoke={}, url="")
    site_release.Change(wanted, releases, Served()).done()
    packages = made_for(home, "new000000000", "python3.13")
    assert not site_release.Change(wanted, releases, Served()).due()
    packages.rename(packages.with_name("python3.11"))
    predicted = site_release.Change(wanted, releases, Served()).predicted()
    assert "steps: requirements, check" in str(predicted["diff"])
    commands.clear()
    serving = Served()
    assert site_release.Change(wanted, releases, serving).done()["changed"]
    assert (commands[:2], serving.loads) == (["virtualenv", "prove"], 1)


def test_an_environment_takes_the_place_of_another_and_what_serves_is_behind(
    home: Path, debian_13: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ran(command: list[str]) -> Any:
        if command[1:3] == ["-m", "venv"]:
            Path(command[-1], "lib", "python3.13", "site-packages").mkdir(parents=True)
        return SimpleNamespace(returncode=0, stdout="")

    monkeypatch.setattr(site_venv, "ran", ran)
    new = release(home)
    new.unpack()
    made_for(home, new.id, "python3.11")
    new.releases.switch(new.id)
    new.virtualenv()
    assert [path.name for path in (new.path / "venv" / "lib").iterdir()] == ["python3.13"]
    served = {"site": "lab", "units": [], "home": str(home), "environment_dir": "/none", "url": ""}
    paths = site_serving.Serving.of(served, None).paths
    assert site_serving.service_current.latest(paths)[1] == str(home / "current" / "venv")


def test_root_starts_no_interpreter_that_has_a_sites_packages(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python runs the lines of their *.pth files when it starts."""
    runs: list[tuple[list[str], dict[str, Any]]] = []

    def run(command: list[str], **more: Any) -> Any:
        runs.append((command, more))
        return SimpleNamespace(returncode=0, stdout="Python 3.13.5 (main)")

    monkeypatch.setattr(site_build.subprocess, "run", run)
    new = release(home, linter="linter==1", linter_dir=str(home / "linter"))
    monkeypatch.setattr(site_build.Release, "virtualenv", lambda self: None)
    new.equip()
    assert new.linter().is_dir()
    assert not list(new.linter().glob(".venv"))
    compiled, _, venv, pip = runs
    assert compiled[0][:4] == ["/usr/bin/python3", "-I", "-m", "compileall"]
    assert compiled[1]["group"] == "lab"  # who reads the code may read what is compiled of it
    assert venv[0][:3] == ["/usr/bin/python3", "-m", "venv"]
    assert pip[0][0].startswith(f"{venv[0][-1]}/bin/")


@pytest.mark.parametrize(
    ("version", "there", "bare"),
    [("3.13.5", True, True), ("3.13.5", False, False), ("3.11.2", True, False)],
    ids=["as Debian 13", "a Python without Debian's pip", "as Debian 12"],
)
def test_an_environment_is_made_by_the_pip_that_debian_has(
    home: Path, monkeypatch: pytest.MonkeyPatch, version: str, there: bool, bare: bool
) -> None:
    """Before Python 3.12 an environment has setuptools too, which a site may count on."""
    wheel = home / "wheels" / "pip-25.1.1-py3-none-any.whl"
    (wheel if there else wheel.parent).mkdir(parents=True)
    runs: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        runs.append(command)
        return SimpleNamespace(returncode=0, stdout=f"Python {version} (main)")

    monkeypatch.setattr(site_build.subprocess, "run", run)
    monkeypatch.setattr(site_venv, "WHEELS", wheel.parent)
    release(home).installed(Path("/new"), requirements=Path("/lock"))
    _, venv, pip = runs
    assert ("--without-pip" in venv) == bare
    assert pip[:2] == ["/new/bin/python", str(wheel / "pip") if bare else "-m"]
    assert pip[-2:] == ["-r", "/lock"]


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
    call("try", lock_timeout=60)  # as after a migration that waited for a lock
    assert commands == TRIED
    assert (releases.live(), releases.waiting()) == ("old000000000", ["new000000000"])
    told = call("", lock_timeout=60)
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
    params = options(home, **{"to": "", "migrations": "refuse", "url": "", "smoke": {}, **more})
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


def test_a_rollback_to_a_release_whose_python_debian_has_replaced_is_refused(
    home: Path, two: Any, debian_13: None
) -> None:
    made_for(home, "old000000000", "python3.11")
    with pytest.raises(
        site_build.Refused,
        match=r"^to is old0+: .*made for python3\.11, and this host has python3\.13\. .*deploy\.yml",
    ):
        rollback(home, Served())
    assert two.live() == "new000000000"


def test_a_rollback_to_a_newer_release_that_was_killed_is_finished_by_the_next(
    home: Path, two: Any
) -> None:
    rollback(home, Served()).done()
    two.switch("new000000000")  # -e to=new…, which loaded nothing, and has no line in the history
    serving = Served()
    told = rollback(home, serving, to="new000000000").done()
    assert (told["previous"], told["release"]) == ("old000000000", "new000000000")
    assert (told["changed"], serving.loads, two.proven()) == (True, 1, "new000000000")
    assert not rollback(home, serving, to="new000000000").done()["changed"]


@pytest.mark.parametrize("error", [site_build.Refused("no"), OSError("full")])
def test_a_rollback_that_fails_leaves_what_was_served(
    home: Path, two: Any, error: Exception
) -> None:
    serving = Served(error)
    with pytest.raises(site_build.Refused, match=rf"(?s){error}.*new000000000 is served on"):
        rollback(home, serving).done()
    assert (two.live(), two.taken_back("new000000000"), serving.loads) == ("new000000000", False, 2)


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the database hold a migration that the older release lacks, until it is reversed."""
    applied = [["a", "2"]]

    def migrations(self: Any, ask: Any = ()) -> dict[str, Any]:
        lacks = applied if self.id == "old000000000" else []
        return {"standing": lacks, "leaves": {"a": "1"}, "irreversible": []}

    def run_migrate(self: Any, *words: str, **told: str) -> None:
        applied[:] = [] if words else [["a", "2"]]

    monkeypatch.setattr(site_build.Release, "migrations", migrations)
    monkeypatch.setattr(site_build.Release, "run_migrate", run_migrate)


class Killed(BaseException):
    """A process that ends without a word."""


@pytest.fixture
def killed(home: Path, two: Any, brought: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave what a rollback leaves that was killed when it had reversed migrations."""

    def end(self: Any) -> None:
        raise Killed

    way = rollback(home, Served(), migrations="reverse")
    with monkeypatch.context() as patch:
        patch.setattr(site_rollback.Rollback, "attempt", end)
        patch.setattr(site_rollback, "ThreadPoolExecutor", Trying)
        with pytest.raises(Killed):
            way.done()
    assert two.live() == "new000000000"


class Trying(site_rollback.ThreadPoolExecutor):
    """Lets nothing be tried while the database is looked at."""

    def submit(self, *words: Any) -> Any:
        return None


def test_a_reversal_that_was_killed_is_brought_forward_by_the_next_release(
    home: Path, two: Any, killed: None
) -> None:
    live = options(home, smoke={}, url="", secrets="")
    assert site_release.Change(live, two, Served()).predicted()["due"]
    assert site_release.Change(live, two, Served()).done()["changed"]
    assert site_build.Release.there(live, two, "old000000000").migrations()["standing"]
    assert not site_release.Change(live, two, Served()).due()


def test_a_reversal_that_was_killed_is_finished_by_the_next_rollback(
    home: Path, two: Any, killed: None
) -> None:
    assert rollback(home, Served(), migrations="reverse").done()["release"] == "old000000000"
    assert not site_release.Change(options(home, id="old000000000"), two, Served()).reversed


def test_a_reversal_that_was_killed_is_brought_forward_where_the_next_rollback_fails(
    home: Path, two: Any, killed: None
) -> None:
    with pytest.raises(site_build.Refused, match="new000000000 is served on"):
        rollback(home, Served(site_build.Refused("no")), migrations="reverse").done()
    live = options(home, smoke={}, url="", secrets="")
    assert site_build.Release.there(live, two, "old000000000").migrations()["standing"]
    assert not site_release.Change(live, two, Served()).due()


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

    def run_migrate(*words: str, **told: str) -> None:
        commands.append(" ".join(["migrate", *words]))
        if words == ("b", "zero"):
            raise site_build.Refused("b can't")

    monkeypatch.setattr(way.source, "run_migrate", run_migrate)
    commands.clear()
    with pytest.raises(site_build.Refused, match="b can't"):
        way.done()
    assert [text for text in commands if "migrate" in text] == [
        "migrate a 1",
        "migrate b zero",
        "migrate",
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


def test_several_hosts_accept_a_key_before_one_of_them_signs_with_it(home: Path) -> None:
    coming = "c" * 64
    file = home / "etc" / "secret_key.env"
    earlier = file.read_text() + 'LAB_KEY_FALLBACKS="earlier"\n'
    file.write_text(earlier)
    accepted = release(home, next_key=coming).files["secret_key.env"]
    assert accepted == f'LAB_KEY="{KEY}"\nLAB_KEY_FALLBACKS="{coming},earlier"\n'
    file.write_text(accepted)
    rotated = release(home, next_key=coming, rotate_key=True).files["secret_key.env"]
    assert rotated == f'LAB_KEY="{coming}"\nLAB_KEY_FALLBACKS="{KEY},earlier"\n'


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
    text = str(site_build.differences(new, "old000000000", new.changed_files()))
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
