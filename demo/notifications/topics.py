"""The kinds of notification and their Kafka topics: the one list that both ends read."""

from django.conf import settings
from django.db.models import TextChoices


class Kind(TextChoices):
    """A kind is a topic: `<prefix><kind>`."""

    OWNER = "owner", "Mine"
    GROUP = "group", "My groups"
    WATCHING = "watching", "What I watch"


EXPLAINED = {
    Kind.OWNER: "A graph, a layout or a group of yours was created, uploaded, updated or deleted.",
    Kind.GROUP: "A graph was shared with your group or taken back, a member was added or removed.",
    Kind.WATCHING: "Somebody else updated, shared or deleted a graph that you watch.",
}
# Read marks and ended sessions are a person's own affair: they travel on this topic.
PERSONAL = Kind.OWNER


def servers() -> str:
    """Return the brokers to ask first (`host:port`, comma separated); empty switches Kafka off."""
    return getattr(settings, "NOTIFICATIONS_KAFKA_SERVERS", "")


def login() -> dict[str, str]:
    """Return how to log in to the brokers, as librdkafka takes it; nothing where they ask nobody."""
    return dict(getattr(settings, "NOTIFICATIONS_KAFKA_LOGIN", {}))


def group(name: str) -> str:
    """Return the name of a group of consumers: below the prefix, where the site may have some."""
    return f"{getattr(settings, 'NOTIFICATIONS_TOPIC_PREFIX', '')}{name}"


def topic(kind: str) -> str:
    """Return the topic that carries a kind."""
    return f"{getattr(settings, 'NOTIFICATIONS_TOPIC_PREFIX', '')}{Kind(kind).value}"


def topics() -> list[str]:
    """Return every topic that a process which holds sockets reads."""
    return [topic(kind) for kind in Kind.values]
