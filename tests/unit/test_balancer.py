"""What web hosts that serve the same sites, and the balancers before them, are told of one another."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from plugins.filter.balancer import (
    balanced_sites,
    shared_keys,
    web_cluster,
    web_cluster_faults,
    web_serial,
    web_together,
    web_waiting,
)
from plugins.filter.firewall import firewall_services
from plugins.filter.sites import site_lists

GROUPS = {
    "switchboard": ["one", "two", "front"],
    "web": ["one", "two"],
    "loadbalancer": ["front"],
}
LAB: dict[str, Any] = {
    "domain": "lab.example.org",
    "tls": "acme",
    "settings": "lab.settings",
    "asgi": "lab.asgi",
    "database": "postgresql",
    "source": {"directory": "demo"},
    "timers": {"digest": {"command": "digest", "on_calendar": "daily"}},
    "services": {"relay": "relay", "beat": {"command": "beat", "once": True}},
}


def hosts(entry: dict[str, Any] = LAB, **front: Any) -> dict[str, dict[str, Any]]:
    """Return the variables of two web hosts and a balancer, which share the site ``lab``."""
    found: dict[str, dict[str, Any]] = {
        name: {
            "switchboard_address": f"10.0.0.{number}",
            "switchboard_balanced_tls": True,
            "sites": {"lab": entry},
        }
        for number, name in enumerate(("one", "two", "front"), 1)
    }
    found["front"] |= front
    return found


def test_a_balancer_is_told_of_the_web_hosts_and_they_of_it() -> None:
    told = web_cluster(GROUPS, hosts(), "front")
    assert told["servers"] == {
        "lab": [
            {"name": "one", "address": "10.0.0.1:443", "tls": True},
            {"name": "two", "address": "10.0.0.2:443", "tls": True},
        ]
    }
    assert (told["behind"], told["listen"], told["acme"]) == (
        False,
        "127.0.0.1:8402",
        ["127.0.0.1:8402"],
    )
    two = web_cluster(GROUPS, hosts(), "two")
    assert (two["behind"], two["proxies"], two["later"]) == (True, ["10.0.0.3"], ["lab"])
    assert web_cluster(GROUPS, hosts(), "one")["later"] == []


def test_a_balancer_is_watched_by_the_address_of_its_visitors() -> None:
    plain = {**LAB, "domain": "plain.example.org", "tls": "none", "monitoring": {"path": "/readyz"}}
    lists = site_lists({"lab": LAB, "plain": plain}, {"web": web_cluster(GROUPS, hosts(), "front")})
    lab = {
        "name": "lab",
        "url": "https://127.0.0.1:443",
        "host": "lab.example.org",
        "path": "/",
    }
    other = {
        "name": "plain",
        "url": "http://127.0.0.1:80",
        "host": "plain.example.org",
        "path": "/readyz",
    }
    assert balanced_sites(lists, "", 80, 443) == [lab, other]
    assert balanced_sites(lists, "fd00::1", 80, 8443)[0]["url"] == "https://[fd00::1]:8443"


def test_two_balancers_reach_each_others_certbot() -> None:
    groups = GROUPS | {"loadbalancer": ["front", "back"]}
    some = hosts() | {"back": {"switchboard_address": "fd00::4", "loadbalancer_acme_port": 9000}}
    assert web_cluster(groups, some, "front")["acme"] == ["10.0.0.3:8402", "[fd00::4]:9000"]
    assert web_cluster(groups, some, "front")["listen"] == "10.0.0.3:8402"


def test_hosts_with_sites_of_their_own_are_changed_together() -> None:
    assert web_serial(GROUPS, hosts()) == 1
    assert web_serial(GROUPS, hosts() | {"two": {"switchboard_address": "10.0.0.2"}}) == "100%"
    assert web_serial(GROUPS, hosts() | {"two": {"sites": {"lab": LAB}}}) == "100%"
    assert web_serial(GROUPS, {}) == "100%"  # as where the syntax alone is checked


def test_hosts_build_together_what_they_serve_together_and_go_on_with_what_waits() -> None:
    assert web_together(GROUPS, hosts()) == ["one", "two"]
    assert web_together(GROUPS, hosts() | {"two": {"switchboard_address": "10.0.0.2"}}) == []
    assert web_together({}, {}) == web_waiting({}, {}) == []
    results = {
        "one": [{"item": "a", "waits": ""}, {"item": "b", "waits": "1"}],
        "two": [{"msg": ""}],
    }
    told = {name: {"__django_releases": {"results": each}} for name, each in results.items()}
    assert web_waiting(GROUPS, told) == ["one"]


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (
            LAB | {"database": "sqlite"},
            "sites.lab.database is sqlite: one, two serve the site together",
        ),
        (LAB | {"valkey": True}, "sites.lab.valkey is on: one, two serve the site together"),
    ],
)
def test_what_each_host_would_have_for_itself_is_refused(entry: dict[str, Any], fault: str) -> None:
    (found,) = web_cluster_faults(GROUPS, hosts(entry), "two")
    assert found.startswith(fault)
    alone = hosts(entry) | {"one": {"switchboard_address": "10.0.0.1"}}
    assert web_cluster_faults(GROUPS, alone, "two") == []


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"database": "none"},
        {"valkey": {"local": True}},
        {"environment": {"DATABASE_URL": "mysql://"}},
    ],
)
def test_what_all_hosts_share_is_not_refused(more: dict[str, Any]) -> None:
    for host in ("one", "two", "front"):
        assert web_cluster_faults(GROUPS, hosts(LAB | more), host) == []


def test_a_host_without_a_private_address_is_refused() -> None:
    for name in ("one", "front"):
        some = hosts()
        del some[name]["switchboard_address"]
        (found,) = web_cluster_faults(GROUPS, some, name)
        assert found.startswith("switchboard_address is not set: this host is in the group ")
    (lonely,) = web_cluster_faults({"loadbalancer": ["front"]}, hosts(), "front")
    assert "no host of the group web" in lonely


def test_a_balancer_of_ones_own_is_named_where_it_takes_tls_off() -> None:
    some = hosts(LAB | {"tls": "forwarded"})
    (found,) = web_cluster_faults(GROUPS, some, "one")
    assert found.startswith("sites.lab.tls is forwarded: the hosts of the group loadbalancer")
    alone = {"web": GROUPS["web"]}
    (found,) = web_cluster_faults(alone, some, "one")
    assert found.endswith("List the addresses of your balancer in apache_trusted_proxies.")
    assert web_cluster_faults(alone, some, "front") == [], "a host without Apache believes nobody"
    some["one"]["apache_trusted_proxies"] = ["10.0.0.9"]
    assert web_cluster_faults(alone, some, "one") == []


def test_timers_and_what_runs_once_are_on_the_first_host_alone() -> None:
    for host, names in (("one", {"relay", "beat"}), ("two", {"relay"})):
        lists = site_lists({"lab": LAB}, {"web": web_cluster(GROUPS, hosts(), host)})
        assert set(lists["django"][0]["services"]) == names
        assert bool(lists["django"][0]["timers"]) == (host == "one")


def test_web_hosts_that_are_not_asked_by_tls_are_told_apart() -> None:
    some = hosts()
    some["two"] |= {"switchboard_balanced_tls": "false", "apache_http_port": 8080}
    servers = web_cluster(GROUPS, some, "front")["servers"]["lab"]
    assert [(one["address"], one["tls"]) for one in servers] == [
        ("10.0.0.1:443", True),
        ("10.0.0.2:8080", False),
    ]
    assert [web_cluster(GROUPS, some, name)["tls"] for name in some] == [True, False, False]
    assert web_cluster({"web": ["one"]}, some, "one")["tls"] is False, "nobody asks it"
    del some["one"]["switchboard_balanced_tls"]
    assert web_cluster(GROUPS, some, "one")["tls"] is False
    assert [web_cluster_faults(GROUPS, some, name) for name in some] == [[], [], []]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"switchboard_balanced_tls": "maybe"}, "switchboard_balanced_tls is 'maybe': it is"),
        ({"certificates_peers": []}, "certificates_peers is set in the inventory: it has none"),
        (
            {"certificates_peers": [{"name": "apache", "names": ["one"]}]},
            "Add {name: apache, group: root, names: [10.0.0.1, one]}",
        ),
        ({"certificates_ca_replace": True}, "certificates_ca_replace is true: balancers would"),
    ],
)
def test_a_web_host_that_balancers_could_not_know_is_refused(
    more: dict[str, Any], said: str
) -> None:
    some = hosts()
    some["one"] |= more
    (found,) = web_cluster_faults(GROUPS, some, "one")
    assert said in found
    some["one"]["switchboard_balanced_tls"] = False
    assert web_cluster_faults(GROUPS, some, "one") == []


def test_a_name_that_no_certificate_can_have_is_refused() -> None:
    groups = GROUPS | {"web": ["web_1", "two"]}
    some = hosts() | {"web_1": hosts()["one"]}
    (found,) = web_cluster_faults(groups, some, "web_1")
    assert found.endswith("in hosts.yml, or set switchboard_balanced_tls to false.")


def test_behind_a_balancer_apache_is_asked_by_tls_and_knows_where_visitors_are() -> None:
    own = {"web": web_cluster(GROUPS, hosts(), "one"), "apache_listen_address": "10.0.0.1"}
    lists = site_lists({"lab": LAB}, own)
    apache, front = lists["apache"][0], lists["loadbalancer"][0]
    assert (apache["tls"], apache["public_url"]) == (False, "https://lab.example.org:443")
    assert (front["tls"], [server["name"] for server in front["servers"]]) == (True, ["one", "two"])
    django = lists["django"][0]
    assert (django["smoke_url"], django["smoke_server"]) == (
        "https://lab.example.org",
        "https://10.0.0.1:443",
    )
    assert lists["monitoring"][0]["forwarded_proto"] == ""


def test_what_asks_apache_says_the_scheme_of_visitors_where_it_is_another() -> None:
    for tls, by_tls, told in (("none", True, "http"), ("acme", False, "https")):
        some = hosts(LAB | {"tls": tls})
        some["one"]["switchboard_balanced_tls"] = by_tls
        own = {"web": web_cluster(GROUPS, some, "one"), "apache_listen_address": "10.0.0.1"}
        lists = site_lists(some["one"]["sites"], own)
        asked = "https://10.0.0.1:443" if by_tls else "http://10.0.0.1:80"
        assert lists["django"][0]["smoke_server"] == lists["monitoring"][0]["url"] == asked
        assert lists["monitoring"][0]["forwarded_proto"] == told


def read(site: str, host: str, text: str = "") -> dict[str, Any]:
    """Return what slurp says of a site's key on a host."""
    item = {"item": {"site": site, "host": host}}
    return {**item, "content": base64.b64encode(text.encode()).decode()} if text else item


KEY = '# Ansible managed\nLAB_KEY="of one"\nLAB_KEY_FALLBACKS="former"\n'


def test_a_sites_key_is_that_of_the_first_host_which_has_one() -> None:
    sites, empty = [{"name": "lab"}], read("lab", "one")
    both = [read("lab", "one", KEY), read("lab", "two", KEY.replace("of one", "of two"))]
    assert shared_keys(sites, both, "two") == [{"name": "lab", "secret_key": "of one"}]
    assert shared_keys(sites, both, "one") == sites  # it keeps its own, or makes another
    assert shared_keys(sites, [empty, both[1]], "one") == [{"name": "lab", "secret_key": "of two"}]
    assert shared_keys(sites, [empty, read("lab", "two")], "two") == sites
    own = [{"name": "lab", "secret_key": "the inventory's"}]
    assert shared_keys(own, both, "two") == own


def test_balancers_alone_reach_apache() -> None:
    def ports(groups: dict[str, list[str]], host: str) -> dict[Any, Any]:
        return {
            entry["port"]: entry.get("from") for entry in firewall_services(groups, hosts(), host)
        }

    assert ports(GROUPS, "one") == {80: ["10.0.0.3"], 443: ["10.0.0.3"]}
    assert ports(GROUPS, "front") == {80: None, 443: None}
    assert ports({"web": ["one"]}, "one") == {80: None, 443: None}
