"""What nobody asked for, and what has stopped without a sign: the server is the bundle's and nothing beside it.

Each test collects all that it finds: one fault must not hide the next.
"""

from __future__ import annotations

from typing import Any

import pytest
from testinfra.host import Host

from tests.behaviour.conftest import journal
from tests.behaviour.test_services import daphne_units, expected_units

OURS = "/etc/systemd/system"
LIBRARY = "/usr/local/lib/switchboard"
DROPINS = {
    "apache2.service": f"{OURS}/apache2.service.d/switchboard.conf",
    "certbot.service": f"{OURS}/certbot.service.d/switchboard.conf",
}
# What Debian's apache2 enables and the role leaves alone, and what it writes.
CONFIGURATIONS = {
    "charset.conf",
    "localized-error-pages.conf",
    "security.conf",
    "switchboard.conf",
    "switchboard-limits.conf",
}
# What Debian's apache2 switches on and the role leaves on, and the loader of Debian 12's PCRE.
MODULES = {
    *(
        "access_compat",
        "auth_basic",
        "authn_core",
        "authn_file",
        "authz_core",
        "authz_host",
        "authz_user",
    ),
    *("deflate", "filter", "negotiation", "status", "00-switchboard-pcre"),
}


def commands(deployed: dict[str, Any]) -> list[str]:
    """Return the units of the sites' commands: services, and timers in the place of what they start."""
    found = []
    for site in deployed["django"].get("sites", []):
        stem = f"django-{site['name']}."
        found += [f"{stem}{name}.timer" for name in site["timers"]]
        for name, wanted in site["services"].items():
            count = wanted.get("instances") if isinstance(wanted, dict) else None
            found += [f"{stem}{name}@{n}.service" for n in range(1, int(count or 0) + 1)]
            found += [] if count else [f"{stem}{name}.service"]
    return found


def units(deployed: dict[str, Any]) -> list[str]:
    sockets = {unit.split("@")[0] + ".socket" for unit in daphne_units(deployed)}
    return [*expected_units(deployed), *sorted(sockets), *commands(deployed)]


def shown(host: Host, unit: str, *names: str) -> dict[str, str]:
    """Return properties of a unit."""
    told = host.check_output("systemctl show --property=%s %s", ",".join(names), unit)
    return dict(line.partition("=")[::2] for line in told.splitlines())


def test_the_sites_commands_run(host: Host, deployed: dict[str, Any]) -> None:
    """The services and timers of each site run, and will start at the next boot."""
    bad = []
    for unit in commands(deployed):
        state = host.run("systemctl is-active %s; systemctl is-enabled %s", unit, unit)
        if state.stdout.split() != ["active", "enabled"]:
            bad.append(f"{unit} is {' and '.join(state.stdout.split())}\n{journal(host, unit)}")
    assert not bad, "\n".join(bad)


def test_units_are_those_that_are_written(host: Host, deployed: dict[str, Any]) -> None:
    """Each service runs with the configuration in its file, and nobody has added to it."""
    bad = []
    for unit in units(deployed):
        told = shown(host, unit, "NeedDaemonReload", "DropInPaths", "FragmentPath")
        if told["NeedDaemonReload"] != "no":
            bad.append(f"{unit} runs with another configuration than its file")
        if told["DropInPaths"] != DROPINS.get(unit, ""):
            bad.append(f"{unit} has the drop-ins {told['DropInPaths']}")
        if unit != "apache2.service" and not told["FragmentPath"].startswith(f"{OURS}/"):
            bad.append(f"{unit} is {told['FragmentPath']}")
    assert not bad, "\n".join(bad)


def test_daphne_is_for_root_and_apache_alone(host: Host, deployed: dict[str, Any]) -> None:
    """Only Apache and root may connect to Daphne.

    Whoever connects to its port may claim any address, so no other user of the host may.
    """
    allowed = deployed["daphne"].get("port_users", [])
    if not allowed:
        pytest.skip("the ports are for every user of this host")
    ask = "python3 -c 'import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)' {} {}"
    users = {site["name"] for site in deployed["django"].get("sites", [])}
    bad = []
    for site in deployed["daphne"].get("sites", []):
        if site["asgi_module"]:
            connect = ask.format(site["address"], site["port"])
            for user in sorted(users | {"nobody"} | set(allowed)):
                told = host.run(f"runuser -u {user} -- " + connect)
                if user in allowed and told.rc:
                    bad.append(f"{user} does not reach {site['name']}: {told}")
                elif user not in allowed and "ConnectionRefusedError" not in told.stderr:
                    bad.append(f"{user} reaches {site['name']}: {told}")
    assert not bad, "\n".join(bad)


def test_no_unit_of_ours_leads_nowhere(host: Host) -> None:
    """No link among the units leads nowhere."""
    assert host.check_output("find %s -xtype l ! -lname /dev/null", OURS) == ""


def test_apache_has_no_foreign_configuration(host: Host, deployed: dict[str, Any]) -> None:
    """Apache has no site, configuration or module that nobody asked for."""
    if not deployed["apache"]:
        pytest.skip("no Apache on this host")
    ours = {
        "sites-enabled": {f"{site['name']}.conf" for site in deployed["apache"]["sites"]}
        | {"000-catch-all.conf", "000-status.conf"},
        "conf-enabled": CONFIGURATIONS,
        "mods-enabled": MODULES | set(deployed["apache"]["modules"]),
    }
    foreign = []
    for folder, known in ours.items():
        found = host.check_output("ls /etc/apache2/%s", folder).split()
        if folder == "mods-enabled":
            found = [name.removesuffix(".load") for name in found if name.endswith(".load")]
        foreign += [f"{folder}: {name}" for name in found if name not in known]
    assert foreign == []


def test_the_sites_users_have_no_more_rights_than_others(
    host: Host, deployed: dict[str, Any]
) -> None:
    """The users of the sites have no more rights than others."""
    bad = []
    for site in deployed["django"].get("sites", []):
        name = site["name"]
        groups = host.check_output("id -nG %s", name)
        if groups != name:
            bad.append(f"{name} is in other groups: {groups}")
        shell = host.user(name).shell
        if shell not in ("/usr/sbin/nologin", "/bin/false"):
            bad.append(f"{name} may log in: {shell}")
        special = host.check_output(
            "find %s -perm /6000 -not -path '*/data/*' -print", f"/srv/{name}"
        )
        if special:
            bad.append(f"set-uid or set-gid: {special}")
        if host.exists("sudo"):
            told = host.run("sudo -n -l -U %s", name).stdout
            if "not allowed to run sudo" not in told:
                bad.append(f"{name} may use sudo: {told}")
    assert not bad, "\n".join(bad)


def test_code_configuration_and_programs_are_not_the_sites(
    host: Host, deployed: dict[str, Any]
) -> None:
    """A site may not write code, configuration or programs."""
    bad = []
    for site in deployed["django"].get("sites", []):
        name = site["name"]
        places = (
            f"/srv/{name}/releases /srv/{name}/venvs /etc/switchboard /etc/apache2 {LIBRARY} {OURS}"
        )
        found = host.check_output(
            f"find {places} ! -type l \\( -user {name} -o -perm -o=w -o -group {name} -perm -g=w \\) -print"
        )
        bad += [f"{name} may write {path}" for path in found.splitlines()[:20]]
    assert not bad, "\n".join(bad)


def test_the_deployed_settings_are_not_those_of_debugging(
    host: Host, deployed: dict[str, Any]
) -> None:
    """Each site has DEBUG off and no migration is missing.

    Asked as the site's user, with the site's environment, as its commands are.
    """
    bad = []
    for site in deployed["django"].get("sites", []):
        name = site["name"]
        folder = f"/srv/{name}/current"
        run = (
            "systemd-run --quiet --pipe --wait --collect --uid={0} --gid={0} --working-directory={1}/app/{2} "
            "--setenv=PYTHONDONTWRITEBYTECODE=1 --property='EnvironmentFile=-/etc/switchboard/{0}/*.env' "
            "{1}/venv/bin/python "
        ).format(name, folder, site["project_dir"])
        debug = (
            "import django; django.setup(); from django.conf import settings; print(settings.DEBUG)"
        )
        if host.check_output(run + "-c %s", debug) != "False":
            bad.append(f"{name} has DEBUG on")
        if site["migrate"]:
            plan = host.run(run + "manage.py migrate --check")
            if plan.rc:
                bad.append(f"{name} lacks migrations:\n{plan.stdout}{plan.stderr}")
    assert not bad, "\n".join(bad)
