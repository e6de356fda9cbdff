"""Measure how soon a change shows in another browser, on one test host with everything on it, over SSH.

There are two such hosts, the site of one on SQLite, of the other on PostgreSQL; each measurement asks one after the
other. The load, the pages that listen and the hosts share this machine's cores. Measured in turn:

    at 50 changes a second    from the answer to the POST, and from its sending, to the frame in another's socket
    1,000 people              one event of a group that all of them belong to, each with a page open
    one rate after another    until p99 from the sending to the frame passes 1 s, or a change is refused

Beside each rate stands what Kafka allows at best: a bare producer and a bare consumer, with the same client and
settings, on the same host. Environment: RUNS, how often each is measured (3), SECONDS of each measurement (20),
BENCH_HOSTS, the prefix of the containers' names. It prints a table and writes build/bench/notifications.json and
docs/images/latency.png.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.live.load import Load, key
from tests.live.people import Page, Person, Target
from tools.bench import FOLDER, PREFIX, Host, machine, number, percentile, publish, row
from tools.common import ROOT, ToolError, environment, main_guard, run, say
from tools.setup import install, lock_of

SITE = "graphspace"
TOPIC = f"{SITE}.bench"
PASSWORD = "a-password-for-test-hosts"  # noqa: S105 - of people who live as long as the test host
RATE = 50.0  # changes a second
RATES = (10, 25, 50, 75, 100, 125, 150, 175, 200, 250, 300, 400, 500)
STEP = 8.0  # seconds at each of these
MOST = 1.0  # seconds; a rate whose p99 is above is not sustained
EVENTS = 6  # of the group of a thousand, in each run
LATEST = 30.0  # seconds to wait for what is on its way
GOALS = {"p50": 20.0, "p99": 80.0, "thousand": 1.0}
DATABASES = ("sqlite", "postgresql")
POSTGRESQL_P99 = 20.0  # ms
POSTGRESQL_TIMES = 2.5  # as many changes a second as SQLite
PLOT = ROOT / "docs" / "images" / "latency.png"


@dataclass
class Step:
    """What came of one rate. Latencies are in seconds; they are negative where the frame was first."""

    rate: float
    sent: int
    committed: int
    from_sending: list[float]
    from_answer: list[float]
    bare: list[float]

    @property
    def sustained(self) -> bool:
        """Whether all was taken and p99 is below `MOST`."""
        return self.committed == self.sent and percentile(self.from_sending, 0.99) <= MOST


@dataclass
class Samples:
    """What was measured. Times are in seconds."""

    steady: list[Step] = field(default_factory=list)
    ramps: list[list[Step]] = field(default_factory=list)
    first_frame: list[float] = field(default_factory=list)
    last_frame: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)


def bare(host: Host, rate: float, seconds: float) -> list[float]:
    """Return the latencies of a bare producer and consumer on the host, in seconds."""
    python = f"/srv/{SITE}/current/venv/bin/python"
    told = f"set -a; . /etc/switchboard/{SITE}/settings.env; . /etc/switchboard/{SITE}/secrets.env"
    run_it = f"runuser -u {SITE} -- {python} - 127.0.0.1:9092 {TOPIC} {rate} {seconds}"
    command = f"sudo sh -c '{told}; exec {run_it}'"
    said = host.shell(command, ROOT / "tests" / "bench" / "round_trip.py")
    latencies: list[float] = json.loads(said.splitlines()[-1])
    if len(latencies) < rate * seconds:
        raise ToolError(f"Of {rate * seconds:.0f} bare records {len(latencies)} came back.")
    return latencies


@asynccontextmanager
async def open_pages(pages: list[Page]) -> AsyncIterator[None]:
    """Keep some pages open."""
    tasks = [asyncio.create_task(page.stay_open()) for page in pages]
    try:
        async with asyncio.timeout(LATEST):
            for page in pages:
                await page.connected.wait()
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def at_rate(host: Host, rate: float, seconds: float) -> Step:
    """Let ada change things that grace is told of, at one rate, and time what grace's page shows."""
    target = Target(host.address, 80, host.address)
    people = [await Person.sign_in(target, name, PASSWORD) for name in ("ada", "grace")]
    ada, grace = people
    # Unbounded: what the host does not take at once is to be seen.
    load = Load(ada, unanswered=1_000_000)
    await load.prepare(grace)
    page = Page(grace, (await grace.listed(0))[1])
    async with open_pages([page]):
        await load.run(rate, seconds)
        told = [change for change in load.changes if change.committed and "grace" in change.tells]
        until = time.perf_counter() + LATEST
        while len(page.shown) < len(told) and time.perf_counter() < until:
            await asyncio.sleep(0.05)
    for person in people:
        await person.close()
    shown = {key(arrival.item): arrival.at for arrival in page.shown}
    missing = [change for change in told if (change.token, change.action) not in shown]
    if missing:
        raise ToolError(f"At {rate:.0f}/s {len(missing)} of {len(told)} changes were not shown.")
    waits = [(change, shown[change.token, change.action]) for change in told]
    return Step(
        rate,
        len(load.changes),
        sum(change.committed for change in load.changes),
        [at - change.started for change, at in waits],
        [at - change.answered for change, at in waits],
        await asyncio.to_thread(bare, host, rate, seconds),
    )


async def thousand(host: Host, samples: Samples, crowd: dict[str, object]) -> None:
    """Open a page for each of a thousand people, share and unshare a graph with their group, time the frames."""
    target = Target(host.address, 80, host.address)
    ada = await Person.sign_in(target, "ada", PASSWORD)
    sessions: dict[str, str] = crowd["sessions"]  # type: ignore[assignment]
    people = [
        Person.with_cookies(target, name, {str(crowd["cookie"]): session})
        for name, session in sessions.items()
    ]
    name = f"seen by many {uuid.uuid4()}"
    status, graph = await ada.post("/graphs/new/", name=name, nodes="a", edges="")
    if status != 302:
        raise ToolError(f"The graph could not be made: {status}.")
    pages = [Page(person) for person in people]
    async with open_pages(pages):
        for page in pages:
            page.shown.clear()
        for number_of_event in range(EVENTS):
            verb = "unshare" if number_of_event % 2 else "share"
            sent = time.perf_counter()
            status, _place = await ada.post(f"{graph}{verb}/", group=str(crowd["group"]))
            answered = time.perf_counter()
            if status != 302:
                raise ToolError(f"The graph could not be {verb}d: {status}.")
            while not all(len(page.shown) > number_of_event for page in pages):
                if time.perf_counter() > answered + LATEST:
                    raise ToolError("Not everybody was told.")
                await asyncio.sleep(0.05)
            arrivals = [page.shown[number_of_event].at for page in pages]
            samples.answered.append(answered - sent)
            samples.first_frame.append(min(arrivals) - answered)
            samples.last_frame.append(max(arrivals) - answered)
            await asyncio.sleep(1.0)  # the next event finds everybody idle
    for person in [ada, *people]:
        await person.close()


async def ramp(host: Host) -> list[Step]:
    """Raise the rate until it is not sustained."""
    steps = []
    for rate in RATES:
        steps.append(await at_rate(host, rate, STEP))
        say(
            f"{rate}/s: p50 {1e3 * statistics.median(steps[-1].from_sending):.0f} ms, "
            f"p99 {1e3 * percentile(steps[-1].from_sending, 0.99):.0f} ms, "
            f"{steps[-1].committed} of {steps[-1].sent} committed"
        )
        if not steps[-1].sustained:
            break
    return steps


async def measure(
    hosts: dict[str, Host], runs: int, seconds: float, crowds: dict[str, dict[str, object]]
) -> dict[str, Samples]:
    """Take all samples, each kind in each run, of one host after the other."""
    found = {name: Samples() for name in hosts}
    for count in range(1, runs + 1):
        for name, host in hosts.items():
            samples = found[name]
            samples.steady.append(await at_rate(host, RATE, seconds))
            say(f"run {count}, {name}: {RATE:.0f}/s measured")
            await thousand(host, samples, crowds[name])
            say(
                f"run {count}, {name}: a thousand people, last frame {samples.last_frame[-1]:.2f} s"
            )
            samples.ramps.append(await ramp(host))
    return found


def sustained(samples: Samples) -> list[float]:
    """Return the highest rate of each run that was sustained."""
    return [
        max((step.rate for step in steps if step.sustained), default=0.0) for steps in samples.ramps
    ]


def rows(found: dict[str, Samples]) -> list[dict[str, object]]:
    """Return the result."""
    samples, other = found["sqlite"], found["postgresql"]

    def milliseconds(attribute: str, share: float, of: Samples = samples) -> list[float]:
        return [1e3 * percentile(getattr(step, attribute), share) for step in of.steady]

    result = machine()
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        best = milliseconds("bare", share)
        for what, attribute, goal in (
            ("answer to frame", "from_answer", GOALS[name]),
            ("sending to frame", "from_sending", None),
        ):
            result.append(
                row(
                    f"{what} at {RATE:.0f}/s, {name}",
                    "ms",
                    milliseconds(attribute, share),
                    {"bare Kafka": best},
                    goal,
                    limit=statistics.median(best),
                )
            )
        result.append(
            row(
                f"on PostgreSQL, answer to frame at {RATE:.0f}/s, {name}",
                "ms",
                milliseconds("from_answer", share, other),
                {"SQLite": milliseconds("from_answer", share)},
                POSTGRESQL_P99 if name == "p99" else None,
            )
        )
    return [
        *result,
        row("on PostgreSQL, 1,000 people, answer to last frame", "s", other.last_frame),
        row(
            f"on PostgreSQL, highest rate with p99 below {MOST:.0f} s",
            "1/s",
            sustained(other),
            {"SQLite": sustained(samples)},
            POSTGRESQL_TIMES * statistics.median(sustained(samples)),
            at_least=True,
        ),
        row("1,000 people, answer to first frame", "s", samples.first_frame),
        row("1,000 people, answer to last frame", "s", samples.last_frame, goal=GOALS["thousand"]),
        row("1,000 people, sending to answer", "s", samples.answered),
        row(f"highest rate with p99 below {MOST:.0f} s", "1/s", sustained(samples)),
    ]


def plot(ramps: list[list[Step]], path: Path) -> None:
    """Draw latency against rate."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    by_rate: defaultdict[float, list[Step]] = defaultdict(list)
    for steps in ramps:
        for step in steps:
            by_rate[step.rate].append(step)
    rates = sorted(by_rate)
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for attribute, label, colour in (
        ("from_sending", "POST sent to frame shown", "tab:blue"),
        ("bare", "bare producer to consumer", "tab:gray"),
    ):
        for share, style in ((0.5, "-"), (0.99, "--")):
            middle = [
                1e3
                * statistics.median(
                    percentile(getattr(step, attribute), share) for step in by_rate[rate]
                )
                for rate in rates
            ]
            axes.plot(
                rates, middle, style, color=colour, marker=".", label=f"{label}, p{100 * share:.0f}"
            )
    axes.set_yscale("log")
    axes.set_xlabel("changes a second")
    axes.set_ylabel("latency in ms")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    axes.set_title(
        "Two cores for everything: Apache, Django, Kafka, ZooKeeper, Daphne, load and browsers",
        fontsize=10,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def deployed(host: Host, database: str) -> dict[str, object]:
    """Make a host with the demonstration site on a database; return a group of a thousand people."""
    host.create()
    say(f"deploying the demonstration site on {database}")
    topics = [
        {"name": f"{SITE}.{name}", "partitions": 3} for name in ("owner", "group", "watching")
    ]
    topics.append({"name": TOPIC, "partitions": 3})
    command = host.playbook(
        "site.yml",
        site={
            "database": database,
            "secrets": {"SEED_PASSWORD": PASSWORD},
            "releases": {"commands": ["seed"]},
        },
        kafka_topics=topics,
        # all thousand come from one address
        apache_max_websockets_per_address=1500,
        apache_max_connections_per_address=3000,
    )
    run(command, env=environment() | {"ANSIBLE_NOCOLOR": "1"})
    host.check()
    said = host.shell(f"sudo {SITE}-manage shell", ROOT / "tests" / "bench" / "thousand.py")
    crowd: dict[str, object] = json.loads(said.splitlines()[-1])
    return crowd


def main() -> int:
    """Deploy to two fresh hosts, measure, print the table, write the JSON and the plot."""
    runs, seconds = number("RUNS", 3), number("SECONDS", 20)
    install(
        Path(sys.prefix), lock_of(f"{sys.version_info.major}.{sys.version_info.minor}", "bench")
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    hosts = {name: Host(f"{PREFIX}-{name}", FOLDER / "hosts" / name) for name in DATABASES}
    try:
        crowds = {name: deployed(host, name) for name, host in hosts.items()}
        found = asyncio.run(measure(hosts, runs, seconds, crowds))
    finally:
        for host in hosts.values():
            host.remove()
    publish("notifications", rows(found))
    plot(found["sqlite"].ramps, PLOT)
    print(f"{PLOT.relative_to(ROOT)} shows latency against rate.")
    return 0


if __name__ == "__main__":
    main_guard(main)
