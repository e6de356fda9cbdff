"""The apache role's filters: how the MPM is sized, what preflight refuses, what goes into a rule."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from plugins.filter.apache import (
    apache_from_proxy,
    apache_log,
    apache_log_format,
    apache_mpm,
    apache_path_pattern,
    apache_prefixes,
    apache_rules,
    apache_websocket_sources,
)
from plugins.filter.apache_sites import apache_site_rules

FACTS = {
    "distribution": "Debian",
    "distribution_version": "13.5",
    "distribution_major_version": "13",
    "memtotal_mb": 2000,
}
SETTINGS: dict[str, Any] = {
    "apache_http_port": 80,
    "apache_https_port": 443,
    "apache_listen_address": "",
    "apache_max_http_workers": 150,
    "apache_threads_per_child": 512,
    "apache_old_generations": 3,
    "apache_memory_percent": 50,
    "apache_trusted_proxies": [],
    "apache_balanced": False,
    "apache_balanced_certificate": "",
    "apache_balanced_key": "",
    "apache_max_connections_per_address": 300,
    "apache_max_websockets_per_address": 100,
    "apache_http2_stream_timeout": 10,
    "apache_request_read_timeout": "handshake=5 header=5-20,MinRate=500 body=10,MinRate=500",
    "apache_limit_request_line": 8190,
    "apache_limit_request_field_size": 8190,
    "apache_limit_request_fields": 100,
    "apache_status_port": 8079,
    "apache_log_days": 14,
    "apache_error_messages": {404: "There is no such page.", 503: "Later, s'il vous pla&icirc;t."},
}
SITE: dict[str, Any] = {
    "name": "lab",
    "server_name": "lab.example.org",
    "server_aliases": [],
    "websocket_paths": ["/ws/"],
    "websocket_origins": [],
    "websocket_mode": "rewrite",
    "max_websockets": 1000,
    "http2": True,
    "websocket_backend": "127.0.0.1:9099",
    "websocket_ping_interval": 20,
    "websocket_timeout": 60,
    "websocket_connect_timeout": 5,
    "wsgi_script": "/srv/lab/current/wsgi.py",
    "wsgi_python_home": "/srv/lab/current/venv",
    "wsgi_home": "/srv/lab",
    "wsgi_user": "lab",
    "wsgi_group": "lab",
    "wsgi_umask": "0027",
    "headers_dropped": ["Forwarded"],
    "wsgi_write_paths": ["/srv/lab/data"],
    "wsgi_processes": 2,
    "wsgi_threads": 15,
    "wsgi_queue_timeout": 45,
    "wsgi_request_timeout": 60,
    "wsgi_deadlock_timeout": 60,
    "wsgi_graceful_timeout": 15,
    "wsgi_shutdown_timeout": 5,
    "static_url": "/static/",
    "static_root": "/srv/lab/current/static",
    "media_url": "",
    "media_root": "/srv/lab/data/media",
    "static_hashed": r"\.[0-9a-f]{8,64}\.[0-9a-z]+$",
    "maintenance_dir": "/var/lib/switchboard/maintenance",
    "maintenance_exempt": ["/healthz"],
    "retry_after": 30,
    "security_headers": {"Content-Security-Policy": "default-src 'self'; connect-src {websockets}"},
    "tls": False,
    "tls_certificate": "/etc/switchboard/certificates/lab/fullchain.pem",
    "tls_key": "/etc/switchboard/certificates/lab/privkey.pem",
    "acme_webroot": "/var/lib/switchboard/acme",
    "hsts_max_age": 300,
    "limit_request_body": 26214400,
}


def test_defaults_hold_a_thousand_sockets_and_the_pages_beside_them() -> None:
    size = apache_mpm(512, 1000, 150, old_generations=3)
    assert size["children"] == 3
    assert size["max_request_workers"] == 1536
    assert size["server_limit"] == 12
    assert size["thread_limit"] == 512
    assert size["open_files"] == 8192
    # twice 1000 sockets of 136 KiB, 150 requests of 80 KiB, three children and nine old ones
    assert size["memory_mib"] == 326


@pytest.mark.parametrize("threads", [1, 7, 25, 64, 512, 4096])
@pytest.mark.parametrize("sockets", [0, 1, 149, 1000, 20000])
@pytest.mark.parametrize("pages", [1, 64, 150])
@pytest.mark.parametrize("generations", [0, 3])
def test_every_size_is_one_that_apache_takes(
    threads: int, sockets: int, pages: int, generations: int
) -> None:
    size = apache_mpm(threads, sockets, pages, generations)
    assert size["max_request_workers"] >= sockets + pages
    assert size["max_request_workers"] % size["threads_per_child"] == 0
    assert size["threads_per_child"] <= size["thread_limit"]
    assert size["children"] * (1 + generations) == size["server_limit"]
    assert size["max_request_workers"] <= size["server_limit"] * size["threads_per_child"]
    assert size["open_files"] > 2 * size["threads_per_child"]
    assert size["tasks"] > size["max_request_workers"]


def test_wsgi_threads_are_tasks_of_the_same_unit() -> None:
    assert apache_mpm(512, 0, 1, 0, 100)["tasks"] - apache_mpm(512, 0, 1, 0, 0)["tasks"] == 100


def test_path_pattern_matches_the_paths_and_nothing_else() -> None:
    pattern = apache_path_pattern(["/ws/", "/live.v1/"])
    assert re.match(pattern, "/ws/x")
    assert re.match(pattern, "/live.v1/x")
    assert not re.match(pattern, "/livexv1/x")
    assert not re.match(pattern, "/wsx/")
    assert apache_path_pattern(["/ws/"]) == "/ws/"


def test_proxies_are_compared_with_the_peer_itself() -> None:
    assert apache_from_proxy(["10.0.0.1", "10.1.0.0/16"]) == (
        "%{CONN_REMOTE_ADDR} -ipmatch '10.0.0.1' || %{CONN_REMOTE_ADDR} -ipmatch '10.1.0.0/16'"
    )


def test_a_line_of_the_log_is_json() -> None:
    """What stands for a word of mod_log_config is a number where it is one, and a text elsewhere."""
    line = (
        apache_log_format("x").removeprefix('LogFormat "').removesuffix('" x').replace('\\"', '"')
    )
    for word in ("%>s", "%I", "%O", "%D"):
        line = line.replace(f":{word},", ":7,")
    entry = json.loads(line)
    assert entry["status"] == entry["microseconds"] == 7
    assert entry["request_id"] == "%{UNIQUE_ID}e"


def test_a_log_has_a_file_for_each_day_and_a_name_for_todays() -> None:
    command = apache_log("lab", "access.json")
    assert command.startswith("|/usr/bin/rotatelogs ")
    assert "-L /var/log/apache2/lab/access.json " in command
    assert "/var/log/apache2/lab/access-%Y%m%d.json" in command


@pytest.mark.parametrize(
    ("network", "prefixes"),
    [
        ("10.0.0.5", ["10.0.0.5"]),
        ("10.1.0.0/16", ["10.1."]),
        ("10.2.0.0/15", ["10.2.", "10.3."]),
        ("10.0.0.0/31", ["10.0.0.0", "10.0.0.1"]),
        ("fd00::/32", ["fd00:0:"]),
        ("::1", ["::1"]),
    ],
)
def test_proxies_are_exempt_as_mod_qos_writes_them(network: str, prefixes: list[str]) -> None:
    assert apache_prefixes([network]) == prefixes


@pytest.mark.parametrize(
    ("scheme", "port", "sources"),
    [
        ("ws", 80, "ws://lab.example.org ws://lab"),
        ("wss", 443, "wss://lab.example.org wss://lab"),
        ("wss", 8443, "wss://lab.example.org:8443 wss://lab:8443"),
    ],
)
def test_a_policy_names_the_sockets_of_each_name(scheme: str, port: int, sources: str) -> None:
    site = {**SITE, "server_aliases": ["lab"]}
    assert apache_websocket_sources("connect-src {websockets}", site, scheme, port) == (
        f"connect-src {sources}"
    )
    assert apache_websocket_sources("{websockets}", {**site, "websocket_paths": []}, "ws", 80) == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_websockets", 0),
        ("maintenance_dir", "flags"),
        ("maintenance_exempt", ["healthz"]),
        ("retry_after", 0),
        ("static_hashed", "("),
        ("static_hashed", 'a"b'),
        ("static_hashed", "${HOME}"),
        ("security_headers", {"X-A": 'say "yes"'}),
        ("security_headers", {"X A": "b"}),
    ],
)
def test_what_a_site_says_is_refused_where_apache_could_not_say_it(key: str, value: Any) -> None:
    assert any(key in rule["variable"] for rule in broken({key: value}))


def test_memory_is_laid_out_for_the_sockets_of_all_sites() -> None:
    other = {**SITE, "name": "shop", "server_name": "shop.example.org", "max_websockets": 2500}
    (rule,) = broken(sites=[other])
    assert rule["variable"] == "apache_max_websockets"
    assert rule["value"] == 3500
    assert broken(sites=[{**other, "websocket_paths": []}]) == []


def broken(
    site: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
    sites: list[dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    all_sites = [{**SITE, **(site or {})}, *(sites or [])]
    whole = {**SETTINGS, **(settings or {})}
    rules = apache_rules(all_sites, whole, {**FACTS, **(facts or {})})
    return rules + apache_site_rules(all_sites, whole["apache_error_messages"])


def test_the_defaults_are_fine() -> None:
    assert broken() == []


def test_each_refusal_says_what_to_do() -> None:
    rules = broken({"server_name": ""}, {"apache_http_port": 0})
    assert len(rules) == 2
    for rule in rules:
        assert set(rule) == {"variable", "value", "why", "remedy"}
        assert rule["why"].endswith(".")
        assert rule["remedy"].endswith(".")
        assert rule["remedy"][0].isupper()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("server_name", ""),
        ("server_name", "lab.example.org\n"),
        ("server_name", "http://lab.example.org"),
        ("server_name", "lab.example.org:8080"),
        ("server_name", "*.example.org"),
        ("server_aliases", ["two words"]),
        ("websocket_paths", ["/"]),
        ("websocket_paths", ["ws/"]),
        ("websocket_paths", ["/ws"]),
        ("websocket_paths", ["/w s/"]),
        ("websocket_paths", ["/ws/\n"]),
        ("websocket_paths", ["/ws(/"]),
        ("websocket_paths", ["/static/"]),
        ("websocket_paths", ["/static/live/"]),
        ("websocket_origins", ["lab.example.org"]),
        ("websocket_origins", ["https://lab.example.org/"]),
        ("websocket_origins", ["*"]),
        ("websocket_backend", "127.0.0.1"),
        ("websocket_backend", "127.0.0.1:0"),
        ("websocket_backend", "127.0.0.1:70000"),
        ("websocket_timeout", 40),
        ("websocket_connect_timeout", 0),
        ("websocket_ping_interval", 0),
        ("wsgi_script", "wsgi.py"),
        ("wsgi_python_home", '/srv/"x"'),
        ("wsgi_home", ""),
        ("wsgi_user", "a b"),
        ("wsgi_group", ""),
        ("wsgi_umask", "0o27"),
        ("wsgi_umask", "0888"),
        ("headers_dropped", ["X Forwarded"]),
        ("headers_dropped", ["x-forwarded-for"]),
        ("wsgi_write_paths", ["data"]),
        ("wsgi_write_paths", ["/srv/lab/data", "/home/lab"]),
        ("static_root", "/tmp/static"),
        ("maintenance_dir", "/root"),
        ("wsgi_processes", 0),
        ("wsgi_threads", 0),
        ("wsgi_queue_timeout", 0),
        ("wsgi_request_timeout", -1),
        ("limit_request_body", 0),
        ("static_url", "static"),
        ("static_url", "/"),
        ("static_root", "static"),
        ("media_url", "media/"),
        ("media_root", "/home/lab/media"),
    ],
)
def test_a_site_that_cannot_work_is_refused(key: str, value: Any) -> None:
    rules = broken({key: value})
    assert rules, f"{key} = {value!r} was taken"
    assert any(key in rule["variable"] and "lab" in rule["variable"] for rule in rules), rules


@pytest.mark.parametrize(
    ("url", "root", "variable", "said"),
    [
        ("/media/", "/srv/lab/data", "media_root", "/srv/lab/data lies in it"),
        ("/media/", "/srv/", "media_root", "/srv/lab/current/wsgi.py lies in it"),
        ("/static/up/", "/srv/lab/data/media", "media_url", "overlaps with static_url, /static/."),
        ("/ws/up/", "/srv/lab/data/media", "websocket_paths", "overlaps with media_url, /ws/up/."),
    ],
)
def test_uploaded_files_that_would_show_more_are_refused(
    url: str, root: str, variable: str, said: str
) -> None:
    rules = broken({"media_url": url, "media_root": root})
    assert [rule for rule in rules if variable in rule["variable"] and said in rule["why"]], rules
    assert broken({"media_url": "/media/", "media_root": "/srv/lab/data/media"}) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("apache_http_port", 65536),
        ("apache_listen_address", "everywhere"),
        ("apache_trusted_proxies", ["proxy.example.org"]),
        ("apache_trusted_proxies", ["10.0.0.1/8"]),
        ("apache_max_websockets_per_address", 0),
        ("apache_max_connections_per_address", 0),
        ("apache_limit_request_fields", 1),
        ("apache_status_port", 65536),
        ("apache_log_days", 0),
        ("apache_request_read_timeout", "header=soon"),
        ("apache_http2_stream_timeout", 0),
        ("apache_error_messages", {503: 'say "later"'}),
        ("apache_error_messages", {200: "all is well"}),
        ("apache_error_messages", {503: "${SECRET}"}),
        ("apache_max_http_workers", 0),
        ("apache_threads_per_child", 0),
        ("apache_threads_per_child", 20001),
        ("apache_old_generations", -1),
        ("apache_memory_percent", 101),
        ("apache_balanced_key", "/k.pem"),
    ],
)
def test_a_host_setting_that_cannot_work_is_refused(key: str, value: Any) -> None:
    assert key in [rule["variable"] for rule in broken(settings={key: value})]


@pytest.mark.parametrize("site", [{"tls": True}, {"websocket_mode": "seed"}])
def test_a_certificate_for_balancers_is_for_sites_that_they_lead_visitors_to(
    site: dict[str, Any],
) -> None:
    known = {"apache_balanced_certificate": "/c.pem", "apache_balanced_key": "/k.pem"}
    assert broken(settings=known) == []
    assert broken(site) == []
    (rule,) = broken(site, known)
    assert rule["variable"] == "apache_balanced_certificate"


def test_without_websockets_their_settings_do_not_matter() -> None:
    assert broken({"websocket_paths": [], "websocket_backend": "", "websocket_timeout": 1}) == []


@pytest.mark.parametrize("release", ["11", "14"])
def test_another_debian_is_refused(release: str) -> None:
    rules = broken(facts={"distribution_major_version": release})
    assert [rule["variable"] for rule in rules] == ["ansible_distribution"]


def test_another_distribution_is_refused() -> None:
    assert broken(facts={"distribution": "Ubuntu", "distribution_major_version": "13"})


def test_what_memory_cannot_hold_is_refused_with_a_number_that_it_can() -> None:
    (rule,) = broken({"max_websockets": 20000})
    assert rule["variable"] == "apache_max_websockets"
    assert rule["value"] == 20000
    assert "2000 MiB" in rule["why"]
    fitting = int(re.findall(r"at most (\d+)", rule["remedy"])[0])
    assert 2800 < fitting < 3600
    assert broken({"max_websockets": fitting}) == []


def test_two_sites_with_one_name_are_refused() -> None:
    other = {**SITE, "name": "shop", "server_name": "shop.example.org"}
    assert broken(sites=[other]) == []
    (rule,) = broken(sites=[{**other, "server_aliases": ["LAB.example.org"]}])
    assert "shop" in rule["variable"]
    assert "lab" in rule["why"]


def test_a_wildcard_that_takes_the_name_of_a_later_site_is_refused() -> None:
    def found(name: str, *aliases: str) -> list[dict[str, Any]]:
        shop = {**SITE, "name": name, "server_name": "shop.example.org"}
        others = [{**shop, "server_aliases": list(aliases)}]
        return broken({"server_aliases": ["*.Example.org"]}, sites=others)

    # Apache reads a-b.conf before a.conf, and lab.conf before shop.conf
    assert found("amazing") == found("lab-2") == []
    (rule,) = found("shop")
    assert rule["variable"] == "apache_server_aliases of site lab"
    assert rule["value"] == "*.Example.org"
    assert "shop.example.org of site shop" in rule["why"]
    assert len(found("shop", "*.deep.example.org", "example.org", "shop.example.com")) == 2


def test_the_published_rules_beside_others_are_refused() -> None:
    other = {**SITE, "name": "shop", "server_name": "shop.example.org"}
    (rule,) = broken({"websocket_mode": "seed"}, sites=[other])
    assert rule["variable"] == "apache_websocket_mode of site lab"
    assert broken({"websocket_mode": "seed"}, sites=[{**other, "websocket_paths": []}]) == []
