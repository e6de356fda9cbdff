"""What is noted of each site: its WebSockets, the threads that serve its pages, the answers that its visitors got."""

from __future__ import annotations

import json
import pwd
import re
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = "var/lib/switchboard/metrics"
PLACES = f"{FOLDER}/places.json"
SECONDS = 5.0  # that whoever is asked has to answer
BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
LONGEST = 64 * 2**20  # bytes of a log that one run reads; what is beyond is not counted
Labels = dict[str, str]
# name without its prefix, kind, help, [(labels, value)]
Family = tuple[str, str, str, list[tuple[Labels, float]]]


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


def daphne_numbers(root: Path, site: str) -> dict[str, int]:
    """Return what the processes of Daphne have noted of a site's WebSockets, and how many have."""
    found = {"sockets": 0, "unsent": 0, "processes": 0}
    for path in sorted((root / "run" / f"daphne-{site}").glob("*/numbers.json")):
        for key, value in {**load(path), "processes": 1}.items():
            found[key] += value
    return found


def websockets(root: Path, sites: list[dict[str, Any]]) -> Iterator[Family]:
    """Yield the WebSockets of each site, how many it may have, and what their readers have not taken."""
    live = [site for site in sites if site["websocket_port"]]
    kernel = open_sockets(root, {site["websocket_port"] for site in live})
    held, limits, waiting = [], [], []
    for site in live:
        labels, told = {"site": site["name"]}, daphne_numbers(root, site["name"])
        count, bytes_ = kernel[site["websocket_port"]]
        # a process that has noted nothing yet is counted by its connections
        held.append((labels, float(told["sockets"] if told["processes"] else count)))
        limits.append((labels, float(site["max_websockets"])))
        waiting.append((labels, float(told["unsent"] + bytes_)))
    yield "websockets_open", "gauge", "WebSockets that Daphne holds.", held
    yield "websockets_limit", "gauge", "How many it may hold.", limits
    yield "websockets_unsent_bytes", "gauge", "What their readers have yet to take.", waiting


def wsgi_processes(root: Path, site: str) -> list[str]:
    """Return the abstract sockets of a site's processes of mod_wsgi (proc(5), net/unix)."""
    path = root / "proc/net/unix"
    pattern = re.compile(rf"@(switchboard-wsgi/{re.escape(site)}/[0-9]+)$", re.M)
    return sorted(set(pattern.findall(path.read_text())) if path.exists() else [])


def asked(name: str, user: str) -> dict[str, float]:
    """Return what a process of mod_wsgi tells of itself; nothing where the socket is another user's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(SECONDS)
        connection.connect(f"\0{name}")
        told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", told)[1] != pwd.getpwnam(user).pw_uid:
            return {}
        with connection.makefile("rb") as answer:
            found: dict[str, float] = json.loads(answer.readline(4096))
    return found


def threads(root: Path, sites: list[dict[str, Any]]) -> Iterator[Family]:
    """Yield how many threads serve each site's pages, how busy they are, and how long requests waited for one."""
    every, busy, used, queue = [], [], [], []
    for site in sites:
        labels, told = {"site": site["name"]}, []
        for name in wsgi_processes(root, site["name"]):
            try:
                told.append(asked(name, site["name"]))
            except (OSError, ValueError, KeyError) as error:
                warn(f"{name}: {error}")
        told = [one for one in told if one]
        every.append((labels, float(site["threads"])))
        if told:
            busy.append((labels, sum(one["active_requests"] for one in told)))
            used.append((labels, sum(one["capacity_utilization"] for one in told) / len(told)))
            queue.append((labels, sum(one["queue_time_total"] for one in told)))
    yield "wsgi_threads", "gauge", "Threads that serve its pages.", every
    yield "wsgi_threads_busy", "gauge", "Those of them that serve one now.", busy
    yield (
        "wsgi_utilization",
        "gauge",
        "The part of their time that they served since the last note.",
        used,
    )
    yield (
        "wsgi_queue_seconds",
        "gauge",
        "How long requests since the last note waited for one.",
        queue,
    )


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
