"""How Kafka's brokers listen and know who asks, and what the kafka role refuses of that before it changes anything."""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Mapping
from typing import Any

AUTHORIZERS = {
    "zookeeper": "kafka.security.authorizer.AclAuthorizer",
    "kraft": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
}
# As they stand in a JAAS file between quotation marks, and as a SCRAM log-in takes them without preparing them.
WORD = re.compile(r"[!#%-\[\]-~]+")  # Java puts something else in the place of ${…} there
NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
RESOURCE = re.compile(r"[A-Za-z0-9._-]*\*?")
LISTENER = re.compile(r"[A-Z][A-Z0-9_]*")
PATH = re.compile(r"(/[A-Za-z0-9._@+-]+)+")  # as ${directory:…:…} of server.properties can have it
SHORTEST = 12  # characters of a password; who hears a log-in by SCRAM may guess at it afterwards
REAUTHENTICATE = (
    3_600_000  # milliseconds after which a connection shows its password again (KIP-368)
)
QUOTAS = (
    *("producer_byte_rate", "consumer_byte_rate"),
    *("request_percentage", "controller_mutation_rate"),
)


def loopback(address: str) -> bool:
    """Say whether an address is reached from the host itself alone."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


def kafka_listeners(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the listeners, the one for brokers and sites first.

    Args:
        settings: the role's variables without their prefix: address, advertised_address, port, authentication,
            tls_certificate, listeners.

    Returns:
        ``name``, ``protocol`` (as Kafka calls it), ``address``, ``advertised``, ``port`` of each.
    """
    entries = [
        {
            "address": settings["address"],
            "advertised_address": settings["advertised_address"],
            "port": settings["port"],
            "authentication": settings["authentication"],
        },
        *settings["listeners"],
    ]
    found = []
    for entry in entries:
        asks = entry.get("authentication", True) and settings["authentication"]
        kind = "SSL" if entry.get("tls", bool(settings["tls_certificate"])) else "PLAINTEXT"
        protocol = f"SASL_{kind}" if asks else kind
        found.append(
            {
                "name": entry.get("name", protocol),
                "protocol": protocol,
                "address": entry["address"],
                "advertised": entry.get("advertised_address", entry["address"]),
                "port": int(entry["port"]),
            }
        )
    return found


def kafka_controllers(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the listener by which brokers agree on who leads, as `kafka_listeners` does; none with ZooKeeper.

    Args:
        settings: as `kafka_listeners` takes it, and mode, controller_port.
    """
    if settings["mode"] != "kraft":
        return []
    between = kafka_listeners({**settings, "port": settings["controller_port"], "listeners": []})
    return [{**between[0], "name": "CONTROLLER"}]


def kafka_places(settings: Mapping[str, Any]) -> list[str]:
    """Return where each broker takes part in the agreement on who leads, as ``id@host:port``; none with ZooKeeper."""
    for own in kafka_controllers(settings):
        # a certificate names what clients are told
        host = own["advertised"] if settings["tls_certificate"] else own["address"]
        brokers = settings["brokers"] or [{"id": settings["node_id"], "host": host}]
        return [f"{one['id']}@{bracketed(str(one['host']))}:{own['port']}" for one in brokers]
    return []


def _kraft(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what server.properties says besides of a broker that is a controller too (KIP-500, KIP-631, KIP-853)."""
    places = kafka_places(settings)
    lines: dict[str, Any] = {
        "process.roles": ["broker", "controller"],
        "node.id": int(settings["node_id"]),
        "controller.listener.names": kafka_controllers(settings)[0]["name"],
    }
    if settings.get("fixed"):
        lines["controller.quorum.voters"] = places
    else:
        servers = [place.partition("@")[2] for place in places]
        lines["controller.quorum.bootstrap.servers"] = servers
    if settings["authentication"]:
        lines |= {
            "sasl.mechanism.controller.protocol": "PLAIN",
            # the brokers' own user alone, who is in the file of JAAS: other users are known to brokers that run
            "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
        }
    return lines


def bracketed(host: str) -> str:
    """Return an address as it stands before a colon and a port."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def kafka_security(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the lines of server.properties that say where the broker listens, and who may do what.

    No secret stands in them: those are in the file of JAAS, and the key of TLS where it was made.
    """
    listeners = kafka_listeners(settings)
    every = [*listeners, *kafka_controllers(settings)]
    lines: dict[str, Any] = {
        "listeners": [f"{one['name']}://{one['address']}:{one['port']}" for one in every],
        "advertised.listeners": [
            f"{one['name']}://{one['advertised']}:{one['port']}"
            for one in every
            # a controller that the others are told of, where that is not where it listens
            if one in listeners
            or (one["advertised"] != one["address"] and not settings.get("fixed"))
        ],
    }
    if any(one["name"] != "PLAINTEXT" for one in every):
        lines["listener.security.protocol.map"] = [
            f"{one['name']}:{one['protocol']}" for one in every
        ]
        lines["inter.broker.listener.name"] = listeners[0]["name"]
    if settings["mode"] == "kraft":
        lines |= _kraft(settings)
    if settings["authentication"]:
        lines |= {
            "sasl.enabled.mechanisms": ["PLAIN", "SCRAM-SHA-512"],
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "authorizer.class.name": AUTHORIZERS[settings["mode"]],
            "allow.everyone.if.no.acl.found": False,
            "super.users": f"User:{settings['broker_user']}",
            # a password that was changed, or a user that is gone, is out of it after this time
            "connections.max.reauth.ms": REAUTHENTICATE,
        }
    if settings["tls_certificate"]:
        names = {
            "ssl.keystore.key": "tls_key",
            "ssl.keystore.certificate.chain": "tls_certificate",
            "ssl.truststore.certificates": "tls_ca",
        }
        paths = {key: posixpath.split(settings[name]) for key, name in names.items()}
        lines |= {
            "ssl.keystore.type": "PEM",
            "ssl.truststore.type": "PEM",
            # read where they lie, so that there is no second copy of the key (KIP-632, KIP-651)
            "config.providers": "directory",
            "config.providers.directory.class": (
                "org.apache.kafka.common.config.provider.DirectoryConfigProvider"
            ),
            **{key: f"${{directory:{folder}:{name}}}" for key, (folder, name) in paths.items()},
        }
    if settings["mode"] == "zookeeper" and settings["zookeeper_user"]:
        lines["zookeeper.set.acl"] = True
    if settings["mode"] == "zookeeper" and settings["zookeeper_tls_keystore"]:
        lines |= {
            "zookeeper.ssl.client.enable": True,
            "zookeeper.clientCnxnSocket": "org.apache.zookeeper.ClientCnxnSocketNetty",
            "zookeeper.ssl.keystore.location": settings["zookeeper_tls_keystore"],
            "zookeeper.ssl.keystore.type": "PEM",
            "zookeeper.ssl.truststore.location": settings["tls_ca"],
            "zookeeper.ssl.truststore.type": "PEM",
        }
    return lines


def kafka_jaas(settings: Mapping[str, Any]) -> str:
    """Return the file of JAAS by which the broker knows its own user, and logs in to ZooKeeper."""
    package = "org.apache.kafka.common.security"
    parts = []
    if settings["authentication"]:
        name, word = settings["broker_user"], settings["broker_password"]
        parts.append(
            "KafkaServer {\n"
            f"  {package}.plain.PlainLoginModule required\n"
            f'    username="{name}" password="{word}" user_{name}="{word}";\n'
            f"  {package}.scram.ScramLoginModule required;\n"
            "};\n"
        )
    if settings["zookeeper_user"]:
        name, word = settings["zookeeper_user"], settings["zookeeper_password"]
        parts.append(
            "Client {\n"
            "  org.apache.zookeeper.server.auth.DigestLoginModule required\n"
            f'    username="{name}" password="{word}";\n'
            "};\n"
        )
    return "".join(parts)


def kafka_login(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the client properties by which Kafka's tools, and what runs as root on the host, log in."""
    name, word = settings["broker_user"], settings["broker_password"]
    lines: dict[str, Any] = {
        "security.protocol": kafka_listeners(settings)[0]["protocol"],
        "sasl.mechanism": "PLAIN",
        "sasl.jaas.config": (
            "org.apache.kafka.common.security.plain.PlainLoginModule required "
            f'username="{name}" password="{word}";'
        ),
    }
    if settings["tls_certificate"]:
        lines |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": settings["tls_ca"]}
    return lines


def kafka_security_rules(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what can't work of listeners, users and TLS, as rules that do not hold; no secret is in them."""
    rules: list[dict[str, Any]] = []

    def refuse(variable: str, value: Any, why: str, remedy: str) -> None:
        rule = {"variable": f"kafka_{variable}", "value": value, "why": why, "remedy": remedy}
        rules.append({"that": False, **rule})

    given = {key: bool(settings[f"tls_{key}"]) for key in ("certificate", "key", "ca")}
    if len(set(given.values())) > 1:
        lacking = ", ".join(f"kafka_tls_{key}" for key, there in given.items() if not there)
        refuse(
            "tls_certificate",
            settings["tls_certificate"] or "empty",
            f"TLS takes a certificate, its key and the CA, and {lacking} is empty.",
            "Set all three, or none.",
        )
    for key in ("tls_certificate", "tls_key", "tls_ca", "zookeeper_tls_keystore"):
        if settings[key] and not PATH.fullmatch(str(settings[key])):
            refuse(
                key,
                settings[key],
                "that is no absolute path of letters, digits, dots, hyphens and underscores.",
                "Name a file on the host by such a path.",
            )
    if settings["zookeeper_tls_keystore"] and not settings["tls_ca"]:
        refuse(
            "zookeeper_tls_keystore",
            settings["zookeeper_tls_keystore"],
            "kafka_tls_ca is empty, by which the broker knows ZooKeeper's servers.",
            "Set kafka_tls_ca, kafka_tls_certificate and kafka_tls_key too.",
        )
    _refuse_listeners(settings, refuse)
    _refuse_words("broker", settings, settings["authentication"], refuse)
    _refuse_words("zookeeper", settings, bool(settings["zookeeper_user"]), refuse)
    if settings["users"] and not settings["authentication"]:
        refuse(
            "users",
            ", ".join(str(user["name"]) for user in settings["users"]),
            "kafka_authentication is false, so that nobody is asked who they are.",
            "Set kafka_authentication to true, or take the users away.",
        )
    _refuse_users(settings, refuse)
    return rules


def _refuse_listeners(settings: Mapping[str, Any], refuse: Any) -> None:
    listeners = kafka_listeners(settings)
    for number, one in enumerate(listeners):
        variable = "listeners" if number else "address"
        shown = f"{one['name']}://{one['address']}:{one['port']}"
        outside = not loopback(one["address"])
        if number and not LISTENER.fullmatch(one["name"]):
            refuse(variable, shown, "that is no name of a listener.", "Use capital letters.")
        if one["protocol"].endswith("SSL") and not settings["tls_certificate"]:
            refuse(variable, shown, "TLS needs a certificate.", "Set kafka_tls_certificate.")
        if (
            number
            and settings["listeners"][number - 1].get("authentication")
            and not settings["authentication"]
        ):
            refuse(
                variable,
                shown,
                "it is to ask who comes, and kafka_authentication is false.",
                "Set that to true, or leave `authentication` of the listener out.",
            )
        if not settings["authentication"] or not outside:
            continue
        if one["protocol"] == "SASL_PLAINTEXT":
            refuse(
                variable,
                shown,
                "passwords would leave this host without TLS.",
                "Set kafka_tls_certificate, kafka_tls_key and kafka_tls_ca, or listen on 127.0.0.1.",
            )
        elif not one["protocol"].startswith("SASL_"):
            refuse(
                variable,
                shown,
                "who comes from outside would be asked for no password.",
                "Listen on 127.0.0.1, or leave authentication out.",
            )
    for key, what in (("name", "name"), ("port", "port")):
        values = [one[key] for one in (*listeners, *kafka_controllers(settings))]
        if twice := {value for value in values if values.count(value) > 1}:
            said = ", ".join(sorted(map(str, twice)))
            refuse("listeners", said, f"two listeners have this {what}.", "Give each its own.")


def _refuse_password(variable: str, word: str, refuse: Any) -> None:
    if not WORD.fullmatch(word) or len(word) < SHORTEST:
        refuse(
            variable,
            "hidden",
            'it is shorter than 12 characters, or has spaces, ", $, \\ or letters beyond ASCII in it.',
            "Make one with `openssl rand -hex 32`.",
        )


def _refuse_words(of: str, settings: Mapping[str, Any], needed: bool, refuse: Any) -> None:
    name, word = str(settings[f"{of}_user"]), str(settings[f"{of}_password"])
    if not needed:
        return
    if not NAME.fullmatch(name):
        remedy = "Use letters, digits, dots, hyphens and underscores."
        refuse(f"{of}_user", name or "empty", "that is no name of a user.", remedy)
    if not word:
        refuse(f"{of}_password", "empty", "a user without a password is nobody.", "Set one.")
    else:
        _refuse_password(f"{of}_password", word, refuse)


def _refuse_users(settings: Mapping[str, Any], refuse: Any) -> None:
    names = [str(user["name"]) for user in settings["users"]]
    for name in sorted({name for name in names if names.count(name) > 1}):
        refuse("users", name, "a user is declared twice.", "Take one entry away.")
    for user in settings["users"]:
        name, word = str(user["name"]), str(user.get("password") or "")
        where = f"users.{name}"
        if not NAME.fullmatch(name):
            remedy = "Use letters, digits, dots, hyphens and underscores."
            refuse("users", name, "that is no name of a user.", remedy)
        if settings["authentication"] and name == settings["broker_user"]:
            refuse(
                "users",
                name,
                "that is kafka_broker_user, who may do everything.",
                "Rename it, or set kafka_broker_user to another name.",
            )
        if word:
            _refuse_password(f"{where}.password", word, refuse)
        elif "password" in user:
            refuse(f"{where}.password", "empty", "a user without a password is nobody.", "Set one.")
        for key in ("topics", "read_topics", "groups"):
            for resource in user.get(key) or []:
                if not resource or not RESOURCE.fullmatch(str(resource)):
                    refuse(
                        f"{where}.{key}",
                        resource or "empty",
                        "that is neither a name nor the beginning of names.",
                        "Write a name, or its beginning and a * behind it.",
                    )
        for key, most in (user.get("quotas") or {}).items():
            if isinstance(most, bool) or not isinstance(most, (int, float)):
                refuse(
                    f"{where}.quotas.{key}", most, "a quota is a number.", "Write one, in bytes."
                )
            if key not in QUOTAS:
                one_of = f"Use one of {', '.join(QUOTAS)}."
                refuse(f"{where}.quotas", key, "Kafka has no such quota of a user.", one_of)


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "kafka_listeners": kafka_listeners,
            "kafka_controllers": kafka_controllers,
            "kafka_places": kafka_places,
            "kafka_security": kafka_security,
            "kafka_jaas": kafka_jaas,
            "kafka_login": kafka_login,
            "kafka_security_rules": kafka_security_rules,
        }
