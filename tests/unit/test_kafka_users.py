"""What the users module plans: rights as declared, passwords compared by use, strangers left alone."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.kafka_access import GONE, ITERATIONS, Access, Acl
from ansible.module_utils.kafka_client import Answer

from plugins.modules import kafka_users as module

NOTHING: dict[str, Any] = {
    **{key: [] for key in ("made", "renewed", "removed", "granted", "revoked")},
    "quotas": {},
}


def user(**settings: Any) -> dict[str, Any]:
    base = {
        **{"name": "lab", "password": "a-password-of-lab", "topics": ["lab.*"], "groups": []},
        **{"read_topics": [], "quotas": {}, "state": "present"},
    }
    return {**base, **settings}


LAB = module.acls_of(user())


def acl(name: str = "lab", **settings: Any) -> Acl:
    base = Acl("topic", "other", "literal", f"User:{name}", "*", "read", "allow")
    return base._replace(**settings)


def planned(*users: dict[str, Any], **found: Any) -> dict[str, Any]:
    """Plan for users of whom lab is there as declared, unless told otherwise."""
    there: dict[str, Any] = {
        "users": {"lab": ITERATIONS},
        "acls": LAB,
        "quotas": {},
        "known": {"lab"},
    }
    return module.plan(list(users), **{**there, **found})


def test_a_user_as_declared_needs_nothing() -> None:
    assert planned(user()) == NOTHING


def test_a_star_is_the_beginning_of_names_and_alone_all_of_them() -> None:
    names = {(one.name, one.pattern) for one in module.acls_of(user(topics=["lab.*", "x", "*"]))}
    assert names == {("lab.", "prefixed"), ("x", "literal"), ("*", "literal")}
    assert {one.operation for one in LAB} == {"read", "write", "describe"}
    readers = module.acls_of(user(topics=[], read_topics=["x"], groups=["g"]))
    assert {(one.type, one.operation) for one in readers} == {
        *(("topic", "read"), ("topic", "describe")),
        *(("group", "read"), ("group", "describe")),
    }


def test_a_new_user_is_made_with_its_rights() -> None:
    plan = planned(user(), users={}, acls=set(), known=set())
    assert plan == {**NOTHING, "made": ["lab"], "granted": sorted(LAB)}


def test_a_password_that_lets_nobody_in_is_renewed() -> None:
    assert planned(user(), known=set()) == {**NOTHING, "renewed": ["lab"]}


def test_a_user_that_others_made_becomes_ours() -> None:
    assert planned(user(), users={"lab": 4096}) == {**NOTHING, "renewed": ["lab"]}


def test_rights_beyond_the_declared_are_taken_away() -> None:
    assert planned(user(), acls=LAB | {acl()}) == {**NOTHING, "revoked": [acl()]}


def test_rights_that_are_lacking_are_granted() -> None:
    write = next(one for one in LAB if one.operation == "write")
    assert planned(user(), acls=LAB - {write}) == {**NOTHING, "granted": [write]}


def test_a_user_of_ours_that_is_declared_no_longer_goes_away() -> None:
    found = {"users": {"lab": ITERATIONS, "old": ITERATIONS}, "quotas": {"old": {"a": 1.0}}}
    plan = planned(user(), **found, acls=LAB | {acl("old")})
    assert plan == {
        **NOTHING,
        **{"removed": ["old"], "revoked": [acl("old")], "quotas": {"old": {"a": None}}},
    }


def test_strangers_are_left_alone() -> None:
    found = {"users": {"lab": ITERATIONS, "x": 4096}, "quotas": {"x": {"a": 1.0}}}
    others = {acl("x"), acl("nobody"), acl(principal="Group:lab")}
    assert planned(user(), **found, acls=LAB | others) == NOTHING


def test_a_stranger_that_is_declared_absent_goes_away() -> None:
    gone = user(name="x", state="absent")
    plan = planned(user(), gone, users={"lab": ITERATIONS, "x": 4096}, acls=LAB | {acl("x")})
    assert plan == {**NOTHING, "removed": ["x"], "revoked": [acl("x")]}
    assert planned(user(), gone) == NOTHING


def test_a_user_without_a_password_has_rights_alone() -> None:
    nobody = user(name="ANONYMOUS", password=None, topics=["x"])
    assert planned(user(), nobody) == {**NOTHING, "granted": sorted(module.acls_of(nobody))}
    assert planned(user(password=None)) == {**NOTHING, "removed": ["lab"]}


def test_quotas_are_set_changed_and_taken_away() -> None:
    plan = planned(
        user(quotas={"producer_byte_rate": 100, "request_percentage": "50"}),
        quotas={"lab": {"request_percentage": 50.0, "consumer_byte_rate": 7.0}},
    )
    assert plan["quotas"] == {"lab": {"consumer_byte_rate": None, "producer_byte_rate": 100.0}}


def test_what_changes_is_shown_without_a_password() -> None:
    plan = planned(
        user(quotas={"a": 2}),
        user(name="new"),
        **{"known": set(), "acls": LAB | {acl()}, "quotas": {"lab": {"a": 1.0}}},
    )
    before, after = module.shown(plan, {"lab": {"a": 1.0}})
    assert before == ["lab: a 1", "lab: allow read topic other", "lab: password (another)"]
    assert [line for line in after if "allow" not in line] == [
        *("lab: a 2", "lab: password (as declared)", "new: password")
    ]
    assert "a-password-of-lab" not in "".join(before + after)


def test_without_zookeeper_no_user_is_deleted() -> None:
    asked: list[bytes] = []

    class Taken:
        def ask(self, key: int, version: int, body: bytes, flexible: bool = False) -> Answer:
            asked.append(body)
            return Answer(b"\0\0\0\0\x01", flexible)

    access = object.__new__(Access)
    access.timeout = 1
    access.connection = Taken()  # type: ignore[assignment] # it answers all the same
    for access.quorum in (False, True):
        access.change_users({}, ["lab"])
    assert asked[0] == b"\x02\x04lab\x02\x00\x01"
    assert asked[1].startswith(b"\x01\x02\x04lab\x02" + GONE.to_bytes(4, "big"))
