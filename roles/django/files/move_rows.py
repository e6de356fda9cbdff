"""Copy all rows of a Django project from its SQLite database into the one of its present settings, and compare them.

It runs in the project, as the site's user, with the new environment. Its job is a JSON object on standard input:

``task``         ``empty`` refuses a database that has rows already, ``copy`` copies and compares, ``compare`` says
                 whether SQLite holds the same rows still;
``environment``  the variables of the former environment, whose settings name the SQLite database;
``leave``        tables that no model knows and that may stay behind;
``source``       for ``compare``: the checksums that ``copy`` printed.

The last line that it prints is a JSON object: ``tables``, the rows of each table, and ``source``, the checksums;
``same``; or ``error``, a sentence. It holds SQLite's write lock, so nobody changes a row meanwhile, and copies in one
transaction.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

CHUNK = 1000  # rows in one statement
OLD, NEW = "switchboard_former", "default"
MIGRATIONS = "django_migrations"
# What says of a database that its rows are those of an attempt, which the next one may replace.
MARK = "being filled from SQLite"
SHOW = "import json; from django.conf import settings; print(json.dumps(settings.DATABASES['default'], default=str))"


class Refused(Exception):
    """Why the rows cannot be moved, in a sentence."""


def former(environment: dict[str, str]) -> dict[str, Any]:
    """Return the settings of the former database, as the project's own settings have them with its environment."""
    done = subprocess.run(
        [sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Refused(
            f"the settings do not import with the former environment: {done.stderr.strip()[-500:]}"
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def plain(value: Any) -> Any:
    """Return a value of a row in a form that is the same for both databases."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, datetime.datetime) and value.tzinfo:
        value = value.astimezone(datetime.UTC)
    if isinstance(value, (dict, list)):
        return json.dumps(value, sort_keys=True, default=str)
    if isinstance(value, float) and value == int(value or 0):
        return int(value)
    return value if value is None or isinstance(value, (bool, int)) else str(value)


class Table:
    """The rows of one model's own table."""

    def __init__(self, model: Any) -> None:
        self.model, self.name = model, model._meta.db_table
        self.fields = [
            field
            for field in model._meta.local_concrete_fields
            if not getattr(field, "generated", False)
        ]

    def rows(self, using: str) -> Iterator[tuple[Any, ...]]:
        """Return the rows as Python has them, by their keys."""
        from django.db.models import QuerySet  # the model's managers may hide rows

        names = [field.attname for field in self.fields]
        rows = QuerySet(self.model, using=using).order_by("pk").values_list(*names)
        yield from rows.iterator(chunk_size=CHUNK)

    def checksum(self, using: str) -> list[Any]:
        """Return how many rows there are, and a sum over them that does not depend on their order."""
        count, total = 0, 0
        for row in self.rows(using):
            text = json.dumps([plain(value) for value in row], ensure_ascii=True)
            total += int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
            count += 1
        return [count, f"{total % 2**256:064x}"]

    def insert(self, connection: Any) -> int:
        """Copy the rows, and return how many they were."""
        quote = connection.ops.quote_name
        columns = ", ".join(quote(field.column) for field in self.fields)
        marks = ", ".join(["%s"] * len(self.fields))
        statement = f"INSERT INTO {quote(self.name)} ({columns}) VALUES ({marks})"  # noqa: S608 - the model's names, quoted
        count, chunk = 0, list[list[Any]]()
        for row in self.rows(OLD):
            pairs = zip(self.fields, row, strict=True)
            chunk.append([field.get_db_prep_save(value, connection) for field, value in pairs])
            if len(chunk) == CHUNK:
                count += self.send(connection, statement, chunk)
                chunk = []
        return count + self.send(connection, statement, chunk)

    def send(self, connection: Any, statement: str, chunk: list[list[Any]]) -> int:
        """Insert some rows; name the first that PostgreSQL does not take."""
        from django.db import Error, transaction

        if not chunk:
            return 0
        try:
            with transaction.atomic(using=NEW), connection.cursor() as cursor:
                cursor.executemany(statement, chunk)
        except Error as all_of_them:
            for row in chunk:
                try:
                    with transaction.atomic(using=NEW), connection.cursor() as cursor:
                        cursor.execute(statement, row)
                except Error as error:
                    key = dict(zip((field.name for field in self.fields), row, strict=True)).get(
                        self.model._meta.pk.name
                    )
                    why = str(error).strip().splitlines()[0]
                    raise Refused(
                        f"{self.name} has a row (its key is {key}) that PostgreSQL does not take: {why}. "
                        "Correct it on the site, and move it again."
                    ) from None
            raise Refused(f"{self.name}: {all_of_them}") from None
        return len(chunk)


def tables() -> list[Table]:
    """Return the tables of all models, those of relations between many and many included."""
    from django.apps import apps

    found: dict[str, Table] = {}
    for model in apps.get_models(include_auto_created=True):
        if not model._meta.proxy and not model._meta.swapped:
            found.setdefault(model._meta.db_table, Table(model))
    return list(found.values())


def count(connection: Any, name: str) -> int:
    """Return how many rows a table has."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {connection.ops.quote_name(name)}")  # noqa: S608 - quoted
        return int(cursor.fetchone()[0])


def applied(connection: Any) -> set[tuple[str, str]]:
    """Return the migrations that a database holds."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT app, name FROM {connection.ops.quote_name(MIGRATIONS)}")  # noqa: S608 - quoted
        return {(app, name) for app, name in cursor.fetchall()}


def mark(new: Any, text: str) -> None:
    """Write down of the new database whose its rows are."""
    with new.cursor() as cursor:
        cursor.execute(
            f"COMMENT ON DATABASE {new.ops.quote_name(new.settings_dict['NAME'])} IS {text}"
        )


def empty(new: Any) -> None:
    """Refuse a database that has rows of anybody but an earlier attempt, and mark it as being filled."""
    name = new.settings_dict["NAME"]
    with new.cursor() as cursor:
        cursor.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
        )
        if cursor.fetchone()[0] == MARK:
            return
        found = [
            f"{table} ({rows})"
            for table in sorted(new.introspection.table_names())
            if (rows := count(new, table))
        ]
        if found:
            raise Refused(
                f"the database {name} of PostgreSQL has rows already: {', '.join(found)}. They would be replaced. Keep "
                f"them elsewhere if they matter, then `sudo -u postgres dropdb {name}` on the host that has it, and "
                "run this again."
            )
    mark(new, f"'{MARK}'")


def judge(old: Any, new: Any, known: list[Table], leave: list[str]) -> None:
    """Refuse what would be left behind or overwritten."""
    names = {table.name for table in known}
    there = set(old.introspection.table_names())
    for name in sorted(there - names - set(leave) - {MIGRATIONS}):
        if rows := count(old, name):
            raise Refused(
                f"django_move_without is {leave}: SQLite has the table {name} with {rows} rows, and no model knows it. "
                "Name it there to leave it behind, or give it a model."
            )
    lacking = sorted(names - there - {MIGRATIONS})
    differ = sorted(".".join(one) for one in applied(old) ^ applied(new))
    if lacking or differ:
        raise Refused(
            f"the two databases are not at the same migrations: {', '.join([*lacking, *differ])}. "
            "Release the site on SQLite first, then move it."
        )


def copy(old: Any, new: Any, known: list[Table]) -> dict[str, int]:
    """Copy all rows in one transaction and compare each table; return the rows of each."""
    from django.core.management.color import no_style
    from django.db import transaction

    quote, counts = new.ops.quote_name, dict[str, int]()
    with transaction.atomic(using=NEW):
        with new.cursor() as cursor:
            # it waits while SQLite's rows are summed up
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            cursor.execute(f"TRUNCATE {', '.join(quote(table.name) for table in known)}")
        for table in known:
            counts[table.name] = table.insert(new)
        with new.cursor() as cursor:
            for statement in new.ops.sequence_reset_sql(
                no_style(), [table.model for table in known]
            ):
                cursor.execute(statement)
        new.check_constraints()
        for table in known:
            before, after = table.checksum(OLD), table.checksum(NEW)
            if before != after:
                raise Refused(
                    f"{table.name} has {before[0]} rows in SQLite and {after[0]} in PostgreSQL, and their checksums "
                    f"differ ({before[1][:12]}, {after[1][:12]}): what was written does not come back as it was."
                )
    return counts


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Do the job; raise Refused where it cannot be done."""
    import django
    from django.db import connections

    django.setup()
    settings = former(job["environment"])
    if "sqlite" not in settings["ENGINE"] or connections[NEW].vendor != "postgresql":
        raise Refused(
            f"the settings name {settings['ENGINE']} ({settings['NAME']}) with the former environment and "
            f"{connections[NEW].vendor} with the new one; this moves from SQLite to PostgreSQL. Let the settings read "
            "DATABASE_URL."
        )
    if job["task"] == "empty":
        empty(connections[NEW])
        return {}
    connections.settings[OLD] = connections.configure_settings({"default": settings})["default"]
    old, new, known = connections[OLD], connections[NEW], tables()
    with old.cursor() as cursor:
        cursor.execute("BEGIN IMMEDIATE")
        try:
            if job["task"] == "copy":
                judge(old, new, known, job["leave"])
                counts = copy(old, new, known)
            source = {table.name: table.checksum(OLD) for table in known}
            if job["task"] == "compare":
                same = source == job["source"]
                if same:
                    mark(new, "NULL")
                return {"same": same}
            return {"tables": counts, "source": source}
        finally:
            cursor.execute("ROLLBACK")


if __name__ == "__main__":
    try:
        answer = main(json.load(sys.stdin))
    except Refused as refusal:
        answer = {"error": str(refusal)}
    sys.stdout.flush()
    sys.stderr.flush()
    print()
    print(json.dumps(answer), flush=True)
    os._exit(0)
