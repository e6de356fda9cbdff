"""What a process does when it starts: each test in a process of its own."""

import os
import subprocess
import sys
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


@pytest.mark.parametrize("tls", ["0", "1"])
def test_deploy_check_has_no_warning(tls):
    done = run(
        *("manage.py", "check", "--deploy", "--fail-level", "WARNING"),
        DJANGO_SECRET_KEY=KEY,
        DJANGO_ALLOWED_HOSTS="graphs.example",
        DJANGO_TLS=tls,
    )
    assert done.returncode == 0, done.stderr
    assert ("4 silenced" if tls == "0" else "2 silenced") in done.stdout


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
