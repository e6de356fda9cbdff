"""The rules of the loadbalancer role, and its texts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins.filter.loadbalancer import (
    loadbalancer_keys,
    loadbalancer_names,
    loadbalancer_pages,
    loadbalancer_rules,
)
from plugins.filter.rendered import rendered
from tests.unit.test_site_settings import plugin

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
PRIVATE: dict[str, Any] = yaml.safe_load(
    (ROOT / "roles" / "loadbalancer" / "vars" / "main.yml").read_text(encoding="utf-8")
)
states = plugin("../roles/loadbalancer/files/haproxy_states.py")
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
        ("metrics_port", 65536),
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
        ("servers", [{"name": "web:1", "address": "10.0.0.1:443", "tls": True}]),
        ("server_name", "lab example.org"),
        ("server_name", "*.example.org"),
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


def test_a_name_is_its_sites_own_though_a_wildcard_matches_it() -> None:
    wide = SITE | {"name": "wide", "server_aliases": ["*.Example.org", "www.example.com"]}
    deep = SITE | {
        "name": "deep",
        "server_name": "a.lab.example.org",
        "server_aliases": ["*.lab.example.org"],
    }
    shop = SITE | {"name": "shop", "server_name": "SHOP.lab.example.org"}
    names = loadbalancer_names([deep, wide, shop])
    assert loadbalancer_names([shop, wide, deep])[:2] == names[:2]

    def leads_to(asked: str) -> str:
        found = [
            site
            for how, name, site in names
            if (asked.endswith if how == "end" else asked.__eq__)(name)
        ]
        return found[-1] if found else ""

    assert leads_to("shop.lab.example.org") == "shop"
    assert leads_to("b.lab.example.org") == leads_to("a.lab.example.org") == "deep"
    assert leads_to("x.example.org") == leads_to("lab.example.org") == "wide"
    assert leads_to("example.org") == ""


def test_another_distribution_is_refused() -> None:
    (rule,) = loadbalancer_rules([SITE], DEFAULTS, FACTS | {"distribution": "Ubuntu"})
    assert rule["variable"] == "ansible_distribution"


def test_a_page_is_one_word_of_the_configuration() -> None:
    page = loadbalancer_pages({"503": "Later, s'il vous plaît <soon>.\n"})[503]
    assert page[0] == page[-1] == "'"
    assert r"s'\''il" in page
    assert "&lt;soon&gt;" in page
    assert "\n" not in page


def test_a_web_host_is_known_by_its_certificate_where_it_is_asked_by_tls() -> None:
    servers = [SITE["servers"][0], {"name": "two", "address": "10.0.0.2:443", "tls": True}]
    values = {
        "sites": [SITE | {"servers": servers}],
        "names": [],
        "host": DEFAULTS,
        "pages": {},
        "socket": "s",
        "states": "f",
    }
    text = rendered(values, "loadbalancer/haproxy.cfg.j2")
    known = "ssl verify required verifyhost two ca-file " + DEFAULTS["servers_ca"]
    for_both = ["    server one 10.0.0.1:80", f"    server two 10.0.0.2:443 {known}"]
    assert [line for line in text.splitlines() if line.startswith("    server ")] == for_both * 2


def test_a_key_is_found_beside_its_certificate() -> None:
    assert loadbalancer_keys([SITE | {"tls_certificate": "/c.pem", "tls_key": "/k.pem"}]) == [
        {"path": "/c.pem.key", "state": "link", "target": "/k.pem"}
    ]
    assert loadbalancer_keys([SITE | {"tls": False}]) == []


# -- what is taken out ---------------------------------------------------------------------------------

# of HAProxy 2.6, "show servers state"
SAID = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change
3 lab 1 one 10.0.0.1 2 0 1 1 4 6 3 4 6 0 0 0 - 80 - 0 0 - - 0
3 lab 2 two 10.0.0.2 0 1 1 1 3 17 2 0 14 0 0 0 - 80 - 0 0 - - 0
4 lab.sockets 1 one 10.0.0.1 2 8 1 1 4 6 3 4 6 0 0 0 - 80 - 0 0 - - 0
4 lab.sockets 2 gone 10.0.0.3 0 1 1 1 4 6 3 4 6 0 0 0 - 80 - 0 0 - - 0

"""
CONFIG = """backend lab
    balance roundrobin
    server one 10.0.0.1:80
    server two [fd00::2]:8080

backend lab.sockets
    server one 10.0.0.1:80
"""


def test_only_what_is_taken_out_is_noted_and_the_configuration_says_where_it_is() -> None:
    text = states.kept(SAID, states.ports_of(CONFIG))
    assert text == (
        "1\n"
        "3 lab 2 two - 0 1 1 1 3 17 2 0 14 0 0 0 - 8080 -\n"
        "4 lab.sockets 1 one - 2 8 1 1 4 6 3 4 6 0 0 0 - 80 -\n"
    )
    assert states.kept("1\n", {}) == "1\n"


def test_an_old_note_goes_where_haproxy_does_not_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, note = tmp_path / "haproxy.cfg", tmp_path / "servers.state"
    config.write_text(CONFIG)
    note.write_text(SAID)
    assert states.main(str(config), str(tmp_path / "admin.sock"), str(note)) == 1
    assert not note.exists()
    assert "admin.sock" in capsys.readouterr().err


def test_a_reload_checks_and_notes_before_it_signals() -> None:
    unit = PRIVATE["__loadbalancer_unit"]["Service"]
    first, check, save, signal, stamp = unit["ExecReload"]
    assert (first, signal) == ("", "/bin/kill -USR2 $MAINPID")
    assert " -c " in check
    assert save == unit["ExecStop"] == "{{ __loadbalancer_save }}"
    assert stamp == unit["ExecStartPost"]
    assert unit["RuntimeDirectoryPreserve"] == "restart"


def test_haproxy_takes_a_configuration_before_it_replaces_the_old_one() -> None:
    files = {file["path"]: file for file in PRIVATE["__loadbalancer_files"]}
    assert files["{{ __loadbalancer_config }}"]["validate"].split() == [
        "/usr/sbin/haproxy",
        "-c",
        "-q",
        "-f",
        "%s",
    ]


def test_no_site_can_have_the_name_of_a_condition() -> None:
    """HAProxy takes conditions of one name together: a site called `challenge` got all questions of ACME services."""
    text = (ROOT / "roles/loadbalancer/templates/haproxy.cfg.j2").read_text(encoding="utf-8")
    names = re.findall(r"^\s*acl (\S+)", text, re.M)
    assert "acme_challenge" in names
    assert [name for name in names if not name.startswith("{{") and "_" not in name] == []
