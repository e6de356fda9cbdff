"""What hosts that work together are told of one another."""

from __future__ import annotations

from typing import Any

from plugins.filter.cluster import cluster_settings, kafka_zookeeper_fault, watched_hosts

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


def test_each_host_is_looked_after_by_two_others() -> None:
    names = [f"host{number}" for number in range(6)]
    some = {name: {"switchboard_address": f"10.0.0.{at}"} for at, name in enumerate(names)}
    some["laptop"] = {}
    groups = {"all": [*names, "laptop"]}
    asked = [one["name"] for name in names for one in watched_hosts(groups, some, name)]
    assert sorted(asked) == sorted(names * 2)
    assert watched_hosts(groups, some, "host0") == [
        {"name": "host5", "address": "10.0.0.5"},
        {"name": "host4", "address": "10.0.0.4"},
    ]
    assert watched_hosts(groups, some, "laptop") == []
    pair = {"all": names[:2]}
    assert [one["name"] for one in watched_hosts(pair, some, "host0")] == ["host1"]
    assert watched_hosts({"all": names[:1]}, some, "host0") == []


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


def test_a_web_host_has_a_certificate_for_the_balancers_that_ask_it_by_tls() -> None:
    groups = {"web": ["web1"], "loadbalancer": ["front"]}
    some: dict[str, Any] = {name: {"switchboard_address": "10.0.0.1"} for name in ("web1", "front")}
    some["web1"]["switchboard_balanced_tls"] = True
    told = cluster_settings(groups, some, "web1")
    assert told["certificates_peers"] == [
        {"name": "apache", "group": "root", "names": ["10.0.0.1", "web1"]}
    ]
    assert cluster_settings(groups, some, "front")["certificates_peers_ca"]
    del some["web1"]["switchboard_balanced_tls"]
    assert cluster_settings(groups, some, "web1")["certificates_peers"] == []


def test_everybody_who_may_be_a_client_knows_the_ca() -> None:
    groups = {**GROUPS, "web": ["four"], "other": ["five"]}
    some: dict[str, Any] = {**hosts(), "four": {}, "five": {}}
    told = {name: cluster_settings(groups, some, name)["certificates_peers_ca"] for name in some}
    assert told == {"one": True, "two": True, "three": True, "four": True, "five": False}
    some = {name: {} for name in some}
    assert not cluster_settings(groups, some, "four")["certificates_peers_ca"]
    some["one"]["certificates_peers"] = [{"name": "a", "group": "a", "names": ["a"]}]
    assert cluster_settings(groups, some, "four")["certificates_peers_ca"]


ALL = {"zookeeper": ["one", "two", "three"], "kafka": ["one", "two", "three"], "web": ["four"]}


def bus(**own: Any) -> dict[str, dict[str, Any]]:
    return {**hosts(**own), "four": {"zookeeper_users": {}}}


def test_brokers_are_a_cluster_over_the_ensemble() -> None:
    some = bus(kafka_node_id=9, kafka_port=9999)
    for name in ALL["kafka"]:
        some[name]["zookeeper_users"] = {"kafka": "word"}
    told = cluster_settings(ALL, some, "three")
    assert told["kafka_brokers"] == [
        {"id": 1, "host": "10.0.0.1"},
        {"id": 9, "host": "10.0.0.2"},
        {"id": 3, "host": "10.0.0.3"},
    ]
    folder = "/etc/switchboard/certificates/peers"
    assert (told["kafka_node_id"], told["kafka_address"]) == (3, "10.0.0.3")
    assert told["kafka_authentication"]
    assert told["kafka_tls_ca"] == f"{folder}/kafka/ca.pem"
    assert told["kafka_zookeeper_connect"] == "10.0.0.1:2281,10.0.0.2:2281,10.0.0.3:2281"
    assert told["kafka_zookeeper_tls_keystore"] == f"{folder}/kafka/keystore.pem"
    assert (told["kafka_zookeeper_user"], told["kafka_zookeeper_password"]) == ("kafka", "word")
    web = cluster_settings(ALL, some, "four")
    assert web["switchboard_kafka"] == "10.0.0.1:9092,10.0.0.2:9999,10.0.0.3:9092"
    assert (web["kafka_tls_ca"], web["kafka_brokers"]) == (f"{folder}/ca.pem", [])
    assert web["kafka_authentication"]


def test_servers_of_zookeeper_ask_kafka_for_a_password_unless_the_inventory_has_users() -> None:
    some = bus()
    for name in ALL["kafka"]:
        told = cluster_settings(ALL, some, name)
        assert (told["zookeeper_asks"], told["kafka_zookeeper_user"]) == (True, "kafka")
    assert not cluster_settings(ALL, some, "four")["zookeeper_asks"]  # a web host has no need of it
    not_by_itself: list[dict[str, Any]] = [
        {"zookeeper_users": {}},
        {"kafka_zookeeper_user": "lab"},
        {"kafka_authentication": False},
    ]
    for given in not_by_itself:
        assert not cluster_settings(ALL, bus(**given), "one")["zookeeper_asks"], given
    for groups in ({"zookeeper": ALL["kafka"]}, {"kafka": ["one"], "zookeeper": ["one"]}):
        assert not cluster_settings(groups, some, "one")["zookeeper_asks"], groups
    # a broker without an address asks the server of its own host, and has no log-in
    lone = bus()
    del lone["one"]["switchboard_address"]
    assert not cluster_settings(ALL, lone, "two")["zookeeper_asks"]


def test_a_broker_is_a_client_of_servers_on_other_hosts() -> None:
    groups = {"zookeeper": ["two", "three"], "kafka": ["one"], "web": ["one"]}
    told = cluster_settings(groups, bus(), "one")
    assert told["kafka_zookeeper_connect"] == "10.0.0.2:2281,10.0.0.3:2281"
    assert told["kafka_zookeeper_tls_keystore"].endswith("/peers/kafka/keystore.pem")
    assert (told["zookeeper_asks"], told["kafka_zookeeper_user"]) == (True, "kafka")


def test_brokers_do_not_ask_servers_of_two_ensembles() -> None:
    some = bus(zookeeper_servers=[{"id": 1, "host": "10.0.0.2"}])
    told = kafka_zookeeper_fault(ALL, some, "10.0.0.1:2281,10.0.0.2:2281", "kafka", "word")
    assert told.endswith("are servers of several ensembles, which know nothing of one another")
    assert kafka_zookeeper_fault(ALL, some, "10.0.0.2:2281", "kafka", "word") == ""


def test_one_broker_is_reached_by_pages_on_another_host() -> None:
    groups = {"zookeeper": ["one"], "kafka": ["one"], "web": ["four"]}
    some = bus()
    told = cluster_settings(groups, some, "one")
    assert told["kafka_brokers"] == [{"id": 1, "host": "10.0.0.1"}]
    assert told["kafka_zookeeper_connect"] == "127.0.0.1:2181"
    assert [peer["name"] for peer in told["certificates_peers"]] == ["kafka"]
    assert cluster_settings(groups, some, "four")["switchboard_kafka"] == "10.0.0.1:9092"


def test_a_broker_beside_its_pages_is_alone() -> None:
    groups = {"zookeeper": ["one"], "kafka": ["one"], "web": ["one"]}
    told = cluster_settings(groups, bus(), "one")
    assert (told["kafka_brokers"], told["kafka_authentication"]) == ([], True)
    assert (told["kafka_tls_ca"], told["certificates_peers"]) == ("", [])
    assert told["switchboard_kafka"] == told["kafka_address"] + ":9092" == "127.0.0.1:9092"


def test_a_broker_asks_who_comes_unless_the_inventory_says_otherwise() -> None:
    groups = {"kafka": ["one"], "web": ["one", "two"]}
    some: dict[str, Any] = {"one": {}, "two": {}}
    assert cluster_settings(groups, some, "one")["kafka_authentication"]
    # a broker that it does not reach is none of its sites': theirs is one that the inventory does not know
    assert not cluster_settings(groups, some, "two")["kafka_authentication"]
    some["one"]["kafka_authentication"] = False
    assert cluster_settings(groups, some, "one")["kafka_authentication"] is False


def test_a_database_host_lets_the_web_hosts_of_its_sites_in() -> None:
    sites = {"lab": {"database": "postgresql"}}
    names = {"web1": "10.0.0.11", "web2": "10.0.0.12", "db1": "10.0.0.15"}
    some: dict[str, Any] = {
        name: {"switchboard_address": address, "sites": sites} for name, address in names.items()
    }
    groups = {"web": ["web1", "web2"], "database": ["db1"]}
    told = cluster_settings(groups, some, "db1")
    assert told["certificates_peers"] == [
        {"name": "postgresql", "group": "postgres", "names": ["10.0.0.15", "db1"]}
    ]
    assert told["postgresql_address"] == "10.0.0.15"
    assert told["postgresql_clients"] == ["10.0.0.11", "10.0.0.12"]
    folder = "/etc/switchboard/certificates/peers/postgresql"
    assert told["postgresql_tls_key"] == f"{folder}/privkey.pem"
    assert cluster_settings(groups, some, "web1")["certificates_peers_ca"]
    assert cluster_settings(groups, some, "web1")["postgresql_address"] == ""
    some["db1"] |= {"postgresql_clients": ["10.0.0.0/24"]}
    assert cluster_settings(groups, some, "db1")["postgresql_clients"] == ["10.0.0.0/24"]
    for one in some.values():
        one["sites"] = {"lab": {}}
    assert cluster_settings(groups, some, "db1")["certificates_peers"] == []


def test_kafka_is_let_in_by_the_servers_that_it_asks() -> None:
    some = bus(zookeeper_users={"kafka": "s3cr3t", "tests": "other"})
    where = "10.0.0.1:2281,10.0.0.2:2281"
    assert kafka_zookeeper_fault(ALL, some, where, "kafka", "s3cr3t") == ""
    assert kafka_zookeeper_fault(ALL, some, "10.0.0.1:2281,10.9.9.9:2281", "", "") == ""
    for user, password, told in (
        ("kafka", "another", "zookeeper_users of two has another password for kafka"),
        ("lab", "s3cr3t", "zookeeper_users of two has no lab"),
        ("", "", "zookeeper_users of two lets kafka, tests in and nobody else"),
    ):
        fault = kafka_zookeeper_fault(ALL, some, where, user, password)
        assert fault.startswith(told)
        assert "s3cr3t" not in fault
