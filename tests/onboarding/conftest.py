"""Two fresh servers, Debian 13 and 12, in a network with IPv4 and IPv6. Nothing but the images has to be there.

Each has what is hard about fresh servers: make_debian13 and make_debian12 say what. `managed13` and `managed12` are
the same after their first onboarding, with that run. That of Debian 13 is typed as docs/first-server.md has it, and the
last tests type the rest of that page.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.onboarding.guide import Terminal, Typed, commands
from tests.onboarding.server import NETWORK, PASSWORD, ROOT, SUBNET, Run, Server, docker, until

Managed = tuple[Server, Run]
GUIDE = ROOT / "docs" / "first-server.md"
ADDRESS = "192.0.2.10"  # the guide's server
NEW_PASSWORD = "second-Secret-of-r00t"
# What onboarding asks, and what the guide's reader types.
ANSWERS = {
    r"Is it the server's\?": "yes",
    r"logs in at .* the first time\?": "",
    r"Its password": PASSWORD,
    r"wants a new password": NEW_PASSWORD,
}
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
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bundle as somebody has it who cloned it and ran `make setup`."""
    folder = tmp_path_factory.mktemp("newcomer") / "switchboard"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (ROOT / ".cache").mkdir(exist_ok=True)
    for name in (".venv", ".cache"):  # made by others already, which spares the downloads
        (folder / name).symlink_to(ROOT / name)
    author = ["-c", "user.name=newcomer", "-c", "user.email=newcomer@example.org"]
    for words in (["init", "-q"], ["add", "-A"], [*author, "commit", "-q", "-m", "Clone"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


class Reader:
    """Somebody who types what docs/first-server.md says, one command after another."""

    def __init__(self, server: Server, terminal: Terminal) -> None:
        self.server, self.terminal = server, terminal
        self.left = commands(GUIDE)

    def type(self, wanted: str) -> Typed:
        """Type the next command, which has to begin so, and see that it succeeds and prints what the guide shows."""
        assert self.left, f"{GUIDE.name} has no command for {wanted!r} any more"
        command, shown = self.left.pop(0)
        assert command.startswith(wanted), f"{GUIDE.name} has {command!r}, not {wanted!r}"
        typed = self.terminal.type(command.replace(ADDRESS, self.server.address))
        print(f"$ {typed.command}\n{typed.output}\n[{typed.seconds:.0f} s]")  # where a test fails
        assert typed.code == 0, f"{command}: {typed.code}\n{typed.output[-5000:]}"
        assert not (lacking := typed.lacks(shown)), f"{command}: {lacking}\n{typed.output[-5000:]}"
        return typed

    def until(self, wanted: str) -> Typed:
        """Type all commands up to the next one that begins so."""
        while self.left and not self.left[0][0].startswith(wanted):
            self.type("")
        return self.type(wanted)


@pytest.fixture(scope="session")
def reader(fresh: tuple[Server, Server], bundle: Path) -> Iterator[Reader]:
    """Return who follows the guide on Debian 13, with a key where the guide says."""
    server, home = fresh[0], bundle.parent
    (home / ".ssh").mkdir(mode=0o700)
    for path in (server.key, server.key.with_suffix(".pub")):
        shutil.copy(path, home / ".ssh")
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("ANSIBLE_", "VIRTUAL_ENV", "PYTEST_"))
    }
    # no Ansible but the one that the guide leads to
    there = [
        folder
        for folder in kept["PATH"].split(os.pathsep)
        if not (Path(folder) / "ansible-playbook").exists()
    ]
    kept["PATH"] = os.pathsep.join(there)
    # ssh takes the home from the accounts, not from the environment: an agent has the key
    agent = home / "agent"
    own = {"HOME": str(home), "SSH_AUTH_SOCK": str(agent), "ANSIBLE_NOCOLOR": "1"}
    own["PYTHON"] = str(ROOT / ".venv" / "bin" / "python")  # which may be of a home
    with subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(agent)], stdout=subprocess.DEVNULL
    ) as running:
        try:
            assert until(agent.is_socket, 10)
            subprocess.run(["ssh-add", "-q", str(server.key)], env={**kept, **own}, check=True)
            with Terminal(bundle, {**kept, **own}, ANSWERS) as terminal:
                yield Reader(server, terminal)
        finally:
            running.terminate()


@pytest.fixture(scope="session")
def managed13(reader: Reader, bundle: Path) -> Managed:
    """Return Debian 13 after its onboarding with a password, while somebody else installs packages."""
    server = reader.server
    server.shell(f"systemd-run --quiet --unit=upgrades perl -e '{HOLD}'")
    typed = reader.until("make onboard")
    server.bundle = bundle
    return server, Run(typed.code, typed.output, typed.seconds)


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
