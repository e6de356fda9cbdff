"""What a process does when it starts: each test in a process of its own."""

import contextlib
import os
import re
import sqlite3
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parent.parent
KEY = "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijkl"


def run(*arguments, **environment):
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DJANGO_", "KAFKA_", "SEED_"))
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=DEMO,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_settings_refuse_a_missing_secret_key():
    done = run("manage.py", "check")
    assert done.returncode != 0
    assert "DJANGO_SECRET_KEY is empty" in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DJANGO_TLS", "maybe"),
        ("DJANGO_DEBUG", "2"),
        ("KAFKA_TOPIC_PREFIX", "a b"),
        ("DJANGO_HSTS_SECONDS", "-1"),
    ],
)
def test_settings_refuse_a_wrong_value_by_name(name, value):
    done = run("manage.py", "check", **{"DJANGO_SECRET_KEY": KEY, "DJANGO_TLS": "1", name: value})
    assert done.returncode != 0
    assert f"{name} is {value!r}" in done.stderr


# Without TLS nobody can have these: the inventory says so to the deployment check (django_checks_silenced).
@pytest.mark.parametrize(
    ("tls", "warnings"),
    [("0", {"W004", "W008", "W012", "W016"}), ("1", set())],
)
def test_deploy_check_warns_of_what_needs_tls_alone(tls, warnings):
    done = run(
        *("manage.py", "check", "--deploy", "--fail-level", "WARNING"),
        DJANGO_SECRET_KEY=KEY,
        DJANGO_ALLOWED_HOSTS="graphs.example",
        DJANGO_TLS=tls,
    )
    assert set(re.findall(r"\(security\.(W\d+)\)", done.stderr)) == warnings
    assert done.returncode == bool(warnings), done.stderr


def test_no_migration_is_missing():
    done = run("manage.py", "makemigrations", "--check", "--dry-run", DJANGO_SECRET_KEY=KEY)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", ["graphspace.asgi", "graphspace.wsgi"])
def test_an_import_starts_no_thread_and_loads_no_kafka_client(module):
    done = run(
        "-c",
        f"import {module}, sys, threading; "
        "print([thread.name for thread in threading.enumerate()], "
        "'confluent_kafka' in sys.modules)",
        DJANGO_SECRET_KEY=KEY,
        KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1",
    )
    assert done.stdout.strip() == "['MainThread'] False", done.stderr


def test_pages_load_neither_daphne_nor_channels():
    done = run(
        "-c",
        "import graphspace.wsgi, graphspace.urls, sys; "
        "print({'daphne', 'twisted', 'channels'} & set(sys.modules))",
        DJANGO_SECRET_KEY=KEY,
    )
    assert done.stdout.strip() == "set()", done.stderr


def test_what_an_earlier_release_stored_gets_its_numbers(tmp_path):
    path = tmp_path / "site.sqlite3"
    environment = {"DJANGO_SECRET_KEY": KEY, "DJANGO_DATABASE": str(path)}
    run("manage.py", "migrate", "notifications", "0001", **environment)
    run("manage.py", "migrate", "auth", **environment)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        for person in (1, 2):
            database.execute(
                "INSERT INTO auth_user (id, username, password, first_name, last_name, email, "
                "is_staff, is_active, is_superuser, date_joined) "
                "VALUES (?, ?, '', '', '', '', 0, 1, 0, '2026-01-01')",
                [person, f"person-{person}"],
            )
        for person in (1, 2, 1, 1):
            database.execute(
                "INSERT INTO notifications_notification (event_id, recipient_id, kind, action, "
                "actor, resource, resource_id, message, url, created_at) "
                "VALUES (?, ?, 'group', 'a', 'b', 'c', 1, 'd', '', '2026-01-01')",
                [uuid.uuid4().hex, person],
            )
    done = run("manage.py", "migrate", **environment)
    assert done.returncode == 0, done.stderr
    with contextlib.closing(sqlite3.connect(path)) as database:
        rows = database.execute(
            "SELECT recipient_id, sequence, state FROM notifications_notification ORDER BY id"
        ).fetchall()
        assert rows == [(1, 1, "sent"), (2, 1, "sent"), (1, 2, "sent"), (1, 3, "sent")]
        inboxes = "SELECT person_id, last_sequence FROM notifications_inbox ORDER BY person_id"
        assert database.execute(inboxes).fetchall() == [(1, 3), (2, 1)]
