"""Two fresh servers, Debian 13 and 12, in a network with IPv4 and IPv6. Nothing has to be there for these tests but the images.

Each server has what is hard about fresh ones: the fixtures `debian13` and `debian12` say what. `managed13` and `managed12` are the
same after their first onboarding, with that run.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.onboarding.server import NETWORK, PASSWORD, SUBNET, Run, Server, docker

Managed = tuple[Server, Run]
NEW_PASSWORD = "second-Secret-of-r00t"
CLOUD_INIT = """#cloud-config
runcmd: [sleep 25]
"""
# Another who installs packages holds this lock (fcntl(2)); in Perl, which each Debian has.
HOLD = """
use Fcntl; open(F, ">", "/var/lib/dpkg/lock-frontend") or die;
fcntl(F, F_SETLK, pack("s s x4 q q i x4", F_WRLCK, 0, 0, 0, 0)) or die; sleep 20;
"""


@pytest.fixture(scope="session")
def network() -> Iterator[None]:
    docker("network", "create", "--ipv6", "--subnet", SUBNET, NETWORK, check=False)  # what a killed run left is as good
    yield
    docker("network", "rm", NETWORK, check=False)


@pytest.fixture(scope="session")
def debian13(network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return Debian 13: root with a password that has to be changed; neither Python nor sudo; somebody installs packages."""
    server = Server("13", tmp_path_factory.mktemp("debian13"))
    try:
        server.create()
        server.shell("systemctl enable --now ssh.service; chage --lastday 0 root")
        server.shell("apt-get -q -y purge python3-minimal sudo > /dev/null 2>&1; ! test -e /usr/bin/python3")
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def managed13(debian13: Server) -> Managed:
    """Return Debian 13 after its onboarding with a password."""
    debian13.shell(f"systemd-run --quiet --unit=upgrades perl -e '{HOLD}'")
    run = debian13.onboard(
        onboard_user="root",
        onboard_password=PASSWORD,
        onboard_new_password=NEW_PASSWORD,
        onboard_fingerprint=debian13.fingerprint(),
    )
    return debian13, run


@pytest.fixture(scope="session")
def debian12(network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return Debian 12: a user with a key and sudo; sshd as a socket on another port; cloud-init still at work."""
    server = Server("12", tmp_path_factory.mktemp("debian12"), port=2222)
    try:
        server.create()
        server.shell(f"""
        useradd --create-home --shell /bin/bash debian
        echo 'debian ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/90-cloud-init-users
        install -d -m 700 -o debian -g debian /home/debian/.ssh
        echo '{server.key.with_suffix(".pub").read_text().strip()}' > /home/debian/.ssh/authorized_keys
        chown debian:debian /home/debian/.ssh/authorized_keys
        printf '[Socket]\\nListenStream=\\nListenStream=2222\\n' | install -D /dev/stdin /etc/systemd/system/ssh.socket.d/port.conf
        systemctl disable ssh.service 2>/dev/null
        systemctl enable ssh.socket
        apt-get -q -y install --no-install-recommends cloud-init > /dev/null 2>&1
        echo 'datasource_list: [NoCloud, None]' > /etc/cloud/cloud.cfg.d/90-test.cfg
        mkdir -p /var/lib/cloud/seed/nocloud
        printf '%s' '{CLOUD_INIT}' > /var/lib/cloud/seed/nocloud/user-data
        printf 'ssh_deletekeys: false\\n' >> /etc/cloud/cloud.cfg.d/90-test.cfg
        echo 'instance-id: one' > /var/lib/cloud/seed/nocloud/meta-data
        """)
        server.restart()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def managed12(debian12: Server, managed13: Managed) -> Managed:
    """Return Debian 12 after its onboarding with a key, by way of the other server."""
    jump = managed13[0]
    config = debian12.folder / "ssh_config"
    config.write_text(f"Host *\n  UserKnownHostsFile {jump.inventory / 'known_hosts.txt'}\n  IdentityFile {jump.key}\n")
    debian12.given = {"onboard_jump": f"admin@{jump.address}", "onboard_ssh_options": f"-F {config}"}
    run = debian12.onboard(
        onboard_user="debian", onboard_password="", onboard_fingerprint=debian12.fingerprint()
    )
    return debian12, run
