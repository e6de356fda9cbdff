"""What the roles are told of the sites: each role's own list, worked out of the one entry that a site has in ``sites``.

A key of an entry is a role's variable under the name by which a person looks for it (plugins/site_keys.yml); the rest,
which follows from these or from the site's name, is worked out here and written nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ansible.module_utils.common.yaml import yaml_load  # by libyaml, ten times as fast
from ansible.plugins.loader import filter_loader

ROLES = Path(__file__).resolve().parents[2] / "roles"
ROLE_NAMES = (
    *("valkey", "django", "daphne", "certificates", "apache", "loadbalancer"),
    *("backup", "monitoring"),
)

# The keys of an entry, and the role's variables that each is.
KEYS: dict[str, Any] = yaml_load(
    (Path(__file__).resolve().parents[1] / "site_keys.yml").read_text(encoding="utf-8")
)
GROUPS = {key.split(".")[0] for key in KEYS if "." in key}
# What Django's deployment checks ask for and Apache does, or what nobody can have without TLS.
SILENCED = {
    True: {
        "security.W004": "HSTS is https.hsts_max_age",
        "security.W008": "Apache leads to HTTPS",
    },
    False: {
        "security.W004": "no HSTS without TLS",
        "security.W008": "no HTTPS to lead to",
        **dict.fromkeys(
            ("security.W010", "security.W011", "security.W012", "security.W016"),
            "no Secure cookies without TLS",
        ),
    },
}
# What they ask for and a balancer of the user's own does.
FORWARDED = {
    "security.W004": "HSTS is your balancer's",
    "security.W008": "your balancer leads to HTTPS",
}
USUAL = {"http": 80, "https": 443}
# Over how many processes a site's threads are spread where it says nothing of either; one of Python uses one core.
THREADS, SPREADS = 30, (2, 3, 5, 6)
# Where Apache reaches what listens on every address.
LOOPBACK = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - nothing is bound here


@cache
def options() -> dict[str, dict[str, Any]]:
    """Return the option of each key, as an argument specification types it."""
    roles: dict[str, Any] = {}
    for role in ROLE_NAMES:
        text = (ROLES / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
        roles |= yaml_load(text)["argument_specs"]["main"]["options"]
    return {
        key: entry if isinstance(entry, dict) else roles[variables_of(key)[0]]
        for key, entry in KEYS.items()
    }


def variables_of(key: str) -> list[str]:
    """Return the roles' variables that a key is; none for one that they take in another form."""
    entry = KEYS.get(key, {})
    if isinstance(entry, str):
        return [entry]
    return entry if isinstance(entry, list) else entry.get("variables", [])


def site_keys() -> dict[str, Any]:
    """Return what an entry may have.

    Returns:
        ``options``, the option of each key, ``groups``, the names before a dot, ``own``, the keys that no role judges,
        and ``roles``.
    """
    own = {key for key, entry in KEYS.items() if isinstance(entry, dict) and not variables_of(key)}
    return {
        "options": options(),
        "groups": GROUPS,
        "own": own - {"domain", "topics"},
        "roles": ROLE_NAMES,
    }


def flat(entry: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return an entry with the keys of its groups as ``group.key``; a group that is no mapping stays as it stands."""
    found: dict[str, Any] = {}
    for key, value in entry.items():
        path = f"{above}{key}"
        if path in GROUPS and isinstance(value, Mapping):
            found |= {path: True} if path in KEYS else {}  # to write its keys is to ask for it
            found |= flat(value, f"{path}.")
        else:
            found[path] = value
    return found


def _port(given: Mapping[str, Any], host: Mapping[str, Any]) -> Any:
    return given.get("websockets.port", host.get("daphne_port", 9099))


def site_lists(
    sites: Mapping[str, Any],
    host: Mapping[str, Any],
    kafka: str = "",
    login: Mapping[str, Any] | None = None,
    database: Mapping[str, Any] | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Return what each role is told of the sites, and the topics that Kafka is to have.

    Args:
        sites: the entries; of one that `site_faults` refuses nothing certain is returned.
        host: the variables of the host, of which some hold for all sites (daphne_port, daphne_address,
            daphne_health_path, daphne_instances, certificates_dir, certificates_acme_webroot), and ``web``, what
            `web_cluster` says of it.
        kafka: the brokers' addresses with commas between them.
        login: where sites log in to Kafka, ``passwords`` ({site: password}) and ``ca``, a path that is empty without
            TLS; nothing where nobody does.
        database: where PostgreSQL is, as `site_database` says, with ``passwords`` ({site: password}) where web hosts
            come in from elsewhere; nothing where it is on the host itself.

    Returns:
        For each of ROLE_NAMES a list of sites as the role's variable ``<role>_sites`` takes it, and ``topics`` and
        ``users`` as ``kafka_topics`` and ``kafka_users``, ``databases`` as ``postgresql_databases`` takes them.
    """
    lists: dict[str, list[dict[str, Any]]] = {
        role: [] for role in (*ROLE_NAMES, "topics", "users", "databases")
    }
    users, server = by_filter("kafka_names", sites), database or {}
    for name, entry in sites.items() if isinstance(sites, Mapping) else ():
        if not isinstance(entry, Mapping):
            continue
        given = {key: _plain(value) for key, value in flat(entry).items()}
        topics = given.get("topics") or {}
        for topic, wanted in topics.items() if isinstance(topics, Mapping) else ():
            lists["topics"].append({"name": f"{name}.{topic}", **(wanted or {})})
        if given.get("database") == "postgresql":
            lists["databases"].append(by_filter("database_entry", str(name), given, host, server))
        given |= by_filter("database_variables", given, server)
        words = by_filter("kafka_words", str(name), kafka, login)
        port = host.get("postgresql_port", 5432)
        words |= by_filter("database_words", str(name), given, port, server)
        if login and str(name) in users:
            lists["users"].append(by_filter("kafka_user", str(name), login))
            given |= by_filter("kafka_variables", given)
        for role, settings in _of_site(str(name), given, host, words, server).items():
            lists[role].append({"name": str(name), **settings})
    return lists


def _of_site(
    name: str,
    given: dict[str, Any],
    host: Mapping[str, Any],
    services: Mapping[str, str],
    server: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """Return the settings of one site for each role; ``services`` are the words about Kafka and PostgreSQL."""
    roles: dict[str, dict[str, Any]] = {role: {} for role in ROLE_NAMES}
    for key, value in given.items():
        for variable in variables_of(key):
            role, _, setting = variable.partition("_")
            roles[role][setting] = value
    sizes = [
        given.get(f"pages.{key}", host.get(f"apache_wsgi_{key}"))
        for key in ("processes", "threads")
    ]
    spread = max((count for count in SPREADS if count <= _number(host.get("cores"), 2)), default=2)
    if sizes == [None, None] and spread > 2:
        roles["apache"] |= {"wsgi_processes": spread, "wsgi_threads": THREADS // spread}
    domain, live = str(given.get("domain", "")), bool(given.get("asgi"))
    web = host.get("web", {})
    first, forwarded = name not in web.get("later", []), given.get("tls") == "forwarded"
    behind = forwarded or bool(web.get("behind"))
    names = [domain, *_list(given.get("aliases"))]
    tls = given.get("tls", "none") != "none"
    project_dir = given.get("source.project_dir", ".")
    words = {
        "site": name,
        "domain": ascii_names(domain),
        # as ALLOWED_HOSTS has them: a dot in front stands for all names below
        "hosts": ",".join(str(name).removeprefix("*") for name in ascii_names(names)),
        "data": f"/srv/{name}/data",
        **services,
        "tls": str(int(tls)),
        "valkey_socket": f"/run/valkey-{name}/valkey.sock",
        "valkey_url": f"unix:///run/valkey-{name}/valkey.sock",
    }

    django = roles["django"]
    django["source"] = next(
        (kind for kind in ("git", "archive") if given.get(f"source.{kind}")), "directory"
    )
    if django.get("directory") and not str(django["directory"]).startswith(("/", "~")):
        django["directory"] = str(ROLES.parent / str(django["directory"]))
    package = str(given.get("settings", "")).rpartition(".")[0]
    django.setdefault("wsgi_module", f"{package}.wsgi" if package else "wsgi")
    silenced = FORWARDED if forwarded else SILENCED[tls]
    django["checks_silenced"] = silenced | dict(given.get("checks.silenced") or {})
    django["kafka_topics"] = [f"{name}.{topic}" for topic in _list(given.get("topics"))]
    if not first:
        django["timers"] = {}
    own = given.get("services")
    if isinstance(own, Mapping):
        parts = {
            key: _service(value)
            for key, value in own.items()
            if first or not (isinstance(value, Mapping) and value.get("once"))
        }
        django["services"] = {
            key: _filled(service, {"port": str(port)}) for key, (service, port) in parts.items()
        }
        django["service_ports"] = {key: port for key, (_, port) in parts.items() if port}
    secret = by_filter("database_secret_words", server)
    public = {word: value for word, value in words.items() if word not in secret}
    for setting in ("environment", "secrets", "services", "hooks"):
        if setting in django:
            django[setting] = _filled(django[setting], words if setting == "secrets" else public)
    for variable in variables_of("write_paths"):
        role, _, setting = variable.partition("_")
        if setting in roles[role]:
            roles[role][setting] = _filled(roles[role][setting], words)

    daphne = roles["daphne"]
    address, port = host.get("daphne_address", "127.0.0.1"), _port(given, host)
    instances = given.get("websockets.instances", host.get("daphne_instances", 1))
    daphne["port"] = port
    daphne["health_host"] = domain
    daphne["proxy_headers"] = True  # Apache sets X-Forwarded-For and X-Forwarded-Proto itself
    daphne["project_path"] = f"/srv/{name}/current/app/{project_dir}"
    daphne.setdefault("asgi_module", "")
    # a balancer takes TLS off, and asks Apache by the own CA's or without
    secure = (tls and not behind) or bool(web.get("tls"))
    scheme, asked = "https" if tls else "http", "https" if secure else "http"
    usual, listens = USUAL[scheme], host.get("apache_listen_address") or "127.0.0.1"
    at = f"{asked}://{LOOPBACK.get(listens, listens)}:{host.get(f'apache_{asked}_port', USUAL[asked])}"
    public = host.get(f"{'balancer' if behind else 'apache'}_{scheme}_port", usual)
    django["smoke_url"] = (
        f"{scheme}://{ascii_names(domain)}{'' if public == usual else f':{public}'}"
    )
    django["smoke_server"] = at
    folder = host.get("apache_maintenance_dir", "/var/lib/switchboard/maintenance")
    django["maintenance_file"] = f"{folder}/{name}"
    if live:
        health = _asked_socket(given, host)
        django["smoke_socket"] = roles["loadbalancer"]["websocket_health_path"] = health
    if live and str(instances).isdigit():
        django["restart_units"] = [
            f"daphne-{name}@{n}.service" for n in range(1, int(instances) + 1)
        ]

    if given.get("database") == "postgresql":
        roles["backup"]["postgresql"] = name
        roles["backup"]["postgresql_host"] = server.get("address", "")
    monitoring = roles["monitoring"]
    monitoring["url"], monitoring["host"] = at, ascii_names(domain)
    monitoring["forwarded_proto"] = "" if scheme == asked else scheme
    monitoring["threads"] = _number(sizes[0], 2) * _number(sizes[1], THREADS // 2)
    if live:
        monitoring["websocket_port"] = port
        monitoring["max_websockets"] = given.get(
            "websockets.max", host.get("apache_max_websockets", 1000)
        )
    ports = {name: f"127.0.0.1:{port}" for name, port in django.get("service_ports", {}).items()}
    monitoring["metrics"] = [
        ports.get(service, service) for service in _list(given.get("monitoring.metrics"))
    ]
    roles["certificates"]["names"] = names
    apache = roles["apache"]
    balancer = roles["loadbalancer"]
    balancer.setdefault("health_path", monitoring.get("path", "/"))
    balancer["server_name"], balancer["tls"] = domain, tls
    balancer["servers"] = web.get("servers", {}).get(name, [])
    apache["server_name"], apache["tls"] = domain, tls and not behind
    if behind:
        apache["public_url"] = f"{scheme}://{domain}:{public}"
    apache["websocket_backend"] = f"{LOOPBACK.get(address, address)}:{port}"
    if not live:
        apache["websocket_paths"] = balancer["websocket_paths"] = []
    if host.get("certificates_dir"):
        folder = f"{host['certificates_dir']}/{name}"
        apache["tls_certificate"] = balancer["tls_certificate"] = f"{folder}/fullchain.pem"
        apache["tls_key"] = balancer["tls_key"] = f"{folder}/privkey.pem"
    if host.get("certificates_acme_webroot"):
        apache["acme_webroot"] = host["certificates_acme_webroot"]
    return roles


def _asked_socket(given: Mapping[str, Any], host: Mapping[str, Any]) -> str:
    """Return the path of the handshake by which a site's WebSockets are seen to work through Apache, as a visitor's do.

    It is the one that Daphne is asked for, where Apache hands that to Daphne.
    """
    paths = [str(path) for path in _list(given.get("websockets.paths", ["/ws/"]))]
    health = str(given.get("websockets.health", host.get("daphne_health_path", "/ws/")))
    return health if not paths or health.startswith(tuple(paths)) else paths[0]


def by_filter(name: str, *given: Any) -> Any:
    """Return what a filter of another file says; files of filters can't import one another."""
    return filter_loader.get(name).j2_function(*given)


def ascii_names(names: Any) -> Any:
    """Return host names as Django's settings need them, by the filter host_names."""
    return by_filter("host_names", names)


def _service(wanted: Any) -> tuple[Any, Any]:
    """Return a service as the django role takes it, and its port, None where it has none."""
    if not isinstance(wanted, Mapping):
        return wanted, None
    service = {key: value for key, value in wanted.items() if key not in ("port", "once")}
    return service["command"] if service.keys() == {"command"} else service, wanted.get("port")


def _number(value: Any, usual: int) -> int:
    """Return a whole number; the usual one for what is none, which its role refuses."""
    return int(value) if str(value).isdigit() else usual


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, Mapping)) else []


def _plain(value: Any) -> Any:
    """Return a copy in plain containers; Ansible's own are lazy."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _filled(values: Any, words: Mapping[str, str]) -> Any:
    """Put what a word in braces stands for into a text, or the texts of a list or mapping; other braces stay."""
    if isinstance(values, Mapping):
        return {key: _filled(value, words) for key, value in values.items()}
    if isinstance(values, list):
        return [_filled(value, words) for value in values]
    if not isinstance(values, str):
        return values
    return re.sub("{(" + "|".join(words) + ")}", lambda found: words[found[1]], values)


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "site_entry": lambda entry: _plain(flat(entry)),
            "site_keys": site_keys,
            "site_lists": site_lists,
            "site_port": _port,
        }
