"""Measure deployments over SSH: the bundle beside a shell script that does the same by hand.

Both deploy the demonstration site to fresh Debian 13 test hosts, reached as most servers are: over SSH, as a
user with sudo. The caches of apt and pip are warm. Measured in turn, each with its own host:

    first converge      ansible-playbook site.yml         tests/bench/by_hand.sh deploy
    unchanged run       ansible-playbook site.yml         (the script has no second run)
    seconds a task      of the unchanged run
    release             changed code, playbooks/web.yml   tests/bench/by_hand.sh release

After each deployment a page must answer 200 and a handshake must reach Daphne. Environment: RUNS, how often the
first converge is measured (1), SHORT_RUNS, the others in each of these (3), BENCH_HOSTS, the prefix of the
containers' names. It prints a table and writes build/bench/deploy.json.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.common import BUILD, ROOT, ToolError, environment, image_name, main_guard, run, say

FOLDER = BUILD / "bench"
SCRIPT = ROOT / "tests" / "bench" / "by_hand.sh"
PREFIX = os.environ.get("BENCH_HOSTS", "switchboard-bench")
UNCHANGED_GOAL = 40.0  # seconds
CONVERGE_GOAL = 2.0  # times what the script takes


def number(name: str, default: int) -> int:
    """Return a number from the environment.

    Raises:
        ToolError: it is none, or below 1.
    """
    text = os.environ.get(name, str(default))
    if not text.isdigit() or int(text) < 1:
        raise ToolError(f"{name} is {text!r}: it must be a number from 1. Set one.")
    return int(text)


@dataclass
class Host:
    """A fresh server: its container, its address, and the folder that holds its key and inventory."""

    name: str
    folder: Path
    address: str = ""

    @property
    def options(self) -> list[str]:
        """Return what ssh and scp need to get in."""
        known = f"UserKnownHostsFile={self.folder / 'known_hosts'}"
        return ["-q", "-i", str(self.folder / "id_ed25519"), "-o", known, "-o", "BatchMode=yes"]

    def create(self) -> None:
        """Start the container and let an administrator in over SSH, as for the scenario `single`."""
        self.remove()
        (self.folder / "inventory").mkdir(parents=True)
        hosts = {"test_hosts": [{"name": self.name, "image": image_name("13")}]}
        playbooks = [f"molecule/shared/{name}.yml" for name in ("create", "prepare_ssh")]
        command = ["ansible-playbook", "-i", "inventory/single", *playbooks]
        env = environment() | {"MOLECULE_EPHEMERAL_DIRECTORY": str(self.folder)}
        run([*command, "--extra-vars", json.dumps(hosts)], env=env)
        form = "{{.NetworkSettings.Networks.bridge.IPAddress}}"
        self.address = run(["docker", "inspect", "--format", form, self.name]).stdout.strip()

    def remove(self) -> None:
        """Remove the container and the folder."""
        run(["docker", "rm", "--force", "--volumes", self.name], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def send(self, files: dict[str, Path]) -> None:
        """Copy files into the script's folder on the host."""
        self.shell("mkdir -p /tmp/by-hand")
        for name, path in files.items():
            run(["scp", *self.options, str(path), f"admin@{self.address}:/tmp/by-hand/{name}"])

    def shell(self, command: str, script: Path | None = None) -> None:
        """Run a command over SSH, with a script as its input."""
        whole = ["ssh", *self.options, f"admin@{self.address}", command]
        text = script.read_text(encoding="utf-8") if script else ""
        done = subprocess.run(whole, input=text, text=True, capture_output=True, check=False)
        if done.returncode:
            said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
            raise ToolError(f"`{command}` on {self.name} ended with {done.returncode}:\n{said}")

    def check(self) -> None:
        """See that the site serves: a page from Django, and a handshake that Daphne answers.

        Raises:
            ToolError: it does not; then there is nothing to measure.
        """
        page = self.ask("/sign-in/", {})
        if page.status != 200:
            raise ToolError(f"{self.name}: the sign-in page gives {page.status}, not 200.")
        handshake = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
            "Origin": f"http://{self.address}",
        }
        answer = self.ask("/ws/notifications/", handshake)
        # Daphne refuses with "Access denied", Apache with "Forbidden"; anonymous visitors get no socket.
        if (answer.status, answer.reason) != (403, "Access denied"):
            raise ToolError(
                f"{self.name}: Daphne does not answer a handshake: {answer.status} {answer.reason}."
            )

    def ask(self, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """Send one GET to the site and return the answer."""
        connection = http.client.HTTPConnection(self.address, 80, timeout=30)
        connection.request("GET", path, headers=headers)
        return connection.getresponse()


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


def playbook(host: Host, project: Project) -> list[str]:
    """Return the command that runs a playbook as a newcomer would, all but the playbook's name."""
    project_is = json.dumps({"django_directory": str(project.folder)})
    inventories = ["-i", "inventory/single", "-i", str(host.folder / "inventory")]
    return ["ansible-playbook", *inventories, "--extra-vars", project_is]


def ansible(host: Host, project: Project, name: str) -> tuple[float, int]:
    """Run a playbook; return its seconds and how many tasks ran.

    Raises:
        ToolError: it failed.
    """
    start = time.monotonic()
    done = run([*playbook(host, project), name], env=environment() | {"ANSIBLE_NOCOLOR": "1"})
    seconds = time.monotonic() - start
    recap = re.search(r"server1\s*: ok=(\d+)\s+changed=(\d+)", done.stdout)
    if not recap:
        raise ToolError(f"{name} printed no recap:\n{done.stdout[-2000:]}")
    host.check()
    return seconds, int(recap.group(1))


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
    task: list[float] = field(default_factory=list)
    release: list[float] = field(default_factory=list)
    release_by_hand: list[float] = field(default_factory=list)


def summary(values: list[float]) -> dict[str, float]:
    """Return median, least and greatest of some measurements, rounded to milliseconds."""
    middle = statistics.median(values)
    return {
        "median": round(middle, 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def row(
    what: str,
    unit: str,
    ours: list[float],
    peers: dict[str, list[float]] | None = None,
    goal: float | None = None,
) -> dict[str, Any]:
    """Return one row of the result; `met` compares the median with the goal, smaller being better."""
    mine = summary(ours)
    return {
        "what": what,
        "unit": unit,
        "ours": mine,
        "peers": {name: summary(values) for name, values in (peers or {}).items()},
        "limit": None,
        "goal": None if goal is None else round(goal, 3),
        "met": None if goal is None else mine["median"] <= goal,
    }


def rows(samples: Samples) -> list[dict[str, Any]]:
    """Return the result; the first two rows say what machine it was."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    script = {"shell script": samples.converge_by_hand}
    goal = CONVERGE_GOAL * statistics.median(samples.converge_by_hand)
    return [
        row("the machine's cores", "cores", [float(os.cpu_count() or 1)]),
        row("the machine's memory", "GiB", [memory]),
        row("first converge, warm caches", "s", samples.converge, script, goal),
        row("unchanged run", "s", samples.unchanged, goal=UNCHANGED_GOAL),
        row("one task of the unchanged run", "s", samples.task),
        row(
            "release of changed code",
            "s",
            samples.release,
            {"shell script": samples.release_by_hand},
        ),
    ]


def table(result: list[dict[str, Any]]) -> str:
    """Return the result as a table for people."""

    def figure(values: dict[str, float]) -> str:
        if values["min"] == values["max"]:
            return f"{values['median']:.2f}"
        return f"{values['median']:.2f} ({values['min']:.2f}–{values['max']:.2f})"

    lines = [f"{'':30} {'':5} {'ours':>24} {'shell script':>24} {'goal':>8}  met"]
    for entry in result:
        peer = next(iter(entry["peers"].values()), None)
        goal = "" if entry["goal"] is None else f"{entry['goal']:.1f}"
        met = {None: "", True: "yes", False: "no"}[entry["met"]]
        lines.append(
            f"{entry['what']:30} {entry['unit']:5} {figure(entry['ours']):>24} "
            f"{figure(peer) if peer else '':>24} {goal:>8}  {met}".rstrip()
        )
    return "\n".join(lines)


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
        for _ in range(short_runs):
            seconds, tasks = ansible(ours, project, "site.yml")
            samples.unchanged.append(seconds)
            samples.task.append(seconds / tasks)
            say(f"unchanged run: {seconds:.1f} s, {tasks} tasks")
        for _ in range(short_runs):
            project.change()
            seconds, _ = ansible(ours, project, "playbooks/web.yml")
            samples.release.append(seconds)
            samples.release_by_hand.append(by_hand(hand, project, "release"))
            say(f"release: {seconds:.1f} s, the script {samples.release_by_hand[-1]:.1f} s")
    finally:
        ours.remove()
        hand.remove()


def warm(project: Project) -> None:
    """Fill the caches on a host that is thrown away: of apt and pip, and the control node's with Kafka's pack."""
    host = Host(f"{PREFIX}-warm", FOLDER / "hosts" / "warm")
    try:
        host.create()
        run([*playbook(host, project), "playbooks/preflight.yml"], env=environment())
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
    result = rows(samples)
    (FOLDER / "deploy.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"\n{table(result)}\n\nbuild/bench/deploy.json holds the same.")
    return 0


if __name__ == "__main__":
    main_guard(main)
