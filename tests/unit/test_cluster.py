"""What hosts that work together are told of one another."""

from __future__ import annotations

from typing import Any

from plugins.filter.cluster import cluster_settings

GROUPS = {"zookeeper": ["one", "two", "three"]}


def hosts(**own: Any) -> dict[str, dict[str, Any]]:
    """Return three hosts with private addresses; ``two`` has some variables more."""
    found: dict[str, dict[str, Any]] = {
        name: {"switchboard_address": f"10.0.0.{number}"}
        for number, name in enumerate(GROUPS["zookeeper"], 1)
    }
    found["two"] |= own
    return found


def test_hosts_with_private_addresses_are_one_ensemble() -> None:
    told = cluster_settings(GROUPS, hosts(zookeeper_id=7), "two")
    assert told["zookeeper_id"] == 7
    assert told["zookeeper_servers"] == [
        {"id": 1, "host": "10.0.0.1"},
        {"id": 7, "host": "10.0.0.2"},
        {"id": 3, "host": "10.0.0.3"},
    ]
    assert cluster_settings(GROUPS, hosts(), "three")["zookeeper_id"] == 3


def test_a_host_without_a_private_address_works_alone() -> None:
    some = hosts(switchboard_address="")
    told = cluster_settings(GROUPS, some, "two")
    assert (told["zookeeper_id"], told["zookeeper_servers"]) == (1, [])
    assert len(cluster_settings(GROUPS, some, "one")["zookeeper_servers"]) == 2
    alone = {"one": {"switchboard_address": "10.0.0.1"}}
    assert cluster_settings({"zookeeper": ["one"]}, alone, "one")["zookeeper_servers"] == []


def test_what_the_inventory_says_itself_is_taken() -> None:
    servers = [{"id": 1, "host": "a"}]
    assert (
        cluster_settings(GROUPS, hosts(zookeeper_servers=servers), "two")["zookeeper_servers"]
        == servers
    )


def test_a_member_gets_a_certificate_and_speaks_tls() -> None:
    told = cluster_settings(GROUPS, hosts(certificates_dir="/etc/tls"), "two")
    assert told["certificates_peers"] == [
        {"name": "zookeeper", "group": "zookeeper", "names": ["10.0.0.2", "two"]}
    ]
    assert told["zookeeper_tls_keystore"] == "/etc/tls/peers/zookeeper/keystore.pem"
    assert told["zookeeper_secure_client_port_address"] == "10.0.0.2"
    alone = cluster_settings(GROUPS, hosts(switchboard_address=""), "two")
    assert alone["certificates_peers"] == []
    assert alone["zookeeper_tls_keystore"] == alone["zookeeper_secure_client_port_address"] == ""


def test_everybody_who_may_be_a_client_knows_the_ca() -> None:
    groups = {**GROUPS, "web": ["four"], "other": ["five"]}
    some: dict[str, Any] = {**hosts(), "four": {}, "five": {}}
    told = {name: cluster_settings(groups, some, name)["certificates_peers_ca"] for name in some}
    assert told == {"one": True, "two": True, "three": True, "four": True, "five": False}
    some = {name: {} for name in some}
    assert not cluster_settings(groups, some, "four")["certificates_peers_ca"]
    some["one"]["certificates_peers"] = [{"name": "a", "group": "a", "names": ["a"]}]
    assert cluster_settings(groups, some, "four")["certificates_peers_ca"]
