"""A release that can't be served ends before the switch: the running one, its environment and its processes stay.

All cases are one run of the django role: the host stands in it under one name for each case, and each name
releases the site `plain` with one fault.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.refusals.bench import ALONE, ROOT, Answer, Bench

PLAIN = ROOT / "tests" / "projects" / "plain"
SETTINGS = "ledger/conf/production.py"


def append(path: str, text: str) -> Callable[[Path], None]:
    """Return a change to a project: a text at the end of one of its files."""

    def change(project: Path) -> None:
        (project / path).parent.mkdir(exist_ok=True)
        with (project / path).open("a") as file:
            file.write(text)

    return change


@dataclass(frozen=True)
class Case:
    """One fault, of the project or of a variable, and what the refusal must say of it."""

    name: str
    says: tuple[str, ...]
    change: Callable[[Path], None] | None = None
    variables: dict[str, Any] = field(default_factory=dict)


MIGRATION = """
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("entries", "0001_initial")]
    operations = [migrations.RunSQL("SELECT * FROM no_such_table")]
"""

CASES = [
    Case(
        "settings-that-do-not-import",
        (
            "django_settings_module is ledger.conf.production: it does not import. Correct it, or what",
            "No module named 'no_such_package_anywhere'",
        ),
        change=append(SETTINGS, "\nimport no_such_package_anywhere\n"),
    ),
    Case(
        "environment-that-the-settings-cannot-use",
        (
            "django_migrate is true: the database or the migrations can't be read. Correct what it names.",
            "unable to open database file",
        ),
        variables={"environment": {"LEDGER_HOSTS": "plain.test", "LEDGER_DB": "/nonexistent/db"}},
    ),
    Case(
        "migration-that-fails",
        (
            "django_migrate is true: `manage.py migrate` failed. Fix the migration",
            "no such table: no_such_table",
        ),
        change=append("entries/migrations/0002_broken.py", MIGRATION),
    ),
    Case(
        "requirements-that-pip-cannot-install",
        (
            "django_requirements is requirements.txt: pip could not install it. Correct the lock, or make "
            "the package index reachable from this host.",
        ),
        change=append("requirements.txt", f"no-such-thing==1.0 --hash=sha256:{'0' * 64}\n"),
        # an index that nothing answers at: no request leaves the test host
        variables={"pip_args": ["--index-url=http://127.0.0.1:1/simple", "--retries=0"]},
    ),
    Case(
        "application-that-the-module-lacks",
        (
            "django_wsgi_module is ledger.entry: importing app from it fails. Correct the module or the name.",
            "has no attribute 'app'",
        ),
        variables={"wsgi_callable": "app"},
    ),
    Case(
        "project-that-the-deployment-check-refuses",
        (
            "django_check_fail_level is WARNING: `manage.py check --deploy` found what that level refuses. "
            "Fix what it names, or silence it in the project's settings.",
            "security.W018",
        ),
        change=append(SETTINGS, "\nDEBUG = True\n"),
    ),
    Case(
        "static-files-that-cannot-be-collected",
        (
            "django_static_root_variable is LEDGER_NOWHERE: `manage.py collectstatic` failed. Let the "
            "settings read STATIC_ROOT from that environment variable, or leave it empty.",
        ),
        variables={"static_root_variable": "LEDGER_NOWHERE"},
    ),
    Case(
        "command-that-fails",
        (
            "django_commands is no_such_command now: `manage.py` failed with it. Correct the command.",
            "Unknown command: 'no_such_command'",
        ),
        change=append("news.txt", "so that it is another release\n"),
        variables={"commands": ["no_such_command now"]},
    ),
]


@dataclass
class Told:
    """What every name was told, and what the host looked like before and after."""

    answers: dict[str, Answer]
    before: set[str]
    after: set[str]


@pytest.fixture(scope="module")
def told(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Told:
    # what is released now, whatever ran before
    first = bench.role("django", django_sites=[bench.site("django", "plain")])
    assert first.code == 0, first.output[-4000:]
    folder = tmp_path_factory.mktemp("projects")
    names = {}
    for case in CASES:
        project = PLAIN
        if case.change:
            project = Path(shutil.copytree(PLAIN, folder / case.name))
            case.change(project)
        site = bench.site("django", "plain", directory=str(project), **case.variables)
        names[case.name] = {"django_sites": [site], "groups": ["web"]}
        names[case.name] |= {"role_alone": "django", "django_cache": str(folder / "cache")}
    before = bench.state()
    answers = bench.play_many(ALONE, names, folder)
    return Told(answers, before, bench.state())


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_it_is_refused_before_the_switch(told: Told, case: Case) -> None:
    answer = told.answers[case.name]
    assert answer.failed, answer.tasks
    assert "Site plain: " in answer.text
    for text in case.says:
        assert text in answer.text


def test_the_running_release_is_untouched_and_answers(told: Told, bench: Bench) -> None:
    # but for the build that is kept for a look, and the lines that tell of it
    kept = re.compile(r"/srv/plain/(failed|history\.jsonl|\.release\.lock)\b")
    assert sorted(line for line in told.before ^ told.after if not kept.match(line)) == []
    assert bench.status("plain") == 200


def test_a_migration_that_fails_is_not_applied(told: Told, bench: Bench) -> None:
    applied = bench.host.check_output("plain-manage showmigrations entries --plan")
    assert "[X]  entries.0001_initial" in applied
    assert "0002_broken" not in applied


def test_one_site_that_is_refused_does_not_keep_another_from_its_release(
    bench: Bench, tmp_path: Path
) -> None:
    project = Path(shutil.copytree(PLAIN, tmp_path / "plain"))
    news = f"ledger in {tmp_path.parent.name} {project.stat().st_ino}: "
    path = project / "entries" / "views.py"
    path.write_text(path.read_text().replace("ledger: ", news))
    broken = bench.site("django", "probe", wsgi_callable="no_application")
    other = bench.site("django", "plain", directory=str(project))
    run = bench.role("django", django_sites=[broken, other])
    assert run.code == 2
    run.says(
        "Site probe: django_wsgi_module is beacon.web: importing no_application from it fails."
    )
    assert "Site plain: " not in run.output
    assert bench.status("probe") == 200
    assert news in bench.page("plain")
