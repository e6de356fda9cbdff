"""From the provider's log-in to a managed server that locks nobody out."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml

from tests.onboarding.conftest import NEW_PASSWORD, Managed, Reader
from tests.onboarding.server import PASSWORD, ROLE, ROOT, Run, Server, docker, until

# Seconds. The goal is 60 on a machine with nothing else to do; beside other load this bound sees waits that are wrong.
LIMIT = 300.0
GUARD = 10  # seconds; the shortest that the roles allow
LONG = 60  # seconds, where the change is looked at before the host takes it back
NOWHERE = ["198.51.100.0/24"]  # RFC 5737: nobody comes from there


def refused(server: Server, user: str, *options: str) -> str:
    """Return the ways to log in that sshd leaves a user, after it refused one."""
    done = server.ssh(user, "true", *options)
    assert done.returncode == 255, f"{user} gets in"
    found = re.search(r"Permission denied \((.*?)\)", done.stderr)
    assert found, done.stderr
    return found[1]


def confirmed(server: Server) -> bool:
    """Return whether no change waits for its confirmation."""
    return not server.shell(
        "ls /var/lib/switchboard/guard; ls /etc/systemd/system | grep guard", check=False
    ).strip()


# -- the way in -----------------------------------------------------------------------------------------


def test_a_password_that_has_to_be_changed_on_a_server_without_python(managed13: Managed) -> None:
    server, run = managed13
    run.succeeds()
    run.says(
        "perl (process ", "installs packages on this host; this run waits for it, 600 s at most."
    )
    assert run.seconds < LIMIT
    assert server.lets_admin_in()
    shown = run.output + (server.inventory / "hosts.yml").read_text()
    assert PASSWORD not in shown
    assert NEW_PASSWORD not in shown


def test_a_key_through_another_host_on_a_server_with_cloud_init(
    managed12: Managed, managed13: Managed
) -> None:
    server, run = managed12
    run.succeeds()
    run.says("cloud-init still sets this host up; this run waits for it")
    assert run.seconds < LIMIT
    entry = yaml.safe_load((server.inventory / "hosts.yml").read_text())["switchboard"]["hosts"][
        "server1"
    ]
    assert "-J admin@" in entry["ansible_ssh_common_args"]
    assert entry["ansible_port"] == server.port
    # every log-in came from the other server
    log = server.shell(
        "journalctl --output=cat --unit=ssh.service --unit=ssh@* | grep 'Accepted publickey'",
        check=False,
    )
    assert {line.split(" from ")[1].split()[0] for line in log.splitlines()} == {
        managed13[0].address
    }, log


@pytest.mark.parametrize("managed", ["managed13", "managed12"])
def test_a_second_run_changes_nothing(
    managed: str, reader: Reader, request: pytest.FixtureRequest
) -> None:
    server, _ = request.getfixturevalue(managed)
    look = "nft list table inet switchboard_firewall; systemctl show -p MainPID ssh.service"
    before = server.shell(look)
    if server is reader.server:
        typed = reader.type("make onboard")
        Run(typed.code, typed.output, typed.seconds).changes_nothing()
    else:
        server.onboard().changes_nothing()
    assert server.shell(look) == before


def test_verify_reaches_a_host_behind_another_by_the_inventory(
    managed12: Managed, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _ = managed12
    monkeypatch.setenv("ANSIBLE_CONFIG", str(ROOT / "ansible.cfg"))
    host = testinfra.get_host("ansible://server1", ansible_inventory=str(server.inventory))
    assert host.check_output("id -u") == "0"


@pytest.mark.parametrize("managed", ["managed13", "managed12"])
def test_only_the_administrators_key_gets_in(managed: str, request: pytest.FixtureRequest) -> None:
    server, _ = request.getfixturevalue(managed)
    assert server.lets_admin_in()
    for user in ("root", "admin"):
        assert refused(server, user, "-o", "PubkeyAuthentication=no") == "publickey"
    # root has this key on neither; with it, sshd's configuration alone keeps it out
    server.shell("mkdir -p -m 700 /root/.ssh; cp /home/admin/.ssh/authorized_keys /root/.ssh/")
    refused(server, "root")


# -- nobody is locked out -------------------------------------------------------------------------------


def test_rules_that_lock_the_run_out_are_taken_back(managed13: Managed) -> None:
    server = managed13[0]
    run = server.onboard(
        ROLE, role="firewall", firewall_ssh_from=NOWHERE, firewall_guard_timeout=2 * GUARD
    )
    assert run.code == 2
    run.says("firewall_ssh_from", "it has taken the change back and is as it was before")
    assert server.lets_admin_in()
    assert confirmed(server)


def test_a_run_killed_after_the_rules_and_a_reboot_lock_nobody_out(managed13: Managed) -> None:
    server = managed13[0]
    run = server.onboard(
        ROLE,
        stop_after="firewall : Load the rules",
        role="firewall",
        firewall_ssh_from=NOWHERE,
        firewall_guard_timeout=LONG,
    )
    assert run.code == -signal.SIGKILL, run.output[-3000:]
    assert not server.lets_admin_in(), "the rules are not loaded, so there is nothing to take back"
    server.restart()  # at the provider's console
    assert until(server.lets_admin_in, LONG + 90)
    assert confirmed(server)


@pytest.mark.soak
def test_a_run_killed_after_the_change_of_sshd_locks_nobody_out(managed13: Managed) -> None:
    server = managed13[0]
    run = server.onboard(
        ROLE,
        role="access",
        stop_after="access : Let sshd run with what is written",
        access_sshd={"AllowUsers": "nobody"},
        access_guard_timeout=LONG,
    )
    assert run.code == -signal.SIGKILL, run.output[-3000:]
    assert not server.lets_admin_in(), (
        "sshd does not run with the change, so there is nothing to take back"
    )
    assert until(server.lets_admin_in, LONG + 90)
    assert confirmed(server)


@pytest.mark.soak
def test_an_sshd_that_does_not_start_with_a_change_runs_again_once_that_is_taken_back(
    managed13: Managed,
) -> None:
    server = managed13[0]
    taken = 8001
    server.shell(f"systemd-run --quiet --unit=taken python3 -m http.server {taken} --bind ::")
    try:
        assert until(lambda: f":{taken} " in server.shell("ss -ltn"), 30)
        run = server.onboard(
            ROLE, role="access", access_sshd={"Port": taken}, access_guard_timeout=LONG
        )
        assert run.code == 2, run.output[-3000:]
        run.says("ssh.service", f"Bind to port {taken} on 0.0.0.0 failed")
        assert until(server.lets_admin_in, LONG + 90)
        assert confirmed(server)
    finally:
        server.shell("systemctl stop taken")


@pytest.mark.parametrize(
    ("managed", "sshd", "told"),
    [
        (
            "managed13",
            {"ListenAddress": "198.51.100.9"},
            "the host has no such address, so sshd would not start.",
        ),
        # the first one that sshd reads wins from Debian 13 on
        (
            "managed12",
            {"Subsystem": "sftp internal-sftp"},
            "/usr/sbin/sshd -t refuses them: /etc/ssh/sshd_config",
        ),
    ],
    ids=["address", "subsystem"],
)
def test_what_sshd_would_not_start_with_is_refused_at_once(
    managed: str, sshd: dict[str, str], told: str, request: pytest.FixtureRequest
) -> None:
    server, _ = request.getfixturevalue(managed)
    look = "cat /etc/ssh/sshd_config.d/*; systemctl show --property=MainPID ssh.service"
    before = server.shell(look)
    run = server.onboard(ROLE, role="access", access_sshd=sshd)
    assert run.code == 2, run.output[-3000:]
    run.says(told)
    assert server.shell(look) == before
    assert confirmed(server)
    assert server.lets_admin_in()


@pytest.mark.soak
def test_what_a_killed_run_left_is_confirmed_by_the_next_one(managed13: Managed) -> None:
    server = managed13[0]
    given: dict[str, Any] = {
        "role": "access",
        "access_sshd": {"MaxAuthTries": 5},
        "access_guard_timeout": 60,
    }
    run = server.onboard(
        ROLE, stop_after="access : Write how people log in and become root", **given
    )
    assert run.code == -signal.SIGKILL, run.output[-3000:]
    assert not confirmed(server)
    server.onboard(ROLE, **given).succeeds()
    assert confirmed(server)
    assert "maxauthtries 5" in server.shell("sshd -T")


# As soon as a change waits for its confirmation, nothing comes and goes any more until the host has taken it back.
CUT = """
for i in $(seq 1200); do ls /var/lib/switchboard/guard 2>/dev/null | grep -q . && break; sleep 0.1; done
nft -f - <<END
table inet cut {
  chain in { type filter hook input priority -400; iif != lo drop; }
  chain out { type filter hook output priority -400; oif != lo drop; }
}
END
sleep %d
nft delete table inet cut
"""


@pytest.mark.soak
@pytest.mark.parametrize(
    ("role", "change", "look"),
    [
        ("access", {"access_sshd": {"MaxAuthTries": 3}}, "sshd -T | grep maxauthtries"),
        (
            "firewall",
            {"firewall_allow": [{"port": 8001, "comment": "of a test"}]},
            "nft list table inet switchboard_firewall",
        ),
    ],
    ids=["sshd", "nftables"],
)
def test_a_network_that_is_cut_after_a_change_locks_nobody_out(
    managed13: Managed, role: str, change: dict[str, Any], look: str
) -> None:
    server = managed13[0]
    before = server.shell(look)
    cut = shlex.quote(CUT % (GUARD + 10))
    server.shell(f"systemd-run --quiet --collect --unit=cut sh -c {cut}")
    given: dict[str, Any] = {"role": role, **change, f"{role}_guard_timeout": GUARD}
    run = server.onboard(ROLE, **given)
    assert run.code != 0, run.output[-3000:]
    assert until(server.lets_admin_in, 60)
    assert confirmed(server)
    assert until(lambda: "cut" not in server.shell("nft list tables"), GUARD + 20)
    assert server.shell(look) == before


# -- refusals -------------------------------------------------------------------------------------------


def test_another_host_key_than_the_pinned_one_ends_the_run(managed13: Managed) -> None:
    server = managed13[0]
    known = server.inventory / "known_hosts.txt"
    pinned = known.read_text()
    other = docker(
        "exec",
        server.name,
        "sh",
        "-c",
        "ssh-keygen -q -t ed25519 -N '' -f /root/other; cat /root/other.pub",
    )
    known.write_text(f"{server.address} {' '.join(other.split()[:2])}\n")
    try:
        run = server.onboard()
    finally:
        known.write_text(pinned)
    assert run.code == 2
    run.says("the server shows another key than")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {
                "onboard_fingerprint": "SHA256:wrong",
                "onboard_name": "server2",
                "onboard_groups": [],
            },
            "onboard_fingerprint is SHA256:wrong",
        ),
        (
            {
                "onboard_name": "server2",
                "onboard_groups": [],
                "onboard_inventory": "inventory/single",
            },
            "that one belongs to the bundle",
        ),
        ({"onboard_host": "198.51.100.7"}, "has server1 at"),
        ({"onboard_name": "server2"}, "onboard_groups is empty"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_is_refused(managed13: Managed, given: dict[str, Any], told: str) -> None:
    server = managed13[0]
    if "onboard_fingerprint" in given:
        (server.inventory / "known_hosts.txt").rename(server.folder / "away")
    try:
        run = server.onboard(**given)
    finally:
        if "onboard_fingerprint" in given:
            (server.folder / "away").rename(server.inventory / "known_hosts.txt")
    assert run.code == 2
    run.says(told)


# -- the long forms -------------------------------------------------------------------------------------

# Every task of a first onboarding that changes something, in order; the guards' tasks change nothing.
TASKS = (
    "Pin the key",
    "Write how it is reached and what it shall have",
    "access : Create the administrator",
    "access : Authorise its keys",
    "access : Let it use sudo",
    "base : Install the packages of this role, and of those whose preflight has passed",
    "base : Name the host",
    "base : Write the settings of time zone, locale, logins, journal, clock and upgrades",
    "base : Restart what runs with older settings, of this run or one that was interrupted",
    "access : Write how people log in and become root",
    "access : Let sshd run with what is written",
    "firewall : Write the rules, and what loads them",
    "firewall : Load the rules",
)


@pytest.fixture
def another(network: None, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """Return a fresh server: root with a password and with the key."""
    server = Server(request.param, tmp_path, suffix="-again")
    try:
        server.create()
        key = server.key.with_suffix(".pub").read_text()
        server.shell(
            f"mkdir -m 700 -p /root/.ssh; echo '{key.strip()}' > /root/.ssh/authorized_keys; "
            "systemctl enable --now ssh.service"
        )
        server.given = {"onboard_fingerprint": server.fingerprint(), "onboard_user": "root"}
        yield server
    finally:
        server.remove()


@pytest.mark.soak
@pytest.mark.parametrize("another", ["13", "12"], indirect=True)
def test_a_run_killed_at_any_task_lets_somebody_in(another: Server) -> None:
    guards: dict[str, Any] = {"access_guard_timeout": GUARD, "firewall_guard_timeout": GUARD}
    for task in TASKS:
        run = another.onboard(stop_after=task, onboard_password=PASSWORD, **guards)
        assert run.code == -signal.SIGKILL, f"{task}: {run.output[-3000:]}"
        anybody = another.lets_admin_in() or another.lets_password_in("root", PASSWORD)
        assert anybody or until(another.lets_admin_in, GUARD + 20), (
            f"killed at {task!r}: nobody gets in"
        )
    another.onboard(onboard_password=PASSWORD).succeeds()
    another.onboard().changes_nothing()


@pytest.mark.soak
@pytest.mark.parametrize("another", ["12"], indirect=True)
def test_sudo_asks_for_a_password_where_it_shall(another: Server) -> None:
    given: dict[str, Any] = {
        "onboard_sudo_asks": True,
        "onboard_sudo_password": "a-Password-of-sudo",
    }
    another.onboard(onboard_password=PASSWORD, **given).succeeds()
    assert another.ssh("admin", "true").returncode == 0
    assert not another.lets_admin_in(), "sudo asks nothing"
    another.onboard(**given).changes_nothing()
    wrong = another.onboard(
        **given | {"onboard_sudo_password": "wrong", "onboard_password": PASSWORD}
    )
    assert wrong.code != 0


@pytest.mark.soak
@pytest.mark.parametrize("another", ["13"], indirect=True)
def test_root_with_a_key_and_a_look_beforehand(another: Server) -> None:
    look = another.onboard(onboard_password="", check=True)
    look.succeeds()
    look.says("can be onboarded: root gets in and becomes root")
    assert another.shell("getent passwd admin", check=False) == ""
    another.onboard(onboard_password="").succeeds()
    another.onboard(check=True).changes_nothing()
    assert another.lets_admin_in()
