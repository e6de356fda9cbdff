"""People of the demonstration site, as their browsers are: they sign in, change things and keep pages open.

All of them live in one event loop, so one clock measures what is sent and what arrives. A page follows the rules of
notifications/bell.js: it knows the newest sequence that it shows, asks from there on each connection, and fetches
what is missing.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

SCHEMA = 2
BACK_OFF = (0.5, 30.0)  # seconds, as in bell.js
# As many connections as a person's requests at a time leave behind.
RESTED = 10
TIMEOUT = aiohttp.ClientTimeout(total=90)


@dataclass(frozen=True)
class Target:
    """Where a site is reached: the address and port to connect to, and the name to ask for."""

    address: str
    port: int
    name: str

    @property
    def url(self) -> str:
        """The address in URLs."""
        return f"http://{self.address}:{self.port}"

    @property
    def host(self) -> str:
        """The header Host."""
        return self.name if self.port == 80 else f"{self.name}:{self.port}"


class Person:
    """Somebody who is signed in."""

    def __init__(self, target: Target, name: str, session: aiohttp.ClientSession) -> None:
        self.target, self.name, self.session = target, name, session
        self.token = ""

    @classmethod
    async def sign_in(cls, target: Target, name: str, password: str) -> Person:
        """Sign in by the form.

        Raises:
            RuntimeError: the site does not let this person in.
        """
        person = cls.with_cookies(target, name, {})
        await person.fetch_token("/sign-in/")
        status, _place = await person.post("/sign-in/", username=name, password=password)
        if status != 302:
            raise RuntimeError(f"{name} could not sign in: {status}")
        await person.fetch_token("/graphs/new/")
        return person

    @classmethod
    def with_cookies(cls, target: Target, name: str, cookies: dict[str, str]) -> Person:
        """Return somebody whose session is there already."""
        session = aiohttp.ClientSession(
            target.url,
            headers={"Host": target.host},
            cookies=cookies,
            cookie_jar=aiohttp.CookieJar(unsafe=True),  # the address stands in for the name
            # a connection that rested is the server's to close after 5 s
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=2),
            timeout=TIMEOUT,
        )
        return cls(target, name, session)

    async def fetch_token(self, path: str) -> None:
        """Read the token that forms send back."""
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', await self.page(path))
        if not found:
            raise RuntimeError(f"{path} has no form for {self.name}")
        self.token = found.group(1)

    async def page(self, path: str) -> str:
        """Return a page.

        Raises:
            aiohttp.ClientError: it does not come, or not with 200.
        """
        async with self.session.get(path, allow_redirects=False, raise_for_status=True) as answer:
            if answer.status != 200:
                raise RuntimeError(f"{path} answers {self.name} with {answer.status}")
            return await answer.text()

    async def rested_page(self, path: str) -> str:
        """Return a page, whatever connections have rested for longer than the server keeps them (RFC 9112, 9.3.1)."""
        for _ in range(RESTED):
            try:
                return await self.page(path)
            except aiohttp.ServerDisconnectedError:
                continue
        return await self.page(path)

    async def post(self, path: str, **fields: str) -> tuple[int, str]:
        """Send a form; return the status, and where the answer leads."""
        fields["csrfmiddlewaretoken"] = self.token
        async with self.session.post(path, data=fields, allow_redirects=False) as answer:
            await answer.read()
            return answer.status, answer.headers.get("Location", "")

    async def listed(self, after: int) -> tuple[list[dict[str, Any]], int]:
        """Return all that this person was told after a sequence, as the database has it, and the newest sequence."""
        found: list[dict[str, Any]] = []
        while True:
            frame = json.loads(await self.rested_page(f"/notifications/after/?after={after}"))
            found += frame["missed"]
            if frame["sequence"] == after:
                return found, after
            after = frame["sequence"]

    async def close(self) -> None:
        """Let go of the connections."""
        await self.session.close()


@dataclass
class Arrival:
    """One notification as a page showed it."""

    item: dict[str, Any]
    at: float  # seconds, time.perf_counter()
    live: bool  # by way of Kafka; otherwise caught up from the database


@dataclass
class Page:
    """One open page: what its socket told, and what it showed of that."""

    person: Person
    latest: int = 0  # the newest sequence that it shows
    shown: list[Arrival] = field(default_factory=list)
    told: set[str] = field(default_factory=set)  # events in any frame, shown or not
    repeated: int = 0  # notifications that a single socket told twice
    connections: int = 0
    refused: int = 0
    trouble: str = ""  # why, the last time
    connected: asyncio.Event = field(default_factory=asyncio.Event)

    async def stay_open(self) -> None:
        """Hold a socket, and connect again whenever it ends. Runs until it is cancelled."""
        pause = BACK_OFF[0]
        while True:
            try:
                if await self._connection():
                    pause = BACK_OFF[0]
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self.refused += 1
                self.trouble = f"{type(error).__name__}: {error}"
            self.connected.clear()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, BACK_OFF[1])

    async def _connection(self) -> bool:
        """Hold one socket to its end; return whether it told anything."""
        host = self.person.target.host
        here: set[str] = set()
        heard = False
        async with self.person.session.ws_connect(
            f"/ws/notifications/?after={self.latest}", headers={"Origin": f"http://{host}"}
        ) as socket:
            self.connections += 1
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    continue
                at, frame = time.perf_counter(), json.loads(message.data)
                for item in _items(frame):
                    self.repeated += item["event"] in here
                    here.add(item["event"])
                self.told |= here
                if not self._take(frame, at):
                    return heard  # a number is missing: the next socket begins with it
                heard = True
                self.connected.set()
        return heard

    def _take(self, frame: dict[str, Any], at: float) -> bool:
        """Show what is new; return whether nothing is missing before it."""
        if frame["version"] != SCHEMA:
            return True
        if frame["type"] == "notification":
            if frame["sequence"] > self.latest + 1:
                return False
            if frame["sequence"] == self.latest + 1:
                self.latest = frame["sequence"]
                self.shown.append(Arrival(frame, at, live=True))
        elif frame["type"] == "unread":
            new = [item for item in frame["missed"] if item["sequence"] > self.latest]
            self.shown += [Arrival(item, at, live=False) for item in new]
            self.latest = frame["sequence"]
        return True


def _items(frame: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the notifications in a frame."""
    if frame["type"] == "notification":
        yield frame
    else:
        yield from frame.get("missed", [])
