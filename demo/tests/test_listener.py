"""The thread that reads Kafka, with a stand-in for the client library."""

import asyncio
import dataclasses
import logging
import threading

import confluent_kafka
import pytest

from notifications import listener
from notifications.schema import encode
from tests.test_schema import EVENT


class Metadata:
    def __init__(self, partitions):
        self.partitions = partitions


class Message:
    def __init__(self, value, error=None):
        self._value, self._error = value, error

    def error(self):
        return self._error

    def value(self):
        return self._value

    def topic(self):
        return "test.group"

    def offset(self):
        return 5


class Broker:
    """What every consumer of one test sees."""

    def __init__(self):
        self.topics = {
            "test.owner": Metadata({0: None}),
            "test.group": Metadata({0: None, 1: None}),
            "test.watching": Metadata({0: None}),
            "other": Metadata({0: None}),
        }
        self.messages = []
        self.assigned = []
        self.configs = []
        self.closed = 0
        self.fail = None
        self.ahead = 0

    def consumer(self, config, logger=None):
        self.configs.append(config)
        return Consumer(self)


class Consumer:
    def __init__(self, broker):
        self.broker = broker

    def list_topics(self, timeout):
        if self.broker.fail:
            raise self.broker.fail
        return self.broker

    def get_watermark_offsets(self, partition, timeout=None, cached=False):
        return (0, 10 + partition.partition + (self.broker.ahead if cached else 0))

    def position(self, partitions):
        return partitions

    def assign(self, partitions):
        self.broker.assigned.append([(p.topic, p.partition, p.offset) for p in partitions])

    def poll(self, timeout):
        if self.broker.messages:
            message = self.broker.messages.pop(0)
            if isinstance(message, Exception):
                raise message
            return message
        threading.Event().wait(0.01)
        return None

    def close(self):
        self.broker.closed += 1


class Hub:
    def __init__(self):
        self.heard = []

    def publish(self, event):
        self.heard.append(event)

    def catch_up(self):
        self.heard.append("catch up")


@pytest.fixture
def broker(monkeypatch):
    broker = Broker()
    monkeypatch.setattr(confluent_kafka, "Consumer", broker.consumer)
    monkeypatch.setattr(listener, "BACK_OFF", (0.01, 0.02))
    return broker


@pytest.fixture
async def hub(broker):
    hub = Hub()
    running = listener.Listener(asyncio.get_running_loop(), hub)
    running.start()
    yield hub
    await asyncio.to_thread(running.stop)
    assert not running._thread.is_alive()


async def until(condition):
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen within 5 seconds")


async def test_all_partitions_are_read_from_their_ends_and_then_the_sockets_catch_up(broker, hub):
    await until(lambda: hub.heard)
    assert broker.assigned == [
        [
            ("test.owner", 0, 10),
            ("test.group", 0, 10),
            ("test.group", 1, 11),
            ("test.watching", 0, 10),
        ]
    ]
    assert hub.heard == ["catch up"]


async def test_a_record_reaches_the_hub_and_a_bad_one_is_skipped(broker, hub, caplog):
    later = encode(EVENT).replace(b'"version": 2', b'"version": 3')
    broker.messages += [Message(b"{"), Message(later), Message(encode(EVENT))]
    await until(lambda: EVENT in hub.heard)
    assert "its version is '3', not 2" in caplog.text
    assert len(broker.assigned) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        RuntimeError("anything"),
        confluent_kafka.KafkaException(confluent_kafka.KafkaError(-195)),
        Message(None, confluent_kafka.KafkaError(1)),
    ],
    ids=["exception", "transport", "offset out of range"],
)
async def test_trouble_ends_in_a_new_assignment_and_a_catch_up(broker, hub, trouble):
    await until(lambda: broker.assigned)
    other = dataclasses.replace(EVENT, sequence=8)
    broker.messages += [Message(encode(EVENT)), trouble, Message(encode(other))]
    await until(lambda: other in hub.heard)
    assert hub.heard == ["catch up", EVENT, "catch up", other]
    assert broker.closed == 1
    groups = {config["group.id"] for config in broker.configs}
    assert len(groups) == 2
    # below the prefix, where the site's user of Kafka may have groups
    assert all(group.startswith("test.notifications-") for group in groups)


async def test_an_absent_broker_is_asked_again_and_said_once(broker, caplog):
    caplog.set_level(logging.INFO)
    broker.fail = confluent_kafka.KafkaException(confluent_kafka.KafkaError(-195))
    hub = Hub()
    running = listener.Listener(asyncio.get_running_loop(), hub)
    running.start()
    await until(lambda: broker.closed > 5)
    broker.fail = None
    await until(lambda: hub.heard)
    await asyncio.to_thread(running.stop)
    said = [record.message for record in caplog.records if "notifications" in record.name]
    assert len(said) == 2
    assert said[0].startswith("Kafka cannot be read")
    assert said[1] == "Listening to 4 partitions of Kafka"


async def test_a_missing_topic_is_named(broker, caplog):
    del broker.topics["test.group"]
    running = listener.Listener(asyncio.get_running_loop(), Hub())
    running.start()
    await until(lambda: broker.closed > 2)
    await asyncio.to_thread(running.stop)
    assert "no such topic: test.group" in caplog.text


async def test_new_partitions_are_taken_up(broker, hub, monkeypatch):
    monkeypatch.setattr(listener, "REFRESH", 0.05)
    await until(lambda: broker.assigned)
    broker.topics["test.group"].partitions[2] = None
    await until(lambda: len(broker.assigned) > 1)
    assert ("test.group", 2, 12) in broker.assigned[-1]
    await until(lambda: hub.heard == ["catch up", "catch up"])


async def test_the_first_scope_starts_one_listener(monkeypatch, settings):
    started = []

    class Note:
        def __init__(self, loop, hub):
            started.append(loop)

        def start(self):
            pass

        def stop(self):
            pass

    async def application(scope, receive, send):
        pass

    monkeypatch.setattr(listener, "Listener", Note)
    wrapped = listener.WithListener(application)
    assert not started
    settings.NOTIFICATIONS_KAFKA_SERVERS = ""
    await wrapped({"type": "http"}, None, None)
    assert not started
    settings.NOTIFICATIONS_KAFKA_SERVERS = "127.0.0.1:1"
    await wrapped({"type": "http"}, None, None)
    await wrapped({"type": "websocket"}, None, None)
    assert started == [asyncio.get_running_loop()]
