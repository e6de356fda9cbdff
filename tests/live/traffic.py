"""Traffic on the demonstration site for as long as a test needs it, in a thread of its own: pages, sockets, changes.

The project is one that `tests/releases` has added a path to, which answers with the name of its release.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

from tests.live.load import Account, Load, account, all_shown
from tests.live.people import Page, Person, Target

PATH = "/release-of-a-test/"
LONGEST = 1500.0  # seconds of traffic at most
NAMES = ("ada", "grace", "linus")


@dataclass
class Rates:
    """How much traffic there is."""

    pages: float = 100.0  # requests a second
    slow: float = 1.0  # of these, requests a second that take `seconds`
    seconds: float = 8.0
    sockets: int = 198
    changes: float = 5.0  # changes a second


@dataclass
class Traffic:
    """Visitors of one site, from `start` to `stop`."""

    target: Target
    password: str
    rates: Rates = field(default_factory=Rates)
    failures: list[str] = field(default_factory=list)
    answers: list[tuple[float, str]] = field(
        default_factory=list
    )  # when it was asked, and the release that answered
    waits: list[float] = field(default_factory=list)  # seconds, of the requests that are not slow

    def start(self) -> None:
        """Let them come; return when all sockets are open."""
        self.begun, self.stopping, self.pages = threading.Event(), False, list[Page]()
        self.problem: BaseException | None = None
        self.thread = threading.Thread(target=self._thread, name="traffic", daemon=True)
        self.thread.start()
        if not self.begun.wait(240) or self.problem:
            raise RuntimeError(f"the traffic did not begin: {self.problem!r}")

    def stop(self) -> Account:
        """End it; return what became of the changes."""
        self.stopping = True
        self.thread.join(180)
        if self.thread.is_alive() or self.problem:
            raise RuntimeError(f"the traffic did not end well: {self.problem!r}")
        return self.result

    def connected(self) -> int:
        """Return how many sockets are open."""
        return sum(page.connected.is_set() for page in self.pages)

    def troubles(self) -> list[str]:
        """Return what happened last to each socket that is not open."""
        return [
            f"{page.person.name}'s: {page.connections} times open, {page.refused} refused, {page.trouble}"
            for page in self.pages
            if not page.connected.is_set()
        ]

    def connections(self) -> int:
        """Return how many sockets were opened since the start."""
        return sum(page.connections for page in self.pages)

    def releases(self, since: float) -> Counter[str]:
        """Return how often each release answered a request that was sent after a time of time.perf_counter()."""
        return Counter(name for when, name in list(self.answers) if when > since)

    def _thread(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:
            self.problem = error
            self.begun.set()

    async def _run(self) -> None:
        people = {name: await Person.sign_in(self.target, name, self.password) for name in NAMES}
        load = Load(people["ada"])
        await load.prepare(people["grace"])
        begun = {name: (await person.listed(0))[1] for name, person in people.items()}
        each = self.rates.sockets // len(NAMES)
        self.pages = [Page(people[name], begun[name]) for name in NAMES for _ in range(each)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(page.stay_open()) for page in self.pages]
            for page in self.pages:
                await page.connected.wait()
            self.begun.set()
            posting = group.create_task(load.run(self.rates.changes, LONGEST))
            asking = [
                group.create_task(self._ask(people["linus"], self.rates.pages, 0)),
                group.create_task(self._ask(people["linus"], self.rates.slow, self.rates.seconds)),
            ]
            while not self.stopping:
                await asyncio.sleep(0.1)
            load.stopped = True
            await asyncio.gather(posting, *asking)
            await all_shown(self.pages, begun, 60)
            await asyncio.sleep(0.5)  # what comes twice, comes now
            for task in tasks:
                task.cancel()
        self.failures += load.failures
        self.result = await account(load.changes, self.pages, begun)
        for person in people.values():
            await person.close()

    async def _ask(self, person: Person, rate: float, seconds: float) -> None:
        """Ask for the release at a steady rate, however long the answers take, and wait for all answers."""
        begun, number = time.perf_counter(), 0
        async with asyncio.TaskGroup() as group:
            while not self.stopping and time.perf_counter() - begun < LONGEST:
                await asyncio.sleep(begun + number / rate - time.perf_counter())
                group.create_task(self._one(person, seconds))
                number += 1

    async def _one(self, person: Person, seconds: float) -> None:
        started = time.perf_counter()
        try:
            name = await person.page(f"{PATH}?seconds={seconds:g}")
        except (aiohttp.ClientError, OSError, TimeoutError, RuntimeError) as error:
            took = f"{time.strftime('%H:%M:%S')}, after {time.perf_counter() - started:.1f} s"
            self.failures.append(f"{took}: {type(error).__name__}: {error}")
            return
        self.answers.append((started, name))
        if not seconds:
            self.waits.append(time.perf_counter() - started)
