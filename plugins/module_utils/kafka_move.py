"""What is asked of Kafka's brokers to move replicas: who has which, who shall, how fast, and how much is left."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible.module_utils.kafka_client import (
    BROKER,
    TOPIC,
    Answer,
    Connection,
    KafkaError,
    array,
    compact,
    compact_array,
    text,
    varint,
)
from ansible.module_utils.kafka_plan import Layout, Part

LOG_DIRS, ELECT, ALTER_CONFIGS, REASSIGN, REASSIGNED = 35, 43, 44, 45, 46  # API keys
PREFERRED, DELETE, SET = 0, 1, 0  # ElectionType, AlterConfigOp.OpType
NOT_NEEDED = 84  # ELECTION_NOT_NEEDED
ENDLESS = str(2**63 - 1)  # what Kafka calls a rate without a limit
# KIP-73: which replicas of a topic are slowed down, and how many bytes a second a broker sends and takes of these.
SIDES = ("leader", "follower")
REPLICAS = tuple(f"{side}.replication.throttled.replicas" for side in SIDES)
RATES = tuple(f"{side}.replication.throttled.rate" for side in SIDES)


class Move(NamedTuple):
    """A partition that is on its way: whose it will be, who comes and who goes."""

    replicas: list[int]
    adding: list[int]
    removing: list[int]


def numbers(values: list[int]) -> bytes:
    """Return a list of numbers as a flexible version writes it; they have no tagged fields."""
    return varint(len(values) + 1) + b"".join(struct.pack(">i", one) for one in values)


def read_numbers(answer: Answer) -> list[int]:
    """Read such a list."""
    return [answer.take(">i") for _ in range(answer.varint() - 1)]


def refuse(what: str, answer: Answer, *well: int) -> None:
    """Read an error and its text, and raise it."""
    code, told = answer.take(">h"), answer.text()
    if code not in (0, *well):
        raise KafkaError(what, code, told)


class Brokers:
    """The brokers of a cluster, each asked what it alone knows, and the controller what is for it.

    Args:
        address: host:port of the first one to ask.
        login: as `kafka_client.login_of` returns it.
        timeout: seconds for each answer.
    """

    def __init__(self, address: str, login: dict[str, str], timeout: float) -> None:
        self.login, self.timeout, self.open = login, timeout, dict[str, Connection]()
        self.told = self.connection(address).layout(all_topics=True)
        self.alive: dict[int, tuple[str, str]] = self.told["brokers"]
        if self.told["controller"] not in self.alive:
            raise ConnectionError("the brokers have no controller")
        self.controller = self.connection(self.alive[self.told["controller"]][0])
        self.told = self.controller.layout(all_topics=True)
        self.topics: dict[str, dict[int, tuple[int, list[int], list[int]]]] = self.told["topics"]

    def __enter__(self) -> Brokers:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self.open.values():
            connection.socket.close()

    def connection(self, address: str) -> Connection:
        """Return the connection to a broker."""
        if address not in self.open:
            self.open[address] = Connection(address, self.login, self.timeout)
        return self.open[address]

    def each(self) -> dict[int, Connection]:
        """Return a connection to each broker that is there."""
        return {number: self.connection(at) for number, (at, _) in sorted(self.alive.items())}

    def moves(self) -> dict[Part, Move]:
        """Return what is on its way."""
        body = struct.pack(">i", int(self.timeout * 1000)) + varint(0)  # null: all topics
        answer = self.controller.ask(REASSIGNED, 0, body, flexible=True)
        answer.take(">i")  # throttling
        refuse("reassignments", answer)
        found: dict[Part, Move] = {}

        def topic() -> None:
            name = answer.text()

            def partition() -> None:
                number = answer.take(">i")
                replicas, adding, removing = (read_numbers(answer) for _ in range(3))
                kept = [one for one in replicas if one not in removing]
                found[name, number] = Move(kept, adding, removing)

            answer.array(partition)

        answer.array(topic)
        return found

    def move(self, wanted: Layout) -> None:
        """Let partitions have other replicas; it returns when the controller has taken it, and not when they have."""
        by_topic: dict[str, list[bytes]] = defaultdict(list)
        for (name, number), replicas in sorted(wanted.items()):
            by_topic[name].append(struct.pack(">i", number) + numbers(replicas))
        topics = [compact(name.encode()) + compact_array(some) for name, some in by_topic.items()]
        body = struct.pack(">i", int(self.timeout * 1000)) + compact_array(topics)
        answer = self.controller.ask(REASSIGN, 0, body, flexible=True)
        answer.take(">i")  # throttling
        refuse("reassignment", answer)

        def topic() -> None:
            name = answer.text()
            answer.array(lambda: refuse(f"{name}-{answer.take('>i')}", answer))

        answer.array(topic)

    def elect(self) -> None:
        """Let the first replica of each partition lead it."""
        body = struct.pack(">bi", PREFERRED, -1) + struct.pack(">i", int(self.timeout * 1000))
        answer = self.controller.ask(ELECT, 1, body)
        answer.take(">i")  # throttling
        if code := answer.take(">h"):
            raise KafkaError("election", code)

        def topic() -> None:
            name = answer.text()
            answer.array(lambda: refuse(f"{name}-{answer.take('>i')}", answer, NOT_NEEDED))

        answer.array(topic)

    def sizes(self) -> dict[int, dict[Part, int]]:
        """Return how many bytes of each partition each broker has; a partition that is not there is not listed."""
        found: dict[int, dict[Part, int]] = {}
        for number, connection in self.each().items():
            answer = connection.ask(LOG_DIRS, 1, struct.pack(">i", -1))  # null: all of them
            answer.take(">i")  # throttling
            found[number] = dict(self._sizes(answer))
        return found

    def _sizes(self, answer: Answer) -> list[tuple[Part, int]]:
        some: list[tuple[Part, int]] = []

        def folder() -> None:
            refuse("folder", answer)  # its path stands where others have the text of an error

            def topic() -> None:
                name = answer.text()

                def partition() -> None:
                    number, size = answer.take(">i"), answer.take(">q")
                    answer.take(">q")  # how far it is behind
                    if not answer.take(">?"):  # not one that moves between two folders
                        some.append(((name, number), size))

                answer.array(partition)

            answer.array(topic)

        answer.array(folder)
        return some

    def _alter(
        self, connection: Connection, kind: int, changes: Mapping[str, Mapping[str, str | None]]
    ) -> None:
        resources = []
        for name, values in sorted(changes.items()):
            entries = [
                text(key) + struct.pack(">b", DELETE if value is None else SET) + text(value)
                for key, value in sorted(values.items())
            ]
            resources.append(struct.pack(">b", kind) + text(name) + array(entries))
        answer = connection.ask(ALTER_CONFIGS, 0, array(resources) + struct.pack(">?", False))
        answer.take(">i")  # throttling

        def resource() -> None:
            code, told = answer.take(">h"), answer.text()
            answer.take(">b")
            name = answer.text()
            if code:
                raise KafkaError(f"settings of {name}", code, told)

        answer.array(resource)

    def throttled(self) -> tuple[list[str], list[int]]:
        """Return the topics and the brokers that replicate with a throttle."""
        topics = {
            name
            for key in REPLICAS
            for name, value in self.controller.settings(list(self.topics), key).items()
            if value
        }
        brokers = {
            number
            for number, connection in self.each().items()
            for key in RATES
            for value in connection.settings([str(number)], key, BROKER).values()
            if value not in ("", ENDLESS)
        }
        return sorted(topics), sorted(brokers)

    def throttle(self, rate: int, moves: Mapping[Part, Move]) -> None:
        """Let brokers spend so many bytes a second, each in either direction, on replicas that move (KIP-73)."""
        for number, connection in self.each().items():
            self._alter(connection, BROKER, {str(number): dict.fromkeys(RATES, str(rate))})
        listed: dict[str, dict[str, list[str]]] = defaultdict(lambda: {key: [] for key in REPLICAS})
        for (name, number), (replicas, adding, removing) in sorted(moves.items()):
            if not adding:
                continue  # only another order, or fewer
            there = [one for one in [*replicas, *removing] if one not in adding]
            for key, some in zip(REPLICAS, (there, adding), strict=True):
                listed[name][key] += [f"{number}:{one}" for one in some]
        words: dict[str, dict[str, str | None]] = {
            name: {key: ",".join(some) for key, some in values.items()}
            for name, values in listed.items()
        }
        if words:
            self._alter(self.controller, TOPIC, words)

    def release(self, topics: list[str], brokers: list[int]) -> None:
        """Take the throttle away from topics and brokers."""
        if topics:
            nothing: dict[str, dict[str, str | None]] = {
                name: dict.fromkeys(REPLICAS) for name in topics
            }
            self._alter(self.controller, TOPIC, nothing)
        for number in brokers:
            self._alter(self.each()[number], BROKER, {str(number): dict.fromkeys(RATES)})


def left(
    moves: Mapping[Part, Move], leaders: Mapping[Part, int], sizes: Mapping[int, Mapping[Part, int]]
) -> int:
    """Return how many bytes are still to be copied: what the leader has, without what who comes has already."""
    missing = 0
    for part, move in moves.items():
        whole: Any = sizes.get(leaders.get(part, -1), {}).get(part, 0)
        missing += sum(max(0, whole - sizes.get(one, {}).get(part, 0)) for one in move.adding)
    return missing
