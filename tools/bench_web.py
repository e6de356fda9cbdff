"""Measure pages, WebSockets, deployments and reloads of one site, beside other servers with the same project.

Everything runs on one test host with the whole bundle on it, the load in a container beside it; both share this
machine's cores. A peer runs only while it is measured, has as many processes and threads, writes an access log where
ours does, and hands WebSockets to the same Daphne (tests/bench/web_peers.sh). In each run, one after the other:

    pages      a small Django view, 32 kept connections               nginx with gunicorn, gunicorn, Debian's Apache
    static     a small file and one of 100 KB                         nginx
    echo       over WebSockets, one connection, then 100              Daphne, nginx, HAProxy, uvicorn, Debian's Apache
    hold       pages before and beside SOCKETS idle WebSockets, and what a socket takes (first run)   nginx
    release    pages in the first seconds after code changed          nginx with gunicorn
    reloads    pages while Apache reloads, each time with 100 WebSockets more     Debian's Apache

Debian's Apache has the package's settings and the rules that are published for WebSockets. It prints a table and
writes build/bench/web.json and docs/images/web-*.png. Environment:

    RUNS, SECONDS       how often each is measured (3), and for how long (10)
    SOCKETS, HOLD       how many idle sockets (5000) are held, and for how many seconds (300); STRETCH=1: 10,000 as well
    RELOADS             how often Apache reloads (20)
    WEBSOCKETS          apache_max_websockets (500 more than are held)
    OLD_GENERATIONS     apache_old_generations (the role's own)
    ONLY                some of the names above, such as "pages echo"
    BENCH_HOSTS         the prefix of the containers' names
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.bench import FOLDER, PREFIX, Host, machine, number, percentile, publish, row
from tools.common import ROOT, ToolError, environment, image_name, main_guard, run, say
from tools.setup import install, lock_of

SITE = "probe"
PROCESSES, THREADS, INSTANCES = (
    2,
    15,
    2,
)  # of the WSGI daemon and of gunicorn; of Daphne and of uvicorn
PORTS = {
    "ours": 80,
    "Daphne": 9109,
    "gunicorn": 9202,
    "uvicorn": 9203,
    "nginx": 9204,
    "HAProxy": 9205,
    "Debian Apache": 9206,
}
# The peers that web_peers.sh starts, by its names.
PEERS = {
    "gunicorn": "gunicorn",
    "uvicorn": "uvicorn",
    "nginx": "nginx",
    "HAProxy": "haproxy",
    "Debian Apache": "seed",
}
APACHE = {"ours": "apache2", "Debian Apache": "apache2@seed"}
DAPHNE_UNITS = [f"daphne-{SITE}@{count}" for count in range(1, INSTANCES + 1)]
FILES = {"static_small": "/static/beacon/probe.txt", "static_100k": "/static/bench.bin"}
SCRIPTS = ROOT / "tests" / "bench"
IMAGES = ROOT / "docs" / "images"

CONNECTIONS = 32  # of wrk, kept
RATE = 50.0  # pages a second beside sockets, deployments and reloads
MANY = 100  # connections of the echo
STRETCHED = 10_000  # sockets
QUIET = 60.0  # seconds at most of the pages without sockets, and of the peer's hold
EACH_RELOAD = 100  # sockets opened before a reload
STARTING = 5.0  # seconds after a restart: thousands of threads start
PAUSE = 2.0  # seconds after a reload
HUNG = 10.0  # seconds; a page that takes longer ends the reloads
TRIES = 50  # more, at the sockets that were refused
LONGEST = 60.0  # seconds that a page may take elsewhere
FIRST = 3.0  # seconds after the change of code that count
OPEN_FILES = 20_000  # of the load; more can't be had on every machine
# KiB of the kernel's for a TCP socket (socket, file, dentry, epoll entry) and for a thread (stack, task): estimates.
KERNEL_KIB = {"socket": 4.0, "thread": 20.0}

Samples = dict[str, dict[str, list[float]]]


class Load:
    """The container that the load comes from."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address

    def create(self) -> None:
        """Start it, with wrk and the load's own program."""
        self.remove()
        trust = ["/etc/ssl/certs/ca-certificates.crt", "/usr/local/share/ca-certificates"]
        volumes = [f"{path}:{path}:ro" for path in trust if Path(path).exists()]
        volumes.append("switchboard-apt-13:/var/cache/switchboard-apt")
        options = ["--init", "--ulimit", f"nofile={OPEN_FILES}", "--name", self.name]
        options += ["--label", "switchboard.test-host=true"]
        options += [word for volume in volumes for word in ("--volume", volume)]
        run(["docker", "run", "--detach", *options, image_name("13"), "sleep", "infinity"])
        packages = (
            "cp -n /var/cache/switchboard-apt/*.deb /var/cache/apt/archives/ 2>/dev/null; "
            "apt-get -qq update && apt-get -qq install -y --no-install-recommends wrk"
        )
        self.command("sh", "-c", packages)
        for name in ("web_load.py", "wrk.lua"):
            run(["docker", "cp", str(SCRIPTS / name), f"{self.name}:/root/{name}"])

    def remove(self) -> None:
        """Remove it."""
        run(["docker", "rm", "--force", self.name], check=False)

    def command(self, *words: str) -> str:
        """Run a command to its end and return what it printed."""
        return run(["docker", "exec", self.name, *words]).stdout

    def wrk(self, port: int, path: str, seconds: float) -> dict[str, float]:
        """Return requests a second (`rate`) and `p99` in ms, over kept connections.

        Raises:
            ToolError: a request failed.
        """
        words = ["wrk", "--threads", "2", "--connections", str(CONNECTIONS), "--script"]
        words += ["/root/wrk.lua", "--duration", f"{seconds:.0f}s", "--timeout", "30s"]
        said = self.command(*words, f"http://{self.address}:{port}{path}")
        found: dict[str, float] = json.loads(said.splitlines()[-1])
        if found["failed"]:
            raise ToolError(f"{found['failed']} requests for {path} on port {port} failed.")
        return found

    def echo(self, port: int, connections: int, seconds: float) -> dict[str, float]:
        """Return `p50` and `p99` in seconds, messages a second (`rate`), the client's share of a core (`client`)."""
        words = ["echo", self.address, str(port), str(connections), str(seconds)]
        said = self.command("python3", "/root/web_load.py", *words)
        found: dict[str, float] = json.loads(said.splitlines()[-1])
        return found

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start the load's program and leave it to the caller."""
        command = ["docker", "exec", "--interactive", self.name, "python3", "/root/web_load.py"]
        pipe = subprocess.PIPE
        return subprocess.Popen([*command, *words], stdin=pipe, stdout=pipe, text=True)

    @contextmanager
    def sockets(self, port: int) -> Iterator[Callable[[int], dict[str, Any]]]:
        """Give a function that opens so many more sockets and says how many are open, failed and lost by now."""
        process = self.start("sockets", self.address, str(port))
        assert process.stdin is not None
        assert process.stdout is not None
        ask, answer = process.stdin, process.stdout

        def more(count: int) -> dict[str, Any]:
            ask.write(f"{count}\n")
            ask.flush()
            said = answer.readline()
            if not said:
                raise ToolError("The program that holds the sockets has ended.")
            counts: dict[str, Any] = json.loads(said)
            return counts

        try:
            yield more
        finally:
            process.communicate()


@dataclass
class Pages:
    """Pages asked for at a steady rate: `[due, wait]` of each, in seconds, `due` being Unix time."""

    pages: list[tuple[float, float]]
    failed: list[tuple[float, str]]
    again: int

    def p99(self, since: float = 0.0, until: float = float("inf")) -> float:
        """Return p99 of the waits of the pages due in that time, in ms."""
        waits = [wait for due, wait in self.pages if since <= due < until]
        if not waits:
            raise ToolError("No page was due in that time.")
        return 1e3 * percentile(waits, 0.99)

    @property
    def longest(self) -> float:
        """Return the longest wait, in seconds."""
        return max(wait for _, wait in self.pages)


class Visits:
    """A visitor that asks for pages until told to stop, or until one hangs."""

    def __init__(self, load: Load, port: int, longest: float = LONGEST) -> None:
        self.process = load.start("pages", load.address, str(port), str(RATE), str(longest))

    @property
    def ended(self) -> bool:
        """Whether it has stopped by itself, since a page hung."""
        return self.process.poll() is not None

    def stop(self) -> Pages:
        """Stop it and return what it found."""
        said, _ = self.process.communicate()
        if not said:
            raise ToolError("The program that asks for pages has failed.")
        return Pages(**json.loads(said.splitlines()[-1]))


@dataclass
class Bench:
    """The measurements: a host, the load, how long each takes, and what came of them."""

    host: Host
    load: Load
    seconds: int
    hold_seconds: int
    sockets: list[int]
    reload_count: int
    samples: Samples = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    held: dict[str, Pages] = field(default_factory=dict)
    reloaded: dict[str, Pages] = field(default_factory=dict)

    def script(self, *words: str) -> str:
        """Run web_peers.sh on the host."""
        values = {
            "SITE": SITE,
            "ADDRESS": self.host.address,
            "DAPHNE": PORTS["Daphne"],
            "PROCESSES": PROCESSES,
            "THREADS": THREADS,
            "INSTANCES": INSTANCES,
        }
        variables = " ".join(f"{name}={value}" for name, value in values.items())
        command = f"sudo {variables} bash -s {' '.join(words)}"
        return self.host.shell(command, SCRIPTS / "web_peers.sh")

    def each(self, names: Sequence[str], count: int, action: Callable[[str, int], None]) -> None:
        """Do something with the name and port of each, one alone running. A peer that fails is left out, ours must not.

        Each run begins with another one.
        """
        start = count % len(names)
        for name in [*names[start:], *names[:start]]:
            try:
                if name in PEERS:
                    self.script("start", PEERS[name])
                action(name, PORTS[name])
            except ToolError as error:
                if name == "ours":
                    raise
                say(f"{name} is left out: {error}")
            finally:
                if name in PEERS:
                    self.script("stop", PEERS[name])

    def note(self, what: str, name: str, value: float) -> None:
        """Keep one measurement."""
        self.samples[what][name].append(value)

    def ask(self, port: int, seconds: float) -> Pages:
        """Ask for pages for so many seconds."""
        visits = Visits(self.load, port)
        time.sleep(seconds)  # for so long the load runs
        return visits.stop()

    def pages(self, count: int) -> None:
        """Ask for a small page as often as it comes."""

        def one(name: str, port: int) -> None:
            self.load.wrk(port, "/", 2)
            found = self.load.wrk(port, "/", self.seconds)
            self.note("page_rate", name, found["rate"])
            self.note("page_p99", name, found["p99"])
            say(f"pages, {name}: {found['rate']:.0f}/s, p99 {found['p99']:.1f} ms")

        self.each(["ours", "nginx", "gunicorn", "Debian Apache"], count, one)

    def static(self, count: int) -> None:
        """Ask for static files as often as they come."""

        def one(name: str, port: int) -> None:
            for what, path in FILES.items():
                self.load.wrk(port, path, 1)
                found = self.load.wrk(port, path, self.seconds)
                self.note(what, name, found["rate"])
                say(f"{path}, {name}: {found['rate']:.0f}/s")

        self.each(["ours", "nginx"], count, one)

    def echo(self, count: int) -> None:
        """Send messages to and fro."""

        def one(name: str, port: int) -> None:
            single = self.load.echo(port, 1, self.seconds)
            many = self.load.echo(port, MANY, self.seconds)
            self.note("echo_p50", name, 1e3 * single["p50"])
            self.note("echo_rate", name, many["rate"])
            say(
                f"echo, {name}: p50 {1e3 * single['p50']:.3f} ms; {MANY} connections: "
                f"{many['rate']:.0f}/s, the client takes {many['client']:.2f} of a core"
            )

        names = ["ours", "Daphne", "nginx", "HAProxy", "uvicorn", "Debian Apache"]
        self.each(names, count, one)

    def hold(self, count: int) -> None:
        """Hold idle sockets; ask for pages before and meanwhile; see what a socket takes."""

        def one(name: str, port: int) -> None:
            for sockets in self.sockets if name == "ours" else self.sockets[:1]:
                self.hold_on(name, port, sockets)

        self.each(["ours", "nginx"], count, one)

    def hold_on(self, name: str, port: int, count: int) -> None:
        """Hold so many."""
        own = ["apache2"] if name == "ours" else ["bench-gunicorn", "bench-nginx"]
        units = [*own, *DAPHNE_UNITS]
        self.script("fresh", *units)
        time.sleep(STARTING)  # its threads start
        self.load.wrk(port, "/", 1)  # each process has loaded the project
        seconds = float(self.hold_seconds)
        before = self.ask(port, min(seconds, QUIET))
        empty = self.memory(units)
        with self.load.sockets(port) as more:
            start = time.monotonic()
            counts = more(count)
            for _ in range(TRIES):
                if counts["open"] < count:
                    time.sleep(0.2)  # between two looks
                    counts = more(count - counts["open"])
            took, opened = time.monotonic() - start, counts["open"]
            if not opened:
                raise ToolError(f"{name}: no socket opened: {counts['reasons']}.")
            during = self.ask(port, seconds if name == "ours" else min(seconds, QUIET))
            full = self.memory(units)
            counts = more(0)
        each = (full - empty) / opened
        for what, value in (
            ("before", before.p99()),
            ("during", during.p99()),
            ("socket", each),
            ("empty", empty / 1024),
            ("open", float(opened)),
            ("room", float(counts.get("room", count))),
            ("lost", float(counts["lost"])),
            ("failed", float(len(during.failed))),
        ):
            self.note(f"hold_{count}_{what}", name, value)
        if count == self.sockets[0]:
            self.held[f"{name}, no sockets"], self.held[f"{name}, {count:,} sockets"] = (
                before,
                during,
            )
        say(
            f"{name}: {opened} of {count} sockets opened in {took:.0f} s, {each:.0f} KiB each, {counts['failed']} "
            f"refused {counts['reasons']}, {counts['lost']} lost; "
            f"pages p99 {before.p99():.1f} ms before, {during.p99():.1f} ms beside them, "
            f"{len(during.failed)} failed"
        )
        time.sleep(3.0)  # the server sees that they are closed

    def memory(self, units: list[str]) -> float:
        """Return the KiB that some units take, with an estimate of the kernel's share."""
        said = self.script("memory", *units)
        pss, threads, sockets, pages = (float(word) for word in said.split())
        return (
            pss
            + threads * KERNEL_KIB["thread"]
            + sockets * KERNEL_KIB["socket"]
            + pages * os.sysconf("SC_PAGE_SIZE") / 1024
        )

    def release(self, count: int) -> None:
        """Change the code, ask for pages before and right after."""

        def one(name: str, port: int) -> None:
            self.load.wrk(port, "/", 1)
            visits = Visits(self.load, port)
            time.sleep(self.seconds)  # pages before the change
            since = float(self.script("release", name).split()[0])
            if name == "ours":
                run(self.host.ad_hoc("wsgi_renew", f"group={SITE}"), env=environment())
            until = time.time() + FIRST
            time.sleep(FIRST + 2.0)  # pages after it
            found = visits.stop()
            warm, first = found.p99(until=since), found.p99(since, until)
            self.note("release_warm", name, warm)
            self.note("release_first", name, first)
            self.note("release_failed", name, len(found.failed))
            say(
                f"release, {name}: p99 {first:.0f} ms until {FIRST:.0f} s after, {warm:.1f} ms "
                f"before, {len(found.failed)} failed"
            )

        self.each(["ours", "nginx"], count, one)

    def reloads(self, count: int) -> None:
        """Reload Apache again and again, each time with more sockets open, and ask for pages throughout."""

        def one(name: str, port: int) -> None:
            self.script("fresh", APACHE[name], *DAPHNE_UNITS)
            time.sleep(STARTING)  # its threads start
            self.reload_on(name, port)

        self.each(list(APACHE), count, one)
        self.script("fresh", APACHE["ours"])  # the generations before are gone

    def reload_on(self, name: str, port: int) -> None:
        """Reload one of the two Apaches."""
        self.load.wrk(port, "/", 1)
        visits = Visits(self.load, port, HUNG)
        time.sleep(1.0)  # the last pages are answered
        begun: list[float] = []
        with self.load.sockets(port) as more:
            counts = more(0)
            while len(begun) < self.reload_count and not visits.ended:
                counts = more(EACH_RELOAD)
                begun.append(time.time())
                self.host.shell(f"sudo systemctl reload {APACHE[name]}")
                time.sleep(PAUSE)  # between two reloads
            found = visits.stop()
            counts = more(0)
        hung = min((due for due, why in found.failed if why == "hung"), default=float("inf"))
        # the last one before a page hung is not done
        done = max(0, sum(at <= hung for at in begun) - (hung < float("inf")))
        for what, value in (
            ("done", done),
            ("failed", len(found.failed)),
            ("longest", found.longest),
            ("open", counts["open"]),
            ("lost", counts["lost"]),
        ):
            self.note(f"reload_{what}", name, float(value))
        self.reloaded[name] = found
        reasons = sorted({why for _, why in found.failed})
        say(
            f"{name}: {done} reloads, {counts['open']} sockets open, {counts['failed']} refused {counts['reasons']}, "
            f"{counts['lost']} lost; of {len(found.pages)} pages {len(found.failed)} failed "
            f"{', '.join(reasons)}, {found.again} were asked for again, the longest took "
            f"{found.longest:.2f} s"
        )

    def measure(self, runs: int, only: list[str]) -> None:
        """Take all samples, each kind in each run."""
        for count in range(runs):
            for name in only:
                if name == "hold" and count:
                    continue  # it is long
                say(f"run {count + 1}: {name}")
                getattr(self, name)(count)


KINDS = ("pages", "static", "echo", "hold", "release", "reloads")


def rows(samples: Samples, sockets: list[int], reload_count: int) -> list[dict[str, Any]]:
    """Return the result. A goal is a number, or so many times a column's median in this or in another measurement."""
    result = machine()

    def add(
        what: str,
        unit: str,
        key: str,
        goal: tuple[float, str] | float | None = None,
        *,
        beside: tuple[str, str] | None = None,
        at_least: bool = False,
    ) -> None:
        found = {name: values for name, values in samples.get(key, {}).items() if values}
        if "ours" not in found:
            return
        if beside:  # ours, in another measurement
            found[beside[0]] = samples[beside[1]]["ours"]
        if isinstance(goal, tuple):
            times, name = goal
            goal = times * statistics.median(found[name]) if name in found else None
        ours = found.pop("ours")
        result.append(row(what, unit, ours, found, goal, at_least=at_least))

    kept = f"{CONNECTIONS} connections"
    add(f"Django page, {kept}", "1/s", "page_rate", (0.95, "nginx"), at_least=True)
    add(f"Django page, {kept}, p99", "ms", "page_p99", (1.0, "nginx"))
    add("static file", "1/s", "static_small", (0.8, "nginx"), at_least=True)
    add("static file of 100 KB", "1/s", "static_100k", (0.8, "nginx"), at_least=True)
    add("echo, 1 connection, p50", "ms", "echo_p50", (1.12, "Daphne"))
    add(f"echo, {MANY} connections", "1/s", "echo_rate", (1.0, "nginx"), at_least=True)
    for count in sockets:
        key = f"hold_{count}"
        with_them = f"{count:,} sockets"
        add(
            f"page beside {with_them}, p99",
            "ms",
            f"{key}_during",
            (1.5, "before"),
            beside=("before", f"{key}_before"),
        )
        add(f"failed pages beside {with_them}", "", f"{key}_failed", 0.0)
        add(f"open of {with_them}", "", f"{key}_open", count, at_least=True)
        add("sockets open when the first was refused", "", f"{key}_room", count, at_least=True)
        add(f"lost of {with_them}", "", f"{key}_lost", 0.0)
        add(f"memory a socket, {with_them}", "KiB", f"{key}_socket")
        add("memory without sockets", "MiB", f"{key}_empty")
    add(
        f"page, first {FIRST:.0f} s of changed code, p99",
        "ms",
        "release_first",
        (3.0, "before"),
        beside=("before", "release_warm"),
    )
    add("failed pages when code changed", "", "release_failed", 0.0)
    add(
        f"reloads, {EACH_RELOAD} more sockets each, until a page hung",
        "",
        "reload_done",
        float(reload_count),
        at_least=True,
    )
    add("failed pages in these", "", "reload_failed", 0.0)
    add("longest wait of a page in these", "s", "reload_longest")
    add("sockets open at their end", "", "reload_open")
    add("sockets lost in these", "", "reload_lost", 0.0)
    return result


def plot(bench: Bench) -> list[Path]:
    """Draw what was measured: rates as bars, waits beside sockets, waits in the reloads of the last run."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    paths = []

    def save(figure: Any, name: str) -> None:
        IMAGES.mkdir(parents=True, exist_ok=True)
        paths.append(IMAGES / f"web-{name}.png")
        figure.savefig(paths[-1], dpi=110)
        pyplot.close(figure)

    bars = {
        "page_rate": "Django pages a second",
        "static_100k": "static files of 100 KB a second",
        "echo_rate": f"echoes a second, {MANY} connections",
    }
    bars = {key: title for key, title in bars.items() if bench.samples.get(key)}
    if bars:
        figure, grid = pyplot.subplots(
            1, len(bars), figsize=(4 * len(bars), 3), layout="constrained", squeeze=False
        )
        for axes, (key, title) in zip(grid[0], bars.items(), strict=True):
            found = {name: statistics.median(v) for name, v in bench.samples[key].items()}
            names = sorted(found, key=lambda name: found[name])
            colours = ["tab:blue" if name == "ours" else "tab:gray" for name in names]
            drawn = axes.barh(names, [found[name] for name in names], color=colours)
            axes.bar_label(drawn, fmt="{:,.0f}", padding=2, fontsize=8)
            axes.margins(x=0.2)
            axes.set_title(title, fontsize=10)
        save(figure, "rates")
    if bench.held:
        figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
        for label, found_pages in bench.held.items():
            waits = sorted(1e3 * wait for _, wait in found_pages.pages)
            shares = [100 * (index + 1) / len(waits) for index in range(len(waits))]
            colour = "tab:blue" if label.startswith("ours") else "tab:gray"
            style = ":" if label.endswith("no sockets") else "-"
            axes.plot(waits, shares, style, color=colour, label=label)
        axes.set_xscale("log")
        axes.set_xlabel(f"wait for a page in ms, {RATE:.0f} pages a second")
        axes.set_ylabel("% of pages")
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend()
        save(figure, "hold")
    if bench.reloaded:
        figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
        for name, found_pages in sorted(bench.reloaded.items()):
            start = found_pages.pages[0][0]
            axes.scatter(
                [due - start for due, _ in found_pages.pages],
                [1e3 * wait for _, wait in found_pages.pages],
                s=3,
                color="tab:blue" if name == "ours" else "tab:red",
                label=name,
            )
        axes.set_yscale("log")
        axes.set_xlabel(
            f"seconds, a reload about every {PAUSE:.0f}, {EACH_RELOAD} more sockets each"
        )
        axes.set_ylabel("wait for a page in ms")
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend()
        save(figure, "reloads")
    return paths


def deploy(host: Host, websockets: int, extra: dict[str, Any]) -> None:
    """Deploy the probe project and see that it serves.

    Raises:
        ToolError: it does not.
    """
    command = host.playbook(
        "site.yml",
        sites={
            SITE: {
                "domain": host.address,
                "source": {"directory": "tests/projects/probe"},
                "settings": "beacon.config",
                "wsgi": "beacon.web",
                "asgi": "beacon.sockets",
                "websockets": {
                    "paths": ["/live/"],
                    "health": "/live/echo",
                    "port": PORTS["Daphne"],
                    "instances": INSTANCES,
                    "max": websockets,
                },
                "pages": {"processes": PROCESSES, "threads": THREADS},
                "environment": {
                    "BEACON_HOSTS": "{domain}",
                    "BEACON_DB": "{data}/probe.sqlite3",
                },
                "secret_key_variable": "BEACON_SECRET",
                "static": {"variable": "BEACON_STATIC"},
                "checks": {"fail_level": "ERROR"},
            }
        },
        kafka_heap_mb=384,
        zookeeper_heap_mb=128,
        # all addresses, so that the load can ask the same Daphne without a proxy
        daphne_address="0.0.0.0",  # noqa: S104 - a test host
        # the load has one address
        apache_max_websockets_per_address=websockets,
        apache_max_connections_per_address=websockets + 1000,
        **extra,
    )
    run(command, env=environment() | {"ANSIBLE_NOCOLOR": "1"})
    page = host.ask("/", {})
    if (page.status, page.headers["X-Answered-By"]) != (200, "mod_wsgi"):
        raise ToolError(f"{host.name}: the page gives {page.status}, not 200 from mod_wsgi.")


def main() -> int:
    """Deploy to a fresh host, measure, print the table, write the JSON and the plots."""
    runs, seconds, hold = number("RUNS", 3), number("SECONDS", 10), number("HOLD", 300)
    sockets = [number("SOCKETS", 5000)]
    if os.environ.get("STRETCH"):
        sockets.append(STRETCHED)
    websockets = number("WEBSOCKETS", max(sockets) + 500)
    extra: dict[str, Any] = {}
    if "OLD_GENERATIONS" in os.environ:
        extra["apache_old_generations"] = number("OLD_GENERATIONS", 3)
    only = os.environ.get("ONLY", " ".join(KINDS)).split()
    if unknown := set(only) - set(KINDS):
        raise ToolError(f"ONLY names {', '.join(unknown)}: choose from {', '.join(KINDS)}.")
    install(
        Path(sys.prefix), lock_of(f"{sys.version_info.major}.{sys.version_info.minor}", "bench")
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    host = Host(f"{PREFIX}-web", FOLDER / "hosts" / "web")
    load = Load(f"{PREFIX}-web-load", "")
    try:
        host.create()
        say(f"deploying the probe project for {websockets} sockets")
        deploy(host, websockets, extra)
        load.address = host.address
        load.create()
        bench = Bench(host, load, seconds, hold, sockets, number("RELOADS", 20))
        say("installing the peers")
        bench.script("install")
        bench.measure(runs, only)
    finally:
        load.remove()
        host.remove()
    publish("web", rows(bench.samples, sockets, bench.reload_count))
    for path in plot(bench):
        print(f"{path.relative_to(ROOT)} shows it.")
    return 0


if __name__ == "__main__":
    main_guard(main)
