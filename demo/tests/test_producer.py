"""The producer of a process, with a stand-in for the client library."""

import logging
import os
import threading

import pytest
from confluent_kafka import KafkaError, KafkaException

from notifications import producer
from notifications.schema import decode
from tests.test_schema import EVENT


class Client:
    """Stands in for `confluent_kafka.Producer`."""

    full = False

    def __init__(self, config, logger=None):
        self.config = config
        self.records = []
        self.reports = []
        self.flushed = None

    def __len__(self):
        return len(self.records)

    def produce(self, topic, *, key, value, on_delivery):
        if self.full:
            raise BufferError
        self.records.append((topic, key, value))
        self.reports.append(on_delivery)

    def poll(self, timeout):
        threading.Event().wait(timeout)

    def flush(self, timeout):
        self.flushed = timeout
        return len(self.records)


@pytest.fixture
def real(real_producer, monkeypatch):
    """Have `Sender` itself, over the client that stands in."""
    monkeypatch.setattr("confluent_kafka.Producer", Client)


def test_a_record_goes_to_its_kinds_topic_keyed_by_recipient(real):
    producer.send([EVENT])
    [(topic, key, value)] = producer._sender._producer.records
    assert (topic, key) == ("test.group", "3")
    assert decode(value) == EVENT
    config = producer._sender._producer.config
    assert config["enable.idempotence"] is True
    assert config["acks"] == "all"


def test_one_producer_a_process_and_none_of_it_flushed_by_a_send(real):
    producer.send([EVENT])
    first = producer._sender
    producer.send([EVENT, EVENT])
    assert producer._sender is first
    assert len(first._producer.records) == 3
    assert first._producer.flushed is None


def test_without_brokers_nothing_is_made(real, settings):
    settings.NOTIFICATIONS_KAFKA_SERVERS = ""
    producer.send([EVENT])
    assert producer._sender is None


def test_a_forked_process_makes_its_own(real):
    producer.send([EVENT])
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            inherited = producer._sender
            producer.send([EVENT])
            new = producer._sender is not inherited and len(producer._sender._producer.records) == 1
            os.write(writing, b"new" if new else b"inherited")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    assert os.read(reading, 20) == b"new"
    os.close(reading)


def test_a_producer_beyond_repair_is_replaced(real):
    class Fatal:
        def fatal(self):
            return True

        def str(self):
            return "out of order"

    producer.send([EVENT])
    first = producer._sender
    first._failed(Fatal())
    producer.send([EVENT])
    assert producer._sender is not first


def test_a_full_queue_is_said_once_and_raises_nothing(real, caplog):
    caplog.set_level(logging.INFO)
    producer.send([EVENT])
    producer._sender._producer.full = True
    producer.send([EVENT] * 3)
    assert [record.message for record in caplog.records] == [
        "The queue to Kafka is full: the relay sends what does not fit"
    ]


def test_a_failed_delivery_is_logged_without_its_content(real, caplog):
    class Message:
        def topic(self):
            return "test.group"

    class Error:
        def str(self):
            return "timed out"

        def code(self):
            return -192

    producer.send([EVENT])
    producer._sender._producer.reports[0](Error(), Message())
    assert "test.group was not delivered: timed out" in caplog.text
    assert EVENT.message not in caplog.text


def test_a_producer_that_takes_a_topic_for_missing_is_replaced(real, monkeypatch, caplog):
    def refuse(self, *_arguments, **_options):
        raise KafkaException(KafkaError(KafkaError._UNKNOWN_TOPIC))

    producer.send([EVENT])
    first = producer._sender
    with monkeypatch.context() as patch:
        patch.setattr(Client, "produce", refuse)
        producer.send([EVENT, EVENT])
        assert first._failed_events == [EVENT.event] * 2
        assert not first.broken  # young: the topic may come yet
        monkeypatch.setattr(producer, "RENEW", 0)
        producer.send([EVENT])
    producer.send([EVENT])
    assert producer._sender is not first
    assert "test.group was not queued" in caplog.text


def test_it_logs_in_where_the_site_has_a_user_of_kafkas(real, settings):
    settings.NOTIFICATIONS_KAFKA_LOGIN = {"sasl.username": "lab", "sasl.password": "a-word-of-lab"}
    producer.send([EVENT])
    config = producer._sender._producer.config
    assert (config["sasl.username"], config["sasl.password"]) == ("lab", "a-word-of-lab")


def test_it_logs_in_nowhere_by_itself(real):
    producer.send([EVENT])
    assert not any("sasl" in key for key in producer._sender._producer.config)
