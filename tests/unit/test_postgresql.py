"""What the databases module plans, and the sizes that PostgreSQL gets from its host."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from plugins.filter.cluster import site_database
from plugins.filter.database_sites import database_faults
from plugins.filter.postgresql import (
    postgresql_networks,
    postgresql_no_networks,
    postgresql_parameters,
    postgresql_sizes,
)
from plugins.filter.site_faults import site_faults
from plugins.filter.sites import site_lists
from plugins.modules import postgresql_databases as module

DATABASE = {"owner": "lab", "encoding": "UTF8", "open": False}
THERE = {"roles": {"lab": {"login": True, "connections": 20}}, "databases": {"lab": DATABASE}}
ENTRY = {"domain": "lab.example.org", "settings": "lab.settings", "source": {"directory": "x"}}


def planned(found: dict[str, Any], **settings: Any) -> list[str]:
    one = {"name": "lab", "connections": 20, "extensions": []} | settings
    steps = module.plan([one], found, {"lab": ["plpgsql"]}, "C.UTF-8")
    return [statement for _, _, statement in steps]


def changed(**settings: Any) -> dict[str, Any]:
    return {**THERE, "databases": {"lab": DATABASE | settings}}


def test_a_database_as_declared_needs_nothing() -> None:
    assert planned(THERE) == []


def test_a_missing_one_is_made_with_its_role_and_closed_to_others() -> None:
    assert planned({"roles": {}, "databases": {}}, extensions=["pg_trgm"]) == [
        'CREATE ROLE "lab" LOGIN CONNECTION LIMIT 20',
        """CREATE DATABASE "lab" OWNER "lab" TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'""",
        'REVOKE CONNECT, TEMPORARY ON DATABASE "lab" FROM PUBLIC',
        'CREATE EXTENSION "pg_trgm"',
    ]


def test_what_differs_is_put_right_alone() -> None:
    assert planned(THERE, connections=30) == ['ALTER ROLE "lab" LOGIN CONNECTION LIMIT 30']
    assert planned(changed(owner="postgres")) == ['ALTER DATABASE "lab" OWNER TO "lab"']
    assert planned(changed(open=True)) == [
        'REVOKE CONNECT, TEMPORARY ON DATABASE "lab" FROM PUBLIC'
    ]
    assert planned(THERE, extensions=["plpgsql"]) == []


def test_another_encoding_is_refused() -> None:
    with pytest.raises(module.Refused, match="is in SQL_ASCII, and Django needs UTF8"):
        planned(changed(encoding="SQL_ASCII"))


WORD = "a-word-of-sixteen"
SALT = "gE11Cuh7Fy2FqHa4IQZddg=="
VERIFIER = (
    f"SCRAM-SHA-256$4096:{SALT}$FM4INokwPB05Fo9lMeSYrosW9myvRaidIBvh/woU2MY="
    ":j8PZomI/urkvZYOhRsHkuIPAVTwsoq44nTYK1hHviNY="
)


def with_verifier(text: str) -> dict[str, Any]:
    return {**THERE, "verifiers": {"lab": text}, "unlimited": ["lab"]}


def test_a_verifier_is_that_of_rfc_5802() -> None:
    """The figures are of `CREATE ROLE x PASSWORD 'a-word-of-sixteen'` on PostgreSQL 17."""
    made = module.scram_verifier(WORD, base64.b64decode(SALT))
    assert made == VERIFIER


def test_a_password_is_set_where_it_is_another_and_never_sent_itself() -> None:
    salt = b"0123456789abcdef"
    same = module.scram_verifier(WORD, salt, 8192)
    assert planned(with_verifier(same), password=WORD) == []
    for found in (
        THERE,
        with_verifier(module.scram_verifier("another", salt)),
        with_verifier("md5x"),
    ):
        (statement,) = planned(found | {"unlimited": ["lab"]}, password=WORD)
        assert statement.startswith('ALTER ROLE "lab" PASSWORD \'SCRAM-SHA-256$4096:')
        assert WORD not in statement
    assert planned(with_verifier(same)) == ['ALTER ROLE "lab" PASSWORD NULL']


def test_who_restores_from_another_host_may_lift_the_limit_of_temporary_files() -> None:
    there = with_verifier(module.scram_verifier(WORD, b"0123456789abcdef"))
    assert planned(there | {"unlimited": []}, password=WORD) == [
        'GRANT SET ON PARAMETER temp_file_limit TO "lab"'
    ]
    assert planned(THERE) == []  # this host's superuser restores


def test_who_may_come_in_is_written_as_networks() -> None:
    given = ["10.0.0.11", "10.0.1.7/24", "2001:db8::/64"]
    assert postgresql_networks(given) == ["10.0.0.11/32", "10.0.1.0/24", "2001:db8::/64"]
    assert postgresql_no_networks([*given, "db.lab", "10.0.0.300"]) == ["db.lab", "10.0.0.300"]


def test_names_and_texts_are_quoted() -> None:
    assert module.name_of('a"b') == '"a""b"'
    assert module.literal("d'e") == "'d''e'"


def test_sizes_follow_from_the_memory_and_the_connections() -> None:
    sizes = postgresql_sizes(4096, [{"name": "lab", "connections": 87}])
    assert (sizes["max_connections"], sizes["shared_buffers"]) == (100, 512)
    assert (sizes["work_mem"], sizes["maintenance_work_mem"]) == (5, 128)
    assert postgresql_sizes(512, [])["shared_buffers"] == 128
    assert postgresql_sizes(512, [], 300)["shared_buffers"] == 300


def test_parameters_are_written_as_postgresql_reads_them() -> None:
    given = {"jit": False, "work_mem": "8MB", "max_wal_size": 2048, "search_path": "it's"}
    assert postgresql_parameters(given) == {
        "jit": "off",
        "work_mem": "'8MB'",
        "max_wal_size": "2048",
        "search_path": "'it''s'",
    }
    with pytest.raises(ValueError, match=r"postgresql_parameters\.jit"):
        postgresql_parameters({"jit": "a\nb"})


def lists(**settings: Any) -> dict[str, Any]:
    host = {"apache_wsgi_processes": "2", "apache_wsgi_threads": "15", "daphne_instances": "1"}
    return site_lists({"lab": ENTRY | settings}, host)


def test_a_site_gets_a_database_with_the_connections_that_its_threads_can_use() -> None:
    assert lists()["databases"] == []
    wanted = lists(database="postgresql", asgi="lab.asgi", services={"relay": "relay"})
    assert wanted["databases"] == [{"name": "lab", "connections": 77, "extensions": []}]
    given = lists(database="postgresql", postgresql={"connections": 7, "extensions": ["hstore"]})
    assert given["databases"] == [{"name": "lab", "connections": 7, "extensions": ["hstore"]}]


def test_the_environment_says_where_the_database_is() -> None:
    url = "postgresql:///lab?host=/run/postgresql&port=5432"
    assert "environment" not in lists()["django"][0]
    assert lists(database="postgresql")["django"][0]["environment"] == {"DATABASE_URL": url}
    named = {"DB_NAME": "{database_name}", "DATABASE_URL": "mine"}
    found = lists(database="postgresql", environment=named)["django"][0]["environment"]
    assert found == {"DB_NAME": "lab", "DATABASE_URL": "mine"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"database": "postgres"},
            "sites.lab.database is 'postgres': it is none of its choices. Use one of sqlite, postgresql, none.",
        ),
        (
            {"postgresql": {"connections": "many"}},
            "sites.lab.postgresql.connections is 'many': it must be a whole number. Write one.",
        ),
    ],
)
def test_a_value_of_another_type_is_refused(settings: dict[str, Any], said: str) -> None:
    assert site_faults({"lab": ENTRY | settings}, {}) == [said]


HERE: dict[str, Any] = {}
AWAY = {"host": "db1", "address": "10.0.0.5", "port": 5432, "ca": "/etc/ca.pem"}
BESIDE = "and its rows would stay behind. "
MOVE = "playbooks/move_database.yml -e site=lab takes them along; "
SNAPSHOT = "A snapshot takes them along (docs/database.md); "
EMPTY = "-e django_database_empty=true begins without them."
OWN = {"DATABASE_URL": "postgresql://lab@db.example.org/lab"}


@pytest.mark.parametrize(
    ("entry", "there", "server", "said"),
    [
        ({"database": "postgresql"}, {"lab": "postgresql"}, HERE, ""),
        ({"database": "postgresql"}, {}, HERE, ""),
        ({}, {"lab": "sqlite"}, HERE, ""),
        ({"secrets": OWN}, {"lab": "postgresql at db.example.org"}, HERE, ""),
        ({"database": "postgresql"}, {"lab": "postgresql at 10.0.0.5"}, AWAY, ""),
        (
            {"database": "postgresql", "secrets": {"DATABASE_URL": "{database_url}"}},
            {"lab": "postgresql at 10.0.0.5"},
            AWAY,
            "",
        ),
        (
            {"database": "postgresql"},
            {},
            {"fault": "nobody has one. Add it."},
            "sites.lab.database is postgresql: nobody has one. Add it.",
        ),
        ({"database": "postgresql"}, {}, {**AWAY, "newer": True, "backed_up": ["other"]}, ""),
        (
            {"database": "postgresql"},
            {},
            {**AWAY, "newer": True, "backed_up": ["lab"]},
            "sites.lab.database is postgresql: the Debian of db1 is newer than this host's, whose pg_dump makes no "
            "snapshot of it. Upgrade this host first, or leave backup_repository empty until then.",
        ),
        (
            {"database": "postgresql", "environment": {"URL": "{database_url}"}},
            {},
            AWAY,
            "sites.lab.environment has the word {database_url}, which has a password, since PostgreSQL is on db1: "
            "others could read it there. Write it into `secrets`.",
        ),
        (
            {"database": "postgresql"},
            {"lab": "sqlite"},
            HERE,
            f"sites.lab.database is postgresql: the site is on sqlite, {BESIDE}{MOVE}{EMPTY}",
        ),
        (
            {"database": "postgresql"},
            {"lab": "postgresql"},
            AWAY,
            "sites.lab.database is postgresql at 10.0.0.5: the site is on postgresql, "
            f"{BESIDE}{SNAPSHOT}{EMPTY}",
        ),
        (
            {"environment": OWN},
            {"lab": "sqlite"},
            HERE,
            f"sites.lab.database is postgresql: the site is on sqlite, {BESIDE}{MOVE}{EMPTY}",
        ),
        (
            {},
            {"lab": "postgresql"},
            HERE,
            f"sites.lab.database is sqlite: the site is on postgresql, {BESIDE}{EMPTY}",
        ),
    ],
)
def test_a_database_without_the_rows_is_refused(
    entry: dict[str, Any], there: dict[str, str], server: dict[str, Any], said: str
) -> None:
    assert database_faults({"lab": ENTRY | entry}, there, server) == ([said] if said else [])
    if "rows" in said:
        assert database_faults({"lab": ENTRY | entry}, there, server, empty=True) == []


SITES = {"lab": ENTRY | {"database": "postgresql"}}


def inventory(**addresses: str) -> dict[str, Any]:
    return {
        name: {"sites": SITES, "switchboard_address": address, "ansible_host": address}
        for name, address in addresses.items()
    }


def test_a_web_host_finds_the_one_database_of_the_inventory() -> None:
    hosts = inventory(web1="10.0.0.11", web2="10.0.0.12", db1="10.0.0.5")
    hosts["web2"]["apache_wsgi_processes"] = 4
    groups = {"web": ["web1", "web2"], "database": ["db1"]}
    found = site_database(groups, hosts, "web2")
    assert (found["host"], found["address"], found["served"]) == ("db1", "10.0.0.5", True)
    served = site_database(groups, hosts, "db1")
    assert (served["host"], served["webs"]) == ("", [{}, {"apache_wsgi_processes": 4}])
    (one,) = site_lists(SITES, {}, "", {}, {**served, "passwords": {"lab": WORD}})["databases"]
    assert one == {"name": "lab", "connections": 65 + 125, "extensions": [], "password": WORD}


def test_a_web_host_with_a_database_of_its_own_uses_that() -> None:
    hosts = inventory(web1="10.0.0.11", web2="10.0.0.12")
    groups = {"web": ["web1", "web2"], "database": ["web1"]}
    assert site_database(groups, hosts, "web1")["host"] == ""
    assert len(site_database(groups, hosts, "web1")["webs"]) == 2
    assert site_database(groups, hosts, "web2")["host"] == "web1"
    alone = site_database({"web": ["web1"], "database": ["web1"]}, hosts, "web1")
    assert (alone["served"], alone["fault"]) == (False, "")


@pytest.mark.parametrize(
    ("databases", "lacks", "said"),
    [
        ([], "", "web1 is not in the group database, and no host is."),
        (["db1", "db2"], "", "web1 is not in the group database, and db1, db2 is."),
        (["db1"], "db1", "switchboard_address of db1 is empty, and web1 is to know it"),
        (["db1"], "web1", "switchboard_address of web1 is empty, and db1 is to know it"),
        (["web1", "db1"], "", "web1, db1 are in the group database, and each would have rows"),
    ],
)
def test_an_inventory_without_one_database_that_is_reached_is_refused(
    databases: list[str], lacks: str, said: str
) -> None:
    hosts = inventory(web1="10.0.0.11", db1="10.0.0.5", db2="10.0.0.6")
    if lacks:
        hosts[lacks]["switchboard_address"] = ""
    found = site_database({"web": ["web1"], "database": databases}, hosts, "web1")
    assert found["fault"].startswith(said)


def test_the_password_of_another_host_stands_in_the_secrets_alone() -> None:
    server = {**AWAY, "passwords": {"lab": "a+b@c/d of sixteen"}}
    own = {"A": "{database_host}", "B": "{database_url}"}
    entry = SITES["lab"] | {"environment": own, "secrets": {"P": "{database_password}"}}
    (django,) = site_lists({"lab": entry}, {}, "", {}, server)["django"]
    url = "postgresql://lab:a%2Bb%40c%2Fd%20of%20sixteen@10.0.0.5:5432/lab"
    assert django["secrets"] == {
        "DATABASE_URL": f"{url}?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        "P": "a+b@c/d of sixteen",
    }
    assert django["environment"] == {"A": "10.0.0.5", "B": "{database_url}"}
