"""An attacker's host beside the one under test, and a visitor from a third address who must not notice."""

from __future__ import annotations

import json
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from tests.behaviour.conftest import address, deployed, descriptions  # noqa: F401 - fixtures
from tests.behaviour.sites import Site, web_sites
from tests.behaviour.test_http2 import Answer, exchange, pseudo_first, request

SCRIPT = Path(__file__).parent / "attacker.py"
# The attacker's addresses; each may have apache_max_connections_per_address.
ADDRESSES = 40
LIFE = 1800  # seconds after which the container ends by itself


@pytest.fixture(scope="module")
def probe(deployed: dict[str, Any], address: str) -> Site:  # noqa: F811
    if "docker" not in deployed["connection"]:
        pytest.skip("attacks are for test hosts alone")
    found = next((site for site in web_sites(deployed, address) if site.is_probe), None)
    if found is None:
        pytest.skip("the probe project is not on this host")
    return found


class Attacker:
    """A container with many addresses."""

    def __init__(self, name: str, target: Site) -> None:
        self.name, self.target = name, target
        self.extra: list[str] = []

    def start(self, image: str) -> None:
        self.remove()
        command = [
            "docker",
            "run",
            "--detach",
            "--rm",
            "--name",
            self.name,
            "--cap-add",
            "NET_ADMIN",
        ]
        limits = ["--ulimit", "nofile=20000:20000"]
        subprocess.run(
            [*command, *limits, image, "sleep", str(LIFE)], check=True, capture_output=True
        )
        first = self.run("hostname", "-I").split()[0]
        base, _, last = first.rsplit(".", 2)
        # far from what Docker gives away, which begins at the lower end of its network, and from another attacker's
        extra = [f"{base}.{100 + int(last) % 100}.{number}" for number in range(1, ADDRESSES)]
        for one in extra:
            self.run("ip", "address", "add", f"{one}/16", "dev", "eth0")
        self.extra = extra
        subprocess.run(["docker", "cp", str(SCRIPT), f"{self.name}:/attacker.py"], check=True)

    def keep_one_address(self) -> None:
        """Give all addresses up but the first."""
        while self.extra:
            self.run("ip", "address", "del", f"{self.extra.pop()}/16", "dev", "eth0")

    def run(self, *command: str) -> str:
        done = subprocess.run(
            ["docker", "exec", self.name, *command], capture_output=True, text=True, check=True
        )
        return done.stdout

    def remove(self) -> None:
        subprocess.run(["docker", "rm", "--force", self.name], capture_output=True, check=False)

    def command(self, attack: str, port: int, **options: Any) -> list[str]:
        where = [self.target.address, str(port)]
        return [
            "docker",
            "exec",
            self.name,
            "python3",
            "/attacker.py",
            *where,
            attack,
            json.dumps(options),
        ]

    def attack(self, name: str, port: int = 0, **options: Any) -> dict[str, int]:
        """Run one attack to its end; return how many connections met which end."""
        command = self.command(name, port or self.target.port, **options)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
        assert done.returncode == 0, done.stderr[-2000:]
        told: dict[str, int] = json.loads(done.stdout)
        print(f"{name} {options}: {told}")
        return told

    @contextmanager
    def background(self, name: str, **options: Any) -> Iterator[dict[str, int]]:
        """Run an attack beside what is done within; the dict has its ends afterwards."""
        ends: dict[str, int] = {}
        thread = threading.Thread(target=lambda: ends.update(self.attack(name, **options)))
        thread.start()
        try:
            yield ends
        finally:
            thread.join()


@pytest.fixture(scope="module")
def sites(deployed: dict[str, Any], address: str) -> list[Site]:  # noqa: F811
    return web_sites(deployed, address)


@pytest.fixture(scope="module")
def attacker(host: Host, probe: Site) -> Iterator[Attacker]:
    name = host.backend.host
    form = "{{.Config.Image}}"
    image = subprocess.run(
        ["docker", "inspect", "--format", form, name], capture_output=True, text=True, check=True
    ).stdout.strip()
    one = Attacker(f"{name}-attacker", probe)
    one.start(image)
    host.check_output("ip neigh flush all")  # what an earlier attacker's addresses led to
    yield one
    one.remove()


def page_over_http2(site: Site) -> Answer:
    """Ask for a page over a new connection with HTTP/2."""
    return exchange(site, pseudo_first(request(site, "GET", "/")))


class Visitor(threading.Thread):
    """Somebody at another address who asks for a page again and again, each time on a new connection."""

    def __init__(self, site: Site, http2: bool = False) -> None:
        super().__init__(daemon=True)
        self.site = site
        self.http2 = http2
        self.waits: list[float] = []
        self.wrong: list[Any] = []
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.05):
            begin = time.monotonic()
            try:
                answer: Any = (
                    self.site.page("/", 30) if not self.http2 else page_over_http2(self.site)
                )
                if (answer.status, answer.answerer) != (200, "mod_wsgi"):
                    self.wrong.append((answer.status, answer.answerer))
            except OSError as error:
                self.wrong.append(repr(error))
            self.waits.append(time.monotonic() - begin)

    def __enter__(self) -> Visitor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        print(
            f"visitor: {len(self.waits)} pages, median {statistics.median(self.waits):.3f} s, "
            f"longest {max(self.waits):.3f} s, wrong: {self.wrong[:5]}"
        )


@pytest.fixture
def visitor(probe: Site) -> Visitor:
    return Visitor(probe)
