"""People, groups and graphs; and a Kafka producer that only takes notes."""

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command

from graphs.models import Graph, Group
from notifications import producer
from notifications.hub import Hub

PASSWORD = "engine-no-2"


class Notes:
    """Stands in for `producer.Sender`."""

    def __init__(self):
        self.events = []
        self.broken = False

    def send(self, event):
        self.events.append(event)

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
def sent(request, monkeypatch):
    """Return the list of events that were handed to Kafka."""
    if "real_producer" in request.fixturenames:
        return []
    notes = Notes()
    monkeypatch.setattr(producer, "Sender", lambda _servers: notes)
    monkeypatch.setattr(producer, "_sender", None)
    return notes.events


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
