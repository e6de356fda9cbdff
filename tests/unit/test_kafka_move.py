"""What is asked of Kafka's brokers to move replicas, and what is refused before anything moves."""

from __future__ import annotations

import io
import json
import struct
from contextlib import nullcontext, redirect_stdout
from typing import Any

import pytest
from ansible.module_utils.kafka_client import (
    Answer,
    KafkaError,
    array,
    compact,
    compact_array,
    text,
    varint,
)
from ansible.module_utils.kafka_move import Brokers, Move, left
from ansible.module_utils.testing import patch_module_args

from plugins.action.kafka_reassign import progress
from plugins.filter.kafka_cluster import kafka_emptied, kafka_protocol, kafka_share
from plugins.modules import kafka_reassign
from plugins.modules.kafka_reassign import NotYet, Refused, behind, refuse, shown, step
from plugins.modules.kafka_state import others

HOSTS = ("bus1", "bus2", "bus3")
BROKERS = [{"id": number, "host": f"10.0.0.{number}"} for number in (1, 2, 3)]
ALIVE = {number: (f"10.0.0.{number}:9092", "") for number in (1, 2, 3)}
WELL = struct.pack(">i", 0) + struct.pack(">h", 0)


class Wire:
    """A connection that answers what it is given, in turn, and keeps what it was asked."""

    def __init__(self, *answers: bytes) -> None:
        self.answers, self.asked = list(answers), list[tuple[int, int, bytes]]()

    def ask(self, key: int, version: int, body: bytes, flexible: bool = False) -> Answer:
        self.asked.append((key, version, body))
        return Answer(self.answers.pop(0), flexible)


def brokers(wire: Wire) -> Brokers:
    """Return brokers of which each connection is that one."""
    made: Any = Brokers.__new__(Brokers)
    made.timeout, made.controller, made.alive, made.topics = 1, wire, {1: ALIVE[1]}, {"a": {}}
    made.connection = lambda address: wire
    return made  # type: ignore[no-any-return]  # it is what it was made as


def numbers(*some: int) -> bytes:
    return varint(len(some) + 1) + b"".join(struct.pack(">i", one) for one in some)


def test_what_is_on_its_way_is_read_with_what_it_comes_to() -> None:
    part = struct.pack(">i", 5) + numbers(3, 2, 1) + numbers(3) + numbers(1)
    body = WELL + varint(0) + compact_array([compact(b"a") + compact_array([part])])
    wire = Wire(body)
    assert brokers(wire).moves() == {("a", 5): Move([3, 2], [3], [1])}
    assert wire.asked == [(46, 0, struct.pack(">i", 1000) + b"\0")]


def test_a_move_is_asked_for_and_its_refusal_raised() -> None:
    def answer(code: int) -> bytes:
        part = struct.pack(">ih", 5, code) + (compact(b"no such broker") if code else varint(0))
        return WELL + varint(0) + compact_array([compact(b"a") + compact_array([part])])

    wire = Wire(answer(0), answer(39))
    brokers(wire).move({("a", 5): [3, 2]})
    part = struct.pack(">i", 5) + numbers(3, 2)
    asked = struct.pack(">i", 1000) + compact_array([compact(b"a") + compact_array([part])])
    assert wire.asked == [(45, 0, asked)]
    with pytest.raises(KafkaError, match="a-5: no such broker"):
        brokers(wire).move({("a", 5): [3, 2]})


def test_replicas_that_come_are_slowed_down_and_others_are_not() -> None:
    done = struct.pack(">i", 0) + array([])
    wire = Wire(done, done)
    brokers(wire).throttle(500, {("a", 0): Move([1, 3], [3], [2]), ("b", 0): Move([2, 1], [], [])})
    (_, _, rates), (_, _, topics) = wire.asked
    assert rates.count(text("500")) == 2
    assert text("0:1,0:2") in topics  # who has it, and sends it
    assert text("0:3") in topics
    assert text("b") not in topics


def test_folders_are_read_to_their_end() -> None:
    parts = [struct.pack(">iqq?", number, 700, 0, moved) for number, moved in ((0, 0), (1, 1))]
    folder = struct.pack(">h", 0) + text("/data") + array([text("a") + array(parts)])
    wire = Wire(struct.pack(">i", 0) + array([folder]))
    assert brokers(wire).sizes() == {1: {("a", 0): 700}}


def test_what_is_left_is_what_the_leader_has_more() -> None:
    moves = {("a", 0): Move([1, 3], [3], [2]), ("a", 1): Move([1, 3], [3], [2])}
    sizes = {1: {("a", 0): 1000, ("a", 1): 500}, 3: {("a", 0): 900, ("a", 1): 600}}
    assert left(moves, {("a", 0): 1, ("a", 1): 1}, sizes) == 100
    assert (
        progress({"moving": 2, "copying": 1_234_567}) == "2 partitions on their way, 1.2 MB to copy"
    )


def told(*partitions: tuple[int, list[int], list[int]], **own: Any) -> dict[str, Any]:
    usual = {"brokers": ALIVE, "controller": 1, "topics": {"lab": dict(enumerate(partitions))}}
    return {**usual, **own}


WHOLE = (1, [1, 2, 3], [1, 2, 3])


@pytest.mark.parametrize(
    ("state", "ids", "empty", "kind", "said"),
    [
        (
            told(WHOLE),
            [1, 2, 3],
            [3],
            Refused,
            r"2 brokers would be left \(1, 2\), and the topics lab have more",
        ),
        (
            told(WHOLE),
            [1, 2],
            [],
            Refused,
            "kafka_brokers is 1, 2: broker 3 has replicas .* -e kafka_empty=3",
        ),
        (
            told((1, [1], [1]), brokers={1: ALIVE[1]}),
            [1, 2],
            [],
            NotYet,
            "broker 2 is not there, so nothing is moved",
        ),
        (told((-1, [1, 2, 3], [1])), [1, 2, 3], [], NotYet, "partitions of lab have no leader"),
    ],
)
def test_what_can_not_be_moved_is_refused_with_the_remedy(
    state: dict[str, Any], ids: list[int], empty: list[int], kind: type[Refused], said: str
) -> None:
    with pytest.raises(kind, match=said):
        refuse(state, {}, ids, empty)


def test_a_broker_that_is_lost_for_good_can_be_emptied() -> None:
    state = told((1, [1, 3], [1]), brokers={1: ALIVE[1], 2: ALIVE[2]})
    refuse(state, {}, [1, 2], [3])
    assert behind(state, {}, [3]) == []
    assert behind(state, {}, []) == ["lab"]
    assert behind(state, {("lab", 0): Move([1, 3], [3], [])}, []) == []


class Told:
    """A cluster whose topic is on two of three brokers, and which keeps what it is told."""

    def __init__(self, *partitions: tuple[int, list[int], list[int]], **moves: Move) -> None:
        self.told, self.alive = told(*partitions), ALIVE
        self.topics, self.done = self.told["topics"], list[str]()
        self.under_way = {("lab", int(number[1:])): move for number, move in moves.items()}

    def moves(self) -> dict[tuple[str, int], Move]:
        return self.under_way

    def sizes(self) -> dict[int, Any]:
        return {}

    def throttled(self) -> tuple[list[str], list[int]]:
        return ["lab"], [1]

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.done.append(name)


PILED = ((1, [1, 2], [1, 2]), (1, [1, 2], [1, 2]), (1, [1, 2], [1, 2]))
SPREAD = ((1, [1, 2], [1, 2]), (2, [2, 3], [2, 3]), (3, [3, 1], [3, 1]))


def turn(
    cluster: Told, *, check: bool = False, begun: bool = False, throttle: int = 500
) -> dict[str, Any]:
    some: Any = cluster
    options = {
        "brokers": [1, 2, 3],
        "empty": [],
        "replicas": 0,
        "throttle": throttle,
        "begun": begun,
    }
    options["awaited"] = {}
    if not begun:
        with pytest.raises(NotYet, match="what they did not a moment ago"):
            step(some, options, check)  # the first look is taken twice
    return step(some, options, check)


def test_what_has_just_moved_is_no_plan_while_brokers_tell_who_has_left_it() -> None:
    stale: Any = Told((3, [3, 1, 2], [3, 1, 2]))
    options = {"brokers": [1, 2, 3], "empty": [], "replicas": 0, "throttle": 0, "begun": True}
    with pytest.raises(NotYet, match="brokers tell of lab what they did not"):
        step(stale, {**options, "awaited": {("lab", 0): [3, 1]}}, False)
    assert stale.done == []
    some: Any = Told((3, [3, 1], [3, 1]))
    assert (
        step(some, {**options, "awaited": {("lab", 0): [3, 1], ("gone", 0): [1]}}, False)["moving"]
        == 0
    )


def test_a_throttle_comes_before_the_move_and_goes_after_it() -> None:
    cluster = Told(*PILED)
    assert not turn(cluster)["finished"]
    assert cluster.done == ["throttle", "move"]
    cluster = Told(*SPREAD, p1=Move([2, 3], [3], [1]))
    assert not turn(cluster)["finished"]
    assert cluster.done == ["throttle"]  # a move that another run began
    assert turn(cluster, begun=True)["moving"] == 1
    assert cluster.done == ["throttle"]
    cluster = Told(*SPREAD, p1=Move([2, 3], [3], [1]))
    assert not turn(cluster, throttle=0)["finished"]
    assert cluster.done == ["release"]  # what another run has set
    cluster = Told(*SPREAD)
    assert not turn(cluster, begun=True)["finished"]
    assert cluster.done == ["release"]


def test_what_a_replica_lacks_is_waited_for_before_others_move() -> None:
    with pytest.raises(NotYet, match="replicas are behind in lab, so nothing is moved"):
        turn(Told(*PILED[1:], (1, [1, 2], [1])))


def test_check_mode_shows_the_plan_and_does_nothing() -> None:
    cluster = Told(*PILED)
    said = turn(cluster, check=True)
    assert (cluster.done, said["changed"]) == ([], True)
    assert said["diff"]["before"].startswith("broker 1: 3 replicas, leads 3\n")
    assert said["diff"]["after"].startswith("broker 1: 2 replicas, leads 1\n")
    assert (
        shown({("lab", 0): [2, 3]}, {("lab", 0): []}, {2})
        == "broker 2: 1 replicas, leads 1\nlab-0: 2, 3\n"
    )


@pytest.mark.parametrize("empty", [[], [3]])
def test_ansible_is_told_what_it_can_read(
    empty: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both of a move that has begun and of a refusal."""
    three = ((1, [1, 2, 3], [1, 2, 3]), (2, [2, 3, 1], [2, 3, 1]), (3, [3, 1, 2], [3, 1, 2]))
    monkeypatch.setattr(
        kafka_reassign, "Brokers", lambda *_: nullcontext(Told(*(three if empty else PILED)))
    )
    monkeypatch.setattr(kafka_reassign, "PAUSE", 0)
    arguments = {"bootstrap_servers": "x", "brokers": [1, 2, 3], "empty": empty, "wait": 0}
    arguments["_ansible_inject_invocation"] = True  # as older versions of Ansible always do
    said = io.StringIO()
    with patch_module_args(arguments), redirect_stdout(said), pytest.raises(SystemExit):
        kafka_reassign.main()
    answer = json.loads(said.getvalue())
    if empty:
        assert answer["msg"].startswith("kafka_empty is 3: 2 brokers would be left (1, 2)")
    else:
        assert (answer["moving"], len(answer["awaited"])) == (3, 3)


def test_brokers_beside_the_inventorys_are_told_with_their_topics() -> None:
    state = told((1, [1, 4], [1]), (1, [1, 3], [1]))
    assert others(state, [1, 2]) == {
        3: {"address": "10.0.0.3:9092", "topics": ["lab"]},
        4: {"address": "", "topics": ["lab"]},
    }


def hosts(*versions: str | None, data: bool = True) -> list[dict[str, Any]]:
    """Return the hosts of a run; a version is what server.properties says, empty for nothing, and None without data."""
    return [
        {
            "inventory_hostname": name,
            "__kafka_settings": {"brokers": BROKERS, "id": number},
            "__looked": {
                "kafka": {
                    "present": {"/data/meta.properties": version is not None},
                    "settings": {"/s": {"inter.broker.protocol.version": version or ""}},
                }
            },
        }
        for number, (name, version) in enumerate(zip(HOSTS, versions, strict=False), 1)
    ]


@pytest.mark.parametrize(
    ("versions", "finalize", "spoken"),
    [
        ((None, None, None), False, "3.9"),  # a cluster that begins
        (("3.8", "3.8", "3.8"), False, "3.8"),
        (("3.8", "3.8", "3.8"), True, "3.9"),
        (("3.9", "3.8", "3.9"), False, "3.8"),  # a run that was killed before any restart
        (("3.10", "3.9", "3.10"), False, "3.9"),
        (("3.8", None, "3.8"), False, "3.8"),  # one host is new
    ],
)
def test_brokers_talk_as_they_did_until_it_is_raised(
    versions: tuple[str | None, ...], finalize: bool, spoken: str
) -> None:
    assert kafka_protocol(hosts(*versions), BROKERS, "/s", "3.9", finalize) == spoken


def test_who_is_to_be_emptied_is_known_by_name_and_number_and_another_asks() -> None:
    run = hosts("3.9", "3.9", "3.9")
    assert kafka_emptied("bus1, 4", run, BROKERS) == {
        "numbers": [1, 4],
        "asks": "bus2",
        "unknown": [],
    }
    assert kafka_emptied([3], run, BROKERS) == {"numbers": [3], "asks": "bus1", "unknown": []}
    assert kafka_emptied("bus9", run, BROKERS)["unknown"] == ["bus9"]
    share = kafka_share({"key": "3", "value": {"replicas": 4, "leads": 2}})
    assert share == "broker 3: 4 replicas, leads 2 partitions"
