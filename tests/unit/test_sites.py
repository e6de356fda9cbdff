"""One entry of `sites` gives each role its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins.filter.site_faults import site_faults
from plugins.filter.sites import KEYS, options, site_lists, variables_of

ROOT = Path(__file__).resolve().parents[2]
# What follows from the rest, so that no entry names it.
DERIVED = {
    *("apache_acme_webroot", "apache_maintenance_dir", "apache_server_name"),
    *("apache_static_root", "apache_tls", "apache_tls_certificate"),
    *("apache_tls_key", "apache_websocket_backend", "apache_wsgi_group"),
    *("apache_wsgi_home", "apache_wsgi_python_home", "apache_wsgi_script"),
    *("apache_wsgi_user", "certificates_names", "daphne_address"),
    *("daphne_environment_files", "daphne_health_host", "daphne_project_path"),
    *("daphne_proxy_headers", "daphne_virtualenv", "django_kafka_topics"),
    *("django_maintenance_file", "django_restart_units", "django_service_ports"),
    *("apache_public_url", "loadbalancer_server_name", "loadbalancer_servers"),
    *("loadbalancer_tls", "loadbalancer_tls_certificate", "loadbalancer_tls_key"),
    *(
        "monitoring_forwarded_proto",
        "django_smoke_server",
        "django_smoke_socket",
        "django_smoke_url",
        "django_source",
    ),
}
LAB = {
    "domain": "lab.example.org",
    "aliases": ["lab"],
    "source": {"git": "https://git.example.org/lab.git", "version": "main"},
    "settings": "lab.settings",
    "asgi": "lab.asgi",
    "websockets": {"health": "/ws/x/", "instances": 2, "max": 500, "ping_interval": 7},
    "environment": {"HOSTS": "{hosts}", "DB": "{data}/{site}.db", "JSON": '{"a": {}}', "N": 3},
    "services": {"relay": {"command": "relay --port {port}", "port": 9464}, "clean": "clean"},
    "topics": {"owner": {"partitions": 3}, "group": None},
    "write_paths": ["{data}", "/srv/x"],
}
SHOP = {"domain": "shop.example.org", "source": {"directory": "demo"}, "settings": "shop.conf.live"}


def lists(host: dict[str, Any] | None = None, **sites: dict[str, Any]) -> dict[str, Any]:
    return site_lists(sites, host or {}, "127.0.0.1:9092")


def faults(host: dict[str, Any] | None = None, **sites: Any) -> list[str]:
    return site_faults(sites, host or {})


@pytest.mark.parametrize(
    ("cores", "processes", "threads"),
    [(1, None, None), (2, None, None), (3, 3, 10), (4, 3, 10), (5, 5, 6), (6, 6, 5), (64, 6, 5)],
)
def test_threads_are_spread_over_processes_as_the_cores_allow(
    cores: int, processes: int | None, threads: int | None
) -> None:
    found = lists({"cores": cores}, lab=LAB)
    (apache,), (monitoring,) = found["apache"], found["monitoring"]
    assert (apache.get("wsgi_processes"), apache.get("wsgi_threads")) == (processes, threads)
    # as many on any number of cores, and so are the database's connections
    assert monitoring["threads"] == 30


def test_threads_that_somebody_chose_stay_where_they_are() -> None:
    for host, pages in (
        ({}, {"processes": 4}),
        ({}, {"threads": 8}),
        ({"apache_wsgi_processes": 4}, {}),
        ({"apache_wsgi_threads": "8"}, {}),
    ):
        found = lists({"cores": 8, **host}, lab=LAB | {"pages": pages})
        (apache,), (monitoring,) = found["apache"], found["monitoring"]
        given = {key: apache.get(f"wsgi_{key}") for key in ("processes", "threads")}
        assert given == {"processes": None, "threads": None} | pages
        assert monitoring["threads"] == (60 if 4 in {*host.values(), *pages.values()} else 16)


def test_an_entry_becomes_what_each_role_is_told() -> None:
    found = lists(lab=LAB)
    (django,), (daphne,) = found["django"], found["daphne"]
    (certificates,), (apache,) = found["certificates"], found["apache"]
    assert {site["name"] for site in (django, daphne, certificates, apache)} == {"lab"}
    assert (django["source"], django["repository"]) == ("git", "https://git.example.org/lab.git")
    assert (django["wsgi_module"], django["asgi_module"]) == ("lab.wsgi", "lab.asgi")
    assert django["restart_units"] == ["daphne-lab@1.service", "daphne-lab@2.service"]
    assert (django["smoke_url"], django["smoke_server"]) == (
        "http://lab.example.org",
        "http://127.0.0.1:80",
    )
    assert django["smoke_socket"] == "/ws/x/"
    assert django["maintenance_file"] == "/var/lib/switchboard/maintenance/lab"
    assert django["kafka_topics"] == ["lab.owner", "lab.group"]
    assert django["services"] == {"relay": "relay --port 9464", "clean": "clean"}
    assert django["service_ports"] == {"relay": 9464}
    assert (daphne["port"], daphne["instances"], daphne["health_path"]) == (9099, 2, "/ws/x/")
    assert (daphne["health_host"], daphne["proxy_headers"]) == ("lab.example.org", True)
    assert certificates == {"name": "lab", "names": ["lab.example.org", "lab"]}
    assert (apache["server_name"], apache["server_aliases"]) == ("lab.example.org", ["lab"])
    assert (apache["websocket_backend"], apache["max_websockets"]) == ("127.0.0.1:9099", 500)
    assert (
        django["write_paths"]
        == daphne["write_paths"]
        == apache["wsgi_write_paths"]
        == ["/srv/lab/data", "/srv/x"]
    )
    assert daphne["ping_interval"] == apache["websocket_ping_interval"] == 7
    assert found["topics"] == [{"name": "lab.owner", "partitions": 3}, {"name": "lab.group"}]


@pytest.mark.parametrize(
    ("websockets", "host", "asked"),
    [
        ({}, {}, "/ws/"),
        ({}, {"daphne_health_path": "/ws/echo"}, "/ws/echo"),
        ({"health": "/ws/x/"}, {}, "/ws/x/"),
        ({"paths": ["/live/", "/ws/"]}, {}, "/ws/"),
        # Apache hands these to mod_wsgi, which answers whether Daphne does or not
        ({"paths": ["/live/"]}, {}, "/live/"),
        ({"paths": ["/live/"], "health": "/ready/"}, {}, "/live/"),
    ],
)
def test_a_release_and_the_balancer_ask_daphne_through_apache(
    websockets: dict[str, Any], host: dict[str, Any], asked: str
) -> None:
    found = lists(host, lab=LAB | {"websockets": websockets})
    assert found["django"][0]["smoke_socket"] == asked
    assert found["loadbalancer"][0]["websocket_health_path"] == asked
    assert "websocket_health_path" not in lists(shop=SHOP)["loadbalancer"][0]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (True, {"enabled": True}),
        ({}, {"enabled": True}),
        ({"memory_mb": 256}, {"enabled": True, "memory_mb": 256}),
        (False, {"enabled": False}),
    ],
)
def test_a_site_has_a_valkey_where_it_asks_for_one(wanted: Any, told: dict[str, Any]) -> None:
    assert lists(lab=LAB | {"valkey": wanted})["valkey"] == [{"name": "lab", **told}]
    assert faults(lab=LAB | {"valkey": wanted}) == []


def test_the_words_of_valkey_lead_to_the_sites_own_socket() -> None:
    words = {"URL": "{valkey_url}?db=1", "BROKER": "redis+socket://{valkey_socket}"}
    (django,) = lists(lab=LAB | {"valkey": True, "environment": words})["django"]
    assert django["environment"] == {
        "URL": "unix:///run/valkey-lab/valkey.sock?db=1",
        "BROKER": "redis+socket:///run/valkey-lab/valkey.sock",
    }


@pytest.mark.parametrize("key", ["environment", "secrets"])
@pytest.mark.parametrize("without", [{}, {"valkey": False}])
def test_the_words_of_valkey_are_refused_without_one(key: str, without: dict[str, Any]) -> None:
    (found,) = faults(lab=LAB | {key: {"URL": "hush {valkey_url}"}} | without)
    assert found.startswith(f"sites.lab.{key} has a word that begins with {{valkey_, and the site")
    assert "hush" not in found


def test_a_service_that_says_more_is_handed_on_without_its_port() -> None:
    worker = {"program": "celery -A {site} worker", "instances": 2, "stop_timeout": 300}
    metrics = {"program": "exporter --port {port}", "port": 9200}
    (django,) = lists(lab=LAB | {"services": {"worker": worker, "metrics": metrics}})["django"]
    assert django["services"] == {
        "worker": worker | {"program": "celery -A lab worker"},
        "metrics": {"program": "exporter --port 9200"},
    }
    assert django["service_ports"] == {"metrics": 9200}


def test_words_in_braces_are_filled_and_other_braces_stay() -> None:
    django = lists(lab=LAB)["django"][0]
    assert django["environment"] == {
        "HOSTS": "lab.example.org,lab",
        "DB": "/srv/lab/data/lab.db",
        "JSON": '{"a": {}}',
        "N": 3,
    }


def test_names_in_any_script_are_those_that_a_browser_sends() -> None:
    words = {"environment": {"HOSTS": "{hosts}", "NAME": "{domain}"}}
    django = lists(lab=LAB | words | {"domain": "münchen.example"})["django"][0]
    assert django["environment"] == {
        "HOSTS": "xn--mnchen-3ya.example,lab",
        "NAME": "xn--mnchen-3ya.example",
    }


def test_a_wildcard_is_written_as_django_has_it() -> None:
    words = {"environment": {"HOSTS": "{hosts}"}, "aliases": ["*.example.org"]}
    django = lists(lab=LAB | words)["django"][0]
    assert django["environment"] == {"HOSTS": "lab.example.org,.example.org"}


def test_a_site_without_asgi_has_no_websockets() -> None:
    found = lists(shop=SHOP)
    assert found["daphne"][0]["asgi_module"] == ""
    assert found["apache"][0]["websocket_paths"] == []
    assert "restart_units" not in found["django"][0]
    assert found["django"][0]["wsgi_module"] == "shop.conf.wsgi"
    assert found["django"][0]["directory"] == str(ROOT / "demo")


@pytest.mark.parametrize(("tls", "secure"), [("none", False), ("acme", True), ("ca", True)])
def test_tls_is_said_once(tls: str, secure: bool) -> None:
    found = lists(shop=SHOP | {"tls": tls, "environment": {"TLS": "{tls}"}})
    assert found["certificates"][0]["source"] == tls
    assert found["apache"][0]["tls"] is secure
    assert ("security.W012" in found["django"][0]["checks_silenced"]) is not secure
    assert found["django"][0]["environment"]["TLS"] == str(int(secure))


def test_checks_that_are_silenced_are_added_to() -> None:
    found = lists(shop=SHOP | {"checks": {"silenced": {"x.W001": "why"}}})["django"][0]
    assert set(found["checks_silenced"]) > {"x.W001", "security.W004"}


def test_what_holds_for_the_whole_host_holds_for_each_site() -> None:
    host = {
        "daphne_port": 9200,
        "daphne_address": "0.0.0.0",
        "daphne_instances": 3,
        "certificates_dir": "/etc/c",
        "certificates_acme_webroot": "/srv/acme",
    }
    found = lists(host, lab=LAB | {"websockets": {}})
    assert len(found["django"][0]["restart_units"]) == 3
    assert found["apache"][0]["websocket_backend"] == "127.0.0.1:9200"
    assert found["apache"][0]["tls_key"] == "/etc/c/lab/privkey.pem"
    assert found["apache"][0]["acme_webroot"] == "/srv/acme"


@pytest.mark.parametrize("name", ["root", "kafka", "peers"])
def test_a_name_that_belongs_to_something_else_is_refused(name: str) -> None:
    said = f"sites.{name} is '{name}': that name belongs to something else on a server. Choose another."
    assert faults(**{name: LAB}) == [said]


def test_a_good_entry_has_no_fault() -> None:
    assert faults(lab=LAB, shop=SHOP) == []
    assert faults() == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"domian": "x"}, "sites.lab.domian is 'x': a site has no such key. Did you mean domain?"),
        ({"websockets": {"ports": 1}}, "Did you mean websockets.port?"),
        (
            {"threads": 5},
            "sites.lab.threads is 5: a site has no such key. Did you mean pages.threads?",
        ),
        ({"secret_kye": "hush"}, "sites.lab.secret_kye is hidden: "),
        ({"websockets": 9109}, "sites.lab.websockets is 9109: it must be a mapping of keys."),
        ({"domain": ""}, "sites.lab.domain is empty: a site needs one."),
        ({"settings": None}, "sites.lab.settings is empty: a site needs one."),
        ({"source": {}}, "sites.lab.source is {}: the project comes from one place."),
        ({"source": {"git": "a", "archive": "b"}}, "Name one of directory, git, archive."),
        ({"asgi": ""}, "sites.lab.websockets is given, and asgi is empty"),
        ({"topics": ["owner"]}, "sites.lab.topics is ['owner']: it must be a mapping."),
        ({"topics": {"a b": {}}}, "sites.lab.topics.a b is 'a b': that is no name of a topic."),
        ({"topics": {"a": {"size": 1}}}, "a topic has config, partitions, replication_factor."),
        ({"topics": {"a": 3}}, "sites.lab.topics.a is 3: a topic has config"),
    ],
)
def test_what_is_wrong_is_named_with_the_remedy(changes: dict[str, Any], said: str) -> None:
    found = faults(lab=LAB | changes)
    assert len(found) == 1, found
    assert said in found[0]
    assert "hush" not in found[0]


def test_names_and_forms_that_are_none_are_refused() -> None:
    assert "a site's name is also a user" in faults(**{"Not a user": {}})[0]
    assert faults(lab=["a"]) == [
        "sites.lab is ['a']: it must be a mapping. Write `domain: …` below it."
    ]
    assert "it must be a mapping" in site_faults(["lab"], {})[0]


def test_two_sites_on_one_port_are_told_of_a_free_one() -> None:
    other = LAB | {"domain": "b.example.org"}
    third = other | {"websockets": {"port": 9109}}
    assert faults(lab=LAB, shop=SHOP, b=other, c=third) == [
        "sites.b.websockets.port is 9099: the site lab has it. 9119 is free."
    ]


def test_a_release_asks_apache_where_it_listens() -> None:
    entry = LAB | {"tls": "none", "releases": {"hooks": {"before_migrate": ["dump {data}/x"]}}}
    (django,) = site_lists(
        {"lab": entry}, {"apache_http_port": 8080, "apache_listen_address": "192.0.2.1"}
    )["django"]
    assert (django["smoke_url"], django["smoke_server"]) == (
        "http://lab.example.org:8080",
        "http://192.0.2.1:8080",
    )
    assert django["hooks"] == {"before_migrate": ["dump /srv/lab/data/x"]}


def test_a_site_whose_tls_a_balancer_takes_off_is_asked_as_the_balancer_does() -> None:
    found = {
        role: sites[0] for role, sites in lists(lab=LAB | {"tls": "forwarded"}).items() if sites
    }
    django, apache, monitoring = found["django"], found["apache"], found["monitoring"]
    assert (django["smoke_url"], django["smoke_server"]) == (
        "https://lab.example.org",
        "http://127.0.0.1:80",
    )
    assert (apache["tls"], apache["public_url"]) == (False, "https://lab.example.org:443")
    assert (monitoring["url"], monitoring["forwarded_proto"]) == ("http://127.0.0.1:80", "https")
    assert "your balancer" in django["checks_silenced"]["security.W008"]
    assert lists(lab=LAB | {"tls": "ca"})["monitoring"][0]["forwarded_proto"] == ""


def test_the_former_lists_are_refused_by_name() -> None:
    (found,) = faults({"daphne_sites": []}, lab=LAB)
    assert found.startswith("daphne_sites is set in the inventory: a site is one entry of `sites`")


def test_a_run_for_one_site_names_one_that_is_there() -> None:
    assert site_faults({"lab": LAB}, {}, "shop") == ["site is 'shop': `sites` has lab."]
    assert site_faults({"lab": LAB}, {}, "lab") == []


@pytest.mark.parametrize(
    "role", ["valkey", "django", "daphne", "certificates", "apache", "loadbalancer"]
)
def test_each_setting_of_a_site_has_a_key_or_follows_from_the_others(role: str) -> None:
    text = (ROOT / "roles" / role / "vars" / "main.yml").read_text(encoding="utf-8")
    settings = {f"{role}_{key}" for key in yaml.safe_load(text)[f"__{role}_defaults"]}
    given = {name for key in KEYS for name in variables_of(key) if name.startswith(f"{role}_")}
    assert given <= settings
    assert not given & DERIVED
    assert settings - given <= DERIVED


def test_each_key_is_typed_and_described() -> None:
    for key, option in options().items():
        assert option["type"], key
        assert option["description"], key


LOGIN: dict[str, Any] = {"passwords": {"lab": "a-password-of-lab"}, "ca": ""}


def test_a_site_with_topics_is_a_user_of_kafka_and_is_told_how_to_log_in() -> None:
    found = site_lists({"lab": LAB, "shop": SHOP}, {}, "127.0.0.1:9092", LOGIN)
    password, own = LOGIN["passwords"]["lab"], ["lab.*"]
    assert found["users"] == [{"name": "lab", "password": password, "topics": own, "groups": own}]
    lab, shop = found["django"]
    assert lab["environment"]["KAFKA_SECURITY_PROTOCOL"] == "SASL_PLAINTEXT"
    assert lab["environment"]["KAFKA_SASL_USERNAME"] == "lab"
    assert lab["secrets"] == {"KAFKA_SASL_PASSWORD": password}
    assert password not in str(lab["environment"])
    assert "KAFKA" not in str(shop)


def test_variables_of_a_sites_own_lead_to_kafka_too() -> None:
    own = {"environment": {"WHO": "{kafka_username}"}, "secrets": {"WORD": "{kafka_password}"}}
    (site,) = site_lists({"lab": {**SHOP, **own}}, {}, "", {**LOGIN, "ca": "/ca.pem"})["django"]
    assert site["environment"]["WHO"] == "lab"
    assert site["environment"]["KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
    assert site["environment"]["KAFKA_SSL_CA_LOCATION"] == "/ca.pem"
    assert site["secrets"]["WORD"] == LOGIN["passwords"]["lab"]
    # the same entry where nobody logs in
    found = lists(lab={**SHOP, **own})
    assert found["django"][0]["environment"] == {"WHO": ""}
    assert found["users"] == []


def test_kafkas_password_is_refused_where_others_could_read_it() -> None:
    (said,) = faults(lab={**LAB, "environment": {"WORD": "{kafka_password}"}})
    assert said.startswith("sites.lab.environment has the word {kafka_password}")
    assert said.endswith("Write it into `secrets`.")
