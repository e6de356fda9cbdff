"""Each service runs, is enabled, and runs as the user it should; Apache alone is open to the outside."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest
from testinfra.host import Host

from plugins.module_utils.wsgi_group import title
from tests.behaviour.conftest import ROOT, comes_back_after_a_kill, journal, main_pid

REPLACED = (ROOT / "plugins/module_utils/replaced_files.py").read_text(encoding="utf-8")
# What a run leaves alone until it is told, since visitors notice.
ASKED = ("apache2.", "postgresql@", "valkey-")


def daphne_units(deployed: dict[str, Any]) -> list[str]:
    return [
        f"daphne-{site['name']}@{n}.service"
        for site in deployed["daphne"].get("sites", [])
        if site["asgi_module"]
        for n in range(1, site["instances"] + 1)
    ]


def expected_units(deployed: dict[str, Any]) -> dict[str, str]:
    """Map each unit that must run to the user of its main process."""
    units = {}
    if deployed["zookeeper"]:
        units["zookeeper.service"] = "zookeeper"
    if deployed["kafka"]:
        units["kafka.service"] = "kafka"
    if deployed["apache"]:
        units["apache2.service"] = "root"  # binds port 80, serves nothing itself
    for unit in daphne_units(deployed):
        units[unit] = unit.removeprefix("daphne-").split("@")[0]
    for site in deployed["valkey"].get("sites", []):
        if site["enabled"]:
            units[f"valkey-{site['name']}.service"] = site["name"]
    if deployed["logs"]:
        units["switchboard-logs.service"] = "switchboard-logs"
    return units


def test_every_unit_runs_and_is_enabled(host: Host, deployed: dict[str, Any]) -> None:
    """Every service runs, and will start at the next boot."""
    guards = ["switchboard-daphne-ports.service"] if deployed["daphne"].get("port_users") else []
    bad = []
    for unit in [*expected_units(deployed), *guards]:
        state = host.run(
            "systemctl is-active %s; systemctl is-enabled %s", unit, unit
        ).stdout.split()
        if state != ["active", "enabled"]:
            bad.append(f"{unit}: {state}\n{journal(host, unit)}")
    assert not bad, "\n".join(bad)


def test_no_unit_has_failed(host: Host) -> None:
    """No unit of the host has failed."""
    failed = host.check_output("systemctl list-units --state=failed --plain --no-legend")
    assert failed == "", failed


def test_no_service_runs_what_an_upgrade_has_replaced(host: Host, deployed: dict[str, Any]) -> None:
    """Each service runs the programs and libraries that are on the disk, and none that an upgrade has replaced."""
    found, unseen = json.loads(host.check_output("python3 -I -c %s", REPLACED))
    units = list(expected_units(deployed))
    states = host.run(f"systemctl is-active {' '.join(units)}").stdout.split()
    running = {unit for unit, state in zip(units, states, strict=True) if state == "active"}
    lacking = sorted(running - {*found, *unseen})
    assert not lacking, f"no process was found of {lacking}"
    assert not unseen, f"root may not look at the processes of {unseen}: CAP_SYS_PTRACE is lacking"
    remedies = {
        True: "`playbooks/restart.yml --tags upgraded` restarts it",
        False: "`site.yml` restarts it",
    }
    bad = [
        f"{unit} runs {', '.join(files)} as before an upgrade: {remedies[unit.startswith(ASKED)]}"
        for unit, files in found.items()
        if files
    ]
    assert not bad, "\n".join(bad)


def test_daphne_sockets_are_held_by_systemd(host: Host, deployed: dict[str, Any]) -> None:
    """systemd holds Daphne's sockets open, so that no handshake is lost in a restart."""
    for unit in {unit.split("@")[0] + ".socket" for unit in daphne_units(deployed)}:
        state = host.run(
            "systemctl is-active %s; systemctl is-enabled %s", unit, unit
        ).stdout.split()
        assert state == ["active", "enabled"], f"{unit}: {state}\n{journal(host, unit)}"


def test_each_instance_of_daphne_answers(host: Host, deployed: dict[str, Any]) -> None:
    """Each instance of Daphne answers a WebSocket handshake.

    Asked at its own socket: the port is shared by all, and a neighbour would answer for one that hangs.
    """
    bad = []
    for site in deployed["daphne"].get("sites", []):
        for number in range(1, site["instances"] + 1) if site["asgi_module"] else []:
            told = host.run(
                "/usr/local/lib/switchboard/handshake.py --host %s --timeout 20 /run/daphne-%s/%s/daphne.sock %s",
                site["health_host"],
                site["name"],
                str(number),
                site["health_path"],
            )
            if told.rc:
                unit = f"daphne-{site['name']}@{number}.service"
                bad.append(f"{unit} does not answer: {told.stderr}\n{journal(host, unit)}")
    assert not bad, "\n".join(bad)


def test_a_site_without_websockets_has_no_daphne(host: Host, deployed: dict[str, Any]) -> None:
    """A site without WebSockets has no Daphne."""
    for site in deployed["daphne"].get("sites", []):
        if not site["asgi_module"]:
            assert not host.file(f"/etc/systemd/system/daphne-{site['name']}.socket").exists
            assert host.run("pgrep -u %s -f daphne", site["name"]).rc == 1


def test_main_processes_run_as_their_own_user(host: Host, deployed: dict[str, Any]) -> None:
    """Each service runs as its own user."""
    for unit, user in expected_units(deployed).items():
        pid = host.check_output("systemctl show --property MainPID --value %s", unit)
        assert pid != "0", f"{unit} has no main process\n{journal(host, unit)}"
        assert host.check_output("ps -o user:40= -p %s", pid).strip() == user


def test_units_are_sandboxed(host: Host, deployed: dict[str, Any]) -> None:
    """Each service runs in a sandbox.

    systemd's own measure of exposure, 0 to 10; Apache and certbot begin as root, all others as their own
    user.
    """
    limits = dict.fromkeys(expected_units(deployed), 2.0)
    limits |= {unit: 4.0 for unit in ("apache2.service", "certbot.service") if unit in limits}
    if host.file("/lib/systemd/system/certbot.service").exists:
        limits["certbot.service"] = 4.0
    for unit, limit in limits.items():
        told = host.check_output("systemd-analyze security --no-pager %s", unit).splitlines()[-1]
        measured = float(told.split(":")[1].split()[0])
        assert measured <= limit, f"{unit}: {told}"


def test_apache_writes_where_it_must_and_nowhere_else(host: Host, deployed: dict[str, Any]) -> None:
    """Apache may write where it must and nowhere else.

    Asked as root in Apache's own view of the file system, where permissions alone would forbid nothing.
    """
    if not deployed["apache"]:
        pytest.skip("no Apache on this host")
    inside = "nsenter --mount --target $(cat /run/apache2/apache2.pid) -- "
    must = ["/run/apache2", "/var/log/apache2"]
    must += [f"/srv/{site['name']}/data" for site in deployed["apache"]["sites"]]
    for folder in must:
        assert host.run(inside + "test -w %s", folder).rc == 0, f"{folder} is read-only"
    for folder in ["/etc", "/usr/local/lib", "/srv", "/var/lib", "/boot"]:
        assert host.run(inside + "test -w %s", folder).rc == 1, f"{folder} may be written to"
    assert host.check_output(inside + "find /home /root -mindepth 1") == ""


def test_wsgi_processes_run_as_the_sites_user(host: Host, deployed: dict[str, Any]) -> None:
    """Django's processes run as the site's user."""
    processes = [
        line.split(None, 1) for line in host.check_output("ps -eo user:40=,args=").splitlines()
    ]
    for site in deployed["apache"].get("sites", []):
        users = {user for user, command in processes if title(site["name"]) in command}
        assert users == {site["name"]}, f"no process is named {title(site['name'])}"


def test_apache_children_are_not_root(host: Host, deployed: dict[str, Any]) -> None:
    """The processes of Apache that serve do not run as root."""
    if deployed["apache"]:
        main = host.check_output("systemctl show --property MainPID --value apache2.service")
        found = host.check_output("ps -o user:40=,args= --ppid %s", main).splitlines()
        users = {line.split()[0] for line in found if "rotatelogs" not in line}
        assert users
        assert "root" not in users


def listening(host: Host) -> list[tuple[str, int, str]]:
    """Return (address, port, process) of every listening TCP and bound UDP socket, but for answers of DHCP."""
    rows = []
    for line in host.check_output("ss -Hlntup").splitlines():
        fields = line.split()
        local, process = fields[4], fields[6] if len(fields) > 6 else ""
        where, port = local.rsplit(":", 1)
        if fields[0] == "udp" and port in ("68", "546"):
            continue
        rows.append((where.split("%")[0].strip("[]"), int(port), process))
    return rows


def test_only_apache_and_ssh_listen_outside(host: Host, deployed: dict[str, Any]) -> None:
    """Only Apache and SSH can be reached from the network."""
    rows = listening(host)
    ports = set(deployed["apache"].get("ports", []))
    outside = [
        row
        for row in rows
        if row[0] in ("*", "0.0.0.0", "::") or not ipaddress.ip_address(row[0]).is_loopback
    ]
    strangers = [row for row in outside if not ('"apache2"' in row[2] and row[1] in ports)]
    strangers = [row for row in strangers if not ('"sshd"' in row[2] or row[1] == 22)]
    balancer = {deployed["loadbalancer"].get(name) for name in ("http_port", "https_port")}
    strangers = [row for row in strangers if not ('"haproxy"' in row[2] and row[1] in balancer)]
    # for others of the inventory, where it has any and the firewall lets nobody else in
    strangers = [
        (where, port, process)
        for where, port, process in strangers
        if where != deployed["private_address"] or port not in deployed["firewall"]["services"]
    ]
    # the administrator's own, as firewall_allow names them: 8000, or 8000-8010
    ranges = [str(ports).split("-") for ports in deployed["firewall"]["allowed"]]
    strangers = [
        row
        for row in strangers
        if not any(int(span[0]) <= row[1] <= int(span[-1]) for span in ranges)
    ]
    assert strangers == []
    assert ports <= {port for _, port, _ in outside}


def test_inner_ports_are_on_loopback(host: Host, deployed: dict[str, Any]) -> None:
    """Daphne, Kafka and ZooKeeper can be reached from the host, and from hosts that share a private network, alone."""
    rows = listening(host)
    inner = [site["port"] for site in deployed["daphne"].get("sites", []) if site["asgi_module"]]
    inner += [deployed["zookeeper"]["client_port"]] if deployed["zookeeper"] else []
    inner += [deployed["kafka"]["port"]] if deployed["kafka"] else []
    if deployed["kafka"].get("mode") == "kraft":
        inner.append(deployed["kafka"]["ports"][-1])  # where the brokers agree on who leads
    for wanted in inner:
        where = {address for address, port, _ in rows if port == wanted}
        assert where, f"nothing listens on port {wanted}"
        assert all(
            ipaddress.ip_address(address).is_loopback or address == deployed["private_address"]
            for address in where
        )


def test_sshd_takes_the_log_ins_of_the_inventory_alone(
    host: Host, deployed: dict[str, Any]
) -> None:
    """SSH lets root and passwords in only where the inventory says so, and the administrator may use sudo."""
    access = deployed["access"]
    if not access["user"]:
        pytest.skip("the inventory leaves the host's log-ins alone")
    said = dict(
        line.split(" ", 1)
        for line in host.check_output("/usr/sbin/sshd -T").splitlines()
        if " " in line
    )
    assert said["passwordauthentication"] == ("yes" if access["password_login"] else "no")
    assert said["permitrootlogin"] == ("without-password" if access["root_login"] else "no")
    sudo = host.check_output("sudo -l -U %s", access["user"])
    assert "(ALL : ALL)" in sudo, sudo


def test_no_change_of_the_way_in_waits_for_its_confirmation(host: Host) -> None:
    """No change of sshd or the firewall waits for a confirmation that would never come."""
    assert host.run("ls /var/lib/switchboard/guard").stdout.split() == []


def test_the_firewall_lets_in_what_the_inventory_names_alone(
    host: Host, deployed: dict[str, Any]
) -> None:
    """The firewall is loaded, closes what no rule names, and has the rules of its file."""
    if not deployed["firewall"]["enabled"]:
        pytest.skip("the inventory has no firewall")
    unit = "switchboard-firewall.service"
    assert host.check_output("systemctl is-enabled %s", unit) == "enabled"
    rules = host.check_output("nft list table inet switchboard_firewall")
    assert "policy drop" in rules
    # what is in the kernel is what the file has: loading the file would change nothing
    loaded = "nft -s list table inet switchboard_firewall"
    file = "unshare --net sh -c 'nft -f /etc/switchboard/firewall.nft && nft -s list table inet switchboard_firewall'"
    assert host.check_output(loaded) == host.check_output(file)


@pytest.mark.disruptive
def test_daphne_heals_after_a_kill(host: Host, deployed: dict[str, Any]) -> None:
    for unit in daphne_units(deployed)[:1]:
        comes_back_after_a_kill(host, unit)


# Whether the sockets of an instance never wait, all through a restart of another one (proc_pid_fdinfo(5)).
WATCH_FLAGS = """
import os, subprocess, sys
pid, unit = sys.argv[1:]
links = {fd: os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd") if int(fd) > 2}
restart = subprocess.Popen(["systemctl", "restart", unit])
seen = set()
while restart.poll() is None:
    for fd in [fd for fd, link in links.items() if link.startswith("socket:")]:
        try:
            with open(f"/proc/{pid}/fdinfo/{fd}") as file:
                flags = next(line.split()[1] for line in file if line.startswith("flags:"))
        except FileNotFoundError:  # a connection that has ended
            del links[fd]
        else:
            seen.add(bool(int(flags, 8) & os.O_NONBLOCK))
print(restart.returncode, *seen)
"""


@pytest.mark.disruptive
def test_an_instance_that_starts_leaves_the_others_at_work(
    host: Host, deployed: dict[str, Any]
) -> None:
    """All instances of a site accept from one socket: where it blocks, one of them waits for a connection for ever."""
    units = daphne_units(deployed)
    if len(units) < 2 or units[0].split("@")[0] != units[1].split("@")[0]:
        pytest.skip("no site of this host has two instances")
    first, second = units[:2]
    told = host.check_output("python3 -c %s %s %s", WATCH_FLAGS, main_pid(host, first), second)
    assert told.split() == ["0", "True"]
