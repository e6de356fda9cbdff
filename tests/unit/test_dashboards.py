"""The dashboards for Grafana: they have the form that it reads, and each panel says what it shows of whom.

Whether each query is one that Prometheus has an answer to is asked on hosts, by tests/alerts and tests/cluster.
"""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

import pytest

from tools.common import ROOT

FILES = sorted((ROOT / "docs" / "grafana").glob("*.json"))
BOARDS: dict[str, dict[str, Any]] = {
    path.name: json.loads(path.read_text(encoding="utf-8")) for path in FILES
}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
KINDS = {"row", "stat", "table", "timeseries"}
WIDTH = 24  # Grafana's grid


def panels(name: str, *, rows: bool = False) -> list[dict[str, Any]]:
    return [panel for panel in BOARDS[name]["panels"] if rows or panel["type"] != "row"]


def test_both_are_there_and_lead_to_each_other() -> None:
    assert [*BOARDS] == ["overview.json", "services.json"]
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS)
    for board in BOARDS.values():
        assert board["schemaVersion"] == 39  # Grafana 10.4 and newer
        assert board["id"] is None  # one of another Grafana's database would be refused
        assert board["tags"] == board["links"][0]["tags"]


@pytest.mark.parametrize("name", BOARDS)
def test_each_panel_has_a_title_a_unit_and_the_datasource_that_is_chosen(name: str) -> None:
    bad = []
    for panel in panels(name):
        good = [
            panel["title"],
            panel["type"] in KINDS,
            panel["datasource"] == DATASOURCE,
            panel["fieldConfig"]["defaults"].get("unit"),
            panel["targets"],
            all(one["datasource"] == DATASOURCE and one["expr"] for one in panel["targets"]),
            len({one["refId"] for one in panel["targets"]}) == len(panel["targets"]),
        ]
        bad += [] if all(good) else [(panel["title"], good)]
    assert bad == []


@pytest.mark.parametrize("name", BOARDS)
def test_panels_have_numbers_of_their_own_and_lie_beside_each_other(name: str) -> None:
    every = panels(name, rows=True)
    assert len({panel["id"] for panel in every}) == len(every)
    taken = {}
    for panel in every:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= WIDTH, panel["title"]
        taken[panel["id"]] = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
    assert [pair for pair in combinations(taken, 2) if taken[pair[0]] & taken[pair[1]]] == []


@pytest.mark.parametrize("name", BOARDS)
def test_each_query_is_of_the_hosts_and_sites_that_are_chosen(name: str) -> None:
    known = {one["name"] for one in BOARDS[name]["templating"]["list"]}
    assert {"datasource", "host"} <= known
    for one in BOARDS[name]["templating"]["list"]:
        assert one["type"] == "datasource" or (
            one["datasource"] == DATASOURCE and one["allValue"] == ".*"
        )
    for panel in panels(name):
        for target in panel["targets"]:
            selectors = re.findall(r"\{([^}]*)\}", target["expr"])
            assert selectors, target["expr"]
            assert [one for one in selectors if 'host=~"$host"' not in one] == [], target["expr"]
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= known, target["expr"]
