"""ZooKeeper and Kafka: one leader, nothing open to the outside, records that go through, topics as declared.

Asked with Debian's librdkafka and with Kafka's own tools, so that two clients of different origin agree. What a
test writes goes into a topic of its own, which it removes again.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pytest
from testinfra.host import Host

from tests.behaviour.conftest import comes_back_after_a_kill, journal, main_pid
from tests.behaviour.kafka import LOGIN, client, clients, properties, servers_of

FOUR_LETTERS = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10) as connection:
    connection.sendall(sys.argv[3].encode())
    answer = b""
    while piece := connection.recv(4096):
        answer += piece
print(answer.decode())
"""
# Several of Kafka's tools at the same time, by name: what each says when it is asked for its options.
HELPS = """
import json, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
def ask(tool):
    done = subprocess.run([tool, "--help"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return tool, done.stdout + done.stderr
with ThreadPoolExecutor() as pool:
    print(json.dumps(list(pool.map(ask, sys.argv[1:]))))
"""


def ask_zookeeper(host: Host, port: int, command: str) -> str:
    """Return ZooKeeper's answer to a four-letter command, asked on the host itself."""
    return host.check_output(
        "python3 -c %s %s %s %s", FOUR_LETTERS, zookeeper_address(host), str(port), command
    )


def zookeeper_address(host: Host) -> str:
    return properties(host, "/etc/zookeeper/zoo.cfg")["clientPortAddress"]


def wait_until_active(host: Host, unit: str, seconds: int = 120) -> None:
    """Wait for a unit; fails with its journal."""
    wait = "for i in $(seq %s); do systemctl is-active --quiet %s && exit; sleep 1; done; exit 1"
    assert host.run(wait, str(seconds), unit).rc == 0, journal(host, unit, 60)


@pytest.fixture(scope="module")
def zookeeper_port(deployed: dict[str, Any]) -> int:
    if not deployed["zookeeper"]:
        pytest.skip("the inventory puts no ZooKeeper on this host")
    return int(deployed["zookeeper"]["client_port"])


@pytest.fixture(scope="module")
def kafka_servers(host: Host, deployed: dict[str, Any]) -> str:
    if not deployed["kafka"]:
        pytest.skip("the inventory puts no Kafka on this host")
    servers = servers_of(host)
    assert servers.endswith(f":{deployed['kafka']['port']}")
    return servers


@pytest.fixture
def alone(host: Host, kafka_servers: str) -> None:
    """Leave a broker that works with others to tests/cluster, which looks at all of them meanwhile."""
    config = properties(host, "/etc/kafka/server.properties")
    lists = ("controller.quorum.bootstrap.servers", "controller.quorum.voters", "zookeeper.connect")
    if any("," in config.get(name, "") for name in lists):
        pytest.skip("the broker is not alone: tests/cluster does that to it")


@pytest.fixture
def own_topic(host: Host, kafka_servers: str) -> Iterator[str]:
    """Return the name of a topic that exists for one test alone."""
    topic = f"switchboard-test-{uuid.uuid4()}"
    client(host, kafka_servers, do="create", topic=topic)
    yield topic
    client(host, kafka_servers, do="delete", topic=topic)


# -- ZooKeeper ---------------------------------------------------------------------------------------


def test_there_is_exactly_one_zookeeper_leader(host: Host, zookeeper_port: int) -> None:
    """ZooKeeper serves: alone, or with exactly one leader."""
    config = properties(host, "/etc/zookeeper/zoo.cfg")
    servers = [key for key in config if key.startswith("server.")]
    answer = ask_zookeeper(host, zookeeper_port, "srvr")
    mode = next((line for line in answer.splitlines() if line.startswith("Mode: ")), answer)
    if not servers:
        assert mode == "Mode: standalone", journal(host, "zookeeper.service")
    elif mode == "Mode: leader":
        # the leader alone knows its followers: all others follow this one
        numbers = ask_zookeeper(host, zookeeper_port, "mntr")
        followers = next(
            line.split()[1]
            for line in numbers.splitlines()
            if line.startswith("zk_synced_followers")
        )
        assert float(followers) == len(servers) - 1
    else:
        assert mode == "Mode: follower", journal(host, "zookeeper.service")


@pytest.mark.parametrize(
    ("command", "sign"), [("ruok", "imok"), ("srvr", "Zookeeper version:"), ("mntr", "zk_version")]
)
def test_zookeeper_answers_what_monitoring_asks(
    host: Host, zookeeper_port: int, command: str, sign: str
) -> None:
    """ZooKeeper answers the commands that monitoring asks."""
    assert ask_zookeeper(host, zookeeper_port, command).startswith(sign)


@pytest.mark.parametrize("command", ["envi", "conf", "dump", "wchc"])
def test_zookeeper_tells_nothing_else(host: Host, zookeeper_port: int, command: str) -> None:
    """ZooKeeper refuses the commands that tell more."""
    assert "not in the whitelist" in ask_zookeeper(host, zookeeper_port, command)


def test_zookeeper_keeps_its_data_to_itself(host: Host, zookeeper_port: int) -> None:
    """ZooKeeper's data is where it stays, and for ZooKeeper alone."""
    folder = host.file(properties(host, "/etc/zookeeper/zoo.cfg")["dataDir"])
    assert folder.path.startswith("/var/lib/")
    assert (folder.user, folder.group, folder.mode) == ("zookeeper", "zookeeper", 0o750)
    assert host.file(f"{folder.path}/version-2").is_directory
    assert host.file(f"{folder.path}/myid").content_string.strip().isdigit()


# -- both --------------------------------------------------------------------------------------------

SERVICES = [("zookeeper.service", "zookeeper"), ("kafka.service", "kafka")]


@pytest.fixture(params=SERVICES, ids=[unit for unit, _ in SERVICES])
def service(request: pytest.FixtureRequest, deployed: dict[str, Any]) -> tuple[str, str]:
    """Return a unit of this host and its user."""
    unit, user = request.param
    if not deployed[user]:
        pytest.skip(f"the inventory puts no {unit} on this host")
    return unit, user


def test_it_listens_where_it_should_and_nowhere_else(
    host: Host, service: tuple[str, str], deployed: dict[str, Any]
) -> None:
    """The service listens at its own ports and at no other."""
    unit, user = service
    pid = main_pid(host, unit)
    # as the service's user: in a container not even root may look at the files of another user's process;
    # and from /, since find wants to come back to where it began, which may be somebody's closed home
    links = host.check_output(
        "cd / && runuser -u %s -- find /proc/%s/fd -lname 'socket:*' -printf '%%l\n'", user, pid
    )
    inodes = {link.strip()[len("socket:[") : -1] for link in links.splitlines()}
    assert inodes, journal(host, unit)
    tables = host.check_output("cat /proc/net/tcp; cat /proc/net/tcp6 2>/dev/null || true")
    rows = [line.split() for line in tables.splitlines()]
    listening = {
        int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and row[9] in inodes
    }
    wanted = {deployed["zookeeper"].get("client_port"), *deployed["kafka"].get("ports", [])}
    config = properties(host, "/etc/zookeeper/zoo.cfg") if user == "zookeeper" else {}
    secure = {int(config["secureClientPort"])} if "secureClientPort" in config else set()
    ensemble = {
        int(port)
        for key, value in config.items()
        if key.startswith("server.")
        for port in value.split(":")[1:]
    }
    # no JMX, no admin server: nothing but the port for clients and, in an ensemble, those of its members
    assert listening
    assert listening <= wanted | ensemble | secure
    own = len(deployed["kafka"]["ports"]) if user == "kafka" else 1 + len(secure)
    assert len(listening - ensemble) == own


def test_its_unit_is_what_the_role_promises(host: Host, service: tuple[str, str]) -> None:
    """The service's unit restarts always and is closed off from the rest of the host."""
    unit, _ = service
    names = "Restart,StartLimitIntervalUSec,NoNewPrivileges,ProtectSystem,ProtectHome,PrivateTmp"
    shown = host.check_output("systemctl show --property %s %s", names, unit)
    assert dict(line.split("=", 1) for line in shown.splitlines()) == {
        "Restart": "always",
        "StartLimitIntervalUSec": "0",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
    }


def test_its_heap_leaves_half_of_the_memory(host: Host, service: tuple[str, str]) -> None:
    """The service's heap leaves half of the host's memory to others."""
    unit, _ = service
    arguments = host.check_output("ps -ww -o args= -p %s", main_pid(host, unit)).split()
    heaps = [argument for argument in arguments if argument.startswith("-Xmx")]
    assert len(heaps) == 1
    total = int(host.check_output("awk '/^MemTotal/ {print $2}' /proc/meminfo")) // 1024
    assert 64 <= int(heaps[0].removeprefix("-Xmx").removesuffix("m")) <= total // 2
    assert not any("jmxremote" in argument for argument in arguments)


def test_it_may_not_write_where_it_need_not(host: Host, service: tuple[str, str]) -> None:
    """The service may not write its own program, configuration or units."""
    _, user = service
    places = "/etc/zookeeper /etc/kafka /opt/kafka /usr/local/lib/switchboard /etc/systemd/system"
    found = host.check_output(
        f"find {places} -xdev \\( -user %s -o -group %s -perm -g+w -o -perm -o+w ! -type l \\) 2>/dev/null || true",
        user,
        user,
    )
    assert found == ""


def test_nobody_else_may_move_its_data(host: Host, service: tuple[str, str]) -> None:
    """No folder above the service's data may be written by others, who could put another in its place."""
    unit, user = service
    path = {
        "zookeeper.service": "/etc/zookeeper/zoo.cfg",
        "kafka.service": "/etc/kafka/server.properties",
    }[unit]
    data = PurePosixPath(
        properties(host, path)["dataDir" if unit == "zookeeper.service" else "log.dirs"]
    )
    found = host.check_output(
        f"find {' '.join(map(str, data.parents))} -maxdepth 0 \\( -not -user root -not -user %s "
        "-o -perm -o+w -o -perm -g+w -not -group root -not -group %s \\)",
        user,
        user,
    )
    assert found == ""


# -- Kafka -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sent(host: Host, kafka_servers: str) -> dict[str, Any]:
    """Return what became of a record to a topic that is there, and of one to a topic that is not."""
    there, unknown = (f"switchboard-test-{uuid.uuid4()}" for _ in range(2))
    value = f"record {uuid.uuid4()}"
    produce = {"do": "produce", "value": value}
    _, (good, lost), (read, topics), _ = clients(
        host,
        kafka_servers,
        [{"do": "create", "topic": there}],
        [{**produce, "topic": there}, {**produce, "topic": unknown, "seconds": 4}],
        [{"do": "consume", "topic": there}, {"do": "list"}],
        [{"do": "delete", "topic": there}],
    )
    return {"good": good, "same": read == value, "lost": lost, "made": unknown in topics}


def test_a_record_goes_through(host: Host, sent: dict[str, Any]) -> None:
    """A record that is sent to Kafka comes out of it."""
    assert sent["good"] == ["delivered"], journal(host, "kafka.service")
    assert sent["same"]


def test_kafkas_own_tools_are_at_hand(host: Host, kafka_servers: str, own_topic: str) -> None:
    """Kafka's own tools send, receive and list."""
    value = f"record {uuid.uuid4()}"
    where = f"--bootstrap-server {kafka_servers} --topic {own_topic}"
    asked = host.file(LOGIN).exists
    kinds = ["producer.config", "consumer.config", "command-config"]
    if "-4." in host.check_output("readlink /opt/kafka/current"):
        kinds = kinds[2:] * 3  # Kafka 4 has one name for all tools (KIP-1147)
    producer, consumer, command = (f" --{kind} {LOGIN}" if asked else "" for kind in kinds)
    host.check_output(f"printf '%%s\n' %s | kafka-console-producer.sh {where}{producer}", value)
    read = host.check_output(
        f"kafka-console-consumer.sh {where}{consumer} --partition 0 --offset earliest"
        " --max-messages 1 --timeout-ms 30000 2>/dev/null"
    )
    assert read == value
    listed = host.check_output(
        f"kafka-topics.sh --bootstrap-server {kafka_servers} --list{command}"
    )
    assert own_topic in listed.split()


TOOLS = (
    "kafka-broker-api-versions.sh",
    "kafka-configs.sh",
    "kafka-consumer-groups.sh",
    "kafka-reassign-partitions.sh",
    "kafka-storage.sh",
)


@pytest.fixture(scope="module")
def helps(host: Host, kafka_servers: str) -> dict[str, str]:
    """Return what each of Kafka's tools says of itself; they start at the same time."""
    done = host.check_output(f"python3 -c %s {' '.join(TOOLS)}", HELPS)
    return dict(json.loads(done))


@pytest.mark.parametrize("tool", TOOLS)
def test_each_tool_finds_its_class(helps: dict[str, str], tool: str) -> None:
    """Each of Kafka's tools starts."""
    said = helps[tool]
    assert "usage" in said.lower() or "option" in said.lower()
    assert "ClassNotFound" not in said
    assert "NoClassDefFound" not in said


def test_the_broker_is_registered_in_zookeeper(
    host: Host, zookeeper_port: int, kafka_servers: str
) -> None:
    """Kafka is registered in ZooKeeper."""
    servers = f"{zookeeper_address(host)}:{zookeeper_port}"
    config = properties(host, "/etc/kafka/server.properties")
    _, _, below = config["zookeeper.connect"].partition("/")
    place = f"/{below}/brokers/ids".replace("//", "/")
    login = ""
    if host.file("/etc/kafka/jaas.conf").exists and host.file("/etc/kafka/jaas.conf").contains(
        "^Client"
    ):
        login = "KAFKA_OPTS=-Djava.security.auth.login.config=/etc/kafka/jaas.conf "
    said = host.check_output(f"{login}zookeeper-shell.sh {servers} ls {place} 2>&1")
    # what the tool says of its connection comes from a thread of its own, before the answer or after it
    ids = next((line for line in said.splitlines() if line.startswith("[")), said)
    assert config["broker.id"] in ids.strip("[]").split(", ")


def test_the_brokers_agree_among_themselves(
    host: Host, kafka_servers: str, deployed: dict[str, Any]
) -> None:
    """Without ZooKeeper, one controller leads the others, and none of them is behind."""
    if deployed["kafka"]["mode"] != "kraft":
        pytest.skip("the brokers of this host work with ZooKeeper")
    login = f"--command-config {LOGIN} " if host.file(LOGIN).exists else ""
    ask = (
        f"kafka-metadata-quorum.sh --bootstrap-server {kafka_servers} {login}describe --replication"
    )
    rows = [line.split() for line in host.check_output(ask).splitlines()]
    states = {
        row[0]: (row[rows[0].index("Status")], int(row[rows[0].index("Lag")])) for row in rows[1:]
    }
    config = properties(host, "/etc/kafka/server.properties")
    named = "controller.quorum.bootstrap.servers"
    brokers = len(config.get(named, config.get("controller.quorum.voters", "")).split(","))
    voting = min(brokers - (brokers + 1) % 2, 5) if named in config else brokers
    kinds = sorted(state for state, _ in states.values())
    assert kinds == ["Follower"] * (voting - 1) + ["Leader"] + ["Observer"] * (brokers - voting)
    assert all(lag < 100 for _, lag in states.values()), states


def test_topics_are_not_made_by_asking_for_them(sent: dict[str, Any]) -> None:
    """Kafka makes no topic because somebody asks for it."""
    assert sent["lost"] in (["UNKNOWN_TOPIC_OR_PART"], ["_UNKNOWN_TOPIC"], ["_MSG_TIMED_OUT"])
    assert not sent["made"]


def test_topics_are_as_declared(host: Host, kafka_servers: str, deployed: dict[str, Any]) -> None:
    """Kafka's topics are those of the inventory, with their partitions and settings and no other settings."""
    declared = deployed["kafka"]["topics"]
    present = [topic for topic in declared if topic.get("state", "present") == "present"]
    there = client(host, kafka_servers, do="list", config_of=[topic["name"] for topic in present])
    for topic in present:
        found = there[topic["name"]]
        assert found["partitions"] == topic.get("partitions", 1), topic["name"]
        if "replication_factor" in topic:
            assert found["replication_factor"] == topic["replication_factor"], topic["name"]
        for key, value in topic.get("config", {}).items():
            if value is not None:
                text = str(value).lower() if isinstance(value, bool) else str(value)
                assert found["config"][key] == text, f"{topic['name']}: {key}"
        foreign = {
            key: value for key, value in found["own"].items() if key not in topic.get("config", {})
        }
        assert foreign == {}, f"{topic['name']} has settings that nobody asked for: {foreign}"
    absent = {topic["name"] for topic in declared} - {topic["name"] for topic in present}
    assert not absent & there.keys()


def test_the_brokers_number_is_on_its_disk(host: Host, kafka_servers: str) -> None:
    """Kafka's number is the one that its disk was made for."""
    config = properties(host, "/etc/kafka/server.properties")
    stored = properties(host, f"{config['log.dirs']}/meta.properties")
    key = "node.id" if "process.roles" in config else "broker.id"
    assert stored[key] == config[key]


def test_kafkas_files_belong_to_whom_they_should(host: Host, kafka_servers: str) -> None:
    """Kafka's files have the owners and modes that they should."""
    config = host.file("/etc/kafka/server.properties")
    assert (config.user, config.group, config.mode) == ("root", "kafka", 0o640)
    data = host.file(properties(host, config.path)["log.dirs"])
    assert (data.user, data.group, data.mode) == ("kafka", "kafka", 0o750)
    release = host.file("/opt/kafka/current")
    assert release.is_symlink
    assert host.file(release.linked_to).is_directory
    assert host.check_output("find /opt/kafka/ ! -user root -o -perm -o+w ! -type l") == ""


def test_kafka_has_time_to_hand_over(
    host: Host, kafka_servers: str, deployed: dict[str, Any]
) -> None:
    """Kafka gets the time that it needs to stop, and starts after ZooKeeper where it works with it."""
    stop = host.check_output("grep -h ^TimeoutStopSec= /etc/systemd/system/kafka.service")
    assert int(stop.split("=")[1]) >= 300
    order = host.check_output("systemctl show --property After --value kafka.service").split()
    assert ("zookeeper.service" in order) == (deployed["kafka"]["mode"] == "zookeeper")


@pytest.mark.disruptive
def test_it_comes_back_after_a_kill(host: Host, alone: None, service: tuple[str, str]) -> None:
    unit, _ = service
    comes_back_after_a_kill(host, unit)


@pytest.mark.disruptive
def test_zookeeper_comes_back_from_the_sixth_kill_too(host: Host, zookeeper_port: int) -> None:
    # systemd gives up after five starts in ten seconds unless it is told not to
    for _ in range(6):
        host.run("systemctl kill --signal=KILL zookeeper.service")
        host.run("systemctl restart --no-block zookeeper.service")
        time.sleep(0.5)
    wait_until_active(host, "zookeeper.service")
    assert ask_zookeeper(host, zookeeper_port, "ruok") == "imok"


@pytest.mark.disruptive
def test_kafka_outlives_a_restart_of_zookeeper(
    host: Host, alone: None, zookeeper_port: int, kafka_servers: str, own_topic: str
) -> None:
    before = main_pid(host, "kafka.service")
    host.check_output("systemctl restart zookeeper.service")
    value = f"record {uuid.uuid4()}"
    said = client(host, kafka_servers, do="produce", topic=own_topic, value=value)
    assert said == ["delivered"], journal(host, "kafka.service")
    assert main_pid(host, "kafka.service") == before


@pytest.mark.disruptive
def test_kafka_keeps_its_records_over_a_clean_stop(
    host: Host, alone: None, kafka_servers: str, own_topic: str
) -> None:
    value = f"record {uuid.uuid4()}"
    client(host, kafka_servers, do="produce", topic=own_topic, value=value)
    host.check_output("systemctl stop kafka.service")
    result = host.check_output("systemctl show --property Result --value kafka.service")
    host.check_output("systemctl start kafka.service")
    assert result == "success", journal(host, "kafka.service", 60)
    assert client(host, kafka_servers, do="consume", topic=own_topic) == value
