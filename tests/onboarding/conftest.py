"""Two fresh servers, Debian 13 and 12, in a network with IPv4 and IPv6. Nothing but the images has to be there.

Each has what is hard about fresh servers: make_debian13 and make_debian12 say what. `managed13` and `managed12` are
the same after their first onboarding, with that run.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.onboarding.server import NETWORK, PASSWORD, SUBNET, Run, Server, docker

Managed = tuple[Server, Run]
NEW_PASSWORD = "second-Secret-of-r00t"
# Until the run has looked at the server, which makes this folder, and three seconds more; a minute at most.
CLOUD_INIT = """#cloud-config
runcmd: [[sh, -c, "for i in $(seq 60); do test -e /root/.ansible/tmp && break; sleep 1; done; sleep 3"]]
"""
# Another who installs packages holds this lock (fcntl(2)) until the run's apt-get waits for it; in Perl, which each
# Debian has.
HOLD = """
use Fcntl; open(F, ">", "/var/lib/dpkg/lock-frontend") or die;
my $lock = pack("s s x4 q q i x4", F_WRLCK, 0, 0, 0, 0);
fcntl(F, F_SETLK, $lock) or die;
for (1 .. 60) { last if grep { open(C, $_) && <C> =~ /^apt-get/ } glob("/proc/[0-9]*/comm"); sleep 1; }
sleep 4;
"""


@pytest.fixture(scope="session")
def network() -> Iterator[None]:
    docker(
        "network", "create", "--ipv6", "--subnet", SUBNET, NETWORK, check=False
    )  # what a killed run left is as good
    yield
    docker("network", "rm", NETWORK, check=False)


def make_debian13(server: Server) -> None:
    """Make Debian 13: root with a password that has to be changed; neither Python nor sudo."""
    server.create()
    server.shell("systemctl enable --now ssh.service; chage --lastday 0 root")
    server.shell(
        "apt-get -q -y purge python3-minimal sudo > /dev/null 2>&1; ! test -e /usr/bin/python3"
    )


def make_debian12(server: Server) -> None:
    """Make Debian 12: a user with a key and sudo; sshd as a socket on another port; cloud-init, as soon as it boots."""
    server.create()
    server.shell(f"""
    useradd --create-home --shell /bin/bash debian
    echo 'debian ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/90-cloud-init-users
    install -d -m 700 -o debian -g debian /home/debian/.ssh
    echo '{server.key.with_suffix(".pub").read_text().strip()}' > /home/debian/.ssh/authorized_keys
    chown debian:debian /home/debian/.ssh/authorized_keys
    mkdir /etc/systemd/system/ssh.socket.d
    printf '[Socket]\nListenStream=\nListenStream=2222\n' > /etc/systemd/system/ssh.socket.d/port.conf
    systemctl disable ssh.service 2>/dev/null
    systemctl enable ssh.socket
    apt-get -q -y install --no-install-recommends cloud-init > /dev/null 2>&1
    printf 'datasource_list: [NoCloud, None]\nssh_deletekeys: false\n' > /etc/cloud/cloud.cfg.d/90-test.cfg
    mkdir -p /var/lib/cloud/seed/nocloud
    printf '%s' '{CLOUD_INIT}' > /var/lib/cloud/seed/nocloud/user-data
    echo 'instance-id: one' > /var/lib/cloud/seed/nocloud/meta-data
    """)


@pytest.fixture(scope="session")
def fresh(
    network: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Server]]:
    """Return the two servers as they are handed over."""
    servers = [
        Server("13", tmp_path_factory.mktemp("debian13")),
        Server("12", tmp_path_factory.mktemp("debian12"), port=2222),
    ]
    try:
        with ThreadPoolExecutor() as pool:
            made = [
                pool.submit(make, server)
                for make, server in zip((make_debian13, make_debian12), servers, strict=True)
            ]
        for one in made:
            one.result()
        yield servers[0], servers[1]
    finally:
        for server in servers:
            server.remove()


@pytest.fixture(scope="session")
def managed13(fresh: tuple[Server, Server]) -> Managed:
    """Return Debian 13 after its onboarding with a password, while somebody else installs packages."""
    server, _ = fresh
    server.shell(f"systemd-run --quiet --unit=upgrades perl -e '{HOLD}'")
    run = server.onboard(
        onboard_user="root",
        onboard_password=PASSWORD,
        onboard_new_password=NEW_PASSWORD,
        onboard_fingerprint=server.fingerprint(),
    )
    return server, run


@pytest.fixture(scope="session")
def managed12(fresh: tuple[Server, Server], managed13: Managed) -> Managed:
    """Return Debian 12 after its onboarding with a key, by way of the other server and while cloud-init is at work."""
    server, jump = fresh[1], managed13[0]
    config = server.folder / "ssh_config"
    config.write_text(
        f"Host *\n  UserKnownHostsFile {jump.inventory / 'known_hosts.txt'}\n  IdentityFile {jump.key}\n"
    )
    server.given = {"onboard_jump": f"admin@{jump.address}", "onboard_ssh_options": f"-F {config}"}
    fingerprint = server.fingerprint()
    server.restart()
    run = server.onboard(
        onboard_user="debian", onboard_password="", onboard_fingerprint=fingerprint
    )
    return server, run
