"""What the entry of a site says of Kafka, and what its processes are told to log in there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What a site's program needs to log in to Kafka, where the inventory names no variables of its own for it.
ENVIRONMENT = {
    "KAFKA_SECURITY_PROTOCOL": "{kafka_security_protocol}",
    "KAFKA_SASL_MECHANISM": "{kafka_sasl_mechanism}",
    "KAFKA_SASL_USERNAME": "{kafka_username}",
    "KAFKA_SSL_CA_LOCATION": "{kafka_ca}",
}
SECRETS = {"KAFKA_SASL_PASSWORD": "{kafka_password}"}


def kafka_names(sites: Any) -> list[str]:
    """Return the sites that use Kafka: those with topics, or with a word in braces that begins with kafka."""
    known = sites.items() if isinstance(sites, Mapping) else ()
    return [
        str(name)
        for name, entry in known
        if isinstance(entry, Mapping) and (entry.get("topics") or "{kafka" in str(entry))
    ]


def kafka_words(name: str, kafka: str, login: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what the words in braces about Kafka stand for in the entry of a site.

    Args:
        name: the site's.
        kafka: the brokers' addresses.
        login: as `site_lists` takes it.
    """
    words = {"kafka": kafka, "topic_prefix": f"{name}.", "kafka_security_protocol": "PLAINTEXT"}
    words |= dict.fromkeys(
        ("kafka_sasl_mechanism", "kafka_username", "kafka_password", "kafka_ca"), ""
    )
    if login:
        words["kafka_security_protocol"] = "SASL_SSL" if login.get("ca") else "SASL_PLAINTEXT"
        words["kafka_sasl_mechanism"], words["kafka_username"] = "SCRAM-SHA-512", name
        words["kafka_password"] = login["passwords"].get(name, "")
        words["kafka_ca"] = login.get("ca", "")
    return words


def kafka_user(name: str, login: Mapping[str, Any]) -> dict[str, Any]:
    """Return a site as an entry of ``kafka_users``: what begins with its name is its own."""
    own, password = [f"{name}.*"], login["passwords"].get(name, "")
    return {"name": name, "password": password, "topics": own, "groups": own}


def kafka_variables(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment and secrets of a site that logs in, with the variables that it lacks for it.

    ``given`` is its entry; what is no mapping in it is left to the role, which refuses it.
    """
    there = {key: given.get(key) or {} for key in ("environment", "secrets")}
    if not all(isinstance(values, Mapping) for values in there.values()):
        return {}
    own = there["environment"].keys() | there["secrets"].keys()
    return {
        key: {**{name: word for name, word in usual.items() if name not in own}, **there[key]}
        for key, usual in (("environment", ENVIRONMENT), ("secrets", SECRETS))
    }


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "kafka_names": kafka_names,
            "kafka_words": kafka_words,
            "kafka_user": kafka_user,
            "kafka_variables": kafka_variables,
        }
