"""Who may ask ZooKeeper, and the order in which an ensemble is restarted."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.filter.zookeeper import (
    zookeeper_changed,
    zookeeper_empty_fault,
    zookeeper_jaas,
    zookeeper_switch_fault,
    zookeeper_turn,
    zookeeper_users_fault,
)


def test_users_stand_in_javas_file_of_log_ins() -> None:
    lines = zookeeper_jaas({"web": "b c", "kafka": "a"}).splitlines()
    assert lines[1:] == [
        "Server {",
        "  org.apache.zookeeper.server.auth.DigestLoginModule required",
        '  user_kafka="a"',
        '  user_web="b c";',
        "};",
    ]


@pytest.mark.parametrize("password", ['a"b', "a\\b", "a\nb", "", None, 7, "it's"])
def test_a_password_that_the_file_cannot_hold_is_refused_without_being_shown(password: Any) -> None:
    told = zookeeper_users_fault({"kafka": password})
    assert told.startswith("the password of kafka is")
    assert not password or str(password) not in told


def test_another_password_is_noticed_and_a_user_more_or_less_is_not() -> None:
    known = zookeeper_jaas({"kafka": "a; b", "web": "c"})
    assert zookeeper_changed(known, {"kafka": "a; b", "more": "d"}) == []
    assert zookeeper_changed(known, {"kafka": "a", "web": "c;"}) == ["kafka", "web"]


def test_a_name_is_a_word() -> None:
    assert zookeeper_users_fault({"a b": "c"}) == "'a b' is no name."
    assert zookeeper_users_fault({"kafka": "a long; strange = password"}) == ""


NOTHING: dict[str, Any] = {"__looked": {"zookeeper": {"present": {"log": False}}}}
SERVERS = [{"id": number, "host": f"10.0.0.{number}"} for number in (1, 2, 3)]


def told(mode: str, synced: int = 0) -> dict[str, Any]:
    return {"mode": mode, "synced": synced, "said": "" if mode else "Connection refused"}


def run(*modes: dict[str, Any], done: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Return the hosts a, b, c of a run with what each answered; those in ``done`` were restarted."""
    return [
        {
            "inventory_hostname": name,
            "__zookeeper_settings": {"servers": SERVERS},
            "__zookeeper_mode": mode,
            "__zookeeper_roll": {"due": name not in done},
        }
        for name, mode in zip("abc", modes, strict=False)
    ]


def test_the_leader_is_restarted_last_whoever_it_is_by_then() -> None:
    first = run(told("leader", 2), told("follower"), told("follower"))
    assert zookeeper_turn(first, SERVERS) == {"next": "b", "fault": ""}
    moved = (told("follower"), told("follower"), told("leader", 2))
    assert zookeeper_turn(run(*moved, done=("b",)), SERVERS)["next"] == "a"
    assert zookeeper_turn(run(*moved, done=("a", "b")), SERVERS)["next"] == "c"
    assert zookeeper_turn(run(*moved, done=("a", "b", "c")), SERVERS) == {"next": "", "fault": ""}


@pytest.mark.parametrize(
    ("modes", "why"),
    [
        ((told("leader", 1), told("follower"), told("")), "c: Connection refused"),
        ((told("leader", 1), told("follower"), told("follower")), "a: leader of 1"),
        ((told("leader", 2), told("follower"), told("standalone")), "c: standalone"),
        ((told("leader", 1), told("leader", 1), told("follower")), "b: leader of 1"),
        ((told("leader", 2), told("follower")), "2 of these 3 servers are in this run (a, b)"),
    ],
)
def test_nobody_is_restarted_unless_the_ensemble_is_whole(
    modes: tuple[dict[str, Any], ...], why: str
) -> None:
    turn = zookeeper_turn(run(*modes), SERVERS)
    assert turn["next"] == ""
    assert why in turn["fault"]


def test_another_ensemble_of_the_run_is_not_waited_for() -> None:
    other = run(told(""))[0] | {"__zookeeper_settings": {"servers": []}}
    hosts = [*run(told("leader", 2), told("follower"), told("follower")), other]
    assert zookeeper_turn(hosts, SERVERS) == {"next": "b", "fault": ""}


@pytest.mark.parametrize(
    ("data", "refused"),
    [
        ("nnn", ""),  # a first run
        ("ynn", "b, c have no data and are the majority, so they would agree without a,"),
        ("yyn", ""),  # a server that lost its disk
        ("nn", "without the servers that are not in this run"),
        ("n", ""),
    ],
)
def test_a_majority_without_data_is_refused_where_another_has_some(data: str, refused: str) -> None:
    hosts = [
        {
            "inventory_hostname": name,
            "__zookeeper_settings": {"servers": SERVERS},
            "__looked": {"zookeeper": {"present": {"log": some == "y"}}},
        }
        for name, some in zip("abc", data, strict=False)
    ]
    fault = zookeeper_empty_fault(hosts, SERVERS, "log")
    alone = {"__zookeeper_settings": {"servers": []}, "inventory_hostname": "d", **NOTHING}
    assert zookeeper_empty_fault([*hosts, alone], [], "log") == ""
    assert refused in fault
    assert bool(refused) == bool(fault)


def test_what_servers_of_an_ensemble_must_share_is_not_changed_one_by_one() -> None:
    running = {"dataDir": "/data", "sslQuorum": "true", "server.1": "a:2888:3888"}
    wanted: dict[str, Any] = {**running, "dataDir": "/other", "sslQuorum": True}
    assert zookeeper_switch_fault(running, wanted) == ""
    assert zookeeper_switch_fault({}, wanted) == ""
    plain = {key: value for key, value in wanted.items() if key != "sslQuorum"}
    told = zookeeper_switch_fault(running, plain)
    assert told.startswith("sslQuorum is true where the server runs, and is to be taken away,")
    told = zookeeper_switch_fault(running, wanted | {"enforce.auth.enabled": True})
    assert told.startswith("enforce.auth.enabled is not there where the server runs, and is to be")
    told = zookeeper_switch_fault({"dataDir": "/data"}, wanted)
    assert "server.1 is not there where the server runs, and is to be a:2888:3888" in told
