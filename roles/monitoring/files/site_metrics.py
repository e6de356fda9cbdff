"""What is noted of each site: its WebSockets, the threads that serve its pages, the answers that its visitors got.

Root reads here what a site's user, or any other, may have made: none of it is followed, waited for or believed beyond
a bound, and what fails of one site is a sentence in `wrong` and keeps no other site from the notes.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import socket
import stat
import struct
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

FOLDER = "var/lib/switchboard/metrics"
PLACES = f"{FOLDER}/places.json"
SECONDS = 5.0  # that whoever is asked has to answer
ALL_SECONDS = 10.0  # the same, of all processes of mod_wsgi together
BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
MOST = 8 * 2**20  # bytes of a site's log that one run reads; the next one goes on there
GAP = 64 * 2**20  # what is further behind than that is not counted
LINE = 2**16  # bytes of one line
SMALL = 4096  # bytes of what a site tells
LARGEST = 2**48  # of a number that it tells
PROCESSES = 16  # of a site that are asked, or as many as it has threads
OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
DAPHNE = ("sockets", "unsent")
WSGI = ("active_requests", "capacity_utilization", "queue_time_total")
Labels = dict[str, str]
# name without its prefix, kind, help, [(labels, value)]
Family = tuple[str, str, str, list[tuple[Labels, float]]]


def load(path: Path) -> dict[str, Any]:
    """Return what a JSON file of root's says; nothing where there is none."""
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


# -- what a site's user may have made ---------------------------------------------------------------------


@contextlib.contextmanager
def opened(name: str | Path, above: int | None = None, flags: int = 0) -> Iterator[int]:
    """Open what a name stands for, without following a link or waiting for a writer."""
    number = os.open(name, OPEN | flags, dir_fd=above)
    try:
        yield number
    finally:
        os.close(number)


def small(name: str, above: int) -> bytes:
    """Return what a small file in an open folder has.

    Raises:
        OSError: there is none, or a link.
        ValueError: it is no regular file, or larger than SMALL.
    """
    with opened(name, above) as number:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise ValueError(f"{name} is no file")
        data = os.read(number, SMALL + 1)
    if len(data) > SMALL:
        raise ValueError(f"{name} has more than {SMALL} bytes")
    return data


def numbers(data: bytes, known: tuple[str, ...], kinds: tuple[type, ...]) -> dict[str, float]:
    """Return the numbers that a site tells, by the names that are known; others are left out.

    Raises:
        ValueError: it is no JSON object, or one of them is missing, of another kind, below 0 or beyond LARGEST.
    """
    told = json.loads(data)
    if not isinstance(told, dict):
        raise ValueError("no object")
    found = {}
    for key in known:
        value = told.get(key)
        # bool is an int of Python's; NaN is in no range
        if type(value) not in kinds or not 0 <= value <= LARGEST:
            raise ValueError(f"{key} is no number that can be")
        found[key] = value
    return found


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


def daphne_numbers(root: Path, site: str) -> dict[str, float]:
    """Return what the processes of Daphne have noted of a site's WebSockets, and how many have."""
    found: dict[str, float] = {"sockets": 0, "unsent": 0, "processes": 0}
    try:
        folder = os.open(root / "run" / f"daphne-{site}", OPEN | os.O_DIRECTORY)
    except FileNotFoundError:
        return found
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry, _ in zip(entries, range(256), strict=False)]
        for name in sorted(name for name in names if re.fullmatch(r"[0-9]{1,3}", name)):
            try:
                with opened(name, folder, os.O_DIRECTORY) as own:
                    data = small("numbers.json", own)
            except FileNotFoundError:
                continue  # it has noted nothing yet, or ends
            for key, value in {**numbers(data, DAPHNE, (int,)), "processes": 1}.items():
                found[key] += value
    finally:
        os.close(folder)
    return found


def websockets(root: Path, sites: list[dict[str, Any]], wrong: list[str]) -> Iterator[Family]:
    """Yield the WebSockets of each site, how many it may have, and what their readers have not taken."""
    live = [site for site in sites if site["websocket_port"]]
    kernel = open_sockets(root, {site["websocket_port"] for site in live})
    held, limits, waiting = [], [], []
    for site in live:
        labels = {"site": site["name"]}
        limits.append((labels, float(site["max_websockets"])))
        try:
            told = daphne_numbers(root, site["name"])
        except Exception as error:  # whatever its user has put there
            wrong.append(f"WebSockets of {site['name']}: {error!r}"[:300])
            continue
        count, bytes_ = kernel[site["websocket_port"]]
        # a process that has noted nothing yet is counted by its connections
        held.append((labels, float(told["sockets"] if told["processes"] else count)))
        waiting.append((labels, float(told["unsent"] + bytes_)))
    yield "websockets_open", "gauge", "WebSockets that Daphne holds.", held
    yield "websockets_limit", "gauge", "How many it may hold.", limits
    yield "websockets_unsent_bytes", "gauge", "What their readers have yet to take.", waiting


# -- the threads of mod_wsgi --------------------------------------------------------------------------------


def owner(root: Path, process: str) -> int:
    """Return the number of the user whose a process is, -1 without one (proc(5), status: its folder may be root's)."""
    try:
        text = (root / "proc" / process / "status").read_text(errors="replace")
    except OSError:
        return -1
    found = re.search(r"^Uid:\t([0-9]+)", text, re.M)
    return int(found[1]) if found else -1


def wsgi_processes(root: Path, site: str) -> list[str]:
    """Return the abstract sockets of a site's processes of mod_wsgi (proc(5), net/unix)."""
    path = root / "proc/net/unix"
    pattern = re.compile(rf"@(switchboard-wsgi/{re.escape(site)}/[0-9]{{1,9}})$", re.M)
    return sorted(set(pattern.findall(path.read_text(errors="replace"))) if path.exists() else [])


def part(end: float, many: int) -> float:
    """Return when the first of so many has to have answered, so that all have by the end."""
    now = time.monotonic()
    return now + max(0.0, end - now) / max(1, many)


def asked(name: str, user: int, end: float) -> dict[str, float]:
    """Return what a process of mod_wsgi tells of itself; nothing where the socket is another user's.

    Raises:
        OSError: it does not answer in time.
        ValueError: it does not tell what is asked for.
    """
    data = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(max(0.01, end - time.monotonic()))
        connection.connect(f"\0{name}")
        told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", told)[1] != user:
            return {}
        while not data.endswith(b"\n"):
            connection.settimeout(max(0.01, end - time.monotonic()))
            more = connection.recv(SMALL + 1 - len(data))
            data += more
            if len(data) > SMALL:
                raise ValueError(f"more than {SMALL} bytes")
            if not more:
                break
            if time.monotonic() > end:
                raise TimeoutError("timed out")
    return numbers(data, WSGI, (int, float))


def busy_numbers(
    root: Path, site: dict[str, Any], end: float, wrong: list[str]
) -> list[dict[str, float]]:
    """Return what each of a site's processes of mod_wsgi tells; names of other users count for nothing."""
    user = pwd.getpwnam(site["name"]).pw_uid
    names = wsgi_processes(root, site["name"])
    own = [name for name in names if owner(root, name.rpartition("/")[2]) == user]
    own = own[: max(PROCESSES, int(site["threads"]))]
    found = []
    for index, name in enumerate(own):
        try:
            found.append(asked(name, user, part(end, len(own) - index)))
        except ConnectionRefusedError:
            continue  # it has ended since
        except Exception as error:  # whatever listens there
            wrong.append(f"{name}: {error!r}"[:300])
    return [one for one in found if one]


def threads(root: Path, sites: list[dict[str, Any]], wrong: list[str]) -> Iterator[Family]:
    """Yield how many threads serve each site's pages, how busy they are, and how long requests waited for one."""
    every, busy, used, queue = [], [], [], []
    end = time.monotonic() + ALL_SECONDS
    for index, site in enumerate(sites):
        labels = {"site": site["name"]}
        every.append((labels, float(site["threads"])))
        try:
            told = busy_numbers(root, site, part(end, len(sites) - index), wrong)
        except KeyError:
            continue  # its user is not there yet
        except Exception as error:
            wrong.append(f"threads of {site['name']}: {error!r}"[:300])
            continue
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


# -- the answers in Apache's log ----------------------------------------------------------------------------


def lines_of(path: Path, kept: dict[str, Any], most: int) -> Generator[bytes, None, int]:
    """Yield the whole lines of a log from where the last run ended, and return how many bytes more may be read.

    What is kept of the place changes with each line, so the next run goes on wherever this one ends.
    """
    with path.open("rb") as log:
        end = os.fstat(log.fileno()).st_size
        kept["offset"] = min(kept["offset"], end)
        if end - kept["offset"] > GAP:
            warn(f"{path}: {end - kept['offset']} bytes were not read in time and are not counted")
            kept["offset"] = end
        log.seek(kept["offset"])
        while most > 0:
            line = log.readline(LINE)
            if not line.endswith(b"\n") and len(line) < LINE:
                break
            kept["offset"] += len(line)
            most -= len(line)
            yield line
    return most


def new_lines(folder: Path, kept: dict[str, Any]) -> Iterator[bytes]:
    """Yield the lines that were added to a site's log since the last run, up to MOST bytes of them.

    Apache begins a new file each day, and access.json is the newest one's second name.
    """
    newest, most = folder / "access.json", MOST
    if not newest.exists():
        return
    number, former = newest.stat().st_ino, kept.get("inode")
    if former is None:
        kept["offset"] = newest.stat().st_size  # what was there before anybody counted
    elif former != number:
        old = next((p for p in folder.glob("access-*.json") if p.stat().st_ino == former), None)
        if old:
            most = yield from lines_of(old, kept, most)
            if most <= 0:
                return  # the next run goes on there
        kept["offset"] = 0
    kept["inode"] = number
    yield from lines_of(newest, kept, most)


def count(line: bytes, kept: dict[str, Any]) -> None:
    """Count one request: its answer and how long it took; a WebSocket is none, and took as long as it was open."""
    try:
        told = json.loads(line)
        status, seconds = int(told["status"]), int(told["microseconds"]) / 1e6
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return
    if status == 101 or not 100 <= status <= 599 or not 0 <= seconds <= LARGEST:
        return
    classes, buckets = kept["classes"], kept["buckets"]
    name = f"{status // 100}xx"
    classes[name] = classes.get(name, 0) + 1
    kept["seconds"] += seconds
    for index, bound in enumerate(BUCKETS):
        buckets[index] += seconds <= bound


def requests(root: Path, sites: list[dict[str, Any]], wrong: list[str]) -> Iterator[Family]:
    """Yield the answers that each site's visitors got, counted in its log from run to run."""
    kept = load(root / PLACES)
    totals, times, sums, counts = [], [], [], []
    for site in sites:
        name = site["name"]
        new = {"classes": {}, "buckets": [0] * len(BUCKETS), "seconds": 0.0}
        own = kept.setdefault(name, new)
        if len(own["buckets"]) != len(BUCKETS):
            own |= new
        try:
            for line in new_lines(root / "var/log/apache2" / name, own):
                count(line, own)
        except Exception as error:
            wrong.append(f"log of {name}: {error!r}"[:300])
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
