"""How a broker listens and knows who asks, and what of that is refused before anything is changed."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.filter.kafka import (
    kafka_jaas,
    kafka_listeners,
    kafka_login,
    kafka_places,
    kafka_security,
    kafka_security_rules,
    loopback,
)

WORD, OTHER = "a-password-of-the-broker", "a-password-of-the-site"
TLS = {
    "tls_certificate": "/etc/x/fullchain.pem",
    "tls_key": "/etc/x/privkey.pem",
    "tls_ca": "/etc/y/ca.pem",
}


def settings(**changed: Any) -> dict[str, Any]:
    base = {
        **{"mode": "zookeeper", "address": "127.0.0.1", "advertised_address": "127.0.0.1"},
        **{"port": "9092", "listeners": [], "authentication": False, "users": []},
        **{"controller_port": "9093", "node_id": "1", "brokers": []},
        **{"broker_user": "broker", "broker_password": ""},
        **dict.fromkeys(TLS, ""),
        **{"zookeeper_user": "", "zookeeper_password": "", "zookeeper_tls_keystore": ""},
    }
    return {**base, **changed}


def asking(**changed: Any) -> dict[str, Any]:
    return settings(authentication=True, broker_password=WORD, **changed)


def refused(**changed: Any) -> list[tuple[str, str]]:
    rules = kafka_security_rules(asking(**changed))
    assert WORD not in str(rules)
    assert OTHER not in str(rules)
    return [(rule["variable"], rule["why"]) for rule in rules]


def test_a_broker_that_asks_nobody_is_as_it_always_was() -> None:
    lines = kafka_security(settings())
    assert lines == {
        "listeners": ["PLAINTEXT://127.0.0.1:9092"],
        "advertised.listeners": ["PLAINTEXT://127.0.0.1:9092"],
    }
    assert kafka_jaas(settings()) == ""
    assert kafka_security_rules(settings(address="0.0.0.0")) == []


@pytest.mark.parametrize(
    ("mode", "authorizer"), [("zookeeper", "AclAuthorizer"), ("kraft", "StandardAuthorizer")]
)
def test_a_broker_that_asks_lets_nobody_do_what_no_acl_allows(mode: str, authorizer: str) -> None:
    lines = kafka_security(asking(mode=mode))
    assert lines["listeners"][0] == "SASL_PLAINTEXT://127.0.0.1:9092"
    assert lines["inter.broker.listener.name"] == "SASL_PLAINTEXT"
    assert lines["allow.everyone.if.no.acl.found"] is False
    assert lines["super.users"] == "User:broker"
    assert lines["authorizer.class.name"].endswith(f".{authorizer}")


def test_with_a_certificate_it_speaks_tls_and_leaves_the_key_where_it_is() -> None:
    lines = kafka_security(asking(address="10.0.0.1", advertised_address="k1", **TLS))
    assert lines["listeners"] == ["SASL_SSL://10.0.0.1:9092"]
    assert lines["advertised.listeners"] == ["SASL_SSL://k1:9092"]
    assert lines["ssl.keystore.key"] == "${directory:/etc/x:privkey.pem}"
    assert lines["ssl.truststore.certificates"] == "${directory:/etc/y:ca.pem}"
    assert kafka_security(settings(**TLS))["listeners"] == ["SSL://127.0.0.1:9092"]
    assert kafka_login(asking(**TLS))["ssl.truststore.location"] == "/etc/y/ca.pem"


def test_zookeeper_is_asked_over_tls_where_its_client_has_a_certificate() -> None:
    lines = kafka_security(settings(**TLS, zookeeper_tls_keystore="/etc/x/keystore.pem"))
    assert lines["zookeeper.ssl.client.enable"] is True
    assert lines["zookeeper.ssl.keystore.location"] == "/etc/x/keystore.pem"
    assert lines["zookeeper.ssl.truststore.location"] == "/etc/y/ca.pem"
    assert not any("password" in key for key in lines)


def test_another_listener_may_ask_nobody_on_loopback() -> None:
    local = {"name": "LOCAL", "address": "127.0.0.1", "port": 9192, "authentication": False}
    found = kafka_listeners(asking(listeners=[local]))
    assert [(one["name"], one["protocol"]) for one in found] == [
        ("SASL_PLAINTEXT", "SASL_PLAINTEXT"),
        ("LOCAL", "PLAINTEXT"),
    ]
    assert refused(listeners=[local]) == []
    (fault,) = refused(listeners=[{**local, "address": "10.0.0.1"}])
    assert fault == ("kafka_listeners", "who comes from outside would be asked for no password.")
    (fault,) = refused(listeners=[{**local, "port": 9092}])
    assert fault == ("kafka_listeners", "two listeners have this port.")


def test_passwords_stand_in_the_file_of_jaas_alone() -> None:
    given = asking(zookeeper_user="kafka", zookeeper_password=OTHER, users=[{"name": "lab"}])
    assert WORD not in str(kafka_security(given))
    assert OTHER not in str(kafka_security(given))
    text = kafka_jaas(given)
    assert f'username="broker" password="{WORD}" user_broker="{WORD}";' in text
    assert f'username="kafka" password="{OTHER}";' in text
    assert kafka_security(given)["zookeeper.set.acl"] is True
    assert f'password="{WORD}"' in kafka_login(given)["sasl.jaas.config"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"broker_password": ""}, ("kafka_broker_password", "without a password")),
        ({"broker_password": "short"}, ("kafka_broker_password", "shorter than 12")),
        ({"broker_password": 'a"quotation-mark'}, ("kafka_broker_password", "shorter than 12")),
        ({"broker_user": "the broker"}, ("kafka_broker_user", "no name")),
        ({"address": "10.0.0.1"}, ("kafka_address", "without TLS")),
        ({"tls_key": "/k"}, ("kafka_tls_certificate", "kafka_tls_certificate, kafka_tls_ca is")),
        ({"zookeeper_tls_keystore": "/k"}, ("kafka_zookeeper_tls_keystore", "kafka_tls_ca is")),
        ({"zookeeper_user": "kafka"}, ("kafka_zookeeper_password", "without a password")),
        ({"users": [{"name": "broker"}]}, ("kafka_users", "may do everything")),
        ({"users": [{"name": "a"}, {"name": "a"}]}, ("kafka_users", "declared twice")),
        ({"users": [{"name": "a", "password": "é" * 12}]}, ("kafka_users.a.password", "ASCII")),
        ({"users": [{"name": "a", "topics": ["*.b"]}]}, ("kafka_users.a.topics", "neither")),
        ({"users": [{"name": "a", "quotas": {"x": 1}}]}, ("kafka_users.a.quotas", "no such")),
    ],
)
def test_what_cannot_work_is_refused(changed: dict[str, Any], said: tuple[str, str]) -> None:
    rules = kafka_security_rules({**asking(), **changed})
    assert [rule["variable"] for rule in rules] == [said[0]]
    assert said[1] in rules[0]["why"]
    assert rules[0]["remedy"]


def test_users_of_a_broker_that_asks_nobody_are_refused() -> None:
    (rule,) = kafka_security_rules(settings(users=[{"name": "lab", "password": OTHER}]))
    assert (rule["variable"], rule["value"]) == ("kafka_users", "lab")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_loopback(address: str) -> None:
    assert loopback(address)
    assert not loopback("10.0.0.1")
    assert not loopback("0.0.0.0")
    assert not loopback("kafka.example.org")


def test_a_broker_without_zookeeper_is_a_controller_too() -> None:
    lines = kafka_security(settings(mode="kraft"))
    assert lines["process.roles"] == ["broker", "controller"]
    assert lines["listeners"] == ["PLAINTEXT://127.0.0.1:9092", "CONTROLLER://127.0.0.1:9093"]
    assert lines["advertised.listeners"] == ["PLAINTEXT://127.0.0.1:9092"]
    assert lines["listener.security.protocol.map"] == [
        "PLAINTEXT:PLAINTEXT",
        "CONTROLLER:PLAINTEXT",
    ]
    assert lines["controller.quorum.bootstrap.servers"] == ["127.0.0.1:9093"]
    named = settings(mode="kraft", advertised_address="k1", address="10.0.0.1", node_id=4, **TLS)
    lines = kafka_security(named)
    assert lines["controller.quorum.bootstrap.servers"] == ["k1:9093"]
    assert "CONTROLLER://k1:9093" in lines["advertised.listeners"]
    lines = kafka_security({**named, "fixed": True})
    assert lines["controller.quorum.voters"] == ["4@k1:9093"]
    assert "controller.quorum.bootstrap.servers" not in lines
    assert "CONTROLLER" not in str(lines["advertised.listeners"])
    assert kafka_places(settings(mode="zookeeper")) == []


def test_controllers_know_one_another_by_tls_and_the_brokers_own_password() -> None:
    brokers = [{"id": 1, "host": "10.0.0.1"}, {"id": 2, "host": "fd00::2"}]
    lines = kafka_security(asking(mode="kraft", brokers=brokers, address="10.0.0.1", **TLS))
    assert lines["controller.quorum.bootstrap.servers"] == ["10.0.0.1:9093", "[fd00::2]:9093"]
    assert "CONTROLLER:SASL_SSL" in lines["listener.security.protocol.map"]
    assert lines["sasl.mechanism.controller.protocol"] == "PLAIN"
    assert lines["listener.name.controller.sasl.enabled.mechanisms"] == "PLAIN"
    assert WORD not in str(lines)


def test_the_controllers_port_is_no_other_listeners() -> None:
    (fault,) = refused(mode="kraft", controller_port=9092)
    assert fault == ("kafka_listeners", "two listeners have this port.")
    assert refused(mode="kraft") == []
