"""Which brokers shall have the replicas of each partition: a plan that depends on nothing but what it is given."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations

Part = tuple[str, int]  # a topic and the number of one of its partitions
Layout = dict[Part, list[int]]  # the brokers of each partition, the one that is to lead first


class Spread:
    """Replicas that are spread over brokers, step by step; what need not move stays.

    Args:
        layout: where they are.
        racks: the brokers that may have them, each with its rack, which may be empty.
    """

    def __init__(self, layout: Mapping[Part, Sequence[int]], racks: Mapping[int, str]) -> None:
        self.parts: Layout = {part: list(layout[part]) for part in sorted(layout)}
        self.racks = dict(racks)
        self.rooms = len(set(racks.values()))
        self.topics: dict[str, list[Part]] = defaultdict(list)
        for part in self.parts:
            self.topics[part[0]].append(part)
        self.of_topic = {
            topic: Counter(one for part in parts for one in self.parts[part])
            for topic, parts in self.topics.items()
        }
        self.total = Counter(one for replicas in self.parts.values() for one in replicas)

    def racks_of(self, brokers: Iterable[int]) -> int:
        """Return over how many racks brokers stand."""
        return len({self.racks[one] for one in brokers if one in self.racks})

    def put(self, part: Part, source: int, target: int) -> None:
        """Move one replica; it keeps its place in the list."""
        replicas = self.parts[part]
        replicas[replicas.index(source)] = target
        for count in (self.of_topic[part[0]], self.total):
            count[source] -= 1
            count[target] += 1

    def free(self, part: Part) -> list[int]:
        """Return the brokers that a replica of a partition may come to, the one with the fewest first."""
        count = self.of_topic[part[0]]
        others = (one for one in self.racks if one not in self.parts[part])
        return sorted(others, key=lambda one: (count[one], self.total[one], one))

    def leave(self) -> None:
        """Take replicas away from brokers that may have none, to another rack than the others' if there is one."""
        for part, replicas in self.parts.items():
            for source in [one for one in replicas if one not in self.racks]:
                kept = [one for one in replicas if one != source]
                target = max(self.free(part), key=lambda one: self.racks_of([*kept, one]))
                self.put(part, source, target)

    def widen(self, least: int) -> None:
        """Give partitions more replicas until each has so many."""
        for part, replicas in self.parts.items():
            while len(replicas) < least:
                target = max(self.free(part), key=lambda one: self.racks_of([*replicas, one]))
                replicas.append(target)
                for count in (self.of_topic[part[0]], self.total):
                    count[target] += 1

    def over_racks(self) -> None:
        """Put replicas of a partition that share a rack into as many racks as there are."""
        for part, replicas in self.parts.items():
            while self.racks_of(replicas) < min(len(replicas), self.rooms):
                used = Counter(self.racks[one] for one in replicas)
                crowded = [one for one in replicas if used[self.racks[one]] > 1]
                source = max(reversed(crowded), key=lambda one: self.of_topic[part[0]][one])
                target = next(one for one in self.free(part) if not used[self.racks[one]])
                self.put(part, source, target)

    def fitting(self, topic: str, source: int, target: int) -> Part | None:
        """Return a partition whose replica may go from one broker to another; one that it does not lead if it can."""
        found = None
        for part in self.topics[topic]:
            replicas = self.parts[part]
            if source not in replicas or target in replicas:
                continue
            after = [target if one == source else one for one in replicas]
            if self.racks_of(after) < self.racks_of(replicas):
                continue
            if replicas[0] != source:
                return part
            found = found or part
        return found

    def pairs(self, count: Counter[int], second: Counter[int]) -> list[tuple[int, int]]:
        """Return two brokers each of which the first has more, those with the greatest difference first."""
        some = [
            pair for pair in permutations(sorted(self.racks), 2) if count[pair[0]] > count[pair[1]]
        ]
        return sorted(
            some,
            key=lambda pair: (
                count[pair[1]] - count[pair[0]],
                second[pair[1]] - second[pair[0]],
                pair,
            ),
        )

    def level(self) -> None:
        """Even out how many replicas of each topic brokers have, then how many of all."""
        moved = True
        # each step lessens the differences in topics, or those of all without more in topics
        while moved:
            moved = any(
                self.step(count, self.total, [topic], 0) for topic, count in self.of_topic.items()
            ) or self.step(self.total, self.total, list(self.topics), 1)

    def step(
        self, count: Counter[int], second: Counter[int], topics: list[str], least: int
    ) -> bool:
        """Move one replica from a broker that has two more than another; say whether there was one."""
        for source, target in self.pairs(count, second):
            if count[source] - count[target] < 2:
                return False
            for topic in topics:
                has = self.of_topic[topic]
                if has[source] - has[target] < least:
                    continue
                if part := self.fitting(topic, source, target):
                    self.put(part, source, target)
                    return True
        return False

    def lead(self) -> None:
        """Even out how many partitions of each topic brokers lead, then of all; only the order in a list changes."""
        total = Counter(replicas[0] for replicas in self.parts.values() if replicas)
        of_topic = {
            topic: Counter(self.parts[part][0] for part in parts)
            for topic, parts in self.topics.items()
        }
        moved = True
        while moved:
            moved = any(
                self.hand_over(count, total, [topic], of_topic, 2)
                for topic, count in of_topic.items()
            ) or self.hand_over(total, total, list(self.topics), of_topic, 1)

    def hand_over(
        self,
        count: Counter[int],
        total: Counter[int],
        topics: list[str],
        of_topic: dict[str, Counter[int]],
        least: int,
    ) -> bool:
        """Let a broker lead one partition less and another one more; say whether that was possible."""
        for source, target in self.pairs(count, total):
            if count[source] - count[target] < 2:
                return False
            for topic in topics:
                leads = of_topic[topic]
                if leads[source] - leads[target] < least:
                    continue
                if path := self.path(topic, source, target):
                    for part, heir in path:
                        replicas = self.parts[part]
                        place = replicas.index(heir)
                        replicas[0], replicas[place] = heir, replicas[0]
                    for counts in (leads, total):
                        counts[source] -= 1
                        counts[target] += 1
                    return True
        return False

    def path(self, topic: str, source: int, target: int) -> list[tuple[Part, int]]:
        """Return who hands which partition over to whom so that one broker leads one less and another one more."""
        before: dict[int, tuple[int, Part]] = {}
        turn = [source]
        for giver in turn:
            for part in self.topics[topic]:
                if self.parts[part][0] != giver:
                    continue
                for heir in self.parts[part][1:]:
                    if heir != source and heir not in before:
                        before[heir] = (giver, part)
                        turn.append(heir)
        steps, heir = [], target
        while heir in before:
            giver, part = before[heir]
            steps.append((part, heir))
            heir = giver
        return steps


def spread(
    layout: Mapping[Part, Sequence[int]], racks: Mapping[int, str], least: int = 0
) -> Layout:
    """Return the partitions whose replicas shall be on other brokers, or in another order.

    A partition keeps as many replicas as it has, or gets as many as it is to have at least, on as many racks as there
    can be. Brokers get as many replicas of each topic as the others, and of all topics, as far as racks let them, and
    lead as many partitions. Not more than that moves. A second plan on top of the first is empty.

    Args:
        layout: where the replicas are, the one that is to lead first.
        racks: the brokers that may have some, each with its rack; those that all have none count as one rack.
        least: how many replicas a partition is to have at least.

    Raises:
        ValueError: a partition has more replicas than there are such brokers.
    """
    if least > len(racks) or any(len(replicas) > len(racks) for replicas in layout.values()):
        raise ValueError("fewer brokers than replicas")
    found = Spread(layout, racks)
    found.leave()
    found.widen(least)
    found.over_racks()
    found.level()
    found.lead()
    return {part: new for part, new in found.parts.items() if new != list(layout[part])}
