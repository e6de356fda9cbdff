"""The module host_units: the order, the patience, and the reason from the journal."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.module_utils.systemd_units import (
    STEPS,
    Broken,
    Systemd,
    bring_up,
    lacking,
    planned,
    sockets_of,
)

RUNS = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "UnitFileState": "enabled",
}


class Recorded(Systemd):
    """systemd as far as the module asks it: what each unit tells, one answer after the other."""

    def __init__(self, **units: list[dict[str, str]]) -> None:
        self.units = {f"{name}.service": states for name, states in units.items()}
        self.commands: list[tuple[str, ...]] = []

    def run(self, *words: str) -> tuple[int, str]:
        """Note a command; each look at a unit tells the next of its states, the last one for good."""
        if words[:2] == ("systemctl", "show"):
            blocks = []
            for unit in words[3:]:
                states = self.units[unit]
                state = states.pop(0) if len(states) > 1 else states[0]
                blocks.append("\n".join(f"{key}={value}" for key, value in (RUNS | state).items()))
            return 0, "\n\n".join(blocks)
        if words[0] == "journalctl":
            return 0, "what the journal says"
        self.commands.append(words[1:])
        return 0, ""


def act(host: Systemd, timeout: int = 3, steady: int = 0, **units: list[str]) -> None:
    """Bring units up: lists of names without the suffix, by step."""
    plan = {
        step: [f"{name}.service" for name in units.get(step, [])] for step in (*STEPS, "paused")
    }
    bring_up(host, plan, timeout, steady)


@pytest.fixture(autouse=True)
def time_flies(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("plugins.module_utils.systemd_units.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("plugins.module_utils.systemd_units.time.sleep", lambda seconds: None)


def state(active: str, **more: str) -> dict[str, str]:
    return {"ActiveState": active, "SubState": "a sub-state", **more}


@pytest.mark.parametrize(
    ("told", "wanting"),
    [
        ({}, False),
        (state("inactive"), True),
        ({"UnitFileState": "disabled"}, True),
        ({"UnitFileState": ""}, True),
        ({"UnitFileState": "static"}, False),
    ],
)
def test_what_is_enabled_and_active_is_left_alone(told: dict[str, str], wanting: bool) -> None:
    assert lacking(RUNS | told) is wanting


def test_units_are_restarted_first_and_then_started_in_order() -> None:
    host = Recorded(
        a=[{}],
        b=[state("inactive", UnitFileState="disabled"), {}],
        c=[{"UnitFileState": "disabled"}],
    )
    act(host, restarted=["a"], started=["b", "c"])
    assert host.commands == [
        ("restart", "a.service"),
        ("enable", "b.service"),
        ("start", "b.service"),
        ("enable", "c.service"),
    ]


@pytest.mark.parametrize("told", [{"NeedDaemonReload": "yes"}, {"LoadState": "not-found"}])
def test_systemd_reads_its_files_anew_where_it_must(told: dict[str, str]) -> None:
    host = Recorded(a=[told, {}])
    act(host, restarted=["a"])
    assert host.commands[0] == ("daemon-reload",)


def test_a_new_folder_of_drop_ins_is_read_though_systemd_does_not_say_so() -> None:
    host = Recorded(a=[{}])
    plan = {step: ["a.service"] if step == "restarted" else [] for step in (*STEPS, "paused")}
    bring_up(host, plan, 3, 0, anew=True)
    assert host.commands[:2] == [("daemon-reload",), ("restart", "a.service")]


def test_a_unit_that_tries_again_and_again_with_an_older_file_begins_with_the_new_one() -> None:
    host = Recorded(a=[state("activating", NeedDaemonReload="yes"), {}])
    act(host, started=["a"])
    assert host.commands == [("daemon-reload",), ("restart", "a.service")]


def test_a_unit_that_is_about_to_start_is_waited_for() -> None:
    host = Recorded(a=[state("inactive"), state("activating"), state("activating"), {}])
    act(host, 50, started=["a"])


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ([state("failed")], "a.service does not stay up: failed (a sub-state)"),
        ([state("activating", NRestarts=str(n)) for n in range(9)], "a.service does not stay up"),
        ([state("activating")], "a.service is activating (a sub-state) after 3 s"),
    ],
)
def test_one_that_does_not_come_up_fails_with_its_journal(
    states: list[dict[str, str]], said: str
) -> None:
    host = Recorded(a=[state("inactive"), *states], b=[state("inactive")])
    with pytest.raises(Broken) as caught:
        act(host, 3 if len(states) < 9 else 90, started=["a", "b"])
    assert said in str(caught.value)
    assert "what the journal says" in str(caught.value)
    assert ("start", "b.service") not in host.commands


def test_one_that_ends_at_once_is_seen_at_the_second_look() -> None:
    host = Recorded(a=[state("inactive"), {}, state("activating", NRestarts="1"), state("failed")])
    with pytest.raises(Broken, match="does not stay up"):
        act(host, 50, 4, started=["a"])


def test_a_command_that_fails_says_what_systemd_and_the_journal_say() -> None:
    host: Any = Recorded(a=[state("inactive")])
    run = host.run
    host.run = lambda *words: (1, "Job failed") if "start" in words else run(*words)
    with pytest.raises(Broken, match=r"a\.service could not be started: Job failed"):
        act(host, started=["a"])


def options(**given: Any) -> dict[str, Any]:
    return {"services": [], "stopped": [], "started": [], "restarted": [], **given}


def late(name: str, **more: Any) -> dict[str, Any]:
    unit = f"{name}.service"
    return {"name": name, "unit": unit, "reload": False, "restart": True, **more}


def test_what_is_behind_is_restarted_or_reloaded_and_the_rest_is_left_alone() -> None:
    services = [late("guard", reload=True), late("a", stop_first=["b.service"]), late("c")]
    host = Recorded(b=[{}], gone=[{}], never=[state("inactive", UnitFileState="disabled")])
    plan = planned(
        host,
        options(
            services=services, started=["b.service"], stopped=["gone.service", "never.service"]
        ),
        ["guard", "a"],
    )
    assert plan == {
        "stopped": ["gone.service"],
        "read": [],
        "paused": ["b.service"],
        "reloaded": ["guard.service"],
        "restarted": ["a.service", "b.service"],
        "started": [],
    }
    host = Recorded(a=[{}], b=[{}], guard=[{}], gone=[{}])
    bring_up(host, plan, 3, 0)
    assert host.commands == [
        ("disable", "gone.service"),
        ("stop", "gone.service"),
        ("reload", "guard.service"),
        ("stop", "b.service"),
        ("restart", "a.service"),
        ("restart", "b.service"),
    ]


def test_one_that_is_restarted_is_enabled_too() -> None:
    host = Recorded(a=[{"UnitFileState": "disabled"}])
    plan = planned(host, options(services=[late("a")], started=["a.service"]), ["a"])
    bring_up(host, plan, 3, 0)
    assert host.commands == [("restart", "a.service"), ("enable", "a.service")]


def test_what_a_timer_starts_is_read_anew_and_not_run() -> None:
    host = Recorded(job=[state("inactive", NeedDaemonReload="yes", UnitFileState="static")])
    plan = planned(host, options(services=[late("job", restart=False)]), ["job"])
    bring_up(host, plan, 3, 0)
    assert host.commands == [("daemon-reload",)]


def test_a_socket_is_looked_at_with_the_services_that_it_starts() -> None:
    host = Recorded(
        a=[{"TriggeredBy": "lab.socket lab.timer"}], b=[{"TriggeredBy": "lab.socket"}], c=[{}]
    )
    (socket,) = sockets_of(host, ["a.service", "b.service", "c.service"])
    assert (socket["unit"], socket["stop_first"]) == ("lab.socket", ["a.service", "b.service"])
    plan = planned(host, options(services=[socket], restarted=["a.service"]), ["lab.socket"])
    assert plan["paused"] == ["a.service", "b.service"]
    assert plan["restarted"] == ["lab.socket", "a.service", "b.service"]
