"""What a host has at this moment, for the report of `make verify`: one trip, read only.

This file runs on the host under its own Python, so it imports the standard library alone. It prints one JSON object.
A question that has no answer there (a program that is missing, say) leaves its key out and a line in `unanswered`.
"""

from __future__ import annotations

import base64
import contextlib
import glob
import json
import os
import re
import shlex
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

PACKAGES = (
    *("apache2", "libapache2-mod-wsgi-py3", "libapache2-mod-qos", "libapache2-mod-security2"),
    *(
        "python3",
        "openssl",
        "systemd",
        "zookeeper",
        "certbot",
        "nftables",
        "postgresql",
        "valkey-server",
    ),
    *("redis-server", "openssh-server"),
)
UNITS = re.compile(
    r"(apache2|kafka|zookeeper|ssh|nftables|certbot)\.|postgresql|valkey|redis|daphne-|django-|switchboard"
)
SECRET = re.compile(r"SECRET|PASS|TOKEN|KEY|CREDENTIAL|DSN|DATABASE_URL", re.I)
LIBRARIES = ("django", "daphne", "channels", "confluent_kafka", "wagtail", "psycopg", "twisted")


def told(*command: str) -> str:
    """Return what a command prints."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=30, check=False
    )
    return done.stdout


def read(path: str) -> str:
    """Return the text of a file."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def system() -> dict[str, Any]:
    """Return Debian's version, the kernel, seconds since the boot, and whether another boot is due."""
    debian = ""
    for line in read("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            debian = line.partition("=")[2].strip('"')
    with contextlib.suppress(OSError):
        debian += f" ({read('/etc/debian_version').strip()})"
    up = float(read("/proc/uptime").split()[0])
    running = os.uname().release
    reasons = []
    with contextlib.suppress(OSError):
        reasons = sorted(set(read("/run/reboot-required.pkgs").split()))
    if os.path.exists("/run/reboot-required") and not reasons:
        reasons = ["a package asks for it"]
    kernels = {path: os.stat(path).st_mtime for path in glob.glob("/boot/vmlinuz-*")}
    if kernels and not reasons:
        newest = max(kernels, key=lambda path: kernels[path])
        if not newest.endswith(f"-{running}"):
            reasons = [f"the kernel {newest.rpartition('/vmlinuz-')[2]}"]
    return {
        "debian": debian,
        "kernel": running,
        "up_seconds": int(up),
        "reboot_for": reasons,
        "processors": os.cpu_count(),
    }


def room() -> dict[str, Any]:
    """Return memory and disk in MB, the disk of each file system that the bundle writes to."""
    memory = {}
    for line in read("/proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        memory[name] = int(value.split()[0]) // 1024
    disks: dict[int, dict[str, Any]] = {}
    for path in ("/", "/srv", "/var", "/var/log", "/var/lib/kafka"):
        if os.path.isdir(path):
            there = os.statvfs(path)
            size, free = there.f_blocks * there.f_frsize, there.f_bavail * there.f_frsize
            disk = {"path": path, "size_mb": size >> 20, "free_mb": free >> 20}
            disks.setdefault(os.stat(path).st_dev, disk)
    return {
        "memory_mb": memory["MemTotal"],
        "memory_free_mb": memory["MemAvailable"],
        "disks": list(disks.values()),
    }


def packages() -> dict[str, str]:
    """Map each installed package that matters to its version; Kafka is none, and has a link for its version."""
    found = {}
    form = "${Package}\t${Version}\t${db:Status-Status}\n"
    for line in told(
        "dpkg-query", "--show", "--showformat", form, *PACKAGES, "openjdk-*-jre-headless"
    ).splitlines():
        name, version, status = line.split("\t")
        if status == "installed":
            found[name] = version
    with contextlib.suppress(OSError):
        found["kafka"] = os.path.basename(os.path.realpath("/opt/kafka/current", strict=True))
    return found


def unit_of(process: str) -> str:
    """Return the unit that a process belongs to, empty where it is gone or has none."""
    with contextlib.suppress(OSError):
        parts = read(f"/proc/{process}/cgroup").replace("\n", "/").split("/")
        units = [part for part in parts if part.endswith((".service", ".socket"))]
        return units[-1] if units else ""
    return ""


def listeners() -> list[dict[str, Any]]:
    """Return who waits for connections: protocol, address, port, programs and their units."""
    rows = []
    for line in told("ss", "-Hlntup").splitlines():
        fields = line.split()
        where, _, port = fields[4].rpartition(":")
        who = " ".join(fields[6:])
        ids = re.findall(r"pid=(\d+)", who)
        rows.append(
            {
                "protocol": fields[0],
                "address": where.strip("[]").partition("%")[0],
                "port": int(port),
                "programs": sorted(set(re.findall(r'\("([^"]*)"', who))),
                "units": sorted({unit for unit in map(unit_of, ids[:50]) if unit}),
            }
        )
    return rows


def connections() -> dict[str, int]:
    """Map each local port to how many connections to it are open now."""
    count: dict[str, int] = {}
    for line in told("ss", "-Hnt", "state", "established").splitlines():
        port = line.split()[2].rpartition(":")[2]
        count[port] = count.get(port, 0) + 1
    return count


def units() -> list[dict[str, str]]:
    """Return the bundle's units with the state of each."""
    rows = []
    kinds = "--type=service,socket,timer"
    for line in told(
        "systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", kinds
    ).splitlines():
        name, loaded, active, sub = line.split()[:4]
        if UNITS.match(name) and loaded != "not-found" and "@." not in name:
            rows.append({"name": name, "active": active, "state": sub})
    return rows


def workers() -> dict[str, int]:
    """Map the name of each of mod_wsgi's process groups to how many processes it has."""
    count: dict[str, int] = {}
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if found := re.search(r"\(wsgi:[^)\s]+\)", read(path)):
                count[found[0]] = count.get(found[0], 0) + 1
    return count


def backup(name: str) -> dict[str, Any] | None:
    """Return a site's last good backup as switchboard-backup noted it, and whether the last run made one."""
    try:
        told = json.loads(read("/var/lib/switchboard/backup/status.json"))["sites"][name]
    except (OSError, ValueError, KeyError):
        return None
    last = told.get("last_good") or {}
    return {"at": last.get("at", ""), "bytes": last.get("bytes"), "good": told["good"]}


def site(name: str) -> dict[str, Any]:
    """Return what is deployed for a site: its release, since when, and what its virtual environment holds."""
    link = f"/srv/{name}/current"
    found: dict[str, Any] = {"name": name, "release": "", "versions": {}}
    if made := backup(name):
        found["backup"] = made
    if not os.path.islink(link):
        return found
    found["release"] = os.path.basename(os.readlink(link).rstrip("/"))
    found["since"] = int(os.lstat(link).st_mtime)
    found["kept"] = len(glob.glob(f"/srv/{name}/releases/*/.ready"))
    with contextlib.suppress(OSError):
        for line in read(f"{link}/venv/pyvenv.cfg").splitlines():
            key, _, value = line.partition("=")
            if key.strip() in ("version", "version_info"):
                found["versions"]["python"] = value.strip()
    for path in glob.glob(f"{link}/venv/lib/python3*/site-packages/*.dist-info"):
        project, _, version = os.path.basename(path)[: -len(".dist-info")].partition("-")
        if project.lower() in LIBRARIES:
            found["versions"][project.lower()] = version
    return found


def certificate(asked: dict[str, Any]) -> str:
    """Return what Apache shows a visitor of a site now, in base64; who gave it is not asked here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    where = ("127.0.0.1", asked["https_port"])
    with (
        socket.create_connection(where, 5) as bare,
        context.wrap_socket(bare, server_hostname=asked["server_name"]) as connection,
    ):
        return base64.b64encode(connection.getpeercert(binary_form=True) or b"").decode()


def secrets() -> list[str]:
    """Return the values that no report may show. They stay in the memory of who asked."""
    values = set()
    for path in glob.glob("/etc/switchboard/*/*.env"):
        for line in read(path).splitlines():
            name, separator, value = line.partition("=")
            secret = "secret" in os.path.basename(path) or SECRET.search(name)
            if separator and secret and not line.startswith("#"):
                with contextlib.suppress(ValueError):
                    values.add("".join(shlex.split(value)))
                values.add(value.strip().strip("\"'"))
    return sorted(values)


def look(asked: list[dict[str, Any]]) -> dict[str, Any]:
    """Return all answers.

    Args:
        asked: of each site its name, server_name, and https_port where it has TLS.
    """
    questions: dict[str, Callable[[], Any]] = {
        "system": system,
        "room": room,
        "packages": packages,
        "listeners": listeners,
        "connections": connections,
        "units": units,
        "workers": workers,
        "secrets": secrets,
        "sites": lambda: [site(one["name"]) for one in asked],
    }
    for one in asked:
        if one.get("https_port"):
            questions[f"certificate {one['name']}"] = partial(certificate, one)
    answers: dict[str, Any] = {}
    unanswered = []
    for name, ask in questions.items():
        try:
            answers[name] = ask()
        except (OSError, ValueError, LookupError, subprocess.SubprocessError) as error:
            unanswered.append(f"{name}: {type(error).__name__}: {error}")
    return {**answers, "unanswered": unanswered}


if __name__ == "__main__":
    print(json.dumps(look(json.loads(sys.argv[1]))))
