#!/usr/bin/python
"""Keep PostgreSQL's databases and the roles that own them as declared; nothing is ever taken away."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: postgresql_databases
short_description: Keep PostgreSQL's databases, and the roles that own them, as declared
description:
  - Creates each database that is declared and not there, with a role of its name that owns it and may log in, bounds
    the connections of that role, and adds extensions. Nobody but the owner may connect. What is not declared is left
    alone, and nothing is removed.
  - A database of another encoding than UTF-8 is refused, before anything is changed.
  - It talks to the server as the system user postgres, by the socket; what is sent goes through standard input.
requirements: [psql]
options:
  databases:
    description: The databases.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: The name of the database and of its role., type: str, required: true}
      connections: {description: How many connections the role may have at a time., type: int, default: 20}
      extensions: {description: Extensions that the database has., type: list, elements: str, default: []}
      password:
        description:
          - What the role logs in with over TCP. The server gets the verifier of it alone (SCRAM-SHA-256), and a changed
            password is noticed by that verifier. Empty takes an earlier one away.
        type: str
  watcher:
    description: A role that may log in and read the server's statistics (pg_monitor), and no rows; empty for none.
    type: str
    default: ""
  port: {description: The port in the name of the socket., type: int, default: 5432}
  locale: {description: The locale of a new database., type: str, default: C.UTF-8}
  assume_empty:
    description: In check mode, take a server that does not answer (it is not installed yet) for an empty one.
    type: bool
    default: false
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Declare the database of a site
  postgresql_databases:
    databases: [{name: lab, connections: 80, extensions: [pg_trgm]}]
"""

RETURN = r"""
changes: {description: What was done, a line each., type: list, elements: str, returned: success}
"""

FOUND = """
SELECT json_build_object(
  'roles', (SELECT coalesce(json_object_agg(rolname, json_build_object(
              'login', rolcanlogin, 'connections', rolconnlimit)), '{}') FROM pg_roles),
  'verifiers', (SELECT coalesce(json_object_agg(rolname, rolpassword), '{}') FROM pg_authid
                WHERE rolpassword IS NOT NULL),
  'watchers', (SELECT coalesce(json_agg(pg_get_userbyid(member)), '[]') FROM pg_auth_members
               WHERE roleid = 'pg_monitor'::regrole),
  'unlimited', (SELECT coalesce(json_agg(rolname), '[]') FROM pg_roles
                WHERE has_parameter_privilege(oid, 'temp_file_limit', 'SET')),
  'databases', (SELECT coalesce(json_object_agg(datname, json_build_object(
              'owner', pg_get_userbyid(datdba), 'encoding', pg_encoding_to_char(encoding),
              'open', has_database_privilege('public', oid, 'CONNECT'))), '{}') FROM pg_database))
"""
WATCHES = 3  # connections that who reads statistics may have
EXTENSIONS = "SELECT coalesce(json_agg(extname), '[]') FROM pg_extension"

ITERATIONS = 4096  # PostgreSQL's own number

Ask = Callable[..., str]
Step = tuple[
    str, str, str
]  # what it does, in which database, the statement, which may hold a verifier


class Refused(Exception):
    """It cannot be as declared; the text names the variable, its value and the remedy."""


def name_of(text: str) -> str:
    """Return an identifier as SQL writes it (PostgreSQL documentation, "Identifiers and Key Words")."""
    return '"' + text.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as SQL writes it; standard_conforming_strings is on by default."""
    return "'" + text.replace("'", "''") + "'"


def scram_verifier(password: str, salt: bytes, iterations: int = ITERATIONS) -> str:
    """Return what PostgreSQL keeps of a password (PostgreSQL documentation, "pg_authid"; RFC 5802, 3).

    Args:
        password: of printable ASCII letters, which SASLprep leaves as they are.
        salt: random bytes.
        iterations: of PBKDF2.
    """
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{parts[0]}${parts[1]}:{parts[2]}"


def is_of(verifier: str, password: str) -> bool:
    """Return whether a verifier is that of a password."""
    try:
        kind, how, _ = verifier.split("$")
        iterations, salt = how.split(":")
        same = scram_verifier(password, base64.b64decode(salt), int(iterations))
    except ValueError:
        return False
    return kind == "SCRAM-SHA-256" and hmac.compare_digest(same, verifier)


def password_step(name: str, password: str, verifier: str) -> list[Step]:
    """Return the step that gives a role its password, or takes it away; none where it is as declared."""
    if not password:
        change = "NULL" if verifier else ""
    elif is_of(verifier, password):
        change = ""
    else:
        change = literal(scram_verifier(password, os.urandom(16)))
    if not change:
        return []
    text = f"role {name}: {'another' if password else 'no'} password"
    return [(text, "postgres", f"ALTER ROLE {name_of(name)} PASSWORD {change}")]


def plan(
    declared: list[dict[str, Any]],
    found: dict[str, Any],
    extensions: dict[str, list[str]],
    locale: str,
    watcher: str = "",
) -> list[Step]:
    """Compare what is declared with what was found.

    Args:
        declared: the module's databases.
        found: ``roles``, ``verifiers``, ``unlimited`` and ``databases`` as the query FOUND returns them.
        extensions: those of each declared database that is there.
        locale: of a new database.
        watcher: the role that may read statistics, or an empty text.

    Raises:
        Refused: a database of this name is not in UTF-8.
    """
    steps: list[Step] = []
    for one in declared:
        name, limit = one["name"], one["connections"]
        role, there = found["roles"].get(name), found["databases"].get(name)
        if there and there["encoding"] != "UTF8":
            raise Refused(
                f"postgresql_databases is a list with {name}: the database of that name is in {there['encoding']}, "
                "and Django needs UTF8. Dump it and load it into a new one, or declare another name."
            )
        wanted = {"login": True, "connections": limit}
        if role != wanted:
            how = "ALTER" if role else "CREATE"
            steps.append(
                (
                    f"role {name}: {limit} connections",
                    "postgres",
                    f"{how} ROLE {name_of(name)} LOGIN CONNECTION LIMIT {limit}",
                )
            )
        verifier = found.get("verifiers", {}).get(name, "")
        steps += password_step(name, one.get("password") or "", verifier)
        if one.get("password") and name not in found.get("unlimited", []):
            let = f"GRANT SET ON PARAMETER temp_file_limit TO {name_of(name)}"
            steps.append((f"role {name}: may restore large indexes", "postgres", let))
        if not there:
            made = (
                f"CREATE DATABASE {name_of(name)} OWNER {name_of(name)} TEMPLATE template0 "
                f"ENCODING 'UTF8' LOCALE {literal(locale)}"
            )
            steps.append((f"database {name}: {locale}", "postgres", made))
        elif there["owner"] != name:
            moved = f"ALTER DATABASE {name_of(name)} OWNER TO {name_of(name)}"
            steps.append((f"database {name}: owner {name}", "postgres", moved))
        if not there or there["open"]:
            closed = f"REVOKE CONNECT, TEMPORARY ON DATABASE {name_of(name)} FROM PUBLIC"
            steps.append((f"database {name}: closed to others", "postgres", closed))
        for extension in one["extensions"]:
            if extension not in extensions.get(name, []):
                added = f"CREATE EXTENSION {name_of(extension)}"
                steps.append((f"database {name}: extension {extension}", name, added))
    if watcher and watcher not in found["roles"]:
        made = f"CREATE ROLE {name_of(watcher)} LOGIN CONNECTION LIMIT {WATCHES}"
        steps.append((f"role {watcher}: {WATCHES} connections", "postgres", made))
    if watcher and watcher not in found.get("watchers", []):
        let = f"GRANT pg_monitor TO {name_of(watcher)}"
        steps.append((f"role {watcher}: reads statistics", "postgres", let))
    return steps


def psql(module: AnsibleModule) -> Ask:
    """Return what sends a statement to a database and returns the answer; it ends the task on an error."""
    runuser = module.get_bin_path("runuser", required=True)
    command = [
        runuser,
        "-u",
        "postgres",
        "--",
        "psql",
        "-X",
        "-q",
        "-A",
        "-t",
        "-v",
        "ON_ERROR_STOP=1",
    ]

    def ask(database: str, statement: str, what: str = "to be asked") -> str:
        words = [*command, "-p", str(module.params["port"]), "-d", database]
        code, out, said = module.run_command(
            words, data=statement, cwd="/", environ_update={"LC_ALL": "C.UTF-8"}
        )
        if code:
            raise Refused(f"PostgreSQL refused {what}: {said.strip().splitlines()[0]}")
        return out.strip()

    return ask


def main() -> None:
    """Run the module."""
    database = {
        "name": {"type": "str", "required": True},
        "connections": {"type": "int", "default": 20},
        "extensions": {"type": "list", "elements": "str", "default": []},
        "password": {"type": "str", "no_log": True},
    }
    module = AnsibleModule(
        argument_spec={
            "databases": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": database,
            },
            "watcher": {"type": "str", "default": ""},
            "port": {"type": "int", "default": 5432},
            "locale": {"type": "str", "default": "C.UTF-8"},
            "assume_empty": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    declared, ask = module.params["databases"], psql(module)
    found: dict[str, Any] = {"roles": {}, "databases": {}}
    extensions: dict[str, list[str]] = {}
    try:
        if not (module.check_mode and module.params["assume_empty"]):
            found = json.loads(ask("postgres", FOUND))
            extensions = {
                one["name"]: json.loads(ask(one["name"], EXTENSIONS))
                for one in declared
                if one["extensions"] and one["name"] in found["databases"]
            }
        steps = plan(declared, found, extensions, module.params["locale"], module.params["watcher"])
        for text, where, statement in [] if module.check_mode else steps:
            ask(where, statement, text)
    except Refused as error:
        module.fail_json(msg=str(error))
    changes = [text for text, _, _ in steps]
    module.exit_json(
        changed=bool(changes),
        changes=changes,
        diff={"prepared": "".join(f"{text}\n" for text in changes)},
    )


if __name__ == "__main__":
    main()
