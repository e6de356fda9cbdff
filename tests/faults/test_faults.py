"""What breaks under a steady load of changes loses no notification, and recovers without anybody's hand.

Through each fault a client posts 50 changes a second while pages of three people are open. Afterwards every
committed change is in the list of whom it concerns, each of their pages showed it exactly once and in order, nobody
else was told, and other pages answered throughout.

`make soak` takes the long forms too: Kafka stays down for two minutes, and what is killed is restarted too.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from testinfra.host import Host

from tests.behaviour.conftest import journal
from tests.faults.report import note
from tests.live.load import Load, Visitor, account, all_shown
from tests.live.people import Page, Person, Target

pytestmark = pytest.mark.disruptive

SITE = "graphspace"
RATE = 50.0  # changes a second
BEFORE, AFTER = 2.0, 6.0  # seconds of load before a fault, and after it
LONGEST = 300.0  # seconds of load at most
DOWN = 120.0  # seconds
PAGES = {"ada": 2, "grace": 8, "linus": 2}  # how many each person has open
# Bounds of liveness, in seconds: five times what was measured beside another scenario on two cores, and more.
ALL_SHOWN = 60.0
ANSWERED = 85.0
HEALED = 90.0

# Raises in the thread that reads Kafka when Daphne gets SIGUSR2: Python does this in the thread itself, at its next
# instruction, as any fault of its code would.
RAISER = """\
import ctypes, signal, threading

def strike(_signal, _frame):
    for thread in threading.enumerate():
        if thread.name == "notifications":
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(ZeroDivisionError))

if b"daphne" in open("/proc/self/cmdline", "rb").read():
    signal.signal(signal.SIGUSR2, strike)
"""


@dataclass(frozen=True)
class Stack:
    """The services of one host, to be broken."""

    host: Host
    target: Target
    password: str
    daphne_port: int
    instances: int
    kafka_data: str
    connections: int  # to PostgreSQL that the site may have, 0 on SQLite

    def run(self, command: str) -> str:
        """Run a command as root, and return what it printed."""
        return self.host.check_output(command)

    def main_pid(self, unit: str) -> str:
        return self.run(f"systemctl show --property=MainPID --value {unit}").strip()

    def daphnes(self) -> list[str]:
        return [f"daphne-{SITE}@{number}.service" for number in range(1, self.instances + 1)]

    def busiest_daphne(self) -> str:
        """Return the instance that holds most sockets."""
        rows = self.run(f"ss -Htnp state established sport = :{self.daphne_port}")
        held = re.findall(r"pid=(\d+)", rows)
        return max(self.daphnes(), key=lambda unit: held.count(self.main_pid(unit)))


def kill(unit: str) -> Callable[[Stack], None]:
    def strike(stack: Stack) -> None:
        stack.run(f"kill -KILL {stack.main_pid(unit)}")

    return strike


def restart(unit: str) -> Callable[[Stack], None]:
    def strike(stack: Stack) -> None:
        stack.run(f"systemctl restart {unit}")

    return strike


def kill_daphne(stack: Stack) -> None:
    stack.run(f"kill -KILL {stack.main_pid(stack.busiest_daphne())}")


def restart_daphne(stack: Stack) -> None:
    stack.run(f"systemctl restart {stack.busiest_daphne()}")


def take_kafka_down(stack: Stack) -> None:
    stack.run("systemctl stop kafka.service")
    time.sleep(DOWN)  # the fault itself: so long there is no Kafka
    stack.run("systemctl start kafka.service")


RAISED = "ZeroDivisionError"


def raise_in_consumer(stack: Stack) -> None:
    for unit in stack.daphnes():
        before = stack.run(f"journalctl --no-pager --quiet --unit={unit}").count(RAISED)
        stack.run(f"kill -USR2 {stack.main_pid(unit)}")
        end = time.monotonic() + 10
        while stack.run(f"journalctl --no-pager --quiet --unit={unit}").count(RAISED) == before:
            assert time.monotonic() < end, f"the thread of {unit} did not raise"
            time.sleep(0.2)  # between two looks, up to the bound above


def fill_disk(stack: Stack) -> None:
    """Leave Kafka not a byte until it has noticed, and for 5 s more."""
    pid = stack.main_pid("kafka.service")
    stack.run(f"dd if=/dev/zero of={stack.kafka_data}/filler bs=64k 2>/dev/null || true")
    end = time.monotonic() + 60
    while stack.main_pid("kafka.service") == pid:
        assert time.monotonic() < end, "Kafka did not mind that its disk is full"
        time.sleep(0.2)  # between two looks, up to the bound above
    time.sleep(5)  # the fault itself: the disk stays full while Kafka tries to start
    stack.run(f"rm {stack.kafka_data}/filler")


def kill_postgresql(stack: Stack) -> None:
    """Kill the process that all others of PostgreSQL hang on."""
    stack.run("kill -KILL $(head -n 1 /var/lib/postgresql/*/main/postmaster.pid)")


def take_connections(stack: Stack) -> None:
    """Hold for 5 s as many connections as the site may have, beside those that it holds."""
    hold = f"runuser -u {SITE} -- psql -d {SITE} -c 'SELECT pg_sleep(5)' >/dev/null 2>&1 || true"
    stack.run(f'seq {stack.connections} | xargs -P {stack.connections} -I@ sh -c "{hold}"')


def fill_database_disk(stack: Stack) -> None:
    """Leave PostgreSQL not a byte for 5 s."""
    stack.run("dd if=/dev/zero of=/var/lib/postgresql/filler bs=64k 2>/dev/null || true")
    time.sleep(5)  # the fault itself: so long the disk is full
    stack.run("rm /var/lib/postgresql/filler")


@contextmanager
def small_database_disk(stack: Stack) -> Iterator[None]:
    """Let PostgreSQL's data lie on a disk of its own that can be filled."""
    # Debian's unit is an umbrella: its stop is over before that of the server is
    server = stack.run("systemctl list-units --plain --no-legend 'postgresql@*' | cut -d ' ' -f 1")
    unit = f"postgresql.service {server.strip()}"
    with on_small_disk(stack, "/var/lib/postgresql", unit, "320m", "0755"):
        yield


@contextmanager
def small_disk(stack: Stack) -> Iterator[None]:
    """Let Kafka's data lie on a disk of its own that can be filled."""
    with on_small_disk(stack, stack.kafka_data, "kafka.service", "192m", "0750"):
        yield


@contextmanager
def on_small_disk(stack: Stack, data: str, unit: str, size: str, mode: str) -> Iterator[None]:
    """Let the data of a service, which may be several units, lie on a disk of its own."""
    aside = "/var/tmp/aside"
    move = f"systemctl stop {unit} && cp -a {{0}}/. {{1}}/"
    stack.run(f"mkdir -p {aside} && {move.format(data, aside)}")
    stack.run(f"mount -t tmpfs -o size={size},mode={mode} tmpfs {data}")
    stack.run(f"chown --reference={aside} {data} && cp -a {aside}/. {data}/")
    stack.run(f"systemctl start {unit}")
    try:
        yield
    finally:
        stack.run(f"rm -rf {aside}/* && {move.format(data, aside)} && umount {data}")
        stack.run(f"rm -rf {data}/* && cp -a {aside}/. {data}/ && rm -r {aside}")
        stack.run(f"systemctl start {unit}")


@contextmanager
def raiser(stack: Stack) -> Iterator[None]:
    """Let Daphne's processes obey a signal that makes their consumer thread raise."""
    folder = stack.run(f"echo /srv/{SITE}/current/venv/lib/python3*/site-packages").strip()
    stack.host.run("cat > %s <<'END'\n" + RAISER + "END", f"{folder}/switchboard_raiser.py")
    stack.run(f"echo import switchboard_raiser > {folder}/switchboard_raiser.pth")
    for unit in stack.daphnes():
        stack.run(f"systemctl restart {unit}")
    try:
        yield
    finally:
        stack.run(f"rm {folder}/switchboard_raiser.*")
        for unit in stack.daphnes():
            stack.run(f"systemctl restart {unit}")


@contextmanager
def as_it_is(_stack: Stack) -> Iterator[None]:
    yield


@dataclass(frozen=True)
class Fault:
    """Something that breaks."""

    name: str
    strike: Callable[[Stack], None]  # returns when nobody would touch anything any more
    around: Any = as_it_is
    database: bool = False  # PostgreSQL itself: pages may answer 503 meanwhile, and nothing else


FAULTS = [
    Fault("nothing", lambda _stack: None),
    Fault("kill -9 of Kafka", kill("kafka.service")),
    Fault("kill -9 of one Daphne instance", kill_daphne),
    Fault("Kafka's disk full", fill_disk, small_disk),
    Fault("the consumer thread raises", raise_in_consumer, raiser),
    Fault("kill -9 of PostgreSQL", kill_postgresql, database=True),
]
OTHERS = [
    Fault("kill -9 of ZooKeeper", kill("zookeeper.service")),
    Fault("Kafka down for 120 s", take_kafka_down),
    Fault("connections used up for 5 s", take_connections, database=True),
    Fault("PostgreSQL's disk full", fill_database_disk, small_database_disk, database=True),
    Fault("restart of Kafka", restart("kafka.service")),
    Fault("restart of ZooKeeper", restart("zookeeper.service")),
    Fault("restart of one Daphne instance", restart_daphne),
    Fault("restart of PostgreSQL", restart("postgresql.service"), database=True),
]


@pytest.fixture(scope="module")
def stack(host: Host, deployed: dict[str, Any], address: str) -> Stack:
    apache, daphne = deployed["apache"], deployed["daphne"]
    site = next(site for site in apache["sites"] if site["name"] == SITE)
    live = next(site for site in daphne["sites"] if site["name"] == SITE)
    secrets = host.file(f"/etc/switchboard/{SITE}/secrets.env").content_string
    password = re.search(r'SEED_PASSWORD="(.*)"', secrets)
    assert password, "the site was not seeded with test people"
    assert live["instances"] == 2
    wsgi = host.check_output(f"pgrep --count --full '^.wsgi:{SITE}.'")
    assert wsgi.strip() == "2", "two processes of mod_wsgi serve pages"
    databases = deployed.get("postgresql", {}).get("databases", [])
    return Stack(
        host,
        Target(address, apache["http_port"], site["server_name"]),
        password.group(1),
        live["port"],
        live["instances"],
        deployed["kafka"]["data_dir"],
        next((one["connections"] for one in databases if one["name"] == SITE), 0),
    )


def waiting(stack: Stack) -> float:
    """Return how many rows Kafka has yet to get, as the relay says."""
    metrics = stack.run("curl --silent --fail http://127.0.0.1:9464/metrics")
    found = re.search(r"^notifications_outbox_waiting (\S+)$", metrics, re.MULTILINE)
    assert found, metrics
    return float(found.group(1))


def ready(stack: Stack) -> bool:
    """Say whether the site calls itself ready: database, Kafka and consumers."""
    answer = stack.run(
        f"curl --silent --output /dev/null --write-out '%{{http_code}}' "
        f"--header 'Host: {stack.target.host}' http://127.0.0.1:{stack.target.port}/readyz"
    )
    return answer.strip() == "200"


def wait_until(condition: Callable[[], bool], what: str, stack: Stack) -> None:
    end = time.monotonic() + HEALED
    while not condition():
        assert time.monotonic() < end, (
            f"{what} after {HEALED:.0f} s\n{journal(stack.host, 'django-graphspace.relay')}"
        )
        time.sleep(0.5)  # between two looks, up to HEALED


async def under_load(stack: Stack, fault: Fault) -> None:
    people = dict(
        zip(
            PAGES,
            await asyncio.gather(
                *(Person.sign_in(stack.target, name, stack.password) for name in PAGES)
            ),
            strict=True,
        )
    )
    load, visitor = Load(people["ada"]), Visitor(people["linus"])
    await load.prepare(people["grace"])
    begun = {name: (await person.listed(0))[1] for name, person in people.items()}
    pages = [
        Page(people[name], begun[name]) for name, number in PAGES.items() for _ in range(number)
    ]
    async with asyncio.timeout(LONGEST), asyncio.TaskGroup() as group:
        tasks = [group.create_task(page.stay_open()) for page in pages]
        for page in pages:
            await page.connected.wait()
        tasks.append(group.create_task(visitor.look()))
        posting = group.create_task(load.run(RATE, LONGEST))
        await asyncio.sleep(BEFORE)
        await asyncio.to_thread(fault.strike, stack)
        await asyncio.sleep(AFTER)
        load.stopped = True
        await posting
        ended = time.perf_counter()
        in_time = await all_shown(pages, begun, ALL_SHOWN)
        shown_after = time.perf_counter() - ended
        await asyncio.sleep(0.5)  # what comes twice, comes now
        for task in tasks:
            task.cancel()
    result = await account(load.changes, pages, begun)
    for person in people.values():
        await person.close()
    wait = max(*visitor.waits, *(change.answered - change.started for change in load.changes))
    line = note(fault.name, result, wait, shown_after)
    said = f"\n{line}\n{result}\n" + "\n".join([*visitor.failures[:5], *load.failures[:5]])
    assert in_time, f"not all was shown after {ALL_SHOWN:.0f} s{said}"
    assert result.right, said
    failures = [*visitor.failures, *load.failures]
    if fault.database:
        assert all("503" in failure for failure in failures), said
        assert result.committed + len(load.failures) == result.changes, said
    else:
        assert not failures, said
        assert result.committed == result.changes, said
    assert wait < ANSWERED, said
    assert result.committed > BEFORE * RATE, said


@pytest.mark.parametrize(
    "fault",
    FAULTS + [pytest.param(fault, marks=pytest.mark.soak) for fault in OTHERS],
    ids=lambda fault: fault.name.replace(" ", "-"),
)
def test_each_change_is_told_once(stack: Stack, fault: Fault) -> None:
    if fault.database and not stack.connections:
        pytest.skip("the site is not on PostgreSQL")
    with fault.around(stack):
        wait_until(lambda: ready(stack), "not ready", stack)
        asyncio.run(under_load(stack, fault))
        wait_until(lambda: waiting(stack) == 0, "the outbox is not empty", stack)
        wait_until(lambda: ready(stack), "not ready again", stack)
