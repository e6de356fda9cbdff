"""A site's database, as a part that changes places with the dump that a snapshot had, and back."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ansible.module_utils.site_environment import ASIDE
from ansible.module_utils.site_history import Refused

DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
NAME_BYTES = 40  # of a database's name, before what is added to it (PostgreSQL takes 63)


@dataclass
class Database:
    """A database of PostgreSQL on this host, which a dump replaces; what was there has another name."""

    name: str
    dump: Path
    stamp: str
    port: int = 5432

    def __post_init__(self) -> None:
        """Take no name that would have to be quoted in SQL."""
        if not DATABASE.fullmatch(self.name):
            raise Refused(f"the snapshot names the database {self.name!r}, which is no name.")

    @property
    def kept(self) -> str:
        """The name of what was there."""
        return f"{self.name[:NAME_BYTES]}_before_{self.stamp.lower()}"

    def ask(self, *statements: str) -> str:
        """Let PostgreSQL's superuser run statements one after another; return what they print."""
        words = ["psql", "-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-d", "postgres"]
        return self.ran([*words, *(word for one in statements for word in ("-c", one))])

    def ran(self, words: list[str], file: Path | None = None) -> str:
        """Run a program of PostgreSQL as its superuser, with a file as its input."""
        with open(file or os.devnull, "rb") as source:
            done = subprocess.run(
                words,
                user="postgres",
                group="postgres",
                extra_groups=[],
                cwd="/",
                env={
                    "PATH": "/usr/bin:/bin",
                    "LANG": "C.UTF-8",
                    "PGPORT": str(self.port),
                    "PGOPTIONS": "-c temp_file_limit=-1",  # a large index is sorted on the disk
                },
                stdin=source,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        if done.returncode:
            said = done.stderr.strip()[-600:]
            raise Refused(f"PostgreSQL's database {self.name} can't be restored. {said}")
        return done.stdout.strip()

    def there(self, name: str) -> bool:
        """Say whether there is a database of that name."""
        return bool(self.ask(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"))  # noqa: S608 - a plain name

    def prepare(self) -> None:
        """See that PostgreSQL answers, and that it can read the dump."""
        self.ask("SELECT 1")
        self.ran(["pg_restore", "--list"], file=self.dump)

    def rename(self, old: str, new: str) -> None:
        """Give a database another name; whoever is connected to it is cut off, and comes back to none."""
        self.ask(
            f'ALTER DATABASE "{old}" ALLOW_CONNECTIONS false',
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{old}'",  # noqa: S608 - a plain name
            f'ALTER DATABASE "{old}" RENAME TO "{new}"',
            f'ALTER DATABASE "{new}" ALLOW_CONNECTIONS true',
        )

    def take(self) -> None:
        """Let the dump take its place, with the owner, the settings and the rights of the dumped one."""
        if self.there(self.name):
            self.rename(self.name, self.kept)
        self.ran(["pg_restore", "--create", "--exit-on-error", "-d", "postgres"], file=self.dump)

    def back(self) -> None:
        """Let the former one have its name again."""
        if self.there(self.kept):
            if self.there(self.name):
                self.ask(f'DROP DATABASE "{self.name}" WITH (FORCE)')
            self.rename(self.kept, self.name)
        elif self.there(self.name):  # it may have been on its way
            self.ask(f'ALTER DATABASE "{self.name}" ALLOW_CONNECTIONS true')


# Does something with each thing that a schema has: tables with their indexes and own sequences, views, types, routines,
# but for what an extension brought. PostgreSQL documentation, "System Catalogs".
EACH = """
SET LOCAL search_path = '';
SET LOCAL lock_timeout = '60s';
DO $each$
DECLARE one record;
BEGIN
  FOR one IN
    WITH kept AS (SELECT classid, objid, deptype FROM pg_depend WHERE deptype IN ('e', 'a', 'i'))
    SELECT CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                  WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END AS kind, oid::regclass::text AS name
      FROM pg_class
     WHERE relnamespace = '{schema}'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
       AND NOT EXISTS (SELECT FROM kept WHERE classid = 'pg_class'::regclass AND objid = oid
                          AND (deptype = 'e' OR relkind = 'S'))
    UNION ALL
    SELECT 'ROUTINE', oid::regprocedure::text FROM pg_proc
     WHERE pronamespace = '{schema}'::regnamespace
       AND NOT EXISTS (SELECT FROM kept WHERE classid = 'pg_proc'::regclass AND objid = oid AND deptype <> 'a')
    UNION ALL
    SELECT 'TYPE', format_type(oid, NULL) FROM pg_type
     WHERE typnamespace = '{schema}'::regnamespace AND typcategory <> 'A'
       AND (typtype IN ({types}) OR EXISTS (SELECT FROM pg_class WHERE pg_class.oid = typrelid AND relkind = 'c'))
       AND NOT EXISTS (SELECT FROM kept WHERE classid = 'pg_type'::regclass AND objid = oid AND deptype = 'e')
     ORDER BY kind, name
  LOOP
    EXECUTE format('{does}', one.kind, one.name);
  END LOOP;
END $each$;
"""
# A large index is sorted on the disk; the bundle lets the site's role lift the limit for that.
UNLIMITED = """
DO $unlimited$ BEGIN
  PERFORM set_config('temp_file_limit', '-1', true);
EXCEPTION WHEN insufficient_privilege THEN NULL;
END $unlimited$;
"""
# A setting of pg_restore 17 that no earlier server knows; it stands before the first object.
UNKNOWN = b"SET transaction_timeout = 0;\n"
HEAD_LINES = 40


@dataclass
class Distant:
    """The site's database on another host, which a dump replaces with the rights of the site alone.

    What was there moves to a schema of its own, in the transaction that loads the dump. It has no rights to another
    database, where `Database` keeps it.
    """

    user: str
    login: dict[str, str]  # libpq's variables
    dump: Path
    stamp: str

    @property
    def kept(self) -> str:
        """The name of the schema with what was there."""
        return f"{ASIDE}{self.stamp.lower()}"

    def started(self, words: list[str], **pipes: Any) -> subprocess.Popen[bytes]:
        """Start a program of PostgreSQL as the site's user, who logs in by its environment."""
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PGCONNECT_TIMEOUT": "20"}
        return subprocess.Popen(
            words,
            user=self.user,
            group=self.user,
            extra_groups=[],
            cwd="/",
            env={**environment, **self.login},
            **pipes,
        )

    def refused(self, said: bytes) -> Refused:
        """Return the end of what a program said as a sentence."""
        text = said.decode(errors="replace").strip()[-600:]
        return Refused(
            f"PostgreSQL's database {self.login['PGDATABASE']} on {self.login['PGHOST']} can't be restored. {text}"
        )

    def script(self, statements: str, load: bool = False) -> str:
        """Run statements in one transaction, and with ``load`` the dump in the same one; return what they print."""
        words = ["psql", "-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-1", "-f", "-"]
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as out:
            psql = self.started(words, stdin=subprocess.PIPE, stdout=out, stderr=said)
            whole = True
            if psql.stdin is None:
                raise AssertionError("it was opened")
            try:
                psql.stdin.write(statements.encode())
                whole = not load or self.loaded(psql.stdin, said)
                if not whole:
                    psql.kill()  # without its end nothing is committed
                psql.stdin.close()
            except BrokenPipeError:
                pass  # it has said why
            code = psql.wait()
            said.seek(0)
            out.seek(0)
            if code or not whole:
                raise self.refused(said.read())
            return out.read().decode().strip()

    def loaded(self, sink: IO[bytes], said: IO[bytes]) -> bool:
        """Write the dump as SQL; say whether all of it came."""
        words = ["pg_restore", "--no-owner", "--no-privileges", "--no-comments", "-f", "-"]
        with self.dump.open("rb") as source:
            restore = self.started(words, stdin=source, stdout=subprocess.PIPE, stderr=said)
            if restore.stdout is None:
                raise AssertionError("it was opened")
            try:
                for number, line in enumerate(restore.stdout):
                    if number > HEAD_LINES or line != UNKNOWN:
                        sink.write(line)
            finally:
                restore.stdout.close()
                code = restore.wait()
        return code == 0

    def prepare(self) -> None:
        """See that PostgreSQL lets the site in, and that the dump can be read."""
        self.script("SELECT 1")
        with self.dump.open("rb") as source, tempfile.TemporaryFile() as said:
            words = ["pg_restore", "--list"]
            listed = self.started(words, stdin=source, stdout=subprocess.DEVNULL, stderr=said)
            if listed.wait():
                said.seek(0)
                raise self.refused(said.read())

    def alone(self) -> None:
        """End the site's other connections, of which one may hold a table."""
        self.script(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user "
            "AND datname = current_database() AND pid <> pg_backend_pid();"
        )

    def take(self) -> None:
        """Let the dump take its place."""
        self.alone()
        moving = moved("public", self.kept)
        self.script(f'{UNLIMITED}CREATE SCHEMA "{self.kept}";{moving}', load=True)

    def back(self) -> None:
        """Let what was there have its place again, where it was moved."""
        there = self.script(f"SELECT 1 FROM pg_namespace WHERE nspname = '{self.kept}'")  # noqa: S608 - a plain name
        if not there:
            return
        gone = EACH.format(
            schema="public", types="'e', 'd', 'r'", does="DROP %s IF EXISTS %s CASCADE"
        )
        self.alone()
        self.script(f'{gone}{moved(self.kept, "public")}DROP SCHEMA "{self.kept}";')


def moved(source: str, target: str) -> str:
    """Return the statements that move what one schema has into another.

    A range type is not moved, since its functions do not go along: a dump that has one does not load beside it.
    """
    does = f'ALTER %s %s SET SCHEMA "{target}"'
    return EACH.format(schema=source, types="'e', 'd'", does=does)
