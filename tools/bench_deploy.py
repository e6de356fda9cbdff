"""Measure deployments over SSH: the bundle beside a shell script that does the same by hand, and beside other tools.

All deploy the demonstration site to fresh Debian 13 test hosts, reached as most servers are: over SSH, as a
user with sudo. The caches of apt and pip are warm. Measured in turn, each with its own host:

    first converge      ansible-playbook site.yml         tests/bench/by_hand.sh deploy
    unchanged run       ansible-playbook site.yml         the same with mitogen's strategy; pyinfra doing as many
                                                          operations (a file, a unit, in turn)
    its tasks and SSH executions                          ssh was called so often
    release             one changed line, playbooks/deploy.yml tests/bench/by_hand.sh release
                                                          and Ansible's own modules, tests/bench/stock_release.yml
    rollback            to the release before it
    onboarding          playbooks/onboard.yml on a server with root's password alone
    verify              make verify

The script looks at nothing before it begins, has no second run, and its Apache lacks the maintenance page, TLS,
the status site and the sandbox. After each deployment a page must answer 200 and a handshake must reach Daphne.
Environment: RUNS, how often the first converge is measured (1), SHORT_RUNS, the others in each of these (3),
BENCH_HOSTS, the prefix of the containers' names. It prints a table and writes build/bench/deploy.json.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.onboarding.server import NETWORK, PASSWORD, SUBNET, Server, docker
from tools.bench import FOLDER, PREFIX, Host, kafka_passwords, machine, number, publish, row
from tools.common import BUILD, ROOT, ToolError, environment, main_guard, run, say

SCRIPT = ROOT / "tests" / "bench" / "by_hand.sh"
PEERS = BUILD / "peers"
UNCHANGED_GOAL = 15.0  # seconds
EXECUTIONS_GOAL = 30.0
RELEASE_GOAL = 10.0  # seconds
ROLLBACK_GOAL = 5.0  # seconds
ONBOARDING_GOAL = 60.0  # seconds
VERIFY_GOAL = 45.0  # seconds
CONVERGE_GOAL = 1.3  # times what the script takes


class Project:
    """A copy of the demonstration project whose code can be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = 0
        shutil.rmtree(folder, ignore_errors=True)
        listed = run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "demo"]
        ).stdout
        for name in listed.splitlines():
            source = ROOT / name
            if source.is_file():
                target = folder / source.relative_to(ROOT / "demo")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)

    def change(self) -> None:
        """Change one line of code."""
        self.version += 1
        with (self.folder / "graphs" / "views.py").open("a", encoding="utf-8") as file:
            file.write(f"\nREVISION = {self.version}\n")

    def pack(self) -> Path:
        """Return a tar archive of the project as it is now."""
        path = self.folder.with_suffix(".tar.gz")
        with tarfile.open(path, "w:gz", compresslevel=6) as archive:
            for entry in sorted(self.folder.iterdir()):
                archive.add(entry, entry.name)
        return path


def ansible(host: Host, project: Project, name: str) -> tuple[float, int]:
    """Run a playbook; return its seconds and how many tasks ran.

    Raises:
        ToolError: it failed.
    """
    start = time.monotonic()
    command = host.playbook(name, site={"source": {"directory": str(project.folder)}})
    command += [] if name == "site.yml" else ["-e", "site=graphspace"]
    done = run(command, env=environment() | {"ANSIBLE_NOCOLOR": "1"})
    seconds = time.monotonic() - start
    counted = re.search(r"server1: (\d+) tasks, \d+ changed, 0 failed", done.stdout)
    if not counted:
        raise ToolError(f"{name} ended without its summary:\n{done.stdout[-2000:]}")
    host.check()
    return seconds, int(counted.group(1))


def peers() -> dict[str, str]:
    """Install what is compared with, and return the environment in which Python finds it."""
    if not PEERS.exists():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(PEERS)]
        run([*pip, "-r", str(ROOT / "tests" / "bench" / "peers.txt")])
    return environment() | {"PYTHONPATH": str(PEERS), "ANSIBLE_NOCOLOR": "1"}


def with_stock_modules(host: Host, project: Project) -> float:
    """Return the seconds of a release with Ansible's own modules."""
    shown = host.shell(
        'sudo python3 -c \'import json, sys; sys.path.insert(0, "/usr/local/lib/switchboard"); '
        'import site_environment as e; print(json.dumps(e.read("/etc/switchboard/graphspace")))\''
    )
    path = FOLDER / "environment.json"
    path.write_text(shown, encoding="utf-8")
    path.chmod(0o600)
    # what ansible.builtin.pip needs on the host; a server of that kind has it
    host.shell(
        "sudo apt-get -qq install --no-install-recommends python3-packaging python3-setuptools >/dev/null"
    )
    start = time.monotonic()
    command = host.playbook("tests/bench/stock_release.yml", release=f"stock-{project.version}")
    command += ["-e", f"pack={project.pack()}", "-e", f"environment_file={path}"]
    run(command, env=environment())
    seconds = time.monotonic() - start
    path.unlink()
    host.check()
    return seconds


def onboarded() -> float:
    """Return the seconds of onboarding a server of which root's password is known."""
    server = Server("13", FOLDER / "hosts" / "fresh", suffix="-bench")
    docker("network", "create", "--ipv6", "--subnet", SUBNET, NETWORK, check=False)
    shutil.rmtree(server.folder, ignore_errors=True)
    try:
        server.create()
        server.shell("systemctl enable --now ssh.service")
        done = server.onboard(
            onboard_user="root",
            onboard_password=PASSWORD,
            onboard_fingerprint=server.fingerprint(),
        )
        if done.code:
            raise ToolError(f"onboarding failed:\n{done.output[-2000:]}")
        return done.seconds
    finally:
        server.remove()
        docker("network", "rm", NETWORK, check=False)


def with_mitogen(host: Host, project: Project) -> float:
    """Return the seconds of an unchanged run with mitogen's strategy."""
    strategy = {
        "ANSIBLE_STRATEGY_PLUGINS": str(PEERS / "ansible_mitogen" / "plugins" / "strategy"),
        "ANSIBLE_STRATEGY": "mitogen_linear",
    }
    command = host.playbook("site.yml", site={"source": {"directory": str(project.folder)}})
    start = time.monotonic()
    run(command, env=peers() | strategy)
    return time.monotonic() - start


def with_pyinfra(host: Host, operations: int) -> float:
    """Return the seconds that pyinfra takes for operations that change nothing, after a run in which they do."""
    key = ["--key", str(host.folder / "id_ed25519"), "--data", "ssh_strict_host_key_checking=no"]
    script = str(ROOT / "tests" / "bench" / "peer_pyinfra.py")
    command = [sys.executable, "-m", "pyinfra", "-y", *key, "--user", "admin", host.address, script]
    env = peers() | {"OPERATIONS": str(operations)}
    run(command, env=env)
    start = time.monotonic()
    run(command, env=env)
    return time.monotonic() - start


def verify(host: Host, project: Project) -> float:
    """Return the seconds of `make verify` with its prediction."""
    folder = host.whole_inventory({"source": {"directory": str(project.folder)}})
    passwords = {"switchboard_secrets": kafka_passwords("graphspace")}  # those of the other runs
    path = folder / "group_vars" / "all" / "passwords.yml"
    path.write_text(json.dumps(passwords), encoding="utf-8")
    start = time.monotonic()
    run(["make", "--no-print-directory", "verify", f"INVENTORY={folder}"], env=environment())
    return time.monotonic() - start


def executions(host: Host, project: Project) -> int:
    """Return how often an unchanged run calls ssh."""
    command = host.playbook("site.yml", site={"source": {"directory": str(project.folder)}})
    plain = environment() | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_STDOUT_CALLBACK": "default"}
    return run([*command, "-vvv"], env=plain).stdout.count("SSH: EXEC")


def by_hand(host: Host, project: Project, verb: str) -> float:
    """Do the same with the script, the copying included; return its seconds."""
    start = time.monotonic()
    files = {"project.tar.gz": project.pack()}
    if verb == "deploy":
        files["kafka.tar"] = kafka_pack()
    host.send(files)
    host.shell(f"sudo SITE_DOMAIN={host.address} bash -s {verb}", SCRIPT)
    seconds = time.monotonic() - start
    host.check()
    return seconds


def kafka_pack() -> Path:
    """Return the newest pack of Kafka that the bundle made."""
    packs = (ROOT / ".cache" / "kafka").glob("kafka_*.tar")
    return max(packs, key=lambda path: path.stat().st_mtime)


@dataclass
class Samples:
    """What was measured, in seconds."""

    converge: list[float] = field(default_factory=list)
    converge_by_hand: list[float] = field(default_factory=list)
    unchanged: list[float] = field(default_factory=list)
    mitogen: list[float] = field(default_factory=list)
    pyinfra: list[float] = field(default_factory=list)
    tasks: list[float] = field(default_factory=list)
    executions: list[float] = field(default_factory=list)
    verify: list[float] = field(default_factory=list)
    release: list[float] = field(default_factory=list)
    release_by_hand: list[float] = field(default_factory=list)
    release_stock: list[float] = field(default_factory=list)
    rollback: list[float] = field(default_factory=list)
    onboarding: list[float] = field(default_factory=list)


def rows(samples: Samples) -> list[dict[str, Any]]:
    """Return the result; the first two rows say what machine it was."""
    script = {"shell script": samples.converge_by_hand}
    goal = CONVERGE_GOAL * statistics.median(samples.converge_by_hand)
    return [
        *machine(),
        row("first converge, warm caches", "s", samples.converge, script, goal),
        row(
            "unchanged run",
            "s",
            samples.unchanged,
            {
                name: values
                for name, values in (("mitogen", samples.mitogen), ("pyinfra", samples.pyinfra))
                if values
            },
            goal=UNCHANGED_GOAL,
        ),
        row("its tasks", "tasks", samples.tasks),
        row("its calls of ssh", "calls", samples.executions, goal=EXECUTIONS_GOAL),
        row(
            "release of one changed line",
            "s",
            samples.release,
            {"shell script": samples.release_by_hand, "stock modules": samples.release_stock},
            goal=RELEASE_GOAL,
        ),
        row("rollback of it", "s", samples.rollback, goal=ROLLBACK_GOAL),
        row("onboarding", "s", samples.onboarding, goal=ONBOARDING_GOAL),
        row("make verify", "s", samples.verify, goal=VERIFY_GOAL),
    ]


def measure(samples: Samples, project: Project, short_runs: int) -> None:
    """Take one sample of each first converge, and `short_runs` of the others, on fresh hosts."""
    ours = Host(f"{PREFIX}-ours", FOLDER / "hosts" / "ours")
    hand = Host(f"{PREFIX}-hand", FOLDER / "hosts" / "hand")
    try:
        ours.create()
        seconds, _ = ansible(ours, project, "site.yml")
        samples.converge.append(seconds)
        say(f"first converge: {seconds:.1f} s")
        hand.create()
        seconds = by_hand(hand, project, "deploy")
        samples.converge_by_hand.append(seconds)
        say(f"the script: {seconds:.1f} s")
        calls = executions(ours, project)
        samples.executions.append(calls)
        for _ in range(short_runs):
            seconds, tasks = ansible(ours, project, "site.yml")
            samples.unchanged.append(seconds)
            samples.tasks.append(tasks)
            say(f"unchanged run: {seconds:.1f} s, {tasks} tasks, {calls} calls of ssh")
            compare(samples, ours, project, calls)
        for _ in range(short_runs):
            project.change()
            seconds, _ = ansible(ours, project, "playbooks/deploy.yml")
            samples.release.append(seconds)
            samples.release_by_hand.append(by_hand(hand, project, "release"))
            samples.rollback.append(ansible(ours, project, "playbooks/rollback.yml")[0])
            say(
                f"release: {seconds:.1f} s, the script {samples.release_by_hand[-1]:.1f} s, "
                f"rollback {samples.rollback[-1]:.1f} s"
            )
        ansible(ours, project, "site.yml")
        for _ in range(short_runs):
            samples.verify.append(verify(ours, project))
            say(f"verify: {samples.verify[-1]:.1f} s")
        # last: it leaves a secret in a log and a folder that the site may write, which verify would name
        for _ in range(short_runs):
            project.change()
            samples.release_stock.append(with_stock_modules(ours, project))
            samples.onboarding.append(onboarded())
            say(
                f"release with stock modules: {samples.release_stock[-1]:.1f} s, "
                f"onboarding: {samples.onboarding[-1]:.1f} s"
            )
    finally:
        ours.remove()
        hand.remove()


def compare(samples: Samples, host: Host, project: Project, calls: int) -> None:
    """Take one sample of each of the other tools; one that does not work here is said and left out."""
    takes: dict[str, Callable[[], float]] = {
        "mitogen": lambda: with_mitogen(host, project),
        "pyinfra": lambda: with_pyinfra(host, calls),
    }
    for name, take in takes.items():
        try:
            getattr(samples, name).append(take())
            say(f"{name}: {getattr(samples, name)[-1]:.1f} s")
        except ToolError as error:
            say(f"{name} does not work here: {str(error).splitlines()[-1]}")


def warm(project: Project) -> None:
    """Fill the caches on a host that is thrown away: of apt and pip, and the control node's with Kafka's pack."""
    host = Host(f"{PREFIX}-warm", FOLDER / "hosts" / "warm")
    try:
        host.create()
        preflight = host.playbook(
            "playbooks/preflight.yml", site={"source": {"directory": str(project.folder)}}
        )
        run(preflight, env=environment())
        host.send({"project.tar.gz": project.pack()})
        host.shell("sudo bash -s warm", SCRIPT)
    finally:
        host.remove()


def main() -> int:
    """Measure, print the table and write the JSON."""
    runs, short_runs = number("RUNS", 1), number("SHORT_RUNS", 3)
    FOLDER.mkdir(parents=True, exist_ok=True)
    project = Project(FOLDER / "project")
    say("warming the caches")
    warm(project)
    samples = Samples()
    for _ in range(runs):
        measure(samples, project, short_runs)
    publish("deploy", rows(samples))
    return 0


if __name__ == "__main__":
    main_guard(main)
