"""What the tests of refusals share: a converged host, runs of playbooks against it, and what it looks like."""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from testinfra.host import Host

from plugins.filter.sites import KEYS, site_lists, variables_of
from tools.common import environment

ROOT = Path(__file__).resolve().parents[2]
ALONE = ROOT / "tests" / "refusals" / "role.yml"

# Everything that a play could change: processes, units, configuration, accounts, releases, packages.
STATE = r"""
systemctl show --property=Id,MainPID,ExecMainStartTimestampMonotonic,ActiveState,UnitFileState \
  apache2.service kafka.service zookeeper.service $(systemctl list-units --all --plain --no-legend 'daphne-*' \
  | cut -d ' ' -f 1) | paste -s -d ' ' | sed 's/  /\n/g'
set -- /etc/switchboard /etc/apache2 /etc/kafka /etc/zookeeper /etc/systemd/system /etc/passwd /etc/group \
  /usr/local/lib/switchboard /usr/local/sbin
find "$@" -type f -exec sha256sum {} + 2>/dev/null
find "$@" /srv /opt/kafka -maxdepth 3 -not -path '/srv/*/data/*' -printf '%p %m %u:%g %l\n' 2>/dev/null
dpkg-query --show
"""


@dataclass
class Run:
    """One run of a playbook."""

    code: int
    output: str

    def plays(self) -> list[str]:
        """Return the names of the plays that began, in order."""
        lines = (line for line in self.output.splitlines() if line.startswith("PLAY ["))
        return [line.removeprefix("PLAY [").split("] *")[0] for line in lines]

    def says(self, *texts: str) -> None:
        """Assert that each text stands in the output, whatever the width it was wrapped at."""
        flat = flatten(self.output)
        missing = [text for text in texts if flatten(text) not in flat]
        assert not missing, f"not said: {missing}\n{self.output[-4000:]}"


@dataclass
class Answer:
    """What one host of a run was told."""

    play: str = ""
    task: str = ""
    text: str = ""
    failed: bool = False
    changed: int = 0
    tasks: list[str] = field(default_factory=list)


def flatten(text: str) -> str:
    """Return a text as it reads: no line breaks of a wrapped YAML string, and its doubled quotes single."""
    return " ".join(text.replace("''", "'").replace('\\"', '"').split())


def run_playbook(command: list[str], seconds: int) -> Run:
    """Run ansible-playbook as a person does who has set nothing, and return its exit code and its output."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment() | {"NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    return Run(done.returncode, done.stdout + done.stderr)


@dataclass
class Together:
    """The hosts of a scenario with several, in containers, by the inventory's names, with their private addresses."""

    longest: ClassVar[int] = 90  # seconds of a command
    inventory: str
    addresses: dict[str, str]

    def run(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on a host as root."""
        return subprocess.run(
            ["docker", "exec", name, "timeout", str(self.longest), *command],
            capture_output=True,
            text=True,
            check=False,
        )

    def output(self, name: str, *command: str) -> str:
        """Return what a command on a host prints; it must succeed."""
        done = self.run(name, *command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def play(self, playbook: str, *flags: str, **extra: object) -> Run:
        """Run a playbook on all of them."""
        command = ["ansible-playbook", "-i", self.inventory, f"playbooks/{playbook}.yml", *flags]
        return run_playbook([*command, "-e", json.dumps(extra)], 900)


class Bench:
    """A converged test host, and playbooks that are run against it from here."""

    def __init__(self, inventory: str, name: str, listing: dict[str, Any], host: Host) -> None:
        self.inventory = inventory
        self.name = name
        self.host = host
        self.variables: dict[str, Any] = listing["_meta"]["hostvars"][name]
        # the inventory's listing has the templates as they stand
        self.entries: dict[str, Any] = resolved(self.variables["sites"], self.variables)
        words = Path(inventory) / ".private" / "secrets"  # made by the first run
        passwords = {
            path.name.removeprefix("kafka-"): path.read_text().strip()
            for path in words.glob("kafka-*")
        }
        asks = name in listing.get("kafka", {}).get("hosts", [])
        asks = asks and bool(self.variables.get("kafka_authentication", True))
        login = {"ca": "", "passwords": passwords} if asks else {}
        self.lists = site_lists(self.entries, self.variables, "127.0.0.1:9092", login)
        # what the role kafka alone is told of who may come
        self.kafka: dict[str, Any] = {
            "kafka_topics": self.lists.pop("topics"),
            "kafka_users": self.lists.pop("users"),
        }
        if asks:
            self.kafka["kafka_broker_password"] = passwords["broker"]
        # switchboard is their parent, which the inventory of the many names must have too
        self.groups = ["switchboard"] + [
            group
            for group, content in listing.items()
            if group not in ("_meta", "all", "switchboard") and name in content.get("hosts", [])
        ]

    def site(self, role: str, name: str, **changes: Any) -> dict[str, Any]:
        """Return what a role is told of a site, with changes made to it."""
        entries = [site for site in self.lists[role] if site["name"] == name]
        assert entries, f"The inventory has no site {name}; the tests need it."
        return {**copy.deepcopy(entries[0]), **changes}

    def sites(self, role: str, name: str, **changes: Any) -> list[dict[str, Any]]:
        """Return <role>_sites whole, with changes made to what it says of one site."""
        changed = self.site(role, name, **changes)
        return [changed if site["name"] == name else site for site in self.lists[role]]

    def changed(
        self, name: str, changes: dict[str, Any], sites: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return `sites` with changes made to one entry.

        Args:
            name: the site.
            changes: by key, a dot leading into a group, or by the role's variable that the key is. A source takes the
                place of the one before.
            sites: what they are made to; the inventory's where none is given.
        """
        sites = copy.deepcopy(sites or self.entries)
        for word, value in changes.items():
            key = next((key for key in KEYS if word in variables_of(key)), word)
            *groups, last = key.split(".")
            if groups == ["source"] and last in ("directory", "git", "archive"):
                sites[name]["source"] = {}
            place = sites[name]
            for group in groups:
                place = place.setdefault(group, {})
            place[last] = value
        return sites

    def play(
        self,
        playbook: Path,
        extra: dict[str, Any] | None = None,
        *flags: str,
        inventory: str = "",
        **env: str,
    ) -> Run:
        """Run a playbook with extra variables and return its exit code and its output."""
        command = ["ansible-playbook", "-i", inventory or self.inventory, str(playbook), *flags]
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        done = subprocess.run(
            [*command, "-e", json.dumps(extra or {})],
            cwd=ROOT,
            env={
                **kept,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_STDOUT_CALLBACK": "default",
                **env,
            },
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        return Run(done.returncode, done.stdout + done.stderr)

    def role(self, role: str, **extra: Any) -> Run:
        """Run one role alone, as a playbook of a user's own would, with what it is told of the sites."""
        told: dict[str, Any] = {f"{name}_sites": sites for name, sites in self.lists.items()}
        told |= self.kafka
        told["postgresql_databases"] = told.pop("databases_sites")
        return self.play(ALONE, {"role_alone": role, **told, **extra})

    def play_many(
        self, playbook: Path, cases: dict[str, dict[str, Any]], folder: Path
    ) -> dict[str, Answer]:
        """Run a playbook once against many names of the one host, each with variables of its own.

        The groups of a name are the host's, unless ``cases`` gives it other ``groups``.
        """
        hosts: dict[str, Any] = {}
        members: dict[str, dict[str, Any]] = {}
        for name, changes in cases.items():
            own = {key: value for key, value in changes.items() if key != "groups"}
            reached = self.variables.get("ansible_host", self.name)
            hosts[name] = {**self.variables, "ansible_host": reached, **own}
            for group in changes.get("groups", self.groups):
                members.setdefault(group, {})[name] = {}
        names = {group: {"hosts": some} for group, some in members.items()}
        private = Path(self.inventory) / ".private"  # what inventory_dir leads to
        if private.is_dir() and not (folder / ".private").exists():
            (folder / ".private").symlink_to(private)
        inventory = folder / "inventory.yml"
        inventory.write_text(json.dumps({"all": {"hosts": hosts, "children": names}}))
        run = self.play(
            playbook,
            {
                "switchboard_refusal_stops_all": False
            },  # one name's refusal is not to end the others' run
            inventory=str(inventory),
            ANSIBLE_STDOUT_CALLBACK="ansible.posix.json",
            ANSIBLE_FORKS="6",
        )
        assert run.code != 0
        start = run.output.index("{")
        report = json.JSONDecoder().raw_decode(run.output[start:])[0]
        return {name: answer_of(name, report) for name in cases}

    def stands_still(self, command: str, seconds: float, ended: Sequence[Run] = ()) -> str:
        """Wait until a release has come to a command of its own; return the number of its process.

        ``ended`` gets the run where it ends instead.
        """
        find = f"pgrep -f '^{command}$'"
        until = time.monotonic() + seconds
        while (found := self.host.run(find)).rc:
            assert not ended, ended[0].output[-3000:]
            assert time.monotonic() < until, f"the release did not come to `{command}`"
            time.sleep(0.2)  # between two looks; the bound above asserts
        return str(found.stdout.strip())

    def kill_at(self, command: str, seconds: float, ended: Sequence[Run]) -> None:
        """Kill a release, with the command of its own that it has come to."""
        sleeper = self.stands_still(command, seconds, ended)
        module = self.host.check_output(f"ps -o ppid= -p {sleeper}").strip()
        self.host.check_output(f"kill -9 {module} {sleeper}")

    def state(self) -> set[str]:
        """Return what the host looks like, a line each thing."""
        return set(self.host.check_output("sh -c %s", STATE).splitlines())

    def status(self, site: str) -> int:
        """Return the HTTP status of a site's first page, asked for on the host itself."""
        return int(self.page(site, "-o /dev/null -w '%{http_code}'"))

    def page(self, site: str, options: str = "") -> str:
        """Return what curl prints for a site's first page."""
        header = shlex.quote(f"Host: {self.entries[site]['domain']}")
        port = self.variables.get("apache_http_port", 80)
        return self.host.check_output(
            f"curl --silent --max-time 20 {options} -H {header} http://127.0.0.1:{port}/"
        )


def resolved(value: Any, variables: dict[str, Any]) -> Any:
    """Put a variable's value for a text that is its name in two pairs of braces."""
    if isinstance(value, dict):
        return {key: resolved(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [resolved(item, variables) for item in value]
    name = re.fullmatch(r"{{ (\w+) }}", value) if isinstance(value, str) else None
    return resolved(variables[name[1]], variables) if name else value


def answer_of(name: str, report: dict[str, Any]) -> Answer:
    """Read one host's failure and its changes from the report of a run."""
    answer = Answer(changed=report["stats"].get(name, {}).get("changed", 0))
    for play in report["plays"]:
        for task in play["tasks"]:
            result = task["hosts"].get(name)
            if result is None:
                continue
            answer.tasks.append(task["task"]["name"])
            rescued = "rescue" in str(result.get("_ansible_rescued", ""))
            if (result.get("failed") or result.get("unreachable")) and not rescued:
                told = [str(part.get("msg", "")) for part in [*result.get("results", []), result]]
                told += [str(error) for error in result.get("argument_errors", [])]
                answer.failed = True
                answer.play = play["play"]["name"]
                answer.task = task["task"]["name"]
                answer.text = flatten(" ".join(told))
    return answer
