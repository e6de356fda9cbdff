"""The queries of the dashboards in docs/grafana, as a Prometheus is asked for them, of what a host has."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from tools.common import ROOT

# What Grafana puts in the place of its variables.
VARIABLES = {"$__rate_interval": "5m", "$host": ".*", "$site": ".*"}
# What a host has to ask, as it says itself: of the note-taker, of systemd, of backups and of the kernel.
FACTS = """
import json, os, subprocess
units = subprocess.run(["systemctl", "list-units", "--type=service", "--state=active", "--plain", "--no-legend"],
                       capture_output=True, text=True, check=True).stdout
notes = json.load(open("/etc/switchboard/metrics.json"))
def counted(name):  # systemd of a host with cgroup v1 may not
    show = ["systemctl", "show", f"--property={name}", "--value", "prometheus.service"]
    return subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip().isdigit()
print(json.dumps({
    "units": [line.split()[0] for line in units.splitlines() if line.strip()],
    "switchboard_kafka_": bool(notes["kafka"]),
    "switchboard_zookeeper_": bool(notes["zookeeper"]),
    "switchboard_http_": bool(notes["sites"]),
    "switchboard_wsgi_": any(site["threads"] for site in notes["sites"]),
    "switchboard_websockets_": any(site["max_websockets"] for site in notes["sites"]),
    "switchboard_backup_": os.path.exists("/etc/switchboard/backup.json"),
    "switchboard_unit_memory_": counted("MemoryCurrent"),
    "switchboard_unit_processor_": counted("CPUUsageNSec"),
    "node_pressure_": os.path.exists("/proc/pressure/cpu"),
}))
"""


def queries() -> dict[str, str]:
    """Return each query, its variables replaced, by its dashboard, panel and place."""
    found = {}
    for path in sorted((ROOT / "docs" / "grafana").glob("*.json")):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", []):
                query = target["expr"]
                for name, value in VARIABLES.items():
                    query = query.replace(name, value)
                assert "$" not in query, query
                found[f"{path.stem}: {panel['id']} {panel['title']} {target['refId']}"] = query
    return found


def has(query: str, facts: dict[str, Any]) -> bool:
    """Say whether a host has what a query is about: the jobs, the units and the notes that it names."""
    units = re.findall(r'unit=~?"([^"]+)"', query)
    return (
        set(re.findall(r'\bjob="(\w+)"', query)) <= facts["jobs"]
        and all(any(re.fullmatch(unit, one) for one in facts["units"]) for unit in units)
        and ("site_metrics" in facts["jobs"] or "notifications_" not in query)
        and (facts["tls"] or "probe_ssl_" not in query)
        and (facts["firing"] or "ALERTS" not in query)
        and all(there for name, there in facts.items() if name.endswith("_") and name in query)
    )


def wanted(ask: Callable[[str], Any], told: str) -> dict[str, str]:
    """Return the queries that a host has something for.

    Args:
        ask: what its Prometheus answers at a path below /api/v1.
        told: what FACTS prints on the host.
    """
    targets = ask("targets?state=active")["activeTargets"]
    facts = {
        **json.loads(told),
        "jobs": {one["labels"]["job"] for one in targets},
        "tls": any(one["labels"]["instance"].startswith("https:") for one in targets),
        "firing": any(one["state"] == "firing" for one in ask("alerts")["alerts"]),
    }
    return {name: query for name, query in queries().items() if has(query, facts)}


def blank(ask: Callable[[str], Any], some: dict[str, str]) -> dict[str, str]:
    """Return the queries to which a Prometheus has no answer; one that it cannot read fails in `ask`."""
    return {
        name: query
        for name, query in some.items()
        if not ask(f"query?query={quote(query)}")["result"]
    }
