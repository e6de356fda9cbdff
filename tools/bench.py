"""What the benchmarks share: a fresh server over SSH, and results as a table and as JSON.

A result is a list of rows `{what, unit, ours: {median, min, max}, peers: {name: {median, min, max}}, limit, goal,
met}`; what stands in one of them was measured in one run, side by side.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.common import BUILD, ROOT, ToolError, environment, image_name, run

FOLDER = BUILD / "bench"
PREFIX = os.environ.get("BENCH_HOSTS", "switchboard-bench")


def number(name: str, default: int) -> int:
    """Return a number from the environment.

    Raises:
        ToolError: it is none, or below 1.
    """
    text = os.environ.get(name, str(default))
    if not text.isdigit() or int(text) < 1:
        raise ToolError(f"{name} is {text!r}: it must be a number from 1. Set one.")
    return int(text)


def kafka_passwords(*sites: str) -> dict[str, dict[str, str]]:
    """Return `switchboard_secrets` of a test host, so that no run makes some beside an inventory that others copy."""
    return {"kafka": {name: f"a-password-of-a-test-host-{name}" for name in ("broker", *sites)}}


@dataclass
class Host:
    """A fresh server: its container, its address, and the folder that holds its key and inventory."""

    name: str
    folder: Path
    address: str = ""
    release: str = "13"  # of Debian

    @property
    def options(self) -> list[str]:
        """Return what ssh and scp need to get in."""
        known = f"UserKnownHostsFile={self.folder / 'known_hosts'}"
        return ["-q", "-i", str(self.folder / "id_ed25519"), "-o", known, "-o", "BatchMode=yes"]

    @property
    def entry(self) -> dict[str, Any]:
        """Return what an inventory says of the host: how it is reached from here, and from others."""
        return {
            "ansible_host": self.address,
            "switchboard_address": self.address,
            "ansible_ssh_private_key_file": str(self.folder / "id_ed25519"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.folder / 'known_hosts'}",
        }

    def create(self) -> None:
        """Start the container and let an administrator in over SSH, as for the scenario `single`."""
        self.remove()
        (self.folder / "inventory").mkdir(parents=True)
        # as servers are: what is to be installed, Java, Python
        measured = self.name.startswith(PREFIX)
        image = image_name(self.release if measured else f"{self.release}-filled")
        hosts: dict[str, object] = {"test_hosts": [{"name": self.name, "image": image}]}
        if measured:
            hosts |= {"test_host_java": "", "test_host_code": []}
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

    def playbook(
        self, name: str, site: dict[str, object] | None = None, **extra_vars: object
    ) -> list[str]:
        """Return the command that runs a playbook as a newcomer would.

        Args:
            name: the playbook.
            site: keys that the demonstration site's entry gets.
            extra_vars: more variables.
        """
        inventories = ["-i", "inventory/single", "-i", str(self.folder / "inventory")]
        text = (ROOT / "inventory/single/group_vars/all/sites.yml").read_text(encoding="utf-8")
        sites = yaml.safe_load(text)["sites"]
        sites["graphspace"] |= {"domain": self.address, **(site or {})}
        extra_vars = {"sites": sites, "switchboard_secrets": kafka_passwords(*sites), **extra_vars}
        return ["ansible-playbook", *inventories, "--extra-vars", json.dumps(extra_vars), name]

    def whole_inventory(self, site: dict[str, object]) -> Path:
        """Write what a newcomer's copy of inventory/single would be, and return its folder."""
        folder = self.folder / "whole"
        shutil.rmtree(folder, ignore_errors=True)
        private = shutil.ignore_patterns(".private")
        shutil.copytree(ROOT / "inventory" / "single", folder, ignore=private)
        shutil.copy(self.folder / "inventory" / "zz-server.yml", folder)
        path = folder / "group_vars" / "all" / "sites.yml"
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        content["sites"]["graphspace"] |= {"domain": self.address, **site}
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return folder

    def ad_hoc(self, module: str, arguments: str) -> list[str]:
        """Return the command that runs one module on the host as root."""
        inventories = ["-i", "inventory/single", "-i", str(self.folder / "inventory")]
        return ["ansible", *inventories, "all", "--become", "-m", module, "-a", arguments]

    def shell(self, command: str, script: Path | None = None) -> str:
        """Run a command over SSH, with a script as its input, and return what it printed."""
        whole = ["ssh", *self.options, f"admin@{self.address}", command]
        text = script.read_text(encoding="utf-8") if script else ""
        done = subprocess.run(whole, input=text, text=True, capture_output=True, check=False)
        if done.returncode:
            said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
            raise ToolError(f"`{command}` on {self.name} ended with {done.returncode}:\n{said}")
        return done.stdout

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


def percentile(values: list[float], share: float) -> float:
    """Return the value below which that share (0 to 1) of some measurements lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


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
    *,
    limit: float | None = None,
    at_least: bool = False,
) -> dict[str, Any]:
    """Return one row of the result.

    `met` compares the median with the goal, smaller being better unless `at_least`. `limit` is what could be had at
    best, measured in the same run.
    """
    mine = summary(ours)
    return {
        "what": what,
        "unit": unit,
        "ours": mine,
        "peers": {name: summary(values) for name, values in (peers or {}).items()},
        "limit": None if limit is None else round(limit, 3),
        "goal": None if goal is None else round(goal, 3),
        "met": None
        if goal is None
        else (mine["median"] >= goal if at_least else mine["median"] <= goal),
    }


def machine() -> list[dict[str, Any]]:
    """Return the rows that say what machine it was."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        row("the machine's cores", "cores", [float(os.cpu_count() or 1)]),
        row("the machine's memory", "GiB", [memory]),
    ]


def figure(values: dict[str, float]) -> str:
    """Return a median with its spread, or one number where nothing spread."""
    if values["min"] == values["max"]:
        return f"{values['median']:.2f}"
    return f"{values['median']:.2f} ({values['min']:.2f}–{values['max']:.2f})"


def table(result: list[dict[str, Any]]) -> str:
    """Return the result as a table for people, with a column for each peer."""
    peers = list(dict.fromkeys(name for entry in result for name in entry["peers"]))
    limits = any(entry["limit"] is not None for entry in result)
    lines = [["", "", "ours", *peers, *(["limit"] if limits else []), "goal", "met"]]
    for entry in result:
        theirs = [figure(entry["peers"][name]) if name in entry["peers"] else "" for name in peers]
        bounds = [entry["limit"], entry["goal"]] if limits else [entry["goal"]]
        lines.append(
            [
                entry["what"],
                entry["unit"],
                figure(entry["ours"]),
                *theirs,
                *("" if bound is None else f"{bound:.1f}" for bound in bounds),
                {None: "", True: "yes", False: "no"}[entry["met"]],
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if number < 2 else text.rjust(width)
            for number, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def publish(name: str, result: list[dict[str, Any]]) -> None:
    """Write build/bench/<name>.json and print the table."""
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"\n{table(result)}\n\nbuild/bench/{name}.json holds the same.")
