"""The rules of the loadbalancer role, and its texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins.filter.loadbalancer import loadbalancer_keys, loadbalancer_pages, loadbalancer_rules

ROOT = Path(__file__).resolve().parents[2]
FACTS = {
    "distribution": "Debian",
    "distribution_version": "13.5",
    "distribution_major_version": "13",
}
DEFAULTS = {
    key.removeprefix("loadbalancer_"): value
    for key, value in yaml.safe_load(
        (ROOT / "roles" / "loadbalancer" / "defaults" / "main.yml").read_text(encoding="utf-8")
    ).items()
}
SITE: dict[str, Any] = {
    **DEFAULTS,
    "name": "lab",
    "server_name": "lab.example.org",
    "servers": [
        {"name": "one", "address": "10.0.0.1:80"},
        {"name": "two", "address": "[fd00::2]:80"},
    ],
    "tls": True,
}


def broken(*sites: dict[str, Any], **host: Any) -> list[str]:
    """Return the variables that are refused."""
    return [
        rule["variable"] for rule in loadbalancer_rules(sites or [SITE], DEFAULTS | host, FACTS)
    ]


def test_the_defaults_with_two_hosts_are_not_refused() -> None:
    assert broken() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("http_port", 0),
        ("max_connections", 10),
        ("check_interval", 0),
        ("acme_port", 80),
        ("listen_address", "front"),
        ("error_messages", {418: "I am none."}),
    ],
)
def test_what_cannot_hold_for_the_host_is_refused(name: str, value: Any) -> None:
    assert broken(**{name: value}) == [f"loadbalancer_{name}"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("servers", []),
        ("servers", [{"name": "o ne", "address": "10.0.0.1:80"}]),
        ("servers", [{"name": "one", "address": "10.0.0.1"}]),
        ("servers", [SITE["servers"][0], SITE["servers"][0]]),
        ("server_name", "lab example.org"),
        ("health_path", "readyz"),
        ("health_path", "/'; stats enable"),
        ("websocket_health_path", "/ws/ü"),
        ("tls_stapling", True),
    ],
)
def test_what_cannot_hold_for_a_site_is_refused(name: str, value: Any) -> None:
    assert broken(SITE | {name: value}) == [f"loadbalancer_{name}"]


def test_sites_with_one_name_or_another_word_on_http2_are_refused() -> None:
    other = SITE | {"name": "shop"}
    assert broken(SITE, other) == ["loadbalancer_server_name"]
    assert broken(SITE, other | {"server_name": "shop.example.org", "http2": False}) == [
        "loadbalancer_http2"
    ]


def test_another_distribution_is_refused() -> None:
    (rule,) = loadbalancer_rules([SITE], DEFAULTS, FACTS | {"distribution": "Ubuntu"})
    assert rule["variable"] == "ansible_distribution"


def test_a_page_is_one_word_of_the_configuration() -> None:
    page = loadbalancer_pages({"503": "Later, s'il vous plaît <soon>.\n"})[503]
    assert page[0] == page[-1] == "'"
    assert r"s'\''il" in page
    assert "&lt;soon&gt;" in page
    assert "\n" not in page


def test_a_key_is_found_beside_its_certificate() -> None:
    assert loadbalancer_keys([SITE | {"tls_certificate": "/c.pem", "tls_key": "/k.pem"}]) == [
        {"path": "/c.pem.key", "state": "link", "target": "/k.pem"}
    ]
    assert loadbalancer_keys([SITE | {"tls": False}]) == []
