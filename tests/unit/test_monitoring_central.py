"""One Prometheus for several hosts: who sends to it, who reads it, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.filter.cluster import cluster_settings
from plugins.filter.firewall import firewall_services
from plugins.filter.monitoring_central import (
    bcrypt_hash,
    monitoring_central,
    monitoring_central_faults,
    monitoring_central_web,
)

GROUPS = {"switchboard": ["watch", "one", "two"], "web": ["one"], "monitoring": ["watch"]}
ALONE = {"switchboard": ["watch", "one", "two"], "web": ["one"]}


def hosts(**own: Any) -> dict[str, dict[str, Any]]:
    """Return three hosts, of which ``two`` is not watched; ``watch`` has some variables more."""
    some: dict[str, dict[str, Any]] = {
        name: {"switchboard_address": f"10.0.0.{number}"}
        for number, name in enumerate(ALONE["switchboard"], 1)
    }
    for name in ("watch", "one"):
        some[name]["monitoring_mail_to"] = "ops@example.org"
    some["watch"] |= own
    return some


def test_hosts_that_are_watched_send_to_the_group() -> None:
    told = {
        name: monitoring_central(GROUPS, hosts(monitoring_central_port=9999), name)
        for name in hosts()
    }
    place = [{"name": "watch", "url": "https://10.0.0.1:9999/api/v1/write"}]
    assert [told[name]["send_to"] for name in ("watch", "one", "two")] == [place, place, []]
    assert [told[name]["address"] for name in ("watch", "one", "two")] == ["10.0.0.1", "", ""]
    assert told["watch"]["readers"] == {"port": 9999, "hosts": ["one"], "from": []}
    assert told["one"]["readers"] == {}
    six = hosts(switchboard_address="2001:db8::1")
    assert monitoring_central(GROUPS, six, "one")["send_to"][0]["url"].startswith(
        "https://[2001:db8::1]:9095/"
    )


def test_without_the_group_nothing_is_sent_and_nobody_has_a_password() -> None:
    told = monitoring_central(ALONE, hosts(), "one")
    assert told == {"address": "", "send_to": [], "users": [], "hosts": [], "readers": {}}
    assert monitoring_central_faults(ALONE, hosts(), "one") == []


def test_its_port_is_for_hosts_that_are_watched_and_for_readers() -> None:
    some = hosts(monitoring_central_readers=["192.0.2.7"])
    told = monitoring_central(GROUPS, some, "watch")["readers"]
    (found,) = firewall_services(GROUPS, some, "watch", [], told)
    assert (found["port"], found["from"]) == (9095, ["10.0.0.2", "192.0.2.7"])
    nobody = {"port": 9095, "hosts": [], "from": []}
    assert (
        firewall_services(GROUPS, some, "watch", [], nobody) == []
    )  # an empty list would be everybody


def test_it_shows_a_certificate_by_which_all_know_it() -> None:
    told = cluster_settings(GROUPS, hosts(), "watch")
    assert told["certificates_peers"] == [
        {"name": "prometheus", "group": "prometheus", "names": ["10.0.0.1", "watch"]}
    ]
    assert all(cluster_settings(GROUPS, hosts(), name)["certificates_peers_ca"] for name in hosts())
    assert not cluster_settings(ALONE, hosts(), "two")["certificates_peers_ca"]


@pytest.mark.parametrize(
    ("groups", "own", "said"),
    [
        (
            GROUPS,
            {"switchboard_address": ""},
            "switchboard_address of watch is empty: the others send to",
        ),
        (
            GROUPS,
            {"monitoring_mail_to": ""},
            "monitoring_mail_to of watch is empty: a host in the group",
        ),
        (
            ALONE,
            {"monitoring_central_readers": ["10.0.0.9"]},
            "is 10.0.0.9: no host is in the group monitoring",
        ),
        (
            GROUPS,
            {"monitoring_central_readers": ["grafana"]},
            "monitoring_central_readers is grafana: that is neither",
        ),
        (
            GROUPS,
            {"switchboard_secrets": {"monitoring": {"reader": "hush"}}},
            "switchboard_secrets.monitoring.reader is hidden: a password is 16 to 72 bytes without spaces.",
        ),
        (
            GROUPS,
            {"switchboard_secrets": {"monitoring": {"readers": "hush" * 8}}},
            "switchboard_secrets.monitoring.readers is hidden: nobody is called so. Use hosts or reader.",
        ),
    ],
)
def test_what_cannot_work_is_refused(groups: Any, own: dict[str, Any], said: str) -> None:
    (told,) = monitoring_central_faults(groups, hosts(**own), "watch")
    assert said in told
    assert "hush" not in told


def test_passwords_are_kept_as_bcrypt_has_them_and_a_second_run_finds_the_same() -> None:
    told = monitoring_central_web(
        {"reader": "a-long-password-of-a-test", "hosts": "x" * 40}, "lab", "c", "k"
    )
    assert told["tls_server_config"] == {"cert_file": "c", "key_file": "k"}
    made = told["basic_auth_users"]
    assert [*made] == ["hosts", "reader"]
    assert all(value.startswith("$2b$10$") and len(value) == 60 for value in made.values())
    assert made["reader"] == bcrypt_hash("a-long-password-of-a-test", "lab reader")
    others = {
        bcrypt_hash("a-long-password-of-a-test", "lab hosts"),
        bcrypt_hash("another", "lab reader"),
    }
    assert made["reader"] not in others
    assert "password-of-a-test" not in str(told)
