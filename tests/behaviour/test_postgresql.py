"""PostgreSQL: each site gets into its own database and no other, from where it is let in, and its threads find room."""

from __future__ import annotations

import re
from typing import Any

import pytest
from testinfra.host import Host

SQL = "runuser -u %s -- psql -X -A -t -d %s -c %s"


@pytest.fixture
def databases(deployed: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = deployed.get("postgresql", {}).get("databases", [])
    if not found:
        pytest.skip("no site of this host is on PostgreSQL")
    return found


def ask(host: Host, user: str, database: str, statement: str) -> str:
    """Return what psql prints for a system user."""
    return str(host.check_output(SQL, user, database, statement)).strip()


@pytest.fixture
def own(databases: list[dict[str, Any]], deployed: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the databases of sites that are on this host, too."""
    names = [site["name"] for site in deployed["django"].get("sites", [])]
    return [one for one in databases if one["name"] in names]


def test_each_site_gets_into_its_own_database(host: Host, own: list[dict[str, Any]]) -> None:
    """Each site's user gets into the site's own database, in UTF-8, with the connections that it needs."""
    if not own:
        pytest.skip("the sites are on other hosts")
    for one in own:
        name = one["name"]
        told = ask(
            host,
            name,
            name,
            "SELECT current_user, pg_encoding_to_char(encoding), pg_get_userbyid(datdba), rolconnlimit, rolsuper "
            "FROM pg_database, pg_roles WHERE datname = current_database() AND rolname = current_user",
        )
        assert told == f"{name}|UTF8|{name}|{one['connections']}|f"


def test_a_site_gets_into_its_database_on_another_host(
    host: Host, deployed: dict[str, Any]
) -> None:
    """Each site whose rows are on another host gets in there, and only it can read with which password."""
    if not deployed["database_elsewhere"]:
        pytest.skip("no site of this host is on PostgreSQL of another one")
    for name in deployed["database_elsewhere"]:
        host.check_output("cd / && %s-manage check --database default", name)
        secrets = f"/etc/switchboard/{name}/secrets.env"
        assert host.check_output("stat -c '%%a %%U:%%G' %s", secrets) == f"640 root:{name}"
        public = f"/etc/switchboard/{name}/settings.env"
        assert "postgresql://" not in host.check_output("cat %s", public)


def test_nobody_else_gets_in(
    host: Host, databases: list[dict[str, Any]], own: list[dict[str, Any]]
) -> None:
    """No other user gets into a site's database, under any name, and no site's user into another database."""
    for one in databases:
        name = one["name"]
        strange = ("-d postgres", "-d template1", f"-d {name} -U postgres")
        for user, words in (
            ("nobody", f"-d {name}"),
            ("nobody", f"-d {name} -U {name}"),
            ("nobody", f"-d {name} -U postgres"),
            *((name, words) for words in strange if one in own),
        ):
            tried = host.run(f"runuser -u {user} -- psql -X -w {words} -c 'SELECT 1'")
            assert tried.rc == 2, f"{user} {words}: {tried.stdout}"
            assert re.search("pg_hba.conf|authentication failed", tried.stderr), tried.stderr


def test_it_listens_where_it_is_told_to(
    host: Host, deployed: dict[str, Any], databases: list[dict[str, Any]]
) -> None:
    """PostgreSQL listens on no TCP port, or on that of its private address for web hosts elsewhere."""
    rows = [row for row in host.check_output("ss -Hltnp").splitlines() if "postgres" in row]
    addresses = {row.split()[3].rpartition(":")[0].strip("[]") for row in rows}
    assert addresses == {deployed["postgresql"]["address"]} - {""}, rows


def test_it_runs_with_what_is_written(host: Host, databases: list[dict[str, Any]]) -> None:
    """PostgreSQL runs with its configuration as it is written: no line is wrong, none waits for a restart."""
    wrong = ask(
        host,
        "postgres",
        "postgres",
        "SELECT sourcefile, sourceline, name, error FROM pg_file_settings WHERE error IS NOT NULL",
    )
    assert wrong == ""
    assert (
        ask(host, "postgres", "postgres", "SELECT name FROM pg_settings WHERE pending_restart")
        == ""
    )
    limit = int(ask(host, "postgres", "postgres", "SHOW max_connections"))
    assert limit >= sum(one["connections"] for one in databases) + 3


def test_its_unit_runs_in_a_sandbox_as_its_own_user(
    host: Host, databases: list[dict[str, Any]]
) -> None:
    """PostgreSQL runs as its own user, in a sandbox, and starts at the next boot."""
    version, cluster = host.check_output("pg_lsclusters --no-header").split()[:2]
    unit = f"postgresql@{version}-{cluster}.service"
    names = "ActiveState,NeedDaemonReload,DropInPaths,MainPID"
    told = dict(
        line.split("=", 1)
        for line in host.check_output("systemctl show --property=%s %s", names, unit).splitlines()
    )
    pid = told.pop("MainPID")
    assert told == {
        "ActiveState": "active",
        "NeedDaemonReload": "no",
        "DropInPaths": "/etc/systemd/system/postgresql@.service.d/switchboard.conf",
    }
    assert host.check_output("ps -o user:40= -p %s", pid).strip() == "postgres"
    assert host.check_output("systemctl is-enabled postgresql.service") == "enabled"
    assert (
        host.check_output(
            "cat /etc/postgresql/%s/%s/start.conf | grep -v '^#'", version, cluster
        ).strip()
        == "auto"
    )
    measure = host.check_output("systemd-analyze security --no-pager %s", unit).splitlines()[-1]
    assert float(measure.split(":")[1].split()[0]) <= 3.0, measure


@pytest.mark.disruptive
@pytest.mark.app
def test_all_threads_find_a_connection(
    host: Host, deployed: dict[str, Any], databases: list[dict[str, Any]]
) -> None:
    """Every page comes while all threads of the site ask the database at once."""
    if "graphspace" not in [one["name"] for one in databases]:
        pytest.skip("the demonstration site is not on PostgreSQL")
    site = next(site for site in deployed["apache"]["sites"] if site["name"] == "graphspace")
    before = int(host.check_output("cat /var/log/postgresql/*.log | wc -l"))
    # a session that the database does not know: each page asks for it
    asked = (
        "curl -s -o /dev/null -w '%{http_code}\\n' --max-time 60 -b sessionid={} "
        f"-H 'Host: {site['server_name']}' http://127.0.0.1:{deployed['apache']['http_port']}/groups/"
    )
    said = host.check_output(f"seq 600 | xargs -P 30 -I{{}} {asked} | sort | uniq -c").split()
    assert said == ["600", "302"], said
    log = host.check_output(f"cat /var/log/postgresql/*.log | tail -n +{before + 1}")
    assert not re.search("FATAL|too many connections", log), log[-2000:]
