"""A steady load of changes on the demonstration site, and the account of who should have heard of each.

One person, ada, changes graphs. Her own pages are told of all that she does to them (kind `owner`), grace's of what is
shared with their group (`group`) and of the graph that she watches (`watching`), and linus's of nothing.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.live.people import Page, Person

GROUP = "Cell biology"  # ada and grace belong to it, linus does not
GRAPH = {"description": "", "nodes": "a\nb", "edges": "a - b"}
UNANSWERED = (
    100  # changes at most; mod_wsgi takes that many beside those it serves, and refuses more
)
TOKEN = re.compile(r"“([0-9a-f]{12})”")


class RefusedError(Exception):
    """The site did not take a change."""


@dataclass
class Change:
    """One change: whom it concerns, and how it was answered."""

    token: str  # the name of its graph, which each message about it holds
    action: str
    tells: set[str]  # names of people
    started: float  # seconds, time.perf_counter()
    answered: float = 0.0  # the same clock
    committed: bool = False


class Load:
    """Ada, who changes things at a steady rate, however long the answers take."""

    def __init__(self, ada: Person, unanswered: int = UNANSWERED) -> None:
        self.ada = ada
        self._room = asyncio.Semaphore(unanswered)
        self.changes: list[Change] = []
        self.failures: list[
            str
        ] = []  # what was not answered with success; the list says whether it was made
        self.stopped = False
        self._watched = ""
        self._group = ""
        self._unshared: list[tuple[str, str]] = []  # (path, token) of graphs that only ada sees

    async def prepare(self, grace: Person) -> None:
        """Make the graph that grace watches."""
        self._watched = await self._form("/graphs/new/", **GRAPH, name=_token())
        page = await self.ada.page(self._watched)
        found = re.search(rf'<option value="(\d+)">{GROUP}</option>', page)
        if not found:
            raise RuntimeError(f"ada does not belong to {GROUP}")
        self._group = found.group(1)
        await self._form(f"{self._watched}share/", group=self._group)
        await grace.post(f"{self._watched}watch/")

    async def run(self, rate: float, seconds: float) -> None:
        """Send `rate` changes a second, each at its time, for that time or until stopped; wait for all the answers.

        A host that does not keep up is sent less: no more than `unanswered` changes are under way at once.
        """
        begun = time.perf_counter()
        tasks = []
        for number in range(round(rate * seconds)):
            if self.stopped:
                break
            await asyncio.sleep(begun + number / rate - time.perf_counter())
            await self._room.acquire()
            tasks.append(asyncio.create_task(self._turn(number)))
            tasks[-1].add_done_callback(lambda _task: self._room.release())
        await asyncio.gather(*tasks)

    async def _turn(self, number: int) -> None:
        """Make one change: of five, three are of the watched graph, one makes a graph, one shares one."""
        token = _token()
        if number % 5 == 3:
            change = self._begin(token, "graph_created", {"ada"})
            if path := await self._send(change, "/graphs/new/", **GRAPH, name=token):
                self._unshared.append((path, token))
        elif number % 5 == 4 and self._unshared:
            path, token = self._unshared.pop()
            change = self._begin(token, "graph_shared", {"grace"})
            await self._send(change, f"{path}share/", group=self._group)
        else:
            change = self._begin(token, "graph_updated", {"ada", "grace"})
            await self._send(change, f"{self._watched}edit/", **GRAPH, name=token)

    def _begin(self, token: str, action: str, tells: set[str]) -> Change:
        change = Change(token, action, tells, time.perf_counter())
        self.changes.append(change)
        return change

    async def _send(self, change: Change, path: str, **fields: str) -> str:
        """Send the form of a change and note how it was answered; return where the answer leads."""
        place = ""
        try:
            place = await self._form(path, **fields)
            change.committed = True
        except (aiohttp.ClientError, OSError, TimeoutError, RefusedError) as error:
            self.failures.append(f"{path}: {type(error).__name__}: {error}")
        change.answered = time.perf_counter()
        return place

    async def _form(self, path: str, **fields: str) -> str:
        """Send a form; return where its answer leads.

        Raises:
            RefusedError: it was not taken.
        """
        status, place = await self.ada.post(path, **fields)
        if status != 302:
            raise RefusedError(f"{path} answers {status}")
        return place


def _token() -> str:
    return uuid.uuid4().hex[:12]


@dataclass
class Visitor:
    """Somebody who looks at one page again and again."""

    person: Person
    waits: list[float] = field(default_factory=list)  # seconds
    failures: list[str] = field(default_factory=list)

    async def look(self, every: float = 0.2) -> None:
        """Ask for a page, then pause. Runs until it is cancelled."""
        while True:
            started = time.perf_counter()
            try:
                await self.person.page("/groups/")
            except (aiohttp.ClientError, OSError, TimeoutError, RuntimeError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
            self.waits.append(time.perf_counter() - started)
            await asyncio.sleep(every)


@dataclass
class Account:
    """What became of some changes. All but the first three are numbers of faults."""

    changes: int = 0  # that were sent
    committed: int = 0
    shown: int = 0  # notifications, counted on each open page
    unlisted: int = 0  # of committed changes, missing in the list of somebody whom they concern
    lost: int = 0  # listed and not shown
    doubled: int = 0
    misdirected: int = 0  # shown to, or listed for, somebody whom they do not concern
    disordered: int = 0

    @property
    def right(self) -> bool:
        """Whether nothing is wrong."""
        return not (
            self.unlisted or self.lost or self.doubled or self.misdirected or self.disordered
        )


async def all_shown(pages: Iterable[Page], begun: dict[str, int], seconds: float) -> bool:
    """Wait until each page shows all that its person was told; return whether that came about in time."""
    end = time.perf_counter() + seconds
    for page in pages:
        _items, newest = await page.person.listed(begun[page.person.name])
        while page.latest < newest:
            if time.perf_counter() > end:
                return False
            await asyncio.sleep(0.1)
    return True


async def account(
    changes: Iterable[Change], pages: Iterable[Page], begun: dict[str, int]
) -> Account:
    """Compare what was changed, what the lists hold and what the pages showed.

    `pages` were open before the first change, when each person's newest sequence was `begun`. An event that a socket
    tells of without its being listed for that person counts as misdirected.
    """
    changes, pages = list(changes), list(pages)
    made = {(change.token, change.action): change for change in changes}
    result = Account(len(changes), sum(change.committed for change in changes))
    listed: dict[str, set[str]] = {}
    for name, person in {page.person.name: page.person for page in pages}.items():
        items, _newest = await person.listed(begun[name])
        keys = Counter(key(item) for item in items)
        result.unlisted += sum(
            keys[which] == 0 and change.committed and name in change.tells
            for which, change in made.items()
        )
        result.doubled += sum(number - 1 for number in keys.values())
        result.misdirected += sum(
            which not in made or name not in made[which].tells for which in keys
        )
        listed[name] = {item["event"] for item in items}
    for page in pages:
        events = [arrival.item["event"] for arrival in page.shown]
        wanted = listed[page.person.name]
        result.shown += len(set(events) & wanted)
        result.lost += len(wanted - set(events))
        result.misdirected += len(page.told - wanted)
        result.doubled += len(events) - len(set(events)) + page.repeated
        order = [arrival.item["sequence"] for arrival in page.shown]
        result.disordered += order != sorted(order)
    return result


def key(item: dict[str, Any]) -> tuple[str, str]:
    """Return the token and the action of a notification."""
    found = TOKEN.search(item["message"])
    return found.group(1) if found else "", item["action"]
