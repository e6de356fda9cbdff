"""Who may ask ZooKeeper, and the order in which an ensemble is restarted."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.filter.zookeeper import zookeeper_jaas, zookeeper_users_fault


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


def test_a_name_is_a_word() -> None:
    assert zookeeper_users_fault({"a b": "c"}) == "'a b' is no name."
    assert zookeeper_users_fault({"kafka": "a long; strange = password"}) == ""
