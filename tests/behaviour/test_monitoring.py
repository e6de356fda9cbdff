"""Monitoring: what watches the host runs, is reached from the host alone, and hears of everything that it asks."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import pytest
from testinfra.host import Host

from tests.behaviour.conftest import journal

NOTES = "/var/lib/switchboard/metrics/switchboard.prom"


@pytest.fixture(scope="module")
def watched(deployed: dict[str, Any]) -> dict[str, Any]:
    """Return what the inventory says of monitoring."""
    if not deployed.get("monitoring"):
        pytest.skip("the inventory has no monitoring_mail_to")
    return deployed["monitoring"]


def asked(host: Host, watched: dict[str, Any], path: str) -> Any:
    """Return what Prometheus answers."""
    url = f"http://127.0.0.1:{watched['port']}/api/v1/{path}"
    done = host.run("curl --silent --show-error --fail --max-time 10 %s", url)
    assert done.rc == 0, f"{done.stderr}\n{journal(host, 'prometheus.service')}"
    return json.loads(done.stdout)["data"]


def test_what_watches_the_host_runs(host: Host, watched: dict[str, Any]) -> None:
    """Prometheus, Alertmanager, each exporter and the timer run, and will start at the next boot."""
    bad = []
    for unit in watched["units"]:
        state = host.run("systemctl is-active %s; systemctl is-enabled %s", unit, unit).stdout
        if state.split() != ["active", "enabled"]:
            bad.append(f"{unit}: {state.split()}\n{journal(host, unit)}")
    assert not bad, "\n".join(bad)


def test_nobody_else_reaches_it(host: Host, watched: dict[str, Any]) -> None:
    """What watches the host listens on loopback alone, and what hears of all hosts at the private address."""
    lines = [line for line in host.check_output("ss -Hltnp").splitlines() if "prometheus" in line]
    places = [line.split()[3] for line in lines]
    assert places
    inside = ("127.0.0.1:", watched["central"] or "127.0.0.1:")
    assert [place for place in places if not place.startswith(inside)] == []


def test_a_user_of_the_host_reaches_it_only_when_named(host: Host, watched: dict[str, Any]) -> None:
    """A user of the host who is not named for it reads no numbers and silences no alert."""
    if not watched["port_users"]:
        pytest.skip("monitoring_port_users lets all of them in")
    for port in watched["ports"]:
        url = f"http://127.0.0.1:{port}/"
        asked = "curl --silent --output /dev/null --max-time 10 --write-out '%%{http_code}' %s"
        assert host.run(asked, url).stdout != "000", f"nothing answers root at {url}"
        other = host.run(f"runuser -u nobody -- {asked}", url)
        assert (other.rc, other.stdout) == (7, "000"), f"nobody reaches {url}"


def test_everything_tells_of_itself(host: Host, watched: dict[str, Any]) -> None:
    """Each exporter, and each site that has metrics, answered Prometheus the last time; the host's notes are young."""
    targets = asked(host, watched, "targets?state=active")["activeTargets"]
    assert targets
    down = [f"{one['labels']}: {one['lastError']}" for one in targets if one["health"] == "down"]
    assert not down, "\n".join(down)
    age = time.time() - float(host.check_output("stat -c %%Y %s", NOTES))
    assert age < 600, journal(host, "switchboard-metrics.service")


def test_mails_about_alerts_are_taken(host: Host, watched: dict[str, Any]) -> None:
    """No mail about an alert failed in the last day, so the mail server takes them."""
    failed = 'sum(increase(alertmanager_notifications_failed_total{job="alertmanager"}[1d]))'
    found = asked(host, watched, f"query?query={quote(failed)}")["result"]
    number = float(found[0]["value"][1]) if found else 0.0
    assert number < 1, f"{number:.0f} failed\n{journal(host, 'prometheus-alertmanager.service')}"


def test_no_alert_is_firing(host: Host, watched: dict[str, Any]) -> None:
    """Nothing that a mail would be sent about is wrong now."""
    rules = asked(host, watched, "rules?type=alert")["groups"]
    names = {rule["name"] for group in rules for rule in group["rules"]}
    assert "SiteDown" in names
    alerts = asked(host, watched, "alerts")["alerts"]
    # a verify that is under way finds the drift of the last one anew, or finds it gone
    firing = [
        f"{one['labels']['alertname']}: {one['annotations']['summary']}"
        for one in alerts
        if one["state"] == "firing" and one["labels"]["alertname"] != "DriftFound"
    ]
    assert not firing, "\n".join(firing)
