"""Which brokers have a say in who leads them, how that changes, and what their disks say of it."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from ansible.module_utils.kafka_client import KafkaError, compact, compact_array
from ansible.module_utils.kafka_quorum import (
    Member,
    change,
    changed,
    lacking,
    members,
    step,
    wanted,
)

from plugins.filter.kafka_quorum import (
    controllers,
    kafka_cluster_id,
    kafka_disk_rules,
    kafka_quorum,
    kafka_voters_fault,
)
from tests.unit.test_kafka_client import Broker

BROKERS = [{"id": number, "host": f"10.0.0.{number}"} for number in (1, 2, 3)]
PLACES = [f"{number}@10.0.0.{number}:9093" for number in (1, 2, 3)]
STATE = "/data/__cluster_metadata-0/quorum-state"
CONFIG = "/etc/kafka/server.properties"
META = "/data/meta.properties"


def member(number: int, votes: bool = True, late: int = 0, disk: int = 0) -> Member:
    return Member(number, bytes([disk or number]) * 16, late, votes)


# -- what the leader tells, and what it is told -------------------------------------------------------------


def replicas(*some: tuple[int, int]) -> bytes:
    """Return followers as DescribeQuorum, version 2, tells of them: the number of each, and when it had caught up."""
    return compact_array(
        [struct.pack(">i16sqqq", one, bytes([one]) * 16, 45, at + 9, at) for one, at in some]
    )


def test_who_follows_is_read_to_its_end() -> None:
    null = b"\0"
    voters, readers = replicas((1, 100_000), (2, 99_600), (3, -1)), replicas((4, 99_000))
    partition = struct.pack(">ih", 0, 0) + null + struct.pack(">iiq", 1, 7, 44) + voters + readers
    topics = compact_array([compact(b"__cluster_metadata") + compact_array([partition])])
    told = struct.pack(">h", 0) + null + topics + compact_array([]) + null
    assert members(Broker(told)) == (
        1,
        [member(1), member(2, late=400), member(3, late=-1), member(4, votes=False, late=1000)],
    )
    with pytest.raises(KafkaError, match="quorum: nobody leads"):
        members(Broker(struct.pack(">h", 5) + compact(b"nobody leads")))


def test_a_say_is_given_with_the_place_and_taken_by_the_disk() -> None:
    good = struct.pack(">ih", 0, 0) + b"\0"
    broker = Broker(good)
    change(broker, member(4, votes=False), "[fd00::4]:9093", 60)
    listener = compact(b"CONTROLLER") + compact(b"fd00::4") + struct.pack(">H", 9093) + b"\0"
    who = struct.pack(">i", 4) + b"\4" * 16
    assert broker.asked == b"\0" + struct.pack(">i", 60_000) + who + b"\x02" + listener
    broker = Broker(good)
    change(broker, member(4), "", 60)
    assert broker.asked == b"\0" + who
    with pytest.raises(KafkaError, match="controller 4: not caught up"):
        change(Broker(struct.pack(">ih", 0, 7) + compact(b"not caught up")), member(4), "", 60)


# -- who is next ---------------------------------------------------------------------------------------------


def test_an_odd_number_has_a_say() -> None:
    assert [wanted(brokers) for brokers in range(1, 8)] == [1, 1, 3, 3, 5, 5, 5]
    assert [controllers(brokers) for brokers in range(1, 8)] == [1, 1, 3, 3, 5, 5, 5]


def all_steps(found: list[Member], brokers: list[int], leader: int = 1) -> list[str]:
    """Return what changes until nothing does."""
    done = []
    while one := step(leader, found, brokers):
        done.append(f"{'-' if one.votes else '+'}{one.number}")
        found = changed(found, one)
        assert len(done) < 10
    return done


def test_a_cluster_grows_and_shrinks() -> None:
    two = [member(2, votes=False), member(3, votes=False)]
    assert all_steps([member(1)], [1]) == []
    assert all_steps([member(1), *two], [1, 2, 3]) == ["+2", "+3"]
    three = [member(1), member(2), member(3)]
    fourth, fifth = member(4, votes=False), member(5, votes=False)
    assert all_steps(three, [1, 2, 3]) == all_steps([*three, fourth], [1, 2, 3, 4]) == []
    assert all_steps([*three, fourth, fifth], [1, 2, 3, 4, 5]) == ["+4", "+5"]
    # one that leaves comes after the one in its place, and the one that leads last of all
    assert all_steps([*three, fourth], [1, 3, 4]) == ["+4", "-2"]
    assert all_steps(three, [3], leader=1) == ["-2", "-1"]
    assert all_steps(three, [1, 3], leader=3) == ["-2", "-1"]
    assert all_steps(three, [1, 2], leader=1) == ["-3", "-2"]


def test_a_disk_that_was_lost_is_another_controller() -> None:
    lost = [member(1), member(2), member(3, late=9000), member(3, votes=False, disk=9)]
    assert all_steps(lost, [1, 2, 3]) == ["-3", "+3"]
    # nobody loses a say for being away
    assert all_steps(lost[:3], [1, 2, 3]) == []
    # one number with two disks, both there
    assert all_steps([*lost[:2], member(3), lost[3]], [1, 2, 3]) == ["-3", "+3"]


def test_nobody_loses_a_say_whom_the_others_need() -> None:
    away = [member(1), member(2, late=9000), member(3)]
    assert all_steps(away, [1, 2]) == []
    # before the one in its place is there
    assert all_steps([member(1), member(2), member(3)], [1, 3, 4]) == []
    # who is away goes before who is well, and a leaver that is away at once
    five = [member(1), member(2, late=9000), member(3), member(4), member(5)]
    assert all_steps(five, [1, 2, 3, 4]) == ["-5", "-2"]
    assert all_steps(five, [1, 3, 4, 5]) == ["-2", "-5"]


def test_brokers_that_run_are_waited_for() -> None:
    away = [member(1), member(2), member(3, late=9000)]
    assert lacking(away, [1, 2, 3], [1, 2, 3]) == [3]
    assert lacking(away, [1, 2, 3], [1, 2]) == []
    assert lacking([member(1), member(2, votes=False)], [1, 2], [1, 2]) == []
    alone = [member(1), member(2, votes=False, late=-1)]
    assert lacking(alone, [1, 2, 3], [1, 2, 3]) == [2, 3]
    four = [*away, member(4, votes=False)]
    assert lacking(four, [1, 2, 3, 4], [1, 2, 4]) == []


# -- disks ---------------------------------------------------------------------------------------------------


def disks(**cluster: str) -> list[dict[str, Any]]:
    """Return the hosts of a run with the id of the cluster on the disk of each, empty for an empty disk."""
    return [
        {
            "inventory_hostname": name,
            "__kafka_settings": {"brokers": BROKERS, "id": number},
            "__looked": {
                "kafka": {
                    "settings": {
                        CONFIG: {},
                        META: {"version": "1", "cluster.id": told} if told else {},
                        STATE: {},
                    }
                }
            },
        }
        for number, (name, told) in enumerate(cluster.items(), 1)
    ]


def refused(hosts: list[dict[str, Any]], name: str = "a", mode: str = "kraft") -> str:
    rules = kafka_disk_rules(hosts, BROKERS, name, mode, "/data")
    return "".join(f"{rule['variable']}: {rule['why']} {rule['remedy']}" for rule in rules)


def test_brokers_agree_on_the_id_of_their_cluster() -> None:
    fresh = disks(a="", b="", c="")
    (made,) = {kafka_cluster_id(fresh, BROKERS, name) for name in "abc"}
    assert len(made) == 22
    assert made[0].isalpha()
    assert kafka_cluster_id(disks(a="", b="known", c="known"), BROKERS, "a") == "known"
    assert kafka_cluster_id(fresh, [], "a") != kafka_cluster_id(fresh, [], "b")
    assert kafka_cluster_id(disks(a="", b="other"), [], "a") != "other"


def test_a_cluster_keeps_its_id_while_its_folder_is_aside() -> None:
    aside = disks(a="", b="")
    for host, told in zip(aside, ({}, {"cluster.id": "old"}), strict=True):
        host["__looked"]["kafka"]["settings"]["/data.zookeeper/meta.properties"] = told
    assert kafka_cluster_id(aside, BROKERS, "a") == "old"
    assert refused(aside, "a") == refused(disks(a="", b=""), "a")
    aside[0]["__looked"]["kafka"]["settings"]["/data/meta.properties"] = {"cluster.id": "new"}
    assert kafka_cluster_id(aside, BROKERS, "b") == "new"


def test_a_disk_of_another_mode_or_cluster_is_refused() -> None:
    old = disks(a="x", b="x", c="x")
    old[0]["__looked"]["kafka"]["settings"]["/data/meta.properties"]["version"] = "0"
    assert "kafka_mode: the records in /data were written in the mode zookeeper" in refused(old)
    assert refused(old, mode="zookeeper") == ""
    assert "Set kafka_mode to kraft" in refused(old, "b", "zookeeper")
    assert refused(disks(a="x", b="x", c="x")) == refused(disks(a="", b="", c="")) == ""
    assert "of different clusters (a: x; b: y)" in refused(disks(a="x", b="y", c=""))


def test_new_brokers_are_not_the_most_of_a_cluster_with_a_fixed_list() -> None:
    for found, refused_by in (("", False), ("1", False), ("0", True)):
        hosts = disks(a="", b="x", c="")
        told = {"currentVoters": "[{'voterId': 1}]"} if refused_by else {}
        settings_of(hosts[1])[STATE] = {"data_version": found, **told} if found else {}
        assert ("kafka_brokers: a, c have no data" in refused(hosts, "b")) is refused_by
    assert refused(disks(a="", b="x", c="x")) == ""
    assert "a is new, and 2 of these 3 are in this run" in refused(disks(a="", b="x"))
    assert refused(disks(a="x", b="x")) == ""


def settings_of(host: dict[str, Any]) -> dict[str, dict[str, str]]:
    return host["__looked"]["kafka"]["settings"]  # type: ignore[no-any-return]


def quorum(hosts: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return kafka_quorum(hosts, BROKERS, name, PLACES)


def test_the_first_controllers_know_one_another_and_all_others_ask() -> None:
    fresh = disks(a="", b="", c="")
    told = [quorum(fresh, name) for name in "abc"]
    assert told[0] == told[1] == told[2]
    assert not told[0]["fixed"]
    option, places = told[0]["format"]
    assert option == "--initial-controllers"
    assert [one.rpartition(":")[0] for one in places.split(",")] == PLACES
    assert {len(one.rpartition(":")[2]) for one in places.split(",")} == {22}
    # a run that was killed between two disks
    assert quorum(disks(a=kafka_cluster_id(fresh, BROKERS, "a"), b="", c=""), "b") == told[1]
    grown = disks(a="x", b="", c="")
    settings_of(grown[0])[STATE] = {"data_version": "1"}
    assert quorum(grown, "b") == {"fixed": False, "format": ["--no-initial-controllers"]}
    two = [
        {**host, "__kafka_settings": {"brokers": BROKERS[:2], "id": number}}
        for number, host in enumerate(fresh[:2], 1)
    ]
    first, second = (kafka_quorum(two, BROKERS[:2], name, PLACES[:2])["format"] for name in "ab")
    assert first[1].startswith("1@10.0.0.1:9093:")
    assert "," not in first[1]
    assert second == ["--no-initial-controllers"]
    (alone,) = disks(a="")
    assert kafka_quorum([alone], [], "a", ["1@127.0.0.1:9093"])["format"][0] == option


def test_a_list_that_was_fixed_stays_until_kafka_has_let_it_go() -> None:
    old = disks(a="x", b="x", c="x")
    for host in old[1:]:
        settings_of(host)[CONFIG] = {"controller.quorum.voters": ",".join(PLACES)}
    assert quorum(old, "a") == {"fixed": True, "format": []}
    for host in old:
        settings_of(host)[STATE] = {"data_version": "1"}
    assert not quorum(old, "a")["fixed"]
    settings_of(old[2])[STATE] = {"data_version": "0"}
    assert quorum(old, "a")["fixed"]
    new = disks(a="x", b="x", c="x")
    for host in new:
        servers = {"controller.quorum.bootstrap.servers": "10.0.0.1:9093"}
        asked = {"data_version": "0", "currentVoters": "[]"}
        settings_of(host).update({CONFIG: servers, STATE: asked})
    assert not quorum(new, "a")["fixed"]
    # /etc was lost, the disk was not
    settings_of(new[0]).update({CONFIG: {}, STATE: {**asked, "currentVoters": "[{'voterId': 1}]"}})
    assert quorum(new, "b")["fixed"]
    gone = disks(a="")
    settings_of(gone[0])[CONFIG] = {"controller.quorum.voters": "1@127.0.0.1:9093"}
    assert not kafka_quorum(gone, [], "a", PLACES[:1])["fixed"]


FIXED = {"controller.quorum.voters": ["1@10.0.0.1:9093", "2@10.0.0.2:9093"]}


def test_a_fixed_list_neither_grows_nor_shrinks() -> None:
    written = {"controller.quorum.voters": "1@10.0.0.1:9093,2@10.0.0.2:9095"}
    assert kafka_voters_fault(written, FIXED) == ""
    alone = {"controller.quorum.voters": "1@127.0.0.1:9093"}
    assert "are 1 since their first start, and would be 1, 2" in kafka_voters_fault(alone, FIXED)
    assert kafka_voters_fault(alone, {"controller.quorum.voters": ["7@127.0.0.1:9093"]}) == ""
    assert kafka_voters_fault({}, FIXED) == kafka_voters_fault({"listeners": ""}, FIXED) == ""
    free = {"controller.quorum.bootstrap.servers": ["10.0.0.1:9093"]}
    assert kafka_voters_fault(written, free) == ""
    two = {"controller.quorum.bootstrap.servers": "10.0.0.1:9093,10.0.0.2:9093"}
    assert "would look for nobody from now on" in kafka_voters_fault(two, free)
    assert kafka_voters_fault({"controller.quorum.bootstrap.servers": "127.0.0.1:9093"}, free) == ""
    three = {"controller.quorum.bootstrap.servers": [f"10.0.0.{one}:9093" for one in (1, 2, 3)]}
    assert kafka_voters_fault(two, three) == kafka_voters_fault(two, FIXED) == ""
