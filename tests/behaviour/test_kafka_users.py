"""Who may ask Kafka what, where it asks for passwords: nobody without one, each site its own topics, and no secret out.

What is written goes into topics of the tests' own, two below a user's prefix, which are removed again.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from testinfra.host import Host

from tests.behaviour.conftest import journal
from tests.behaviour.kafka import LOGIN, NOBODY, client, clients, properties, servers_of

# What a user reads and writes on the host, looked for by a program that takes the words from the files themselves, so
# that no list of processes shows them.
SEARCH = r"""
import os, re, stat, subprocess, sys
words = set()
for path in sys.argv[1:]:
    text = open(path).read()
    words |= set(re.findall(r'\bpassword="([^"]+)"', text)) | set(re.findall(r'KAFKA_SASL_PASSWORD="([^"]+)"', text))
assert words and all(len(word) >= 12 for word in words), "no passwords were found"
words = [word.encode() for word in words]

def told(where, data):
    for word in words:
        if word in data:
            print(where)

ME = os.getpid()
for number in filter(str.isdigit, os.listdir("/proc")):
    try:
        told(f"arguments of process {number}", open(f"/proc/{number}/cmdline", "rb").read())
    except OSError:
        pass  # it has ended, or is not ours to see
for name in ("journalctl --no-pager -q", "systemctl show kafka.service", "systemctl cat kafka.service"):
    told(name, subprocess.run(name.split(), capture_output=True, check=True).stdout)
for top in ("/etc", "/usr/local", "/opt/kafka", "/var/lib", "/var/log", "/run/systemd", "/tmp", "/var/tmp", "/root"):
    for folder, folders, names in os.walk(top):
        folders[:] = [one for one in folders if not os.path.ismount(os.path.join(folder, one))]
        for name in names:
            path = os.path.join(folder, name)
            try:
                status = os.lstat(path)
                if not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o004 or status.st_size > 2**22:
                    continue
                told(path, open(path, "rb").read())
            except OSError:
                pass  # it is gone
"""
# What each way in at the port of the controllers comes to; of its address, a site's name and the file of its password.
CONTROLLER = r"""
import json, re, sys
sys.path.insert(0, "/usr/local/lib/switchboard")
from kafka_client import Connection, login_of
address, name, path = sys.argv[1:]
own = login_of("/etc/kafka/admin.properties")
(word,) = re.findall('^KAFKA_SASL_PASSWORD="(.+)"$', open(path).read(), re.M)
site = {**own, "sasl.username": name, "sasl.password": word}
nobody = {**own, "security.protocol": own["security.protocol"].removeprefix("SASL_")}
ways = {"broker": own, "nobody": nobody, "site": {**site, "sasl.mechanism": "SCRAM-SHA-512"}, "plain site": site}
said = {}
for way, login in ways.items():
    try:
        with Connection(address, login, 10) as connection:
            said[way] = connection.quorum()[0] > 0
    except Exception as error:
        said[way] = type(error).__name__
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def kafka(deployed: dict[str, Any]) -> dict[str, Any]:
    if not deployed["kafka"].get("authentication"):
        pytest.skip("the inventory lets everybody use Kafka, or puts none on this host")
    return dict(deployed["kafka"])


def test_no_site_reaches_what_kafka_believes(
    host: Host, deployed: dict[str, Any], kafka: dict[str, Any]
) -> None:
    """Who writes to ZooKeeper gives himself any right in Kafka: where it asks nobody, no site reaches it."""
    port = deployed["zookeeper"].get("client_port")
    if not port or host.run("grep -qs authProvider.sasl /etc/zookeeper/zoo.cfg").rc == 0:
        pytest.skip("ZooKeeper is not on this host, or asks who comes")
    reach = f"timeout 10 bash -c '</dev/tcp/127.0.0.1/{port}'"
    assert host.run(reach).rc == 0
    for user in ("nobody", *[site["name"] for site in deployed["django"].get("sites", [])]):
        assert host.run(f"runuser -u {user} -- {reach}").rc == 1, f"{user} reaches ZooKeeper"


@pytest.fixture(scope="module")
def servers(host: Host, kafka: dict[str, Any]) -> str:
    return servers_of(host)


@pytest.fixture(scope="module")
def site(host: Host, kafka: dict[str, Any], deployed: dict[str, Any]) -> dict[str, str]:
    """Return a site that uses Kafka, with the file that its own processes have the password of."""
    users = {user["name"] for user in kafka["users"]}
    for name in sorted(users & {site["name"] for site in deployed["django"].get("sites", [])}):
        path = f"/etc/switchboard/{name}/secrets.env"
        if host.file(path).contains("^KAFKA_SASL_PASSWORD="):
            return {"name": name, "password_file": path}
    pytest.skip("no site of this host logs in to Kafka")


@pytest.fixture(scope="module")
def topics(
    host: Host, servers: str, site: dict[str, str], kafka: dict[str, Any]
) -> Iterator[dict[str, str]]:
    """Return the names of topics with a record each: the site's `own`, `kept`, which is too, and a `foreign` one."""
    unique = f"switchboard-test-{uuid.uuid4()}"
    names = {
        "own": f"{site['name']}.{unique}",
        "kept": f"{site['name']}.{unique}-kept",
        "foreign": unique,  # no user of the inventory may use it
    }
    values = {"own": "mine", "kept": "kept", "foreign": "theirs"}
    make = [{"do": "create", "topic": topic} for topic in names.values()]
    write = [
        {
            "do": "produce",
            "topic": topic,
            "value": values[name],
            "who": site if name == "own" else None,
        }
        for name, topic in names.items()
    ]
    assert clients(host, servers, make, write) == [[None] * 3, [["delivered"]] * 3]
    yield names
    clients(host, servers, [{"do": "delete", "topic": topic} for topic in names.values()])


def test_the_controllers_let_the_brokers_own_user_in_alone(
    host: Host, kafka: dict[str, Any], site: dict[str, str]
) -> None:
    """Who writes to the controllers gives himself any right in Kafka: no site gets in there, and nobody else."""
    if kafka["mode"] != "kraft":
        pytest.skip("the brokers of this host work with ZooKeeper")
    config = properties(host, "/etc/kafka/server.properties")
    places = (one.split("://") for one in config["listeners"].split(","))
    address = dict(places)["CONTROLLER"]
    ask = ("python3 -c %s %s %s %s", CONTROLLER, address, site["name"], site["password_file"])
    said = json.loads(host.check_output(*ask))
    assert said.pop("broker") is True
    assert all(isinstance(end, str) for end in said.values()), said
    assert said["plain site"] == "LoginRefused"


# -- who gets in -------------------------------------------------------------------------------------


JOBS: dict[str, dict[str, Any]] = {
    "list": {},
    "produce": {"value": "refused"},
    "consume": {},
    "create": {},
}
# How those that wait for an answer end without one, too.
QUIET: dict[str, Any] = {"produce": ["_MSG_TIMED_OUT"], "consume": None}


@pytest.fixture(scope="module")
def told(
    host: Host, servers: str, site: dict[str, str], topics: dict[str, str]
) -> dict[str, dict[str, Any]]:
    """Return what everybody was told, by who asked and for what, and what the broker knows afterwards.

    Most of it waits for answers that do not come, so one process asks all at once.
    """
    own, kept, foreign = topics["own"], topics["kept"], topics["foreign"]
    broker = re.search(r'username="(.+?)"', host.file(LOGIN).content_string)
    assert broker
    wrong = {
        "wrong password": {**site, "password": "x" * 40},
        "unknown name": {**site, "name": "nobody-of-this-name"},
        "brokers' name": {**site, "name": broker[1]},
    }
    asked: dict[str, dict[str, Any]] = {
        "list": {"do": "list"},
        "read own": {"do": "consume", "topic": own},
        "read own in a group": {"topic": own, "group": f"{site['name']}.switchboard-test"},
        "read own in another's group": {"topic": own, "group": "switchboard-test"},
        "write foreign": {"do": "produce", "topic": foreign, "value": "not mine"},
        # librdkafka goes on asking for a topic that it was given by hand
        "read foreign": {"topic": foreign, "seconds": 5},
        "make": {"do": "create", "topic": f"{own}-more"},
        "delete": {"do": "delete", "topic": own},
    }
    jobs = {name: {"do": "consume", "who": site, **job} for name, job in asked.items()}
    jobs |= {name: {"do": "list", "who": who, "seconds": 4} for name, who in wrong.items()}
    for do, job in JOBS.items():
        topic = f"{kept}-more" if do == "create" else kept
        jobs[f"nobody: {do}"] = {"do": do, "who": NOBODY, "seconds": 4, "topic": topic, **job}
    after = {
        "list after": {"do": "list"},
        "read foreign after": {"do": "consume", "topic": foreign},
        "read kept after": {"do": "consume", "topic": kept},
    }
    said, known = clients(host, servers, [*jobs.values()], [*after.values()])
    return dict(zip([*jobs, *after], [*said, *known], strict=True))


@pytest.mark.parametrize("job", JOBS)
def test_nobody_gets_in_without_a_password(
    told: dict[str, Any], topics: dict[str, str], job: str
) -> None:
    """Kafka lets nobody in who gives no password."""
    said = told[f"nobody: {job}"]
    quietly = job in QUIET and said == QUIET[job]
    assert quietly or said in [
        {"refused": why} for why in ("_TRANSPORT", "_TIMED_OUT", "_ALL_BROKERS_DOWN")
    ]
    assert f"{topics['kept']}-more" not in told["list after"]
    assert told["read kept after"] == "kept"


def test_a_wrong_password_lets_nobody_in(host: Host, told: dict[str, Any]) -> None:
    """Kafka lets nobody in with a wrong password, nor with a name that it does not know."""
    said = [told["wrong password"], told["unknown name"]]
    assert said == [{"refused": "_AUTHENTICATION"}] * 2, journal(host, "kafka.service")


def test_the_brokers_own_user_has_its_own_password(told: dict[str, Any]) -> None:
    """A site's password does not let it in as the brokers' own user."""
    assert told["brokers' name"] == {"refused": "_AUTHENTICATION"}


# -- what who is in may do ---------------------------------------------------------------------------


def test_a_site_uses_its_own_topics(told: dict[str, Any]) -> None:
    """A site sends to its own topics and reads from them, in a group of its own too."""
    assert told["read own"] == "mine"  # which it has sent, too
    assert told["read own in a group"] == "mine"


def test_a_site_sees_no_topic_but_its_own(
    told: dict[str, Any], site: dict[str, str], topics: dict[str, str]
) -> None:
    """A site is told of its own topics and of no other."""
    assert topics["own"] in told["list"]
    assert [name for name in told["list"] if not name.startswith(f"{site['name']}.")] == []


def test_a_site_neither_reads_nor_writes_what_is_not_its_own(told: dict[str, Any]) -> None:
    """A site may neither send to a topic that is not its own nor read from it."""
    assert told["write foreign"] == ["TOPIC_AUTHORIZATION_FAILED"]
    assert told["read foreign"] is None
    assert told["read foreign after"] == "theirs"


def test_a_site_joins_no_group_but_its_own(told: dict[str, Any]) -> None:
    """A site may not join another's group of consumers."""
    assert told["read own in another's group"] == {"refused": "GROUP_AUTHORIZATION_FAILED"}


def test_a_site_changes_no_topic(told: dict[str, Any], topics: dict[str, str]) -> None:
    """A site may neither make nor delete topics, its own neither."""
    refused = {"refused": "TOPIC_AUTHORIZATION_FAILED"}
    assert (told["make"], told["delete"]) == (refused, refused)
    assert topics["own"] in told["list after"]
    assert f"{topics['own']}-more" not in told["list after"]


# -- secrets -----------------------------------------------------------------------------------------


def test_no_password_of_kafka_is_where_others_read_it(
    host: Host, kafka: dict[str, Any], site: dict[str, str]
) -> None:
    """No password of Kafka stands in a process's arguments, the journal, a unit or a file that all may read."""
    files = f"/etc/kafka/jaas.conf {LOGIN} {site['password_file']}"
    found = host.check_output(f"python3 -c %s {files}", SEARCH)
    assert found == ""
    for path in ("/etc/kafka/jaas.conf", LOGIN):
        file = host.file(path)
        assert (file.user, file.group, file.mode) == ("root", "kafka", 0o640), path


# -- as data -----------------------------------------------------------------------------------------

OTHER: dict[str, Any] = {
    **{"name": "switchboard-test", "password": "a-first-password-of-a-test"},
    **{"topics": ["x.*"], "groups": ["switchboard-test.*"]},
}


class Users:
    """The module, with the users of the inventory beside those of a test."""

    def __init__(self, host: Host, servers: str, kafka: dict[str, Any], deployed: dict[str, Any]):
        self.host, self.servers = host, servers
        self.quorum = kafka["mode"] == "kraft"
        sites = {site["name"] for site in deployed["django"].get("sites", [])}
        self.kept = []
        for user in kafka["users"]:
            if user["name"] not in sites:
                pytest.skip("the inventory has users whose password is nowhere on this host")
            text = host.file(f"/etc/switchboard/{user['name']}/secrets.env").content_string
            found = re.search(r'KAFKA_SASL_PASSWORD="(.+)"', text)
            assert found, user["name"]
            self.kept.append({**user, "password": found[1]})

    def declare(self, *users: dict[str, Any], check: bool = False) -> dict[str, Any]:
        """Declare users beside those of the inventory and return the module's result."""
        options = {
            "bootstrap_servers": self.servers,
            "config": LOGIN,
            "users": [*self.kept, *users],
            "quorum": self.quorum,
        }
        said = self.host.ansible("kafka_users", json.dumps(options), check=check, become=True)
        for user in [*self.kept, *users]:
            assert user["password"] not in json.dumps(said)
        return {key: said[key] for key in ("changed", "made", "renewed", "removed")}


@pytest.fixture
def users(
    host: Host, servers: str, kafka: dict[str, Any], deployed: dict[str, Any]
) -> Iterator[Users]:
    found = Users(host, servers, kafka, deployed)
    yield found
    found.declare()


@pytest.mark.disruptive
def test_a_changed_password_is_noticed_and_the_old_one_lets_nobody_in(
    host: Host, servers: str, users: Users
) -> None:
    new = {**OTHER, "password": "a-second-password-of-a-test"}
    assert users.declare(OTHER)["made"] == [OTHER["name"]]
    assert not users.declare(OTHER)["changed"]
    predicted = users.declare(new, check=True)
    assert (predicted["changed"], predicted["renewed"]) == (True, [OTHER["name"]])
    assert "refused" not in client(host, servers, OTHER, seconds=4, do="list")
    assert users.declare(new) == predicted
    assert not users.declare(new)["changed"]
    assert client(host, servers, OTHER, seconds=4, do="list") == {"refused": "_AUTHENTICATION"}
    assert "refused" not in client(host, servers, new, seconds=4, do="list")


@pytest.mark.disruptive
def test_a_user_that_is_declared_no_longer_goes_away_with_its_rights(
    host: Host, servers: str, users: Users, topics: dict[str, str]
) -> None:
    foreign_topic = topics["foreign"]
    reader = {
        **OTHER,
        "topics": [],
        "read_topics": [foreign_topic],
        "quotas": {"request_percentage": 50},
    }
    users.declare(reader)
    assert client(host, servers, reader, do="consume", topic=foreign_topic) == "theirs"
    said = client(host, servers, reader, do="produce", topic=foreign_topic, value="more")
    assert said == ["TOPIC_AUTHORIZATION_FAILED"]
    predicted = users.declare(check=True)
    assert predicted["removed"] == [OTHER["name"]]
    assert users.declare() == predicted
    assert not users.declare()["changed"]
    said = client(host, servers, reader, seconds=4, do="list")
    assert said == {"refused": "_AUTHENTICATION"}
    # its rights are gone, not only its password
    bare = {**reader, "read_topics": [], "quotas": {}}
    assert users.declare(bare)["made"] == [OTHER["name"]]
    assert client(host, servers, bare, seconds=5, do="consume", topic=foreign_topic) is None
