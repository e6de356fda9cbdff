"""Counters of all the processes of a site, without any of them asking another.

Each process counts in a small file of its own, mapped into memory: an array of doubles in the order
of `NAMES`. Whoever is asked (the relay's metrics address, `manage.py metrics`, `/readyz`) adds up the
files. What a process that is gone has counted moves into one file of retired counts, so that a
counter never falls; its gauges are forgotten. All the processes are of one host and one user.
"""

import contextlib
import fcntl
import logging
import mmap
import os
import threading
import time
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError

from notifications import outbox
from notifications.topics import Kind

log = logging.getLogger(__name__)

BUCKETS = (
    0.005,
    0.01,
    0.02,
    0.04,
    0.08,
    0.16,
    0.32,
    0.64,
    1.28,
    2.56,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
)
COUNTERS = (
    *(f"produced.{kind}" for kind in Kind.values),
    *(f"delivered.{kind}" for kind in Kind.values),
    "failed",
    "skipped",
    "caught_up",
    *(f"latency.{bound}" for bound in BUCKETS),
    "latency.inf",
    "latency.sum",
)
GAUGES = (
    "sockets",
    "listener",  # 1 where this process runs the thread that reads Kafka
    "listening",  # 1 while that thread has its partitions
    "heartbeat",  # when that thread last went round, in seconds of the UNIX epoch
    "lag",  # records that Kafka has and that thread has not read
)
NAMES = COUNTERS + GAUGES
_INDEX = {name: number for number, name in enumerate(NAMES)}
_LAYOUT = f"{zlib.crc32(' '.join(NAMES).encode()):08x}"
_SIZE = 8 * len(NAMES)

_lock = threading.Lock()
_numbers: memoryview | None = None


def add(name: str, amount: float = 1.0) -> None:
    """Count."""
    with _lock:
        numbers = _mine()
        numbers[_INDEX[name]] += amount


def put(name: str, value: float) -> None:
    """Set a gauge of this process."""
    with _lock:
        _mine()[_INDEX[name]] = value


def observe(seconds: float) -> None:
    """Count one notification that reached a socket so many seconds after it was written."""
    seconds = max(0.0, seconds)
    place = bisect_left(BUCKETS, seconds)
    bound = BUCKETS[place] if place < len(BUCKETS) else "inf"
    with _lock:
        numbers = _mine()
        numbers[_INDEX[f"latency.{bound}"]] += 1
        numbers[_INDEX["latency.sum"]] += seconds


def folder() -> Path | None:
    """Return where the processes keep their files; None where each counts for itself alone."""
    place = getattr(settings, "NOTIFICATIONS_METRICS_DIR", None)
    return Path(place) if place else None


def _mine() -> memoryview:
    global _numbers
    if _numbers is None:
        try:
            _numbers = _open()
        except OSError as error:
            log.error("Metrics of this process are not counted with the others: %s", error)
            _numbers = memoryview(bytearray(_SIZE)).cast("d")
    return _numbers


def _open() -> memoryview:
    place = folder()
    if place is None:
        return memoryview(bytearray(_SIZE)).cast("d")
    place.mkdir(mode=0o750, parents=True, exist_ok=True)
    name = place / f"{os.getpid()}-{_started(os.getpid())}.{_LAYOUT}"
    handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        # No hole: where the disk is full, writing into one would end the process (SIGBUS).
        os.posix_fallocate(handle, 0, _SIZE)
        mapped = mmap.mmap(handle, _SIZE)
    finally:
        os.close(handle)
    with _alone(place):
        _retire(place)
    return memoryview(mapped).cast("d")


def _forget() -> None:
    # A forked process has counted nothing yet, and the parent's file is the parent's.
    global _numbers, _lock
    _numbers, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)


def _started(pid: int) -> str:
    """Return when a process began, in clock ticks since boot (proc(5), field 22 of stat)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        return text.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "0"


def _alive(stem: str) -> bool:
    pid, _dash, started = stem.partition("-")
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # its number is another user's process by now
        return False
    except (ValueError, OverflowError):
        return False
    now = _started(int(pid))
    return "0" in (now, started) or now == started


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    handle = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _load(path: Path) -> list[float]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    if len(content) != _SIZE:
        return [0.0] * len(NAMES)
    return list(memoryview(content).cast("d"))


def _retire(place: Path) -> None:
    """Move the counts of processes that are gone into one file. Call it under `_alone`."""
    total = place / f"retired.{_LAYOUT}"
    for path in place.iterdir():
        if path.name == "lock" or path.stem == "retired" or path.suffix == ".new":
            if path.stem == "retired" and path.suffix != f".{_LAYOUT}":
                path.unlink(missing_ok=True)  # another release's: its names are not these
            continue
        if _alive(path.stem):
            continue
        if path.suffix == f".{_LAYOUT}":
            kept = [one + other for one, other in zip(_load(total), _load(path), strict=True)]
            new = total.with_suffix(".new")
            packed = memoryview(bytearray(_SIZE)).cast("d")
            for name in COUNTERS:
                packed[_INDEX[name]] = kept[_INDEX[name]]
            new.write_bytes(packed.tobytes())
            new.replace(total)
        path.unlink(missing_ok=True)


def read() -> tuple[dict[str, float], list[dict[str, float]]]:
    """Return the site's counters, and the gauges of each process that is alive."""
    place = folder()
    if place is None:
        with _lock:
            files = [list(_mine())]
        processes = files
    else:
        place.mkdir(mode=0o750, parents=True, exist_ok=True)
        with _alone(place):
            _retire(place)
            paths = sorted(place.glob(f"*.{_LAYOUT}"))
            loaded = {path.stem: _load(path) for path in paths}
        files = list(loaded.values())
        processes = [numbers for stem, numbers in loaded.items() if stem != "retired"]
    counters = {name: sum(numbers[_INDEX[name]] for numbers in files) for name in COUNTERS}
    gauges = [{name: numbers[_INDEX[name]] for name in GAUGES} for numbers in processes]
    return counters, gauges


def exposition() -> str:
    """Return everything in Prometheus' text format, version 0.0.4."""
    counters, processes = read()
    lines: list[str] = []

    def family(name: str, kind: str, text: str, samples: dict[str, float]) -> None:
        lines.append(f"# HELP notifications_{name} {text}")
        lines.append(f"# TYPE notifications_{name} {kind}")
        lines.extend(f"notifications_{name}{key} {value:.17g}" for key, value in samples.items())

    def by_kind(prefix: str) -> dict[str, float]:
        return {f'{{kind="{kind}"}}': counters[f"{prefix}.{kind}"] for kind in Kind.values}

    listeners = [gauges for gauges in processes if gauges["listener"]]
    family(
        "sockets_open",
        "gauge",
        "WebSockets that are open now.",
        {"": sum(gauges["sockets"] for gauges in processes)},
    )
    family(
        "events_produced_total", "counter", "Events that Kafka acknowledged.", by_kind("produced")
    )
    family(
        "events_failed_total",
        "counter",
        "Attempts to hand an event to Kafka that failed; the relay makes the next one.",
        {"": counters["failed"]},
    )
    family(
        "events_delivered_total",
        "counter",
        "Events handed to a socket, counted once for each socket.",
        by_kind("delivered"),
    )
    family(
        "events_caught_up_total",
        "counter",
        "Those of them that came from the database, not through Kafka.",
        {"": counters["caught_up"]},
    )
    family(
        "records_skipped_total",
        "counter",
        "Kafka records that were unreadable or of another version.",
        {"": counters["skipped"]},
    )
    try:
        number, oldest = outbox.waiting()
        family("outbox_waiting", "gauge", "Events that Kafka has yet to get.", {"": number})
        family("outbox_oldest_seconds", "gauge", "The age of the oldest of them.", {"": oldest})
        family("database_up", "gauge", "Whether the database answered.", {"": 1})
    except DatabaseError:
        family("database_up", "gauge", "Whether the database answered.", {"": 0})
    family("consumers", "gauge", "Processes that should be reading Kafka.", {"": len(listeners)})
    family(
        "consumers_assigned",
        "gauge",
        "Those of them that have their partitions.",
        {"": sum(gauges["listening"] for gauges in listeners)},
    )
    family(
        "consumer_lag_records",
        "gauge",
        "Records that the slowest of these processes has not read yet.",
        {"": max((gauges["lag"] for gauges in listeners), default=0)},
    )
    family(
        "consumer_silence_seconds",
        "gauge",
        "How long ago the quietest of their threads last went round.",
        {"": max((time.time() - gauges["heartbeat"] for gauges in listeners), default=0)},
    )
    samples, sofar = {}, 0.0
    for bound in BUCKETS:
        sofar += counters[f"latency.{bound}"]
        samples[f'_bucket{{le="{bound}"}}'] = sofar
    sofar += counters["latency.inf"]
    samples['_bucket{le="+Inf"}'] = sofar
    samples["_sum"], samples["_count"] = counters["latency.sum"], sofar
    family(
        "latency_seconds",
        "histogram",
        "From the row in the database to the frame in a socket, for what came through Kafka.",
        samples,
    )
    return "\n".join(lines) + "\n"
