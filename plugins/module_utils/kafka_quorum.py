"""Which of Kafka's brokers have a say in who leads them (KRaft), and how that changes (KIP-853)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ansible.module_utils.kafka_client import (
    Connection,
    KafkaError,
    compact,
    compact_array,
)

DESCRIBE_QUORUM, ADD_RAFT_VOTER, REMOVE_RAFT_VOTER = 55, 80, 81  # API keys
LISTENER = "CONTROLLER"
LATE = 3000  # milliseconds; a follower asks the leader twice a second at least
MOST = 5  # controllers; each change waits for more than half of them


@dataclass(frozen=True)
class Member:
    """A broker that follows the leader's log, or leads: a controller, which has a say, or one that only reads.

    Attributes:
        number: of the broker.
        disk: the id of its disk, 16 bytes; a broker that comes back with an empty disk is another one to the others.
        late: for how many milliseconds it has been behind the leader, -1 where it never answered.
        votes: whether it has a say.
    """

    number: int
    disk: bytes
    late: int
    votes: bool

    @property
    def there(self) -> bool:
        """Say whether it follows."""
        return 0 <= self.late <= LATE


def members(connection: Connection) -> tuple[int, list[Member]]:
    """Return the number of the one that leads, and all that follow it or should.

    Raises:
        KafkaError: there is no leader, or no quorum.
    """
    topic = compact(b"__cluster_metadata") + compact_array([struct.pack(">i", 0)])
    answer = connection.ask(DESCRIBE_QUORUM, 2, compact_array([topic]), flexible=True)
    code, said = answer.take(">h"), answer.text()
    if code:
        raise KafkaError("quorum", code, said or None)

    def replica() -> tuple[int, bytes, int]:
        number, disk = answer.take(">i"), answer.take(">16s")
        _, _, caught_up = (answer.take(">q") for _ in range(3))
        return number, disk, caught_up

    def partition() -> tuple[int, list[Member]]:
        answer.take(">i")  # its number
        code, said = answer.take(">h"), answer.text()
        if code:
            raise KafkaError("quorum", code, said or None)
        leader, _, _ = (answer.take(form) for form in (">i", ">i", ">q"))
        some = [(True, one) for one in answer.array(replica)]
        some += [(False, one) for one in answer.array(replica)]
        now = max((at for _, (number, _, at) in some if number == leader), default=0)
        return leader, [
            Member(number, disk, now - at if at >= 0 else -1, votes)
            for votes, (number, disk, at) in some
        ]

    def topics() -> tuple[int, list[Member]]:
        answer.text()
        (found,) = answer.array(partition)
        return found  # type: ignore[no-any-return]

    (found,) = answer.array(topics)
    return found  # type: ignore[no-any-return]


def change(connection: Connection, member: Member, place: str, timeout: float) -> None:
    """Take the say from a controller, or give it to one that only reads, and wait until the others have agreed.

    Args:
        connection: to any broker; it hands this on to the one that leads.
        member: the broker as it is now.
        place: where its controller listens, as ``host:port``; for one that gets a say.
        timeout: seconds.

    Raises:
        KafkaError: the others did not agree, or not in time.
    """
    # no name of the cluster: there is one
    cluster, who = b"\0", struct.pack(">i16s", member.number, member.disk)
    if member.votes:
        answer = connection.ask(REMOVE_RAFT_VOTER, 0, cluster + who, flexible=True)
    else:
        host, _, port = place.rpartition(":")
        listener = compact(LISTENER.encode()) + compact(host.strip("[]").encode())
        listeners = compact_array([listener + struct.pack(">H", int(port))])
        wait = struct.pack(">i", int(timeout * 1000))
        body = cluster + wait + who + listeners
        answer = connection.ask(ADD_RAFT_VOTER, 0, body, flexible=True)
    answer.take(">i")  # throttling
    code, said = answer.take(">h"), answer.text()
    if code:
        raise KafkaError(f"controller {member.number}", code, said or None)


def wanted(brokers: int) -> int:
    """Return how many of some brokers have a say: an odd number, for one more would bear no more losses."""
    return min(brokers - (brokers + 1) % 2, MOST)


def step(leader: int, found: Sequence[Member], brokers: Sequence[int]) -> Member | None:
    """Return whose say is to change next, or None where nobody's is, or nobody's can.

    Nobody loses a say where those that are there would no longer be more than half of the others.

    Args:
        leader: the number of the one that leads.
        found: all that follow it or should.
        brokers: those that the cluster has; the first ones get a say where no others have it.
    """
    voters = [one for one in found if one.votes]
    readers = {one.number: one for one in found if not one.votes and one.there}
    staying = [one for one in voters if one.number in brokers]
    room = wanted(len(brokers)) - len(staying)
    # one that came back with an empty disk
    going = [one for one in staying if one.number in readers]
    if not going and room > 0:
        for number in brokers:
            if number in readers:
                return readers[number]
    if not going:
        # while nobody is in its place, one that is there keeps its say
        going = [one for one in voters if one not in staying and not (room > 0 and one.there)]
    if not going and room < 0:
        going = [one for one in staying if one.number != leader][room:]
        going += [one for one in staying if not one.there]
    # the one that leads comes last, so that one election does, and those that are away first
    for one in sorted(going, key=lambda one: (one.there, one.number == leader)):
        others = [other for other in voters if other is not one]
        if 2 * sum(other.there for other in others) > len(others):
            return one
    return None


def changed(found: Sequence[Member], member: Member) -> list[Member]:
    """Return all that follow the leader as they would be once a say has changed."""
    if member.votes:
        return [one for one in found if one is not member]
    return [replace(one, votes=True) if one is member else one for one in found]


def lacking(found: Sequence[Member], brokers: Sequence[int], expected: Sequence[int]) -> list[int]:
    """Return the brokers that are not there, as far as too few that are have a say without them.

    Args:
        found: all that follow the leader or should.
        brokers: those that the cluster has.
        expected: those of them that run, as far as is known.
    """
    there = {one.number for one in found if one.there}
    voting = {one.number for one in found if one.there and one.votes}
    if len(voting.intersection(brokers)) >= wanted(len(brokers)):
        return []
    return [number for number in expected if number not in there]
