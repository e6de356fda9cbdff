"""The commands of a site's manage.py that run as services and by timers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.test_site_settings import plugin

django = plugin("filter/django.py")
rules = plugin("filter/django_rules.py")
broken_commands, django_units = rules._broken_commands, django.django_units
django_ports = django.django_ports


def site(**changes: Any) -> dict[str, Any]:
    return {
        "name": "lab",
        "project_dir": ".",
        "write_paths": ["/srv/lab/data"],
        "services": {},
        "service_ports": {},
        "timers": {},
        **changes,
    }


def broken(**changes: Any) -> list[tuple[str, str]]:
    return [(found[0], found[2]) for found in broken_commands(site(**changes))]


def test_a_service_and_a_timer_have_units_of_their_own() -> None:
    timers = {"digest": {"command": "digest", "on_calendar": "daily"}}
    found = django_units([site(services={"relay": "relay --name {site}"}, timers=timers)])
    assert [(unit["units"], unit["timer"]) for unit in found] == [
        (["django-lab.digest.service"], "django-lab.digest.timer"),
        (["django-lab.relay.service"], ""),
    ]
    assert [unit["command"] for unit in found] == [
        "python manage.py digest",
        "python manage.py relay --name lab",
    ]
    assert [unit["title"] for unit in found] == ["manage.py digest", "manage.py relay"]


WORKER = {"program": "celery -A {site} worker -n {instance}@%h", "instances": 2}


def test_instances_are_units_of_one_template() -> None:
    (unit,) = django_units([site(services={"worker": WORKER | {"stop_timeout": 300}})])
    assert unit["file"] == "django-lab.worker@.service"
    assert unit["units"] == ["django-lab.worker@1.service", "django-lab.worker@2.service"]
    assert unit["command"] == "celery -A lab worker -n %i@%%h"
    assert (unit["title"], unit["stop_timeout"]) == ("celery", 300)
    inputs = django.django_unit_inputs([unit])
    assert [(one["unit"], one["restart"]) for one in inputs] == [(n, True) for n in unit["units"]]


def test_a_program_without_instances_is_one_unit() -> None:
    (unit,) = django_units([site(services={"beat": {"program": "celery -A lab beat {instance}"}})])
    assert unit["file"] == "django-lab.beat.service"
    assert unit["units"] == ["django-lab.beat.service"]
    assert (unit["command"], unit["stop_timeout"]) == ("celery -A lab beat 1", 30)


def test_a_release_restarts_the_units_of_its_own_site_alone() -> None:
    lab, wiki = site(services={"worker": WORKER}), site(name="wiki", services={"relay": "relay"})
    found = django_units([lab, wiki])
    assert django.django_units_of(found, "lab") == [
        "django-lab.worker@1.service",
        "django-lab.worker@2.service",
    ]
    assert django.django_units_of(found, "wiki") == ["django-wiki.relay.service"]


def test_instances_that_are_too_many_are_stopped_and_their_template_stays() -> None:
    sites = [site(services={"worker": WORKER | {"instances": 1}})]
    host = {
        "units": ["django-lab.worker@.service", "django-lab-b.x.service", "apache2.service"],
        "enabled": ["django-lab.worker@1.service", "django-lab.worker@2.service"],
    }
    unwanted = django.django_unwanted
    assert unwanted(sites, django_units(sites), host) == {
        "units": ["django-lab.worker@2.service"],
        "files": [],
    }
    none = [site()]
    assert unwanted(none, [], host) == {
        "units": ["django-lab.worker@2.service", "django-lab.worker@1.service"],
        "files": ["django-lab.worker@.service"],
    }


def test_a_timer_is_stopped_before_what_it_starts() -> None:
    host = {
        "units": ["django-lab.digest.service", "django-lab.digest.timer"],
        "enabled": ["django-lab.digest.timer"],
    }
    found = django.django_unwanted([site()], [], host)
    assert found["units"] == ["django-lab.digest.timer", "django-lab.digest.service"]
    assert found["files"] == sorted(host["units"])


def test_releases_are_the_lines_of_a_table() -> None:
    one = {
        "release": "a" * 12,
        "state": "live",
        "at": "2026-11-28T18:57:19Z",
        "commit": "v1",
        "by": "ada@desk",
    }
    bad = {**one, "state": "failed", "step": "check", "why": "it does not import"}
    head, live, failed, why = django.release_lines([one, bad])
    assert head.split() == ["release", "state", "when", "(UTC)", "commit", "by"]
    assert live == f"{'a' * 12}  live         2026-11-28T18:57:19Z  v1              ada@desk"
    assert "failed" in failed
    assert why.strip() == "at step check: it does not import"
    assert django.release_lines([]) == ["no release yet"]


def test_no_two_sites_share_a_unit() -> None:
    found = django_units(
        [site(services={"a-b": "x"}), site(name="lab-a", services={"b": "x"}), site(name="none")]
    )
    assert len({unit["file"] for unit in found}) == 2


def test_systemd_puts_nothing_of_its_own_into_a_command() -> None:
    [unit] = django_units([site(services={"a": "x --at 100% $HOME"})])
    assert unit["command"] == "python manage.py x --at 100%% $$HOME"


def test_what_makes_sense_is_kept() -> None:
    assert not broken(
        services={"relay": "relay", "worker": WORKER, "scan": {"command": "scan", "instances": 3}},
        timers={"d": {"command": "digest", "on_calendar": "daily"}},
    )


@pytest.mark.parametrize(
    ("changes", "key", "why"),
    [
        ({"services": {"Relay": "relay"}}, "services.Relay", "also a unit's"),
        ({"services": {"a.b": "relay"}}, "services.a.b", "also a unit's"),
        ({"services": {"a": ""}}, "services.a", "no command"),
        ({"services": {"a": "x\nUser=root"}}, "services.a", "no command"),
        ({"services": {"a": {"command": ""}}}, "services.a", "no command"),
        ({"services": {"a": {"comand": "x"}}}, "services.a", "a command or a program"),
        ({"services": {"a": {"command": "x", "program": "y"}}}, "services.a", "or a program"),
        ({"services": {"a": {"program": "/bin/sh"}}}, "services.a.program", "no program of"),
        ({"services": {"a": {"program": "../sh"}}}, "services.a.program", "no program of"),
        ({"services": {"a": {"program": "x\nUser=root"}}}, "services.a.program", "no program of"),
        ({"services": {"a": WORKER | {"instances": 0}}}, "services.a.instances", "no number"),
        ({"services": {"a": WORKER | {"instances": True}}}, "services.a.instances", "no number"),
        ({"services": {"a": WORKER | {"stop_timeout": "1h"}}}, "services.a.stop_timeout", "number"),
        (
            {"services": {"a": WORKER}, "service_ports": {"a": 9464}},
            "services.a.instances",
            "one process alone",
        ),
        ({"timers": {"a": "x"}}, "timers.a", "an on_calendar"),
        ({"timers": {"a": {"command": "x"}}}, "timers.a", "an on_calendar"),
        ({"timers": {"a": {"command": "x", "on_calendar": ""}}}, "timers.a", "no time"),
        (
            {"services": {"a": "x"}, "timers": {"a": {"command": "x", "on_calendar": "daily"}}},
            "timers.a",
            "has that name too",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], key: str, why: str) -> None:
    assert [(found, why in said) for found, said in broken(**changes)] == [(key, True)]


def test_a_time_that_systemd_does_not_understand_is_refused() -> None:
    units = [{"site": "lab", "name": "digest", "on_calendar": when} for when in ("25:00", "daily")]
    [rule] = rules.django_calendar_rules(units, {"25:00": "Failed to parse", "daily": ""})
    assert (rule["variable"], rule["value"]) == ("django_timers.digest", "25:00")


def test_a_port_belongs_to_the_unit_of_its_service_and_to_no_site_without_it() -> None:
    ports = {"relay": 9464}
    found = django_ports([site(services={"relay": "relay"}, service_ports=ports)])
    assert [(port["port"], port["unit"]) for port in found] == [(9464, "django-lab.relay.service")]
    assert found[0]["variable"] == "django_service_ports.relay (site lab)"
    assert django_ports([site(service_ports=ports)]) == []


def test_an_account_that_differs_is_made_anew() -> None:
    right = {"home": "/srv/lab", "shell": "/usr/sbin/nologin", "group": "lab"}
    names = ["lab", "shop", "wiki"]
    users = {"lab": right, "shop": {**right, "home": "/srv/shop", "group": "www-data"}}
    assert plugin("filter/switchboard.py").site_accounts(names, users) == ["shop", "wiki"]
