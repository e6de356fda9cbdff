"""A client on the host that asks Kafka as somebody: as the brokers' own user, as one of Kafka's users, or as nobody.

Its start costs more than most of what it is asked, so one process does what belongs together.
"""

from __future__ import annotations

import json
from typing import Any

from testinfra.host import Host

from tests.behaviour.conftest import journal

LOGIN = "/etc/kafka/admin.properties"
NOBODY: dict[str, Any] = {}

# librdkafka, with what is to be done as JSON in its argument: steps, each of jobs that are done at the same time. A
# site's password is read on the host, since sudo notes what it is to run.
CLIENT = """
import json, re, sys
from concurrent.futures import ThreadPoolExecutor
sys.path.insert(0, "/usr/local/lib/switchboard")
from kafka_client import login_of
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition, OFFSET_BEGINNING
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

def login(job):
    own, who = login_of(job["login"]), job["who"]
    if not who:
        return own if who is None else {}
    # as somebody else, by the same protocol
    password = who.get("password")
    if password is None:
        (password,) = re.findall('^KAFKA_SASL_PASSWORD="(.+)"$', open(who["password_file"]).read(), re.M)
    return {**own, "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": who["name"], "sasl.password": password}

def act(job, admin, common):
    who, seconds = job["who"], job["seconds"]

    def done(futures):
        for future in futures.values():
            future.result(seconds)

    if job["do"] == "list":
        there = admin.list_topics(timeout=seconds).topics
        answer = {
            name: {"partitions": len(topic.partitions),
                   "replication_factor": max(len(part.replicas) for part in topic.partitions.values())}
            for name, topic in there.items() if topic.error is None
        }
        for name in job.get("config_of", []):
            (future,) = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, name)]).values()
            entries = list(future.result(seconds).values())
            answer[name]["config"] = {entry.name: entry.value for entry in entries}
            # DYNAMIC_TOPIC_CONFIG of KIP-226: set on the topic itself
            answer[name]["own"] = {entry.name: entry.value for entry in entries if int(entry.source) == 1}
        return answer
    if job["do"] == "create":
        return done(admin.create_topics([NewTopic(job["topic"], num_partitions=1, replication_factor=-1)]))
    if job["do"] == "delete":
        return done(admin.delete_topics([job["topic"]]))
    if job["do"] == "produce":
        reports = []
        producer = Producer({**common, "acks": "all", "message.timeout.ms": min(8, seconds) * 1000})
        producer.produce(job["topic"], job["value"].encode(), on_delivery=lambda error, message: reports.append(error))
        producer.flush(15)
        return [str(error.name()) if error else "delivered" for error in reports]
    unused = f"{who['name']}.unused" if who else "unused"
    group = job.get("group", unused)
    consumer = Consumer({**common, "group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    if group == unused:
        consumer.assign([TopicPartition(job["topic"], 0, OFFSET_BEGINNING)])
    else:
        consumer.subscribe([job["topic"]])
    try:
        message = consumer.poll(seconds)
        if message is None:
            return None
        if message.error():
            raise KafkaException(message.error())
        return message.value().decode()
    finally:
        consumer.close()

def told(job):
    said = []
    common = {**login(job), "bootstrap.servers": job["servers"], "allow.auto.create.topics": True, "log_level": 0,
              "error_cb": lambda error: said.append(error.name())}
    admin = AdminClient(common)
    try:
        return act(job, admin, common)
    except KafkaException as error:
        admin.poll(1)
        # that it was not let in tells more than that no broker answered then
        return {"refused": "_AUTHENTICATION" if "_AUTHENTICATION" in said else error.args[0].name()}
    except TimeoutError:  # of an answer that a future waits for
        return {"refused": "_TIMED_OUT"}

with ThreadPoolExecutor(24) as pool:
    print(json.dumps([list(pool.map(told, jobs)) for jobs in json.loads(sys.argv[1])]))
"""


def properties(host: Host, path: str) -> dict[str, str]:
    """Return the keys and values of a properties file on the host."""
    lines = host.file(path).content_string.splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def servers_of(host: Host) -> str:
    """Return host:port at which the broker tells its clients to ask."""
    listeners = properties(host, "/etc/kafka/server.properties")["advertised.listeners"]
    return listeners.split(",")[0].partition("://")[2]


def clients(host: Host, servers: str, *steps: list[dict[str, Any]]) -> list[list[Any]]:
    """Let librdkafka on the host do one step after the other, the jobs of a step at the same time.

    Args:
        host: with a broker.
        servers: host:port of the broker.
        steps: their jobs, each as `client` is told of one.

    Returns:
        What each job of each step found, or ``{"refused": …}``.
    """
    common = {"servers": servers, "login": LOGIN, "who": None, "seconds": 30}
    told = [[{**common, **job} for job in jobs] for jobs in steps]
    done = host.run("python3 -c %s %s", CLIENT, json.dumps(told))
    assert done.rc == 0, done.stderr + journal(host, "kafka.service")
    found: list[list[Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def client(
    host: Host, servers: str, who: dict[str, Any] | None = None, seconds: int = 30, **job: Any
) -> Any:
    """Let librdkafka on the host do one thing and return what it found, or ``{"refused": …}``.

    Args:
        host: with a broker.
        servers: host:port of the broker.
        who: name, and password or password_file, a file of a site's secrets; NOBODY logs in as nobody, None as the
            brokers' own user where anybody has to.
        seconds: after which it waits no longer.
        job: what it does, and with what.
    """
    return clients(host, servers, [{"who": who, "seconds": seconds, **job}])[0][0]
