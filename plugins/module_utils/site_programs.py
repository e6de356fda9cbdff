"""What is run in a site's project, as the site's user: each reads its job, a JSON object, from standard input."""

# Settings, applications and checks, in one process; its exit status says which of them failed.
PROVE = """
import importlib, json, os, sys, traceback
job = json.load(sys.stdin)
code = 10
try:
    import django
    from django.conf import settings
    django.setup()
    for code, (module, name) in ((11, job["wsgi"]), (12, job["asgi"])):
        if module:
            getattr(importlib.import_module(module), name)
    code = 13
    from django.core.management import execute_from_command_line
    settings.SILENCED_SYSTEM_CHECKS = [*settings.SILENCED_SYSTEM_CHECKS, *job["silenced"]]
    execute_from_command_line(["manage.py", "check", "--deploy", "--fail-level", job["level"]])
    code = 0
except SystemExit as error:
    code = code if error.code else 0
except BaseException:
    traceback.print_exc()
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)  # threads that the project started do not matter
"""

# The WSGI script as Apache loads it, asked for paths. The last line that it prints is a JSON object of path: status.
TRY = """
import io, json, os, sys, traceback, urllib.parse
job = json.load(sys.stdin)
sys.path.insert(0, "/usr/local/lib/switchboard")
import site_environment
site_environment.read = lambda folder: {}  # it is in the environment, where it may be another than what is written
space = {"__file__": job["path"], "__name__": "switchboard_site"}
exec(compile(job["script"], job["path"], "exec"), space)
answers = {}
for path in job["paths"]:
    where, _, query = path.partition("?")
    environ = {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "QUERY_STRING": query,
        "PATH_INFO": urllib.parse.unquote_to_bytes(where).decode("latin-1"),  # PEP 3333: bytes, one a character
        "SERVER_NAME": job["name"], "SERVER_PORT": job["port"], "HTTP_HOST": job["host"],
        "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1", "wsgi.version": (1, 0),
        "wsgi.url_scheme": job["scheme"], "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr,
        "wsgi.multithread": True, "wsgi.multiprocess": True, "wsgi.run_once": False, "CONTENT_LENGTH": "0",
        "HTTP_X_FORWARDED_PROTO": job["scheme"],
    }
    if job["scheme"] == "https":
        environ["HTTPS"] = "on"
    told = []
    try:
        body = space["application"](environ, lambda status, headers, exc_info=None: told.append(status))
        for piece in body:
            pass
        getattr(body, "close", lambda: None)()
        answers[path] = int(told[-1].split()[0])
    except Exception:
        traceback.print_exc()
        answers[path] = 500
sys.stdout.flush()
sys.stderr.flush()
print()
print(json.dumps(answers), flush=True)
os._exit(0)
"""

# Migrations: those that are not applied, what is unsafe in them, those that are applied and that this release lacks,
# the last one of each application, and those of the job's "ask" that can't be reversed.
MIGRATIONS = """
import json, os, sys
job = json.load(sys.stdin)
import django
django.setup()
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
connection = connections["default"]
executor = MigrationExecutor(connection)
loader = executor.loader
plan = executor.migration_plan(loader.graph.leaf_nodes())
unsafe = []
if job["linter"] and plan and loader.applied_migrations:
    sys.path.append(job["linter"])
    from django_migration_linter.sql_analyser import analyse_sql_statements, get_sql_analyser_class
    analyser = get_sql_analyser_class(connection.vendor)
    known = {label for label, name in loader.applied_migrations}
    for migration, backwards in plan:
        if migration.app_label in known:
            lines = [line for line in loader.collect_sql([(migration, False)]) if not line.startswith("--")]
            errors = analyse_sql_statements(analyser, lines)[0]
            unsafe += [f"{migration.app_label}.{migration.name}: {error.message}" for error in errors]
standing = sorted(map(list, set(loader.applied_migrations) - set(loader.disk_migrations)))
print()
print(json.dumps({
    "unapplied": [f"{migration.app_label}.{migration.name}" for migration, backwards in plan],
    "unsafe": unsafe, "standing": standing,
    "leaves": {label: name for label, name in loader.graph.leaf_nodes()},
    "irreversible": [
        key for key in job["ask"]
        if not all(step.reversible for step in getattr(loader.disk_migrations.get(tuple(key)), "operations", ()))
    ],
}), flush=True)
os._exit(0)
"""
