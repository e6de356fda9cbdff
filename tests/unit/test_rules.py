"""What the roles django and daphne refuse, and the names of Daphne's units and ports."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.unit.test_site_settings import ROOT, plugin

django_rules = plugin("filter/django_rules.py").django_rules
daphne = plugin("filter/daphne.py")
complete_sites = plugin("filter/switchboard.py").site_settings

WSGI = {"12": "3.11", "13": "3.13"}
TRIXIE = {
    "distribution": "Debian",
    "distribution_version": "13.1",
    "distribution_major_version": "13",
    "python": {"version": {"major": 3, "minor": 13}},
}


def defaults(role: str) -> dict[str, Any]:
    """Return the role's own defaults by their keys, as its tasks hand them to site_settings."""
    text = (ROOT / "roles" / role / "defaults" / "main.yml").read_text(encoding="utf-8")
    values = {key.removeprefix(f"{role}_"): value for key, value in yaml.safe_load(text).items()}
    text = (ROOT / "roles" / role / "vars" / "main.yml").read_text(encoding="utf-8")
    return {key: values[key] for key in yaml.safe_load(text)[f"__{role}_defaults"]}


def site(role: str = "django", **settings: Any) -> dict[str, Any]:
    """Return a complete site that all rules hold for, but for ``settings``."""
    good: dict[str, dict[str, Any]] = {
        "django": {
            "directory": "/lab",
            "settings_module": "lab.settings",
            "wsgi_module": "lab.wsgi",
        },
        "daphne": {"asgi_module": "lab.asgi"},
    }
    complete: list[dict[str, Any]] = complete_sites(
        [{"name": "lab", **good[role], **settings}], role, defaults(role)
    )
    return complete[0]


def told(rules: list[dict[str, Any]]) -> list[str]:
    """Return the rules as the roles print them."""
    assert all(rule.keys() == {"variable", "value", "why", "remedy"} for rule in rules)
    return [
        f"{rule['variable']} is {rule['value']}: {rule['why']} {rule['remedy']}" for rule in rules
    ]


def refused(**settings: Any) -> str:
    (text,) = told(django_rules([site(**settings)], WSGI, TRIXIE))
    return text


def test_a_good_site_on_a_good_host_breaks_no_rule() -> None:
    assert django_rules([site()], WSGI, TRIXIE) == []
    assert django_rules([], WSGI, TRIXIE) == []
    assert daphne.daphne_rules([site("daphne")]) == []


@pytest.mark.parametrize(
    ("name", "version", "major"),
    [
        ("Ubuntu", "24.04", "24"),
        ("Debian", "11.9", "11"),
        ("Debian", "14", "14"),
        ("Ubuntu", "13", "13"),
    ],
)
def test_another_distribution_is_refused_once(name: str, version: str, major: str) -> None:
    facts = {
        **TRIXIE,
        "distribution": name,
        "distribution_version": version,
        "distribution_major_version": major,
    }
    (text,) = told(django_rules([site()], WSGI, facts))
    assert text.startswith(f"ansible_distribution is {name} {version}: ")
    assert text.endswith("Use a host with one of these.")


def test_a_python_that_mod_wsgi_was_not_built_for_is_refused() -> None:
    facts = {**TRIXIE, "python": {"version": {"major": 3, "minor": 12}}}
    (text,) = told(django_rules([site()], WSGI, facts))
    assert text == (
        "django_python is /usr/bin/python3: it is Python 3.12, and the mod_wsgi of Debian 13 is built "
        "for Python 3.13. Let it be Debian's own Python 3.13 again. (site lab)"
    )


def test_another_python_is_judged_by_what_it_answers() -> None:
    other = site(python="/opt/python/bin/python3")
    known = {"/opt/python/bin/python3": "3.13\n"}
    assert django_rules([other], WSGI, TRIXIE, known) == []
    for answer, said in (("3.12\n", "it is Python 3.12"), ("", "it is no Python that runs")):
        (text,) = told(django_rules([other], WSGI, TRIXIE, {"/opt/python/bin/python3": answer}))
        assert text.startswith(f"django_python is /opt/python/bin/python3: {said}, ")
        assert "Set it to /usr/bin/python3, Debian's own. (site lab)" in text


def test_each_debian_has_its_own_python() -> None:
    facts = {
        "distribution": "Debian",
        "distribution_version": "12.9",
        "distribution_major_version": "12",
        "python": {"version": {"major": 3, "minor": 11}},
    }
    assert django_rules([site()], WSGI, facts) == []


@pytest.mark.parametrize(
    ("settings", "begin", "remedy"),
    [
        ({"settings_module": ""}, "django_settings_module is empty: ", "such as lab.settings."),
        ({"wsgi_module": ""}, "django_wsgi_module is empty: ", "such as lab.wsgi."),
        ({"wsgi_module": "lab/wsgi.py"}, "django_wsgi_module is lab/wsgi.py: ", "without .py."),
        ({"asgi_module": "lab.asgi:application"}, "django_asgi_module is lab.asgi:appl", "dots"),
        ({"settings_module": "lab.settings\n"}, "django_settings_module is lab.settings\n", "dots"),
        ({"wsgi_callable": "lab.app"}, "django_wsgi_callable is lab.app: ", "called application."),
        ({"directory": ""}, "django_directory is empty: source directory", "Name the project's"),
        ({"source": "git"}, "django_repository is empty: source git", "Name the repository's"),
        (
            {"source": "git", "repository": "x", "version": "--upload-pack=id"},
            "django_version is --upload-pack=id: ",
            "Name one, or HEAD.",
        ),
        (
            {"source": "archive", "archive_sha256": "0" * 64},
            "django_archive is empty: source archive",
            "Name the archive's URL.",
        ),
        (
            {"source": "archive", "archive": "file:///x"},
            "django_archive_sha256 is empty: source archive needs the 64",
            "Take them from `sha256sum`",
        ),
        (
            {"source": "archive", "archive": "file:///x", "archive_sha256": "F" * 63},
            "django_archive_sha256 is FFF",
            "Take them from `sha256sum`",
        ),
        ({"project_dir": "../other"}, "django_project_dir is ../other: ", "relative to the"),
        ({"requirements": "/etc/passwd"}, "django_requirements is /etc/passwd: ", "relative"),
        ({"secret_key_variable": ""}, "django_secret_key_variable is empty: ", "no digit first."),
        (
            {"static_root_variable": "A-B"},
            "django_static_root_variable is A-B: ",
            "no digit first.",
        ),
        ({"keep_releases": 0}, "django_keep_releases is 0: ", "Keep 1 or more"),
        ({"lock_timeout": -1}, "django_lock_timeout is -1: ", "0 for no limit"),
        ({"restart_units": ["worker"]}, "django_restart_units is worker: ", "with its suffix"),
        (
            {"hooks": {"before_switching": ["x"]}},
            "django_hooks.before_switching is ['x']: there is no such place.",
            "Name one of before_requirements, ",
        ),
        ({"hooks": {"after_migrate": "x"}}, "django_hooks.after_migrate is x: ", "on one line"),
        ({"smoke": {"sign-in": 200}}, "django_smoke.sign-in is 200: ", "/sign-in/: 200"),
        ({"smoke": {"/": "well"}}, "django_smoke./ is well: ", "/sign-in/: 200"),
        ({"smoke": {"/": 42}}, "django_smoke./ is 42: ", "/sign-in/: 200"),
        ({"smoke": {"/über/": "any"}}, "django_smoke./über/ is any: ", "as /%C3%BCber/: any."),
        ({"smoke": {"/a b?c=%20": 200}}, "django_smoke./a b?c=%20 is 200: ", "/a%20b?c=%20: 200."),
    ],
)
def test_django_refuses(settings: dict[str, Any], begin: str, remedy: str) -> None:
    text = refused(**settings)
    assert text.startswith(begin)
    assert remedy in text
    assert text.endswith("(site lab)")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("instances", 0),
        ("asgi_module", "lab/asgi.py"),
        ("asgi_callable", "a b"),
        ("health_path", "ws/"),
        ("health_path", "/ws/ --verbosity"),
        ("health_path", "/ws/%2F"),
        ("health_host", "lab.test --help"),
        ("project_path", "srv/lab"),
        ("virtualenv", "/srv/my lab"),
        ("backlog", 0),
        ("health_timeout", 0),
        ("ping_interval", 0),
        ("ping_timeout", -1),
        ("connect_timeout", 0),
        ("limit_nofile", 12),
        ("unsent_max", 1000),
        ("memory_max", "much"),
        ("memory_max", "10M"),
    ],
)
def test_daphne_refuses(key: str, value: Any) -> None:
    (text,) = told(daphne.daphne_rules([site("daphne", **{key: value})]))
    assert text.startswith(f"daphne_{key} is {value}: ")
    assert text.endswith("(site lab)")


def test_the_instances_share_a_part_of_the_memory() -> None:
    sites = [{"name": "lab", "instances": 3}, {"name": "shop", "instances": 2}]
    assert daphne.daphne_memory_share(sites, 16000, 25) == "800M"
    assert daphne.daphne_memory_share(sites, 2000, 25) == "256M"
    assert [daphne.daphne_bytes(size) for size in ("2K", "512M", "7", "infinity")] == [
        2048,
        1 << 29,
        7,
        0,
    ]


@pytest.mark.parametrize("percent", [0, 91])
def test_the_part_of_the_memory_leaves_some(percent: int) -> None:
    (text,) = told(daphne.daphne_rules([site("daphne")], percent))
    assert text.startswith(f"daphne_memory_percent is {percent}: ")


def test_the_rules_of_every_site_are_told() -> None:
    rules = django_rules([site(), {**site(keep_releases=0), "name": "shop"}], WSGI, TRIXIE)
    assert [text[-11:] for text in told(rules)] == ["(site shop)"]


# -- names ---------------------------------------------------------------------------------------------


def test_each_site_has_one_socket_and_a_service_for_each_instance() -> None:
    sites = [{"name": "lab", "instances": 2}, {"name": "shop", "instances": 1}]
    assert daphne.daphne_units(sites, "socket") == ["daphne-lab.socket", "daphne-shop.socket"]
    assert daphne.daphne_units(sites, "service") == [
        "daphne-lab@1.service",
        "daphne-lab@2.service",
        "daphne-shop@1.service",
    ]


def test_a_port_is_asked_for_with_its_site_and_its_units() -> None:
    (port,) = daphne.daphne_ports([{"name": "lab", "port": 9099, "address": "127.0.0.1"}])
    assert port == {
        "variable": "daphne_port (site lab)",
        "port": 9099,
        "address": "127.0.0.1",
        "unit": "daphne-lab@*.service",
        "socket_activated": True,
    }


def test_a_misspelled_variable_that_could_hold_secrets_is_not_shown() -> None:
    """Also where the secret stands deeper, as a database's password does in `postgresql_databases`."""
    rules = plugin("filter/switchboard.py").variable_rules(["postgresql_database", "daphne_prot"])
    assert {rule["variable"]: rule["hidden"] for rule in rules} == {
        "postgresql_database": "yes",
        "daphne_prot": "",
    }


def test_a_site_takes_no_user_that_is_somebody_elses() -> None:
    users = {"admin": {"home": "/home/admin"}, "lab": {"home": "/srv/lab"}}
    (rule,) = plugin("filter/switchboard.py").account_rules(["admin", "lab", "shop"], users)
    assert (rule["variable"], rule["that"]) == ("sites.admin", False)
    assert "with /home/admin for a home, who is not the site's." in rule["why"]
