"""The programs that are run in a site's project, each in a process of its own as on a host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from plugins.module_utils import site_programs

# Django, as far as the program of migrations asks it: PostGIS, with a table that is to go.
DJANGO = {
    "django/__init__.py": "def setup(): pass\n",
    "django/db/__init__.py": """
class Spatial:
    settings_dict = {"ENGINE": "django.contrib.gis.db.backends.postgis"}
    vendor = "postgresql"
connections = {"default": Spatial}
""",
    "django/db/migrations/__init__.py": "",
    "django/db/migrations/executor.py": """
class Migration:
    app_label, name, operations = "lab", "0002", ()
class Graph:
    def leaf_nodes(self):
        return [("lab", "0002")]
class MigrationExecutor:
    graph, applied_migrations, disk_migrations = Graph(), {("lab", "0001"): None}, {}
    def __init__(self, connection):
        self.loader = self
    def migration_plan(self, leaves):
        return [(Migration, False)]
    def collect_sql(self, plan):
        return ["-- a comment", "DROP TABLE lab"]
""",
    "django_migration_linter/__init__.py": "",
    "django_migration_linter/sql_analyser.py": """
class Error:
    message = "DROPPING table"
def get_sql_analyser_class(database_vendor):
    return {"postgresql": 1}[database_vendor]
def analyse_sql_statements(analyser, lines):
    assert lines == ["DROP TABLE lab"]
    return [Error], [], []
""",
}


def ran(folder: Path, program: str, **job: Any) -> Any:
    """Run a program with a job as its input; return the object in its last line."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip(), done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_migrations_are_judged_by_what_the_database_is_and_not_by_its_engines_name(
    tmp_path: Path,
) -> None:
    for name, text in DJANGO.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = ran(tmp_path, site_programs.MIGRATIONS, linter=str(tmp_path), ask=[])
    assert found["unsafe"] == ["lab.0002: DROPPING table"]


def test_an_application_gets_the_path_as_apache_hands_it_over(tmp_path: Path) -> None:
    (tmp_path / "site_environment.py").write_text("")
    script = """
def application(environ, start_response):
    path = environ["PATH_INFO"].encode("latin-1").decode()  # as Django does
    start_response("200 OK" if (path, environ["QUERY_STRING"]) == ("/über/", "q=%C3") else "404", [])
    return []
"""
    job = {"script": script, "path": "wsgi.py", "paths": ["/%C3%BCber/?q=%C3", "/%C3%BC/"]}
    job |= {"scheme": "http", "host": "lab.example.org", "name": "lab.example.org", "port": "80"}
    found = ran(tmp_path, site_programs.TRY, **job)
    assert found == {"/%C3%BCber/?q=%C3": 200, "/%C3%BC/": 404}
