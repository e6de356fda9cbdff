"""What is asked of Kafka's brokers about topics, through librdkafka (python3-confluent-kafka)."""

from __future__ import annotations

import time
from typing import Any

# DescribeConfigs: the source of a setting that was made on the topic itself (KIP-226, DYNAMIC_TOPIC_CONFIG).
DYNAMIC_TOPIC_CONFIG = 1


# A topic as declared (the module's suboptions) or as found (see plan).
Topic = dict[str, Any]


class Refused(Exception):
    """The declaration can't be met; the text names the variable, its value and the remedy."""


def as_text(value: object) -> str | None:
    """Return a setting as Kafka writes it: true and false in small letters, a list with commas, null as None."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join(str(as_text(item)) for item in value)
    return str(value)


class Cluster:
    """What the module asks of the brokers, through librdkafka."""

    def __init__(self, bootstrap_servers: str, timeout: int, login: dict[str, str]):
        from confluent_kafka.admin import AdminClient

        self.timeout = timeout
        # librdkafka's own messages are kept quiet: what matters comes back with the calls
        self.admin = AdminClient(
            {
                **login,
                "bootstrap.servers": bootstrap_servers,
                "client.id": "switchboard",
                "log_level": 0,
                "error_cb": lambda error: None,
            }
        )

    def wait(self, futures: dict[Any, Any]) -> dict[Any, Any]:
        """Return the results of a call, by name or resource; the exception of the first that failed."""
        return {key: future.result(timeout=self.timeout) for key, future in futures.items()}

    def find(self, names: list[str], settings_of: list[str]) -> dict[str, Topic]:
        """Look up topics and, for some of them, their settings."""
        from confluent_kafka.admin import ConfigResource

        there = self.listed(names)
        found = {
            name: {
                "partitions": len(there[name].partitions),
                "replication_factor": max(
                    (len(part.replicas) for part in there[name].partitions.values()), default=0
                ),
                "config": {},
                "own": {},
            }
            for name in names
            if name in there and there[name].error is None
        }
        resources = [
            ConfigResource(ConfigResource.Type.TOPIC, name) for name in settings_of if name in found
        ]
        if resources:
            futures = self.admin.describe_configs(resources, request_timeout=self.timeout)
            for resource, entries in self.wait(futures).items():
                topic = found[resource.name]
                topic["config"] = {entry.name: entry.value for entry in entries.values()}
                topic["own"] = {
                    entry.name: entry.value
                    for entry in entries.values()
                    if int(entry.source) == DYNAMIC_TOPIC_CONFIG
                }
        return found

    def listed(self, names: list[str]) -> dict[str, Any]:
        """Return what the brokers list, once it is whole.

        A broker that has just started answers with a list that its controller has not filled yet. So what the list
        lacks is asked for by a creation that is only tried: that one looks where topics are kept.
        """
        from confluent_kafka import KafkaError, KafkaException
        from confluent_kafka.admin import NewTopic

        # the latter is what a broker says that knows of no broker, itself included
        early = (KafkaError.TOPIC_ALREADY_EXISTS, KafkaError.INVALID_REPLICATION_FACTOR)
        end = time.monotonic() + self.timeout
        while True:
            there: dict[str, Any] = self.admin.list_topics(timeout=self.timeout).topics
            lacking = [NewTopic(name, 1, 1) for name in names if name not in there]
            hidden = []
            if lacking:
                tried = self.admin.create_topics(
                    lacking, validate_only=True, request_timeout=self.timeout
                )
                for name, future in tried.items():
                    try:
                        future.result(timeout=self.timeout)
                    except KafkaException as error:
                        if error.args[0].code() in early:
                            hidden.append(name)
            if not hidden:
                return there
            if time.monotonic() > end:
                raise Refused(
                    f"kafka_topics is a list with {', '.join(hidden)}: the brokers have it and do not list it after "
                    f"{self.timeout} seconds. Look at the brokers' journals (journalctl -u kafka)."
                )
            time.sleep(0.2)  # until the list is whole; the time-out above raises

    def create(self, topics: list[Topic]) -> None:
        """Create topics."""
        from confluent_kafka.admin import NewTopic

        wanted = [
            NewTopic(
                topic["name"],
                num_partitions=topic["partitions"],
                replication_factor=topic["replication_factor"] or -1,
                config={
                    key: as_text(value)
                    for key, value in topic["config"].items()
                    if value is not None
                },
            )
            for topic in topics
        ]
        self.wait(self.admin.create_topics(wanted, request_timeout=self.timeout))

    def grow(self, sizes: list[tuple[str, int]]) -> None:
        """Add partitions up to a number."""
        from confluent_kafka.admin import NewPartitions

        wanted = [NewPartitions(name, number) for name, number in sizes]
        self.wait(self.admin.create_partitions(wanted, request_timeout=self.timeout))

    def configure(
        self, settings: list[tuple[str, dict[str, Any]]], found: dict[str, Topic]
    ) -> None:
        """Set configuration; the call replaces a topic's own settings, so those that stay are sent with it."""
        from confluent_kafka.admin import ConfigResource

        resources = []
        for name, changed in settings:
            own = {**found[name]["own"], **changed}
            resources.append(
                ConfigResource(
                    ConfigResource.Type.TOPIC,
                    name,
                    set_config={key: value for key, value in own.items() if value is not None},
                )
            )
        self.wait(self.admin.alter_configs(resources, request_timeout=self.timeout))

    def delete(self, names: list[str]) -> None:
        """Delete topics with their records."""
        self.wait(self.admin.delete_topics(names, request_timeout=self.timeout))

    def wait_for_leaders(self, sizes: dict[str, int]) -> None:
        """Return when each partition has a leader, so that the next client finds the topics whole."""
        end = time.monotonic() + self.timeout
        while time.monotonic() < end:
            there = self.admin.list_topics(timeout=self.timeout).topics
            if all(
                name in there
                and len(there[name].partitions) >= size
                and all(part.leader >= 0 for part in there[name].partitions.values())
                for name, size in sizes.items()
            ):
                return
            time.sleep(0.1)  # between two looks; the time-out raises
        raise Refused(
            f"kafka_topics is a list with {', '.join(sizes)}: created, but not every partition has a leader after "
            f"{self.timeout} seconds. Look at the brokers' journals (journalctl -u kafka)."
        )
