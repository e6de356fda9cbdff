"""Entries of what may come in become rules of nftables; what nftables could not take is refused."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from plugins.filter.firewall import firewall_lines, firewall_rules, firewall_services, firewall_ssh
from plugins.filter.rendered import rendered


def test_an_entry_is_a_rule_for_each_family_that_it_names() -> None:
    entries: list[dict[str, Any]] = [
        {"port": 80},
        {"port": "8000-8010", "protocol": "udp", "from": ["192.0.2.7", "192.0.2.6/31"]},
        {"port": 9, "from": ["2001:db8::1", "192.0.2.0/24"], "comment": "both"},
        {"port": 80},
    ]
    assert firewall_lines(entries) == [
        "tcp dport 80 accept",
        "ip saddr { 192.0.2.6/31 } udp dport 8000-8010 accept",
        'ip saddr { 192.0.2.0/24 } tcp dport 9 accept comment "both"',
        'ip6 saddr { 2001:db8::1 } tcp dport 9 accept comment "both"',
    ]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({}, "a mapping with a port"),
        ("80", "a mapping with a port"),
        ({"port": 0}, "not within 1 to 65535"),
        ({"port": "90-80"}, "not within 1 to 65535"),
        ({"port": "http"}, "neither a number nor a range"),
        ({"port": True}, "neither a number nor a range"),
        ({"port": 80, "protocol": "icmp"}, "none of tcp, udp"),
        ({"port": 80, "form": []}, "there is no key form"),
        ({"port": 80, "from": "192.0.2.1"}, "`from` is no list"),
        ({"port": 80, "from": ["lab.example.org"]}, "neither an address nor a network"),
        ({"port": 80, "comment": 'a "b" c'}, "the comment has"),
    ],
)
def test_what_nftables_could_not_take_is_refused(entry: Any, told: str) -> None:
    (broken,) = firewall_rules({"firewall_allow": [{"port": 443}, entry]})
    assert broken["variable"] == "firewall_allow"
    assert broken["value"] == entry
    assert told in broken["why"]


def test_networks_and_ports_of_ssh_are_judged_as_such() -> None:
    broken = firewall_rules(
        {"firewall_ssh_from": ["192.0.2.300", "::/0"], "firewall_ssh_ports": [22, 99999]}
    )
    assert [(entry["variable"], entry["value"]) for entry in broken] == [
        ("firewall_ssh_from", "192.0.2.300"),
        ("firewall_ssh_ports", 99999),
    ]


def test_a_single_server_is_open_for_pages_alone() -> None:
    groups = {group: ["one"] for group in ("switchboard", "zookeeper", "kafka", "web")}
    found = firewall_services(groups, {"one": {"apache_http_port": 8080}}, "one")
    assert [(entry["port"], entry.get("from")) for entry in found] == [(8080, None), (443, None)]


def test_ports_of_a_cluster_are_for_the_other_hosts_alone() -> None:
    groups = {
        "switchboard": ["a", "b", "c", "d"],
        "kafka": ["a", "b"],
        "web": ["c"],
        "database": ["d"],
    }
    hostvars: dict[str, dict[str, Any]] = {
        "a": {"ansible_host": "192.0.2.1"},
        "b": {"ansible_host": "b.example.org", "firewall_addresses": ["192.0.2.2", "2001:db8::2"]},
        "c": {"ansible_host": "192.0.2.3"},
    }
    (kafka,) = firewall_services(groups, hostvars, "a")
    assert (kafka["port"], kafka["from"]) == (9092, ["192.0.2.2", "2001:db8::2", "192.0.2.3"])
    assert [entry["port"] for entry in firewall_services(groups, hostvars, "c")] == [80, 443]
    kraft = {**hostvars, "a": {**hostvars["a"], "kafka_mode": "kraft"}}
    controller = firewall_services(groups, kraft, "a")[1]
    assert (controller["port"], controller["from"]) == (9093, ["192.0.2.2", "2001:db8::2"])
    hostvars["b"].pop("firewall_addresses")
    with pytest.raises(AnsibleFilterError, match="firewall_addresses of b is not set"):
        firewall_services(groups, hostvars, "a")


def test_the_port_of_postgresql_is_for_its_clients_alone() -> None:
    groups = {"switchboard": ["a", "b"], "database": ["a"]}
    hosts: dict[str, Any] = {"a": {"postgresql_port": 5433}, "b": {}}
    (found,) = firewall_services(groups, hosts, "a", ["10.0.0.11", "10.0.1.0/24"])
    assert (found["port"], found["from"]) == (5433, ["10.0.0.11", "10.0.1.0/24"])
    assert firewall_services(groups, hosts, "a") == []
    assert firewall_services(groups, hosts, "b", ["10.0.0.11"]) == []


def test_the_table_drops_what_no_rule_lets_in() -> None:
    lines = firewall_lines(firewall_ssh([22, 2222], ["192.0.2.0/24"]))
    text = rendered({"lines": lines, "ping": False, "unit": "x"}, "firewall/firewall.nft.j2")
    assert "policy drop" in text
    assert "flush ruleset" not in text
    assert "echo-request" not in text
    assert '        ip saddr { 192.0.2.0/24 } tcp dport 2222 accept comment "SSH"\n' in text
