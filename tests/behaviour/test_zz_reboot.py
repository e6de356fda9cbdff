"""After a reboot of the host everything returns unaided. The last file, for the time it takes."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import pytest
from testinfra.host import Host

from tests.behaviour.conftest import Prediction, journal
from tests.behaviour.test_services import expected_units

pytestmark = pytest.mark.disruptive

LATEST = 180.0  # seconds
LEFT = "/var/cache/apache2/bodies/left-by-a-test"


@pytest.fixture(scope="module")
def rebooted(host: Host, deployed: dict[str, Any]) -> float:
    """Restart the container, which boots systemd anew; return the seconds until it says `running`."""
    if "docker" not in deployed["connection"]:
        pytest.skip("only test hosts are rebooted")
    host.run("install --owner=www-data --mode=0600 /dev/null %s", LEFT)
    started = time.monotonic()
    subprocess.run(
        ["docker", "restart", "--time", "60", deployed["address"]], check=True, capture_output=True
    )
    while time.monotonic() - started < LATEST:
        if host.run("systemctl is-system-running").stdout.strip() == "running":
            return time.monotonic() - started
        time.sleep(1)
    units = host.run("systemctl list-units --failed --plain; systemctl list-jobs").stdout
    pytest.fail(f"the host is not up after {LATEST:.0f} s:\n{units}")


def test_every_service_returns(host: Host, deployed: dict[str, Any], rebooted: float) -> None:
    print(f"rebooted in {rebooted:.0f} s")
    for unit in expected_units(deployed):
        assert host.run("systemctl is-active %s", unit).stdout.strip() == "active", journal(
            host, unit
        )
    for one in deployed["postgresql"].get("databases", []):
        name = one["name"]
        assert host.run("runuser -u %s -- psql -d %s -c 'SELECT 1'", name, name).rc == 0


def test_bodies_that_a_killed_apache_left_are_gone(host: Host, rebooted: float) -> None:
    assert not host.file(LEFT).exists


def test_pages_and_sockets_are_served_again(
    host: Host, deployed: dict[str, Any], rebooted: float
) -> None:
    for site in deployed["apache"].get("sites", []):
        page = host.run(
            "curl -s -o /dev/null -w '%%{http_code}' -H %s http://127.0.0.1:%s/",
            f"Host: {site['server_name']}",
            str(deployed["apache"]["http_port"]),
        )
        assert page.stdout in ("200", "301", "302"), site["name"]
    for site in deployed["daphne"].get("sites", []):
        if site["asgi_module"]:
            probe = host.run(
                "/usr/local/lib/switchboard/handshake.py --host %s --timeout 20 /run/daphne-%s/1/daphne.sock %s",
                site["health_host"],
                site["name"],
                site["health_path"],
            )
            assert probe.rc == 0, probe.stderr


@pytest.mark.usefixtures("rebooted")
def test_the_next_run_would_change_nothing(host: Host, request: pytest.FixtureRequest) -> None:
    """A boot takes back what stands where Debian itself writes."""
    prediction = Prediction(request.config.getoption("ansible_inventory"))
    try:
        prediction.judge(host.backend.host)
    finally:
        prediction.stop()
