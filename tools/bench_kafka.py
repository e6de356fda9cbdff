"""Measure Kafka as the role sets it up, beside Kafka's own performance tools in the same run.

One broker, then three, each without TLS and passwords and with both: how many records a second go in with acks=all, how
long one takes at a steady rate until it is acknowledged and until somebody has it, how long producers wait when a
leader is killed, and what a restart of all three costs. Producers and consumers run on a broker's host, so all of them
share the machine.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tools.bench import FOLDER, PREFIX, Host, machine, number, percentile, publish, row
from tools.common import ROOT, ToolError, environment, main_guard, run, say

PASSWORD = "a-password-for-a-benchmark"  # noqa: S105 - of brokers that live as long as the test hosts
TOPIC = "tests.records"  # records.py consumes all of it, so nothing else writes there
FLOOD = "tests.flood"
SIZE = 400  # bytes of a record, as a notification's
STEADY = 500  # records a second
CA = "/etc/switchboard/certificates/peers/ca.pem"
# What is empty where nothing speaks TLS.
OPEN = [f"kafka_tls_{name}" for name in ("certificate", "key", "ca")]
OPEN += [f"zookeeper_{name}" for name in ("tls_keystore", "tls_ca", "secure_client_port_address")]
OPEN += ["kafka_zookeeper_tls_keystore"]
LIBS = "/opt/kafka/current/libs/*"
# As Apache's own scripts start them, but for the memory.
JAVA = "java -Xmx256M -XX:+UseG1GC -Dlog4j.configuration=file:/etc/kafka/tools-log4j.properties"
TOOLS = "org.apache.kafka.tools"


@dataclass
class Bus:
    """Brokers that work together, and the inventory that says so."""

    hosts: dict[str, Host]
    secure: bool
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        """Write the inventory."""
        self.folder = FOLDER / "kafka" / f"{len(self.hosts)}-{'tls' if self.secure else 'plain'}"
        (self.folder / "group_vars" / "all").mkdir(parents=True, exist_ok=True)
        # one broker is reached from elsewhere where its sites are elsewhere
        others = {"elsewhere": {"switchboard_address": "192.0.2.1", "ansible_host": "192.0.2.1"}}
        hosts = {name: host.entry for name, host in self.hosts.items()}
        names = dict.fromkeys(hosts)
        groups = {"zookeeper": names, "kafka": names, "web": dict.fromkeys(others)}
        content = {
            "switchboard": {
                "hosts": hosts | others,
                "children": {name: {"hosts": some} for name, some in groups.items()},
                "vars": {"ansible_user": "admin", "ansible_become": True},
            }
        }
        # Kafka's end-to-end test makes up the name of its group
        user = {"name": "tests", "password": PASSWORD, "topics": ["tests.*"], "groups": ["*"]}
        variables: dict[str, Any] = {
            "zookeeper_heap_mb": 128,
            "kafka_heap_mb": 512,
            "kafka_topics": [{"name": name, "partitions": 6} for name in (TOPIC, FLOOD)],
            "kafka_users": [user] if self.secure else [],
        }
        if not self.secure:
            # without the CA's file ZooKeeper is asked without TLS, too
            servers = ",".join(f"{host.address}:2181" for host in self.hosts.values())
            variables |= {"kafka_authentication": False, "kafka_zookeeper_connect": servers}
            variables |= {"zookeeper_client_port_address": "{{ switchboard_address }}"}
            variables |= dict.fromkeys(OPEN, "")
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
        path = self.folder / "group_vars" / "all" / "kafka.yml"
        path.write_text(yaml.safe_dump(variables), encoding="utf-8")

    @property
    def first(self) -> Host:
        """The host where clients run."""
        return next(iter(self.hosts.values()))

    @property
    def servers(self) -> str:
        """The brokers, as clients are told of them."""
        return ",".join(f"{host.address}:9092" for host in self.hosts.values())

    def play(self, name: str, *flags: str) -> float:
        """Run a playbook on the brokers; return how many seconds it took."""
        begun = time.perf_counter()
        command = ["ansible-playbook", "-i", str(self.folder), f"playbooks/{name}.yml"]
        run([*command, "--limit", ",".join(self.hosts), *flags], env=environment())
        return time.perf_counter() - begun

    def prepare(self) -> None:
        """Set the brokers up, and write how clients get in."""
        for name in ("base", "messaging"):
            # they change from open to secure together
            self.play(name, "-e", "kafka_rolling=false", "-e", "zookeeper_rolling=false")
        lines = [f"bootstrap.servers={self.servers}"]
        java, ours = list(lines), list(lines)
        if self.secure:
            both = ["security.protocol=SASL_SSL", "sasl.mechanism=SCRAM-SHA-512"]
            module = "org.apache.kafka.common.security.scram.ScramLoginModule"
            java += [*both, "ssl.truststore.type=PEM", f"ssl.truststore.location={CA}"]
            java += [f'sasl.jaas.config={module} required username="tests" password="{PASSWORD}";']
            ours += [*both, f"ssl.ca.location={CA}", "sasl.username=tests"]
            ours += [f"sasl.password={PASSWORD}"]
        for name, some in (("java", [*java, "acks=all"]), ("ours", ours)):
            path = FOLDER / "kafka" / f"{name}.properties"
            path.write_text("\n".join(some) + "\n", encoding="utf-8")
            self.first.send({path.name: path})

    def ours(self, *words: object) -> Any:
        """Let librdkafka send; return what it says."""
        command = f"python3 - /tmp/by-hand/ours.properties {' '.join(map(str, words))}"
        return json.loads(
            self.first.shell(command, ROOT / "tests/bench/kafka_load.py").splitlines()[-1]
        )

    def tool(self, name: str, words: str) -> str:
        """Run one of Kafka's own tools; return what it prints."""
        return self.first.shell(f"sudo {JAVA} -cp '{LIBS}' {TOOLS}.{name} {words}")

    def perf(self, topic: str, records: int, rate: int) -> dict[str, float]:
        """Return what Kafka's producer test says at its end: records a second, and percentiles in seconds."""
        said = self.tool(
            "ProducerPerformance",
            f"--topic {topic} --num-records {records} --record-size {SIZE} --throughput {rate} "
            "--producer.config /tmp/by-hand/java.properties",
        ).splitlines()[-1]
        found = re.search(
            r"([\d.]+) records/sec.*?(\d+) ms 50th, (\d+) ms 95th, (\d+) ms 99th", said
        )
        if not found:
            raise ToolError(f"Kafka's ProducerPerformance says {said!r}.")
        each, middle, _, high = (float(word) for word in found.groups())
        return {"rate": each, "p50": middle / 1000, "p99": high / 1000}

    def end_to_end(self, records: int) -> dict[str, float]:
        """Return the percentiles that Kafka's end-to-end test says, in seconds."""
        said = self.tool(
            "EndToEndLatency",
            f"{self.servers} {FLOOD} {records} all {SIZE} /tmp/by-hand/java.properties",
        )
        found = re.search(r"50th = (\d+), 99th = (\d+)", said)
        if not found:
            raise ToolError(f"Kafka's EndToEndLatency says {said!r}.")
        return {"p50": float(found.group(1)) / 1000, "p99": float(found.group(2)) / 1000}

    @contextmanager
    def sending(self) -> Iterator[dict[str, Any]]:
        """Let three producers send meanwhile (tests/cluster/records.py); what came of it is there at the end."""
        self.first.send({"records.py": ROOT / "tests/cluster/records.py"})
        command = ["ssh", *self.first.options, f"admin@{self.first.address}"]
        command += [f"python3 /tmp/by-hand/records.py {self.servers} tests {PASSWORD} {TOPIC}"]
        told: dict[str, Any] = {}
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
            if not process.stdout or process.stdout.readline() != "begun\n":
                raise ToolError("the producers did not begin.")
            yield told
            said, _ = process.communicate(timeout=300)
        told |= json.loads(said.splitlines()[-1])
        if told["lost"]:
            raise ToolError(f"{len(told['lost'])} acknowledged records are lost.")


def rates(bus: Bus, runs: int, records: int, seconds: int) -> dict[str, dict[str, list[float]]]:
    """Return rates and latencies by name, ours and the tools'."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(runs):
        found["most"]["ours"].append(bus.ours(FLOOD, "most", records))
        found["most"]["Kafka's tool"].append(bus.perf(FLOOD, records, -1)["rate"])
        steady = bus.ours(FLOOD, "steady", STEADY, seconds)
        tool = bus.perf(FLOOD, STEADY * seconds, STEADY)
        both = bus.end_to_end(STEADY * seconds // 10)
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            for kind in ("acknowledged", "consumed"):
                found[f"{kind}, {name}"]["ours"].append(1000 * percentile(steady[kind], share))
            found[f"acknowledged, {name}"]["Kafka's tool"].append(1000 * tool[name])
            found[f"consumed, {name}"]["Kafka's tool"].append(1000 * both[name])
    return found


def killed(bus: Bus, runs: int) -> list[float]:
    """Return for how many seconds at most a producer waited when a broker was killed, which led partitions."""
    waits = []
    for _ in range(runs):
        last = list(bus.hosts.values())[-1]
        with bus.sending() as told:
            time.sleep(5)  # of load before it
            last.shell("sudo systemctl kill -s KILL kafka")
            time.sleep(
                40
            )  # longer than its session lasts, which systemd's restart does not shorten
        waits.append(float(told["longest"]))
        bus.play("rebalance")  # until all is in sync, and it leads again
    return waits


def down(host: Host) -> float:
    """Return for how many seconds a broker was not there at its last restart (systemctl(1), `show`)."""
    names = ("ActiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    said = host.shell(f"systemctl show kafka --property={','.join(names)}").splitlines()
    told = dict(line.split("=", 1) for line in said)
    return (int(told[names[1]]) - int(told[names[0]])) / 1e6


def restarted(bus: Bus, runs: int) -> dict[str, list[float]]:
    """Return what restarts of all brokers took, and what their producers saw."""
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(runs):
        with bus.sending() as told:
            found["in all"].append(bus.play("restart", "--tags", "kafka"))
        work = sum(down(host) for host in bus.hosts.values())
        found["of that brokers away, one after another"].append(work)
        found["longest wait of a producer"].append(float(told["longest"]))
        found["sends that failed"].append(float(sum(told["failed"].values())))
    return found


def rows(
    buses: dict[str, dict[str, dict[str, list[float]]]],
    pauses: list[float],
    restarts: dict[str, list[float]],
) -> list[dict[str, Any]]:
    """Return the rows of the result."""
    result = machine()
    for bus, found in buses.items():
        for name, sides in found.items():
            what = (
                "records sent with acks=all" if name == "most" else f"a record at {STEADY}/s {name}"
            )
            unit = "1/s" if name == "most" else "ms"
            peers = {peer: values for peer, values in sides.items() if peer != "ours"}
            result.append(row(f"{bus}: {what}", unit, sides["ours"], peers))
    result.append(row("a leader is killed: longest wait of a producer", "s", pauses))
    for name, values in restarts.items():
        unit = "" if name.startswith("sends") else "s"
        goal = 0.0 if name.startswith("sends") else None
        result.append(row(f"three brokers restart: {name}", unit, values, goal=goal))
    return result


def main() -> int:
    """Set up, measure, print the table, write the JSON."""
    runs, records = number("RUNS", 3), number("RECORDS", 100000)
    seconds = number("SECONDS", 20)
    FOLDER.mkdir(parents=True, exist_ok=True)
    buses: dict[str, dict[str, dict[str, list[float]]]] = {}
    pauses, restarts = list[float](), dict[str, list[float]]()
    for count in (1, 3):
        hosts = {
            f"bus{number}": Host(f"{PREFIX}-kafka-{number}", FOLDER / "hosts" / f"kafka-{number}")
            for number in range(1, count + 1)
        }
        try:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(Host.create, hosts.values()))  # so that one that fails is heard of
            for secure in (False, True):
                bus = Bus(hosts, secure)
                name = f"{count} broker{'s' if count > 1 else ''}{', TLS' if secure else ''}"
                say(f"{name}: setting up")
                bus.prepare()
                say(f"{name}: measuring")
                buses[name] = rates(bus, runs, records, seconds)
            if count > 1:
                say("three brokers: restarts, and kills")
                restarts = restarted(bus, runs)
                pauses = killed(bus, runs)
        finally:
            for host in hosts.values():
                host.remove()
    publish("kafka", rows(buses, pauses, restarts))
    return 0


if __name__ == "__main__":
    main_guard(main)
