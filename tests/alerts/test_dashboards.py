"""Each panel of the dashboards is about something that the host's Prometheus has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.alerts.dashboards import FACTS, blank, wanted
from tests.alerts.watched import Watched, until


@pytest.mark.soak
def test_each_panel_has_an_answer(watched: Watched) -> None:
    def ask(path: str) -> Any:
        told = watched.host.check_output(
            "curl -sS -g --fail %s", f"http://127.0.0.1:9090/api/v1/{path}"
        )
        return json.loads(told)["data"]

    watched.host.check_output("touch /run/reboot-required")  # one alert is firing
    try:
        assert until(60, lambda: watched.value('ALERTS{alertstate="firing"}') == "1")
        some = wanted(ask, watched.host.check_output("python3 -c %s", FACTS))
        panels = " ".join(some)
        for panel in (
            "Requests",
            "Alerts that are firing",
            "Consumers' lag",
            "Certificate",
            "backup",
            "Brokers",
        ):
            assert panel in panels
        assert until(60, lambda: not blank(ask, some)), blank(ask, some)
    finally:
        watched.host.check_output("rm /run/reboot-required")
