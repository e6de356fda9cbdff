"""Where replicas shall be: spread over brokers and racks, with no more moved than that takes."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from ansible.module_utils.kafka_plan import Layout, spread


def topic(name: str, *replicas: list[int]) -> Layout:
    return {(name, number): list(one) for number, one in enumerate(replicas)}


def after(layout: Layout, racks: dict[int, str]) -> Layout:
    return {**layout, **spread(layout, racks)}


def same(*brokers: int) -> dict[int, str]:
    return dict.fromkeys(brokers, "")


def added(layout: Layout, wanted: Layout) -> Layout:
    """Return the brokers that get a replica of each partition which they have not."""
    return {part: [one for one in new if one not in layout[part]] for part, new in wanted.items()}


THREE = topic("a", [1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 3, 2], [2, 1, 3], [3, 2, 1])


def test_what_is_spread_stays() -> None:
    assert spread(THREE, same(1, 2, 3)) == {}


def test_a_broker_more_gets_its_share_and_nothing_else_moves() -> None:
    wanted = spread(THREE, same(1, 2, 3, 4))
    moved = added(THREE, wanted)
    assert sum(map(len, moved.values())) == 4  # of 18 replicas, 4.5 each
    assert {one for new in moved.values() for one in new} == {4}
    leads = Counter(new[0] for new in {**THREE, **wanted}.values())
    assert sorted(leads.values()) == [1, 1, 2, 2]


def test_topics_of_one_partition_are_spread_too() -> None:
    layout = {(f"topic{number}", 0): [1] for number in range(10)}
    count = Counter(new[0] for new in after(layout, same(1, 2, 3)).values())
    assert sorted(count.values()) == [3, 3, 4]


def test_a_broker_is_emptied_onto_the_others() -> None:
    four = after(THREE, same(1, 2, 3, 4))
    emptied = spread(four, same(1, 2, 3))
    assert sum(map(len, added(four, emptied).values())) == 4
    assert all(sorted(new) == [1, 2, 3] for new in {**four, **emptied}.values())


def test_more_replicas_than_brokers_are_not_planned() -> None:
    with pytest.raises(ValueError, match="fewer brokers than replicas"):
        spread(THREE, same(1, 2))


def test_a_topic_of_one_server_gets_replicas_on_three() -> None:
    alone = topic("a", [1], [1], [1])
    wanted = spread(alone, same(1, 2, 3), 2)
    assert Counter(one for new in wanted.values() for one in new) == {1: 2, 2: 2, 3: 2}
    assert spread({**alone, **wanted}, same(1, 2, 3), 2) == {}
    with pytest.raises(ValueError, match="fewer brokers than replicas"):
        spread(alone, same(1, 2, 3), 4)


def test_replicas_of_a_partition_stand_in_different_racks() -> None:
    racks = {1: "north", 2: "north", 3: "south", 4: "south"}
    layout = topic("a", [1, 2], [2, 1], [1, 2], [3, 4])
    found = after(layout, racks)
    assert all(len({racks[one] for one in new}) == 2 for new in found.values())
    assert Counter(one for new in found.values() for one in new) == {1: 2, 2: 2, 3: 2, 4: 2}


def test_a_small_rack_has_more_where_each_partition_needs_it() -> None:
    racks = {1: "north", 2: "north", 3: "south"}
    found = after(topic("a", [1, 3], [1, 3], [1, 3], [1, 3]), racks)
    assert Counter(one for new in found.values() for one in new) == {1: 2, 2: 2, 3: 4}
    assert Counter(new[0] for new in found.values()) in ({1: 1, 2: 1, 3: 2}, {1: 1, 2: 2, 3: 1})


@pytest.mark.parametrize("seed", range(40))
def test_any_layout_is_spread_and_a_second_plan_is_empty(seed: int) -> None:
    chance = random.Random(seed)
    rooms = chance.randint(1, 3)
    racks = {one: f"rack{chance.randrange(rooms)}" for one in range(1, chance.randint(4, 7))}
    everywhere = [*racks, 8, 9]  # the last two are to be left
    layout: Layout = {}
    for name in "abcd":
        factor = chance.randint(1, 3)
        for number in range(chance.randint(1, 9)):
            layout[name, number] = chance.sample(everywhere, factor)
    found = after(layout, racks)
    assert found == after(layout, racks)  # each time the same
    assert spread(found, racks) == {}
    together = len(set(racks.values()))
    for part, new in found.items():
        assert len(new) == len(set(new)) == len(layout[part])
        assert set(new) <= set(racks)
        assert len({racks[one] for one in new}) == min(len(new), together)
    if together == 1:
        count = Counter(dict.fromkeys(racks, 0))
        count.update(one for new in found.values() for one in new)
        assert max(count.values()) - min(count.values()) <= 1
        for name in "abcd":
            own = Counter(dict.fromkeys(racks, 0))
            own.update(one for part, new in found.items() if part[0] == name for one in new)
            assert max(own.values()) - min(own.values()) <= 1
