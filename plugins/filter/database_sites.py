"""What the entry of a site says of its database, and what its processes are told to get in there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

# What serves one request of a site at a time, beside its threads: the commands that run with a release or by hand.
COMMANDS = 5
# The threads of one Daphne process that ask the database at a time.
DAPHNE_THREADS = 10
SOCKET = "/run/postgresql"
# Where a word in braces may stand that is secret, and where it may not.
OPEN = ("environment", "services", "releases")


def database_names(sites: Any) -> list[str]:
    """Return the sites whose rows are in PostgreSQL."""
    known = sites.items() if isinstance(sites, Mapping) else ()
    return [
        str(name)
        for name, entry in known
        if isinstance(entry, Mapping) and entry.get("database") == "postgresql"
    ]


def database_words(
    name: str, given: Mapping[str, Any], port: Any, server: Mapping[str, Any]
) -> dict[str, str]:
    """Return what the words in braces about the database stand for in the entry of a site; none where that is a file.

    Args:
        name: the site's.
        given: its entry.
        port: of PostgreSQL on the host itself.
        server: as `site_lists` takes it.
    """
    if given.get("database") != "postgresql":
        return {}
    words = {"database_name": name, "database_user": name}
    if not server.get("host"):
        # PostgreSQL documentation, "Connection URIs"; the site's system user gets in as the role of that name
        return {
            **words,
            "database_host": SOCKET,
            "database_port": str(port),
            "database_password": "",
            "database_sslmode": "prefer",
            "database_ca": "",
            "database_url": f"postgresql:///{name}?host={SOCKET}&port={port}",
        }
    address, port, ca = (str(server[key]) for key in ("address", "port", "ca"))
    password = str(server.get("passwords", {}).get(name, ""))
    where = f"[{address}]" if ":" in address else address
    checks = f"sslmode=verify-full&sslrootcert={quote(ca)}"
    return {
        **words,
        "database_host": address,
        "database_port": port,
        "database_password": password,
        "database_sslmode": "verify-full",
        "database_ca": ca,
        "database_url": f"postgresql://{name}:{quote(password, safe='')}@{where}:{port}/{name}?{checks}",
    }


def database_secret_words(server: Mapping[str, Any]) -> list[str]:
    """Return the words in braces that stand for something secret."""
    return ["database_password", *(["database_url"] if server.get("host") else [])]


def database_variables(given: Mapping[str, Any], server: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment or the secrets of a site with DATABASE_URL, which has a password where it leads elsewhere.

    ``given`` is its entry; what is no mapping in it is left to the role, which refuses it.
    """
    there = {key: given.get(key) or {} for key in ("environment", "secrets")}
    if given.get("database") != "postgresql" or not all(
        isinstance(values, Mapping) for values in there.values()
    ):
        return {}
    key = "secrets" if server.get("host") else "environment"
    own = there["environment"].keys() | there["secrets"].keys()
    return {} if "DATABASE_URL" in own else {key: {"DATABASE_URL": "{database_url}", **there[key]}}


def database_entry(
    name: str, given: Mapping[str, Any], host: Mapping[str, Any], server: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the database of a site as an entry of ``postgresql_databases``.

    The connections are those of each web host that uses it (``webs`` of ``server``), or of the host itself.
    """
    count = sum(_connections(given, {**host, **web}) for web in server.get("webs") or [{}])
    found = {
        "name": name,
        "connections": given.get("postgresql.connections") or count,
        "extensions": given.get("postgresql.extensions", []),
    }
    password = server.get("passwords", {}).get(name)
    return {**found, "password": password} if password else found


def database_faults(
    sites: Any, there: Mapping[str, str], server: Mapping[str, Any], empty: Any = False
) -> list[str]:
    """Return the sites whose database this host cannot have, or whose rows a run would leave behind, a sentence each.

    Args:
        sites: what the inventory says.
        there: where the rows of each site of the host are, as the module host_look has seen it.
        server: what `site_database` says, and ``backed_up``, the sites that the host makes snapshots of.
        empty: whether a site may begin without its rows.
    """
    found = []
    for name, entry in sites.items() if isinstance(sites, Mapping) else ():
        if not isinstance(entry, Mapping):
            continue
        wanted = str(entry.get("database") or "sqlite")
        where = f"sites.{name}.database is {wanted}"
        if wanted == "postgresql" and server.get("fault"):
            found.append(f"{where}: {server['fault']}")
            continue
        if wanted == "postgresql" and server.get("newer") and name in server.get("backed_up", ()):
            found.append(
                f"{where}: the Debian of {server['host']} is newer than this host's, whose pg_dump makes no snapshot "
                "of it. Upgrade this host first, or leave backup_repository empty until then."
            )
        open_words = [
            key
            for key in OPEN
            if server.get("host")
            and wanted == "postgresql"
            and "{database_url}" in str(entry.get(key))
        ]
        found += [
            f"sites.{name}.{key} has the word {{database_url}}, which has a password, since PostgreSQL is on "
            f"{server['host']}: others could read it there. Write it into `secrets`."
            for key in open_words
        ]
        if wanted == "none":
            continue
        own = {**_mapping(entry.get("environment")), **_mapping(entry.get("secrets"))}
        known, url = there.get(name, ""), str(own.get("DATABASE_URL", ""))
        if url and (wanted != "postgresql" or "{database_url}" not in url):
            # a server that somebody else looks after; whether it is the same one the release sees
            kind = "postgresql" if url.startswith(("postgres:", "postgresql:")) else "sqlite"
            wanted = known if known.startswith(kind) else kind
        elif wanted == "postgresql" and server.get("host"):
            wanted = f"postgresql at {server['address']}"
        if not empty and known and known != wanted:
            found.append(left_behind(str(name), known, wanted))
    return found


def left_behind(name: str, known: str, wanted: str) -> str:
    """Return the sentence about rows that would stay where they are."""
    way = ""
    if wanted.startswith("postgresql"):
        way = "A snapshot takes them along (docs/database.md); "
        if known == "sqlite":
            way = f"playbooks/move_database.yml -e site={name} takes them along; "
    return (
        f"sites.{name}.database is {wanted}: the site is on {known}, and its rows would stay behind. "
        f"{way}-e django_database_empty=true begins without them."
    )


def _connections(given: Mapping[str, Any], host: Mapping[str, Any]) -> int:
    """Return how many connections to the database a site's processes on one web host can use at a time.

    The threads of mod_wsgi count twice: in a release a process goes on with its requests while the next one begins.
    """
    pages = [
        _number(given.get(f"pages.{key}", host.get(f"apache_wsgi_{key}")), usual)
        for key, usual in (("processes", 2), ("threads", 15))
    ]
    instances = _number(given.get("websockets.instances", host.get("daphne_instances")), 1)
    sockets = DAPHNE_THREADS * instances if given.get("asgi") else 0
    services = [
        _number(one.get("instances"), 1) if isinstance(one, Mapping) else 1
        for one in _mapping(given.get("services")).values()
    ]
    timers = given.get("timers")
    jobs = sum(services) + (len(timers) if isinstance(timers, (Mapping, Sequence)) else 0)
    return 2 * pages[0] * pages[1] + sockets + 2 * jobs + COMMANDS


def _number(value: Any, usual: int) -> int:
    """Return a whole number; the usual one for what is none, which its role refuses."""
    return int(value) if str(value).isdigit() else usual


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "database_names": database_names,
            "database_words": database_words,
            "database_secret_words": database_secret_words,
            "database_variables": database_variables,
            "database_entry": database_entry,
            "database_faults": database_faults,
        }
