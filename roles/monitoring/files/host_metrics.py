#!/usr/bin/python3
"""Note what no exporter of Debian's tells about this host, for the node exporter's textfile collector.

Backups, the last verify, a reboot that is due, Kafka, ZooKeeper, the WebSockets of each site and the answers that its
visitors got. /etc/switchboard/metrics.json says what there is to ask. What can't be asked is left out, and said on
standard error; all else is noted all the same.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path("/")
CONFIG = "etc/switchboard/metrics.json"
FOLDER = "var/lib/switchboard/metrics"
NOTES = f"{FOLDER}/switchboard.prom"
PLACES = f"{FOLDER}/places.json"
SECONDS = 5.0  # that a broker has to answer
BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
LONGEST = 64 * 2**20  # bytes of a log that one run reads; what is beyond is not counted
Labels = dict[str, str]
# name without its prefix, kind, help, [(labels, value)]
Family = tuple[str, str, str, list[tuple[Labels, float]]]


def stamp(text: str) -> float:
    """Return a time of ISO 8601 in seconds of the UNIX epoch."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def load(path: Path) -> dict[str, Any]:
    """Return what a JSON file says; nothing where there is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def warn(text: str) -> None:
    """Say what is wrong, as a warning of the journal (sd-daemon(3)); the unit keeps no lesser ones."""
    print(f"<4>{text}", file=sys.stderr)


def replace(path: Path, text: str) -> None:
    """Write a file in one step."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


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
        found = [({}, stamp(told["at"]))]
        yield "verify_timestamp_seconds", "gauge", "When the host was last verified.", found
        found = [({}, float(told["bad"]))]
        yield "verify_checks_bad", "gauge", "How many of its checks fell short.", found
    if told.get("drift") is not None:
        found = [({}, float(told["drift"]))]
        yield "verify_drift", "gauge", "How many tasks would have changed something.", found


def reboot(root: Path) -> Iterator[Family]:
    """Yield whether what was updated waits for a reboot (Debian's update-notifier-common, unattended-upgrades)."""
    due = (root / "run/reboot-required").exists() or (root / "var/run/reboot-required").exists()
    yield "reboot_required", "gauge", "Whether updates wait for a reboot.", [({}, float(due))]


# -- Kafka and ZooKeeper ---------------------------------------------------------------------------------


def place(address: str) -> tuple[str, int]:
    """Return the host and the port of host:port."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def metadata(address: str) -> bytes:
    """Return a broker's answer to a Metadata request, version 4, for all topics (Kafka protocol guide)."""
    client = b"switchboard-metrics"
    body = struct.pack(f">hhih{len(client)}s", 3, 4, 1, len(client), client)
    body += struct.pack(">i?", -1, False)
    with socket.create_connection(place(address), timeout=SECONDS) as connection:
        connection.sendall(struct.pack(">i", len(body)) + body)
        with connection.makefile("rb") as answer:
            (size,) = struct.unpack(">i", answer.read(4))
            return bytes(answer.read(size))


class Answer:
    """An answer of a broker, read from front to back."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def take(self, form: str) -> int:
        """Return the next number."""
        (value,) = struct.unpack_from(form, self.data, self.position)
        self.position += struct.calcsize(form)
        return int(value)

    def text(self) -> None:
        """Skip a text, which may be null."""
        length = self.take(">h")
        self.position += max(0, length)

    def numbers(self) -> int:
        """Return how many numbers an array of 32 bits each has, and skip it."""
        count = max(0, self.take(">i"))
        self.position += 4 * count
        return count


def partitions(data: bytes) -> dict[str, int]:
    """Count the partitions, those without a leader and those with replicas that are behind, and the controller (1 or 0)."""
    answer = Answer(data)
    answer.take(">i"), answer.take(">i")  # the request's number, throttling
    for _ in range(answer.take(">i")):  # brokers: number, host, port, rack
        answer.take(">i"), answer.text(), answer.take(">i"), answer.text()
    answer.text()  # the cluster
    found = {"controller": int(answer.take(">i") >= 0), "all": 0, "leaderless": 0, "behind": 0}
    for _ in range(max(0, answer.take(">i"))):
        answer.take(">h"), answer.text(), answer.take(">b")
        for _ in range(answer.take(">i")):
            answer.take(">h"), answer.take(">i")
            leader = answer.take(">i")
            replicas, in_sync = answer.numbers(), answer.numbers()
            found["all"] += 1
            found["leaderless"] += leader < 0
            found["behind"] += in_sync < replicas
    return found


def kafka(address: str, folder: str) -> Iterator[Family]:
    """Yield whether the broker is well, what is wrong with its partitions, and what is free of its disk."""
    try:
        found = partitions(metadata(address))
    except (OSError, struct.error) as error:
        warn(f"Kafka at {address}: {error}")
        found = {"controller": 0}
    up = [({}, float(found["controller"]))]
    yield "kafka_up", "gauge", "Whether the broker answers and knows a controller.", up
    for key, name, text in (
        ("all", "kafka_partitions", "Partitions of all topics."),
        ("leaderless", "kafka_partitions_without_leader", "Those of them without a leader."),
        ("behind", "kafka_partitions_under_replicated", "Those with a replica that is behind."),
    ):
        if key in found:
            yield name, "gauge", text, [({}, float(found[key]))]
    if folder and os.path.isdir(folder):
        disk = os.statvfs(folder)
        free = [({}, 100.0 * disk.f_bavail / max(1, disk.f_blocks))]
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
    serves = [({}, float(b"\nMode: " in said))]
    yield "zookeeper_serving", "gauge", "Whether ZooKeeper serves, with a quorum.", serves


# -- the sites -------------------------------------------------------------------------------------------


def closed(root: Path, sites: list[dict[str, Any]], folder: str) -> Iterator[Family]:
    """Yield whether each site is closed for maintenance."""
    values = [
        ({"site": site["name"]}, float((root / folder.lstrip("/") / site["name"]).exists()))
        for site in sites
    ]
    yield "site_maintenance", "gauge", "Whether it is closed for maintenance.", values


def open_sockets(root: Path, ports: set[int]) -> dict[int, tuple[int, int]]:
    """Map each port to how many connections to it are open, and the bytes that wait in it (proc(5), net/tcp)."""
    found = dict.fromkeys(ports, (0, 0))
    for name in ("tcp", "tcp6"):
        path = root / "proc/net" / name
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            fields = line.split()
            port = int(fields[1].rpartition(":")[2], 16)
            if port in ports and fields[3] == "01":  # established
                count, waiting = found[port]
                found[port] = (count + 1, waiting + int(fields[4].partition(":")[0], 16))
    return found


def websockets(root: Path, sites: list[dict[str, Any]]) -> Iterator[Family]:
    """Yield the WebSockets of each site, how many it may have, and what their readers have not taken."""
    live = [site for site in sites if site["websocket_port"]]
    found = open_sockets(root, {site["websocket_port"] for site in live})
    for name, text, value in (
        ("open", "Connections of Apache to Daphne.", lambda site, told: told[0]),
        ("limit", "How many it may have.", lambda site, told: site["max_websockets"]),
        ("unsent_bytes", "What waits in the kernel to be read.", lambda site, told: told[1]),
    ):
        values = [
            ({"site": site["name"]}, float(value(site, found[site["websocket_port"]])))
            for site in live
        ]
        yield f"websockets_{name}", "gauge", text, values


def new_lines(folder: Path, kept: dict[str, Any]) -> Iterator[bytes]:
    """Yield the lines that were added to a site's log since the last run; what is kept of its place changes with it.

    Apache begins a new file each day, and access.json is the newest one's second name.
    """
    newest = folder / "access.json"
    if not newest.exists():
        return
    number, end = newest.stat().st_ino, newest.stat().st_size
    former = kept.get("inode")
    files = []
    if former is None:
        kept["offset"] = end  # what was there before anybody counted
    elif former != number:
        old = next((p for p in folder.glob("access-*.json") if p.stat().st_ino == former), None)
        files = [(old, kept["offset"])] if old else []
        kept["offset"] = 0
    files.append((newest, min(kept["offset"], end)))
    kept["inode"] = number
    for path, offset in files:
        with path.open("rb") as log:
            log.seek(offset)
            data = log.read(LONGEST)
            whole = data[: data.rfind(b"\n") + 1]
            kept["offset"] = end if len(data) == LONGEST else offset + len(whole)
            yield from whole.splitlines()


def count(line: bytes, kept: dict[str, Any]) -> None:
    """Count one request: its answer and how long it took; a WebSocket is none, and took as long as it was open."""
    try:
        told = json.loads(line)
        status, seconds = int(told["status"]), int(told["microseconds"]) / 1e6
    except (ValueError, KeyError, TypeError):
        return
    if status == 101:
        return
    classes, buckets = kept["classes"], kept["buckets"]
    name = f"{status // 100}xx"
    classes[name] = classes.get(name, 0) + 1
    kept["seconds"] += seconds
    for index, bound in enumerate(BUCKETS):
        buckets[index] += seconds <= bound


def requests(root: Path, sites: list[dict[str, Any]]) -> Iterator[Family]:
    """Yield the answers that each site's visitors got, counted in its log from run to run."""
    kept = load(root / PLACES)
    totals, times, sums, counts = [], [], [], []
    for site in sites:
        name = site["name"]
        new = {"classes": {}, "buckets": [0] * len(BUCKETS), "seconds": 0.0}
        own = kept.setdefault(name, new)
        if len(own["buckets"]) != len(BUCKETS):
            own |= new
        for line in new_lines(root / "var/log/apache2" / name, own):
            count(line, own)
        every = {**dict.fromkeys(("2xx", "3xx", "4xx", "5xx"), 0), **own["classes"]}
        totals += [({"site": name, "class": key}, value) for key, value in sorted(every.items())]
        whole = float(sum(every.values()))
        bounds = [*map(str, BUCKETS), "+Inf"]
        times += [
            ({"site": name, "le": bound}, float(value))
            for bound, value in zip(bounds, [*own["buckets"], whole], strict=True)
        ]
        sums.append(({"site": name}, own["seconds"]))
        counts.append(({"site": name}, whole))
    replace(root / PLACES, json.dumps({site["name"]: kept[site["name"]] for site in sites}))
    yield "http_requests_total", "counter", "Answers of Apache, by their class.", totals
    yield "http_request_seconds_bucket", "", "", times
    yield "http_request_seconds_sum", "", "", sums
    yield "http_request_seconds_count", "", "", counts


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
    return "\n".join(lines) + "\n"


def gather(root: Path, config: dict[str, Any]) -> tuple[list[Family], list[str]]:
    """Return all that can be noted, and what went wrong."""
    sites = config["sites"]
    parts = [backups(root), verified(root), reboot(root), websockets(root, sites)]
    parts += [requests(root, sites), closed(root, sites, config["maintenance_dir"])]
    if config["kafka"]:
        parts.append(kafka(config["kafka"], config["kafka_data_dir"]))
    if config["zookeeper"]:
        parts.append(zookeeper(config["zookeeper"]))
    families, wrong = [], []
    for part in parts:
        try:
            families += list(part)
        except (OSError, ValueError, KeyError, TypeError) as error:
            wrong.append(f"{part.__name__}: {error!r}")
    return families, wrong


def main(root: Path = ROOT) -> int:
    """Write the notes; what is wrong with one part keeps no other from them."""
    families, wrong = gather(root, load(root / CONFIG))
    replace(root / NOTES, text_of(families))
    for text in wrong:
        warn(text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
