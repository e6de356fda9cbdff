"""Servers as a provider hands them over: containers with systemd and sshd, and a control node's folder with a key."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.unit.run_module import run_module

ROOT = Path(__file__).resolve().parents[2]
PREFIX = os.environ.get("ONBOARDING_HOSTS", "switchboard-onboarding")
NETWORK = f"{PREFIX}-network"
SUBNET = "fd5a:b0a4:d::/64"
PASSWORD = "first-secret-of-root"
ROLE = "tests/onboarding/role.yml"
SOAK = "SWITCHBOARD_SOAK"
CALLBACK = ROOT / "tests" / "interruptions" / "callback"

# What each of them has: the provider's file of sshd, and packages from the cache of the test hosts.
UNMOUNT = r"""
umount /etc/hostname /etc/hosts
hostname > /etc/hostname
printf '127.0.0.1 localhost\n::1 localhost\n' > /etc/hosts
"""
PREPARE = f"""
set -e
printf 'PermitRootLogin yes\\nPasswordAuthentication yes\\n' > /etc/ssh/sshd_config.d/50-cloud-init.conf
cat > /etc/apt/apt.conf.d/90test <<'END'
Binary::apt::APT::Keep-Downloaded-Packages "true";
APT::Keep-Downloaded-Packages "true";
DPkg::Post-Invoke {{ "cp -un /var/cache/apt/archives/*.deb /var/cache/switchboard-apt/ 2>/dev/null || true"; }};
END
cp -n /var/cache/switchboard-apt/*.deb /var/cache/apt/archives/ 2>/dev/null || true
apt-get -q update > /dev/null
echo 'root:{PASSWORD}' | chpasswd
ssh-keygen -A > /dev/null
"""


def docker(*words: str, check: bool = True, text: str | None = None) -> str:
    """Run docker and return what it printed."""
    done = subprocess.run(
        ["docker", *words], capture_output=True, text=True, check=False, input=text
    )
    assert not check or done.returncode == 0, f"docker {' '.join(words[:4])}: {done.stderr}"
    return done.stdout


def until(what: Callable[[], bool], seconds: float) -> bool:
    """Return whether something comes true within some seconds."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)  # between two looks, up to `seconds`; the caller asserts
    return True


@dataclass
class Run:
    """One run of ansible-playbook."""

    code: int
    output: str
    seconds: float

    def says(self, *texts: str) -> None:
        """Assert that each text stands in the output."""
        flat = " ".join(self.output.split())
        missing = [text for text in texts if text not in flat]
        assert not missing, f"not said: {missing}\n{self.output[-4000:]}"

    def succeeds(self) -> None:
        """Assert that the run failed nowhere."""
        assert self.code == 0, self.output[-5000:]

    def changes_nothing(self) -> None:
        """Assert that the run went through and changed neither the host nor the control node."""
        self.succeeds()
        told = re.findall(r"(\d+) (?:changed|would change)", self.output)
        assert told, self.output[-2000:]
        assert set(told) == {"0"}, self.output[-4000:]


@dataclass
class Server:
    """A server and the folder of whoever onboards it."""

    release: str
    folder: Path
    port: int = 22
    suffix: str = ""
    address: str = ""
    address6: str = ""
    bundle: Path = ROOT  # where its runs start
    # what each run gets with -e, beside what a test adds
    given: dict[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{PREFIX}-debian{self.release}{self.suffix}"

    @property
    def key(self) -> Path:
        return self.folder / "id_ed25519"

    @property
    def inventory(self) -> Path:
        own = self.folder / "inventory"
        return own if self.bundle == ROOT else self.bundle / "inventory" / "lab"

    def create(self) -> None:
        """Start the container and let it boot."""
        options = yaml.safe_load(
            (ROOT / "molecule/shared/host_options.yml").read_text(encoding="utf-8")
        )
        self.remove()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.inventory.mkdir()
        subprocess.run(
            [
                "ssh-keygen",
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                "admin@test",
                "-f",
                str(self.key),
            ],
            check=True,
        )
        words = [
            "run",
            "--detach",
            "--name",
            self.name,
            "--hostname",
            "fresh",
            "--network",
            NETWORK,
        ]
        words += [f"--cap-add={name}" for name in options["test_host_capabilities"]]
        words += [f"--security-opt={name}" for name in options["test_host_security_opts"]]
        words += [f"--tmpfs={name}" for name in options["test_host_tmpfs"]]
        words += [
            f"--cgroupns={options['test_host_cgroupns_mode']}",
            "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw",
        ]
        words += [f"--volume=switchboard-apt-{self.release}:/var/cache/switchboard-apt"]
        words += [
            f"--volume={path}:{path}:ro"
            for path in options["test_host_trust"]
            if Path(path).exists()
        ]
        words += ["--label=switchboard.test-host=true", "--stop-signal=SIGRTMIN+3"]
        docker(*words, f"switchboard/debian:{self.release}", options["test_host_command"])
        assert until(
            lambda: "running" in self.shell("systemctl is-system-running", check=False), 60
        )
        self.shell(UNMOUNT)  # a container's engine mounts them, and nobody could change them
        self.shell(PREPARE)
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}}{{end}}"
        self.address, self.address6 = docker("inspect", "--format", form, self.name).split()

    def restart(self) -> None:
        """Switch the server off and on again; it still boots when this returns."""
        docker("restart", self.name)
        assert until(
            lambda: bool(self.shell("systemctl is-system-running", check=False).strip()), 30
        )
        self.shell(UNMOUNT)

    def remove(self) -> None:
        """Remove the container."""
        docker("rm", "--force", "--volumes", self.name, check=False)

    def shell(self, script: str, *, check: bool = True) -> str:
        """Run a script as root by way of the engine, not over SSH, and return what it printed."""
        return docker("exec", "--interactive", self.name, "sh", "-s", check=check, text=script)

    def fingerprint(self) -> str:
        """Return what the provider's console shows."""
        return self.shell("ssh-keygen -l -f /etc/ssh/ssh_host_ed25519_key.pub").split()[1]

    def onboard(
        self,
        playbook: str = "playbooks/onboard.yml",
        *,
        stop_after: str = "",
        check: bool = False,
        **more: object,
    ) -> Run:
        """Run a playbook, onboarding as a rule; the run is killed when the task `stop_after` has changed something."""
        variables = self.folder / "variables.yml"
        own = {
            "onboard_host": self.address,
            "onboard_port": self.port,
            "onboard_key": str(self.key),
        }
        variables.write_text(yaml.safe_dump(own | self.given | more), encoding="utf-8")
        variables.chmod(0o600)
        env = os.environ | {"ANSIBLE_CONFIG": str(self.bundle / "ansible.cfg"), "LC_ALL": "C.UTF-8"}
        env |= {"ANSIBLE_PRIVATE_KEY_FILE": str(self.key)}
        env |= {
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.folder / "cp"),
            "NO_COLOR": "1",
            "ANSIBLE_NOCOLOR": "1",
        }
        if stop_after:
            env |= {
                "ANSIBLE_CALLBACK_PLUGINS": f"{ROOT / 'plugins' / 'callback'}:{CALLBACK}",
                "ANSIBLE_CALLBACKS_ENABLED": "stop_after",
            }
            env |= {"SWITCHBOARD_STOP_AFTER": stop_after}
        began = time.monotonic()
        done = subprocess.run(
            [
                "ansible-playbook",
                "-i",
                str(self.inventory),
                playbook,
                "-e",
                f"@{variables}",
                *(["--check"] if check else []),
            ],
            cwd=self.bundle,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            start_new_session=True,
        )
        return Run(done.returncode, done.stdout + done.stderr, time.monotonic() - began)

    def ssh(self, user: str, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Log in over a connection of its own."""
        known = f"UserKnownHostsFile={self.inventory / 'known_hosts.txt'}"
        words = [
            "ssh",
            "-p",
            str(self.port),
            "-o",
            known,
            "-o",
            "BatchMode=yes",
            "-o",
            "ConnectTimeout=15",
        ]
        words += ["-o", "IdentitiesOnly=yes", "-i", str(self.key), *self.ssh_options(), *options]
        return subprocess.run(
            [*words, f"{user}@{self.address}", command],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def lets_password_in(self, user: str, password: str) -> bool:
        """Return whether a user gets in with a password, as onboarding tries it."""
        given = {"host": self.address, "port": self.port, "user": user, "password": password}
        given |= {"known_hosts": str(self.inventory / "known_hosts.txt"), "wait": 5}
        return bool(run_module("host_login", given).get("works"))

    def ssh_options(self) -> list[str]:
        """Return the options that lead the way, as the runs get them."""
        jump = self.given.get("onboard_jump")
        return [
            *str(self.given.get("onboard_ssh_options", "")).split(),
            *(["-J", str(jump)] if jump else []),
        ]

    def lets_admin_in(self) -> bool:
        """Return whether the administrator logs in and becomes root."""
        return self.ssh("admin", "sudo -n id -u").stdout.strip() == "0"
