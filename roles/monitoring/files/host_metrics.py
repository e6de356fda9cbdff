#!/usr/bin/python3
"""Note what no exporter of Debian's tells about this host, for the node exporter's textfile collector.

Backups, the last verify, a reboot and restarts that are due, Kafka, ZooKeeper, the WebSockets of each site and the
answers that its visitors got. /etc/switchboard/metrics.json says what there is to ask. What can't be asked is left
out, counted in switchboard_notes_faults, and said on standard error; all else is noted all the same.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

LIBRARY = "/usr/local/lib/switchboard"
sys.path.insert(0, LIBRARY)
from kafka_client import Connection, login_of  # noqa: E402 - it stands there
from replaced_files import OURS, replaced  # noqa: E402 - it stands there
from site_metrics import (  # noqa: E402 - it stands there
    FOLDER,
    SECONDS,
    Family,
    closed,
    load,
    replace,
    requests,
    threads,
    warn,
    websockets,
)

ROOT = Path("/")
CONFIG = "etc/switchboard/metrics.json"
NOTES = f"{FOLDER}/switchboard.prom"
# What systemd counts of a unit: its property, the metric, its kind, what one of it is, and what it tells.
COUNTED = (
    (
        "MemoryCurrent",
        "unit_memory_bytes",
        "gauge",
        1.0,
        "Its memory, with the cache of its files.",
    ),
    (
        "CPUUsageNSec",
        "unit_processor_seconds_total",
        "counter",
        1e-9,
        "What it has taken of processors.",
    ),
    (
        "NRestarts",
        "unit_restarts_total",
        "counter",
        1.0,
        "How often systemd started it again by itself.",
    ),
)


def alone(value: float) -> list[tuple[dict[str, str], float]]:
    """Return the one sample of a metric without labels."""
    return [({}, float(value))]


def stamp(text: str) -> float:
    """Return a time of ISO 8601 in seconds of the UNIX epoch."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


# -- what others have noted ------------------------------------------------------------------------------


def backups(root: Path) -> Iterator[Family]:
    """Yield the age and size of the last good backup of each site that is backed up."""
    config = root / "etc/switchboard/backup.json"
    wanted = [site["name"] for site in load(config).get("sites", [])]
    status = load(root / "var/lib/switchboard/backup/status.json").get("sites", {})
    good, since, size, well = [], [], [], []
    for name in wanted:
        told, labels = status.get(name, {}), {"site": name}
        last = told.get("last_good") or {}
        at = stamp(last["at"]) if last else 0.0
        good.append((labels, at))
        since.append((labels, at or config.stat().st_mtime))
        well.append((labels, float(bool(told.get("good", True)))))
        if "bytes" in last:
            size.append((labels, float(last["bytes"])))
    text = "When the last good backup was made; 0 without one."
    yield "backup_last_good_timestamp_seconds", "gauge", text, good
    text = "The same; without one, when backups were asked for."
    yield "backup_since_timestamp_seconds", "gauge", text, since
    yield "backup_last_good_bytes", "gauge", "How much that backup holds.", size
    yield "backup_good", "gauge", "Whether the last run made one.", well


def verified(root: Path) -> Iterator[Family]:
    """Yield what the last verify found, where it left word."""
    told = load(root / "var/lib/switchboard/verify.json")
    if told:
        found = alone(stamp(told["at"]))
        yield "verify_timestamp_seconds", "gauge", "When the host was last verified.", found
        found = alone(told["bad"])
        yield "verify_checks_bad", "gauge", "How many of its checks fell short.", found
    if told.get("drift") is not None:
        found = alone(told["drift"])
        yield "verify_drift", "gauge", "How many tasks would have changed something.", found


def reboot(root: Path) -> Iterator[Family]:
    """Yield whether what was updated waits for a reboot.

    The note is of Debian's unattended-upgrades; where that is not installed, a kernel newer than the boot says it.
    """
    due = (root / "run/reboot-required").exists() or (root / "var/run/reboot-required").exists()
    told = root / "proc/stat"
    lines = told.read_text(encoding="ascii").splitlines() if told.exists() else []
    booted = next((float(line.split()[1]) for line in lines if line.startswith("btime ")), 0.0)
    kernels = (root / "boot").glob("vmlinuz-*")
    due = due or (booted > 0 and any(kernel.stat().st_ctime > booted for kernel in kernels))
    yield "reboot_required", "gauge", "Whether updates wait for a reboot.", alone(due)


def restarts(root: Path, wrong: list[str]) -> Iterator[Family]:
    """Yield whether each of the bundle's units that runs has code that an upgrade has replaced since."""
    found, unseen = replaced(root / "proc")
    wrong += [f"{unit}: its processes cannot be looked at" for unit in unseen]
    due = [
        ({"unit": unit}, float(bool(files))) for unit, files in found.items() if unit not in unseen
    ]
    yield "restart_due", "gauge", "Whether it runs code that an upgrade has replaced.", due


def shown(root: Path) -> str:
    """Return what systemd says of the services that it knows; nothing where it does not run (sd_booted(3))."""
    if not (root / "run/systemd/system").is_dir():
        return ""
    asked = ",".join(["Id", "Type", "ActiveState", *(name for name, *_ in COUNTED)])
    command = ["/usr/bin/systemctl", "show", f"--property={asked}", "*.service"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
    return done.stdout


def units(root: Path) -> Iterator[Family]:
    """Yield which of the bundle's services run and what each takes, of those that are not off."""
    blocks = [
        dict(line.partition("=")[::2] for line in block.splitlines())
        for block in shown(root).split("\n\n")
    ]
    ours = [
        ({"unit": one["Id"]}, one)
        for one in blocks
        if OURS.fullmatch(one.get("Id", ""))
        and one["ActiveState"] != "inactive"
        and one["Type"] != "oneshot"
    ]
    up = [
        (labels, float(one["ActiveState"] in ("active", "reloading", "refreshing")))
        for labels, one in ours
    ]
    yield "unit_active", "gauge", "Whether it runs.", up
    for key, name, kind, scale, text in COUNTED:
        # what systemd does not know is "[not set]"
        found = [(labels, int(one[key]) * scale) for labels, one in ours if one[key].isdigit()]
        yield name, kind, text, found


# -- Kafka and ZooKeeper ---------------------------------------------------------------------------------


def place(address: str) -> tuple[str, int]:
    """Return the host and the port of host:port."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def partitions(told: dict[str, Any]) -> dict[str, int]:
    """Count the partitions, those without a leader and those with replicas that are behind, and the controller."""
    found = {"controller": int(told["controller"] >= 0), "all": 0, "leaderless": 0, "behind": 0}
    for leader, replicas, in_sync in (one for topic in told["topics"].values() for one in topic):
        found["all"] += 1
        found["leaderless"] += leader < 0
        found["behind"] += in_sync < replicas
    return found


def kafka(address: str, folder: str, login: str, quorum: bool = False) -> Iterator[Family]:
    """Yield whether the broker is well, what is wrong with its partitions, and what is free of its disk.

    In a ``quorum`` (KRaft) the controller is the one that leads it; what a broker says of its topics names any broker.
    """
    try:
        with Connection(address, login_of(login) if login else {}, SECONDS) as broker:
            told = broker.metadata(all_topics=True)
            found = partitions({**told, "controller": broker.quorum()[0]} if quorum else told)
    except (OSError, struct.error) as error:
        warn(f"Kafka at {address}: {error}")
        found = {"controller": 0}
    up = alone(found["controller"])
    yield "kafka_up", "gauge", "Whether the broker answers and knows a controller.", up
    for key, name, text in (
        ("all", "kafka_partitions", "Partitions of all topics."),
        ("leaderless", "kafka_partitions_without_leader", "Those of them without a leader."),
        ("behind", "kafka_partitions_under_replicated", "Those with a replica that is behind."),
    ):
        if key in found:
            yield name, "gauge", text, alone(found[key])
    if folder and os.path.isdir(folder):
        disk = os.statvfs(folder)
        free = alone(100.0 * disk.f_bavail / max(1, disk.f_blocks))
        yield "kafka_disk_free_percent", "gauge", "What is free of the disk with its data.", free


def zookeeper(address: str) -> Iterator[Family]:
    """Yield whether ZooKeeper serves: alone, or as a member of an ensemble with a quorum (its command `srvr`)."""
    said = b""
    try:
        with socket.create_connection(place(address), timeout=SECONDS) as connection:
            connection.sendall(b"srvr")
            with connection.makefile("rb") as answer:
                said = answer.read(65536)
    except OSError as error:
        warn(f"ZooKeeper at {address}: {error}")
    serves = alone(b"\nMode: " in said)
    yield "zookeeper_serving", "gauge", "Whether ZooKeeper serves, with a quorum.", serves


# -- all of it -------------------------------------------------------------------------------------------


def text_of(families: list[Family]) -> str:
    """Return metrics in Prometheus' text format, version 0.0.4."""
    lines = []
    for name, kind, told, samples in families:
        if kind and samples:
            lines.append(f"# HELP switchboard_{name} {told}")
            lines.append(f"# TYPE switchboard_{name} {kind}")
        if name == "http_request_seconds_bucket" and samples:
            lines.append("# HELP switchboard_http_request_seconds How long answers took.")
            lines.append("# TYPE switchboard_http_request_seconds histogram")
        for labels, value in samples:
            inside = ",".join(f'{key}="{text}"' for key, text in labels.items())
            lines.append(f"switchboard_{name}{f'{{{inside}}}' if inside else ''} {value:.17g}")
    return "".join(f"{line}\n" for line in lines)


def gather(root: Path, config: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the text of all that can be noted, and what went wrong."""
    sites = config["sites"]
    wrong: list[str] = []
    parts = [backups(root), verified(root), reboot(root), restarts(root, wrong), units(root)]
    parts += [
        websockets(root, sites, wrong),
        threads(root, sites, wrong),
        requests(root, sites, wrong),
        closed(root, sites, config["maintenance_dir"]),
    ]
    if config["kafka"]:
        keys = ("kafka", "kafka_data_dir", "kafka_login", "kafka_quorum")
        parts.append(kafka(*(config[key] for key in keys)))
    if config["zookeeper"]:
        parts.append(zookeeper(config["zookeeper"]))
    text = ""
    for part in parts:
        try:
            text += text_of(list(part))
        except Exception as error:  # the other parts are noted all the same
            wrong.append(f"{part.__name__}: {error!r}"[:300])
    faults = alone(len(wrong))
    text += text_of(
        [("notes_faults", "gauge", "How much of the notes could not be taken.", faults)]
    )
    return text, wrong


def main(root: Path = ROOT) -> int:
    """Write the notes; what is wrong with one part keeps no other from them."""
    text, wrong = gather(root, load(root / CONFIG))
    replace(root / NOTES, text)
    for line in wrong:
        warn(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
