"""The kinds of notification and their Kafka topics: the one list that both ends read."""

from django.conf import settings
from django.db.models import TextChoices


class Kind(TextChoices):
    """A kind is a topic: `<prefix><kind>`."""

    GROUP = "group", "Groups"


def servers() -> str:
    """Return the brokers to ask first (`host:port`, comma separated); empty switches Kafka off."""
    return getattr(settings, "NOTIFICATIONS_KAFKA_SERVERS", "")


def topic(kind: str) -> str:
    """Return the topic that carries a kind."""
    return f"{getattr(settings, 'NOTIFICATIONS_TOPIC_PREFIX', '')}{Kind(kind).value}"


def topics() -> list[str]:
    """Return every topic that a process which holds sockets reads."""
    return [topic(kind) for kind in Kind.values]
