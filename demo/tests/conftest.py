"""People, groups and graphs; and a Kafka producer that only takes notes."""

import hypothesis
import pytest
from confluent_kafka import KafkaError, KafkaException
from django.contrib.auth import get_user_model
from django.core.management import call_command

from graphs.models import Graph, Group
from notifications import producer, topics
from notifications.hub import Hub
from notifications.schema import Event

PASSWORD = "engine-no-2"
hypothesis.settings.register_profile("demo", database=None, deadline=None)
hypothesis.settings.load_profile("demo")


class Notes:
    """Stands in for `producer.Sender`."""

    def __init__(self):
        self.records = []
        self.broken = False
        self.kafka = True

    @property
    def events(self):
        return [record for record in self.records if isinstance(record, Event)]

    def send(self, record):
        self.records.append(record)

    def topics(self, seconds):
        if not self.kafka:
            raise KafkaException(KafkaError(-195))
        return dict.fromkeys(topics.topics(), 1)

    def flush(self, seconds):
        return 0

    def close(self):
        pass


@pytest.fixture
def real_producer(monkeypatch):
    """Ask for this to have `producer.Sender` itself; nobody listens where it looks for Kafka."""
    monkeypatch.setattr(producer, "FLUSH_AT_EXIT", 0.1)
    producer._sender = None
    yield
    producer._close()
    producer._sender = None


@pytest.fixture(autouse=True)
def kafka(request, monkeypatch):
    """Return what notes the records that were handed to Kafka."""
    if "real_producer" in request.fixturenames:
        return None
    notes = Notes()
    monkeypatch.setattr(producer, "Sender", lambda _servers: notes)
    monkeypatch.setattr(producer, "_sender", None)
    return notes


@pytest.fixture
def sent(kafka):
    """Return a function that returns the events which were handed to Kafka so far."""
    return lambda: kafka.events


@pytest.fixture
def seeded(db):
    call_command("seed", password=PASSWORD, verbosity=0)


@pytest.fixture
def people(seeded):
    return {person.username: person for person in get_user_model().objects.all()}


@pytest.fixture
def graph(people):
    """Return ada's graph, which `Cell biology` sees and `Everybody` does not."""
    return Graph.objects.select_related("owner").get(owner=people["ada"])


@pytest.fixture
def everybody(people):
    """Return the group of all three; grace owns it."""
    return Group.objects.get(name="Everybody")


@pytest.fixture
def sign_in(people):
    """Return a function that gives a test client signed in as the person named."""
    from django.test import Client

    def as_person(name):
        client = Client()
        client.force_login(people[name])
        return client

    return as_person


@pytest.fixture
def hub(monkeypatch):
    """Return a hub of this test's event loop."""
    fresh = Hub()
    monkeypatch.setattr("notifications.consumers.hub", fresh)
    monkeypatch.setattr("notifications.listener.hub", fresh)
    return fresh
