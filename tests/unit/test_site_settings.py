"""The filters that all roles share: each site's settings, and environment files."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

ROOT = Path(__file__).resolve().parents[2]


def plugin(path: str) -> ModuleType:
    """Import a plugin by its path, as Ansible does."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / "plugins" / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


shared = plugin("filter/switchboard.py")

DAPHNE = {
    "port": 9099,
    "instances": 2,
    "asgi_module": "",
    "proxy_headers": False,
    "project_path": "/srv/{site}/current/app",
    "write_paths": ["/srv/{site}/data"],
}


def complete_sites(
    sites: Any, role: str = "daphne", defaults: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    return shared.site_settings(sites, role, DAPHNE if defaults is None else defaults)


def refusal(sites: Any, role: str = "daphne", defaults: dict[str, Any] | None = None) -> str:
    with pytest.raises(AnsibleFilterError) as caught:
        complete_sites(sites, role, defaults)
    return str(caught.value)


def test_a_site_takes_what_it_does_not_name_itself() -> None:
    lab, shop = complete_sites([{"name": "lab"}, {"name": "shop", "port": 9109}])
    assert (lab["port"], lab["instances"]) == (9099, 2)
    assert (shop["port"], shop["instances"]) == (9109, 2)


def test_the_name_of_the_site_stands_in_for_its_placeholder() -> None:
    (lab,) = complete_sites([{"name": "lab"}])
    assert lab["project_path"] == "/srv/lab/current/app"
    assert lab["write_paths"] == ["/srv/lab/data"]


def test_a_setting_that_was_removed_is_refused_with_what_became_of_it() -> None:
    text = refusal([{"name": "lab", "http2_websockets": True}], "apache", {"server_name": ""})
    assert "apache_sites[0].http2_websockets is True: it was removed. Delete it" in text


def test_what_a_site_names_itself_is_taken_as_it_stands() -> None:
    (lab,) = complete_sites([{"name": "lab", "project_path": "/opt/{site}"}])
    assert lab["project_path"] == "/opt/{site}"


def test_values_get_the_type_that_the_role_states() -> None:
    (lab,) = complete_sites([{"name": "lab", "port": "9109", "proxy_headers": "yes"}])
    assert lab["port"] == 9109
    assert lab["proxy_headers"] is True


def test_settling_one_site_leaves_the_input_and_the_other_sites_alone() -> None:
    sites: list[dict[str, Any]] = [{"name": "lab"}, {"name": "shop"}]
    lab, shop = complete_sites(sites)
    lab["write_paths"].append("/tmp")
    assert shop["write_paths"] == ["/srv/shop/data"]
    assert DAPHNE["write_paths"] == ["/srv/{site}/data"]
    assert sites == [{"name": "lab"}, {"name": "shop"}]


def test_what_is_secret_is_checked_and_left_out() -> None:
    defaults = {"secrets": {}, "source": "git"}
    (lab,) = shared.site_settings(
        [{"name": "lab", "secrets": {"TOKEN": "x"}}], "django", defaults, ["secrets"]
    )
    assert lab == {"name": "lab", "source": "git"}
    with pytest.raises(AnsibleFilterError):
        shared.site_settings([{"name": "lab", "secrets": [1]}], "django", defaults, ["secrets"])


def test_no_site_at_all_is_an_empty_list() -> None:
    assert complete_sites([]) == []


@pytest.mark.parametrize("sites", ["lab", {"name": "lab"}, 7, None])
def test_sites_that_are_no_list_are_refused(sites: Any) -> None:
    text = refusal(sites)
    assert f"daphne_sites is {sites!r}: it must be a list of sites." in text
    assert "Begin each with `- name:`." in text


def test_a_site_that_is_no_mapping_is_refused() -> None:
    text = refusal(["lab"])
    assert "daphne_sites[0] is 'lab': it must be a mapping with a name." in text


@pytest.mark.parametrize(
    "name", ["", "Lab", "9lab", "lab_x", "lab.x", "a" * 32, "lab\n", "../etc", "-lab", None]
)
def test_a_name_that_is_no_user_and_no_unit_is_refused(name: Any) -> None:
    text = refusal([{"name": name}])
    assert f"daphne_sites[0].name is {str(name)!r}" in text
    assert "Use a letter, then up to 30 lower-case letters, digits and hyphens." in text


@pytest.mark.parametrize("name", ["a", "lab", "lab-2", "a" * 31])
def test_a_good_name_is_taken(name: str) -> None:
    assert complete_sites([{"name": name}])[0]["name"] == name


def test_a_site_without_a_name_is_refused() -> None:
    assert "daphne_sites[0].name is ''" in refusal([{"port": 9109}])


def test_two_sites_of_one_name_are_refused() -> None:
    text = refusal([{"name": "lab"}, {"name": "lab"}])
    assert "daphne_sites[1].name is 'lab': another site has that name. Give each its own." in text


def test_an_unknown_key_is_refused_with_the_one_that_was_meant() -> None:
    text = refusal([{"name": "lab", "instance": 3}])
    assert (
        "daphne_sites[0].instance is 3: daphne has no such setting. Did you mean instances?" in text
    )


def test_an_unknown_key_like_no_other_is_refused_with_all_that_there_are() -> None:
    text = refusal([{"name": "lab", "zzz": 3}])
    assert "Known keys: asgi_module, instances, port," in text


@pytest.mark.parametrize(
    ("key", "value", "remedy"),
    [
        ("instances", "two", "Write a whole number."),
        ("instances", 1.5, "Write a whole number."),
        ("proxy_headers", "perhaps", "Write true or false."),
        ("write_paths", {"a": 1}, "Write one `- item`"),
    ],
)
def test_a_wrong_type_is_refused_with_site_key_value_and_mend(
    key: str, value: Any, remedy: str
) -> None:
    text = refusal([{"name": "lab"}, {"name": "shop", key: value}])
    assert f"daphne_{key} is {value!r}" in text
    assert remedy in text
    assert "site shop" in text


def test_an_unknown_choice_is_refused_with_the_choices() -> None:
    text = refusal([{"name": "lab", "source": "svn"}], "django", {"source": "git"})
    assert "django_source is 'svn'" in text
    assert "directory, git, archive" in text


def test_a_secret_of_a_wrong_type_is_refused_without_its_value() -> None:
    text = refusal([{"name": "lab", "secrets": "hush-hush"}], "django", {"secrets": {}})
    assert "django_secrets" in text
    assert "hush-hush" not in text


def test_a_misspelt_secret_is_refused_without_its_value() -> None:
    text = refusal([{"name": "lab", "secret_kye": "hush"}], "django", {"secret_key": ""})
    assert "django_sites[0].secret_kye is hidden" in text
    assert "Did you mean secret_key?" in text


def test_a_role_wide_value_of_a_wrong_type_is_refused_too() -> None:
    text = refusal([{"name": "lab"}], "daphne", {**DAPHNE, "port": "http"})
    assert "daphne_port is 'http'" in text


# -- what an environment file can't carry --------------------------------------------------------------


@pytest.mark.parametrize("name", ["1A", "A-B", "A B", "", "Ä", "A=B", "A\n", 5])
def test_a_name_that_no_environment_takes_is_refused(name: Any) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        shared.environment_file({name: "x"})
    assert f"django_environment is a mapping with the name {name!r}" in str(caught.value)
    assert "Use letters, digits and underscores, and no digit first." in str(caught.value)


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "null"), ([1], "a list"), ({"a": 1}, "a mapping")]
)
def test_a_value_that_is_no_text_is_refused(value: Any, shown: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        shared.environment_file({"A": value}, "django_secrets")
    assert f"django_secrets.A is {shown}: an environment variable holds text." in str(caught.value)
    assert "Write it as one string." in str(caught.value)


@pytest.mark.parametrize("character", ["\n", "\r", "\t", "\0", "\x1b", "\x7f", "\ud800", "\uffff"])
def test_a_control_character_is_refused_without_the_value(character: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        shared.environment_file({"TOKEN": f"hush{character}hush"}, "django_secrets")
    assert "django_secrets.TOKEN is a text with a line break or another control" in str(
        caught.value
    )
    assert "Put it into a file and name its path here." in str(caught.value)
    assert "hush" not in str(caught.value)


def test_rules_name_the_site_and_never_a_value() -> None:
    sites = [
        {
            "name": "lab",
            "environment": {"A": "fine"},
            "secrets": {"KEY": "hush\nhush", "B-C": "hush"},
        },
        {"name": "shop", "environment": {"LIST": ["hush"]}, "secrets": {}},
    ]
    rules = shared.environment_rules(sites, "django", "environment", "secrets")
    assert [rule["variable"] for rule in rules] == [
        "django_secrets.KEY",
        "django_secrets",
        "django_environment.LIST",
    ]
    assert [rule["remedy"][-11:] for rule in rules] == [" (site lab)", " (site lab)", "(site shop)"]
    assert "hush" not in str(rules)


def test_no_rule_is_broken_by_what_a_file_can_carry() -> None:
    sites = [{"name": "lab", "environment": {"A": "", "B": 0, "C": True, "D": 'ä "$x"'}}]
    assert shared.environment_rules(sites, "django", "environment") == []


# -- ports ---------------------------------------------------------------------------------------------


def test_two_services_on_one_port_are_told_of_the_later_one() -> None:
    asked = {
        "base": {},
        "zookeeper": {"ports": [{"variable": "zookeeper_client_port", "port": 2181}]},
        "kafka": {"ports": [{"variable": "kafka_port", "port": "2181"}]},
        "apache": {"ports": [{"variable": "apache_http_port", "port": 80}]},
    }
    assert shared.port_clashes(asked) == [
        {
            "variable": "kafka_port",
            "value": "2181",
            "why": "zookeeper_client_port names the same port.",
            "remedy": "Give each service its own.",
        }
    ]


def test_ports_of_their_own_are_no_clash() -> None:
    ports = [{"variable": "a", "port": 1}, {"variable": "b", "port": 2}]
    assert shared.port_clashes({"apache": {"ports": ports}}) == []
    assert shared.port_clashes({"base": {}}) == []


def test_the_answer_of_a_task_has_the_sites_or_says_why_not() -> None:
    answer = shared.site_settings_answer([{"name": "lab"}], "daphne", DAPHNE, ["port"])
    assert [(site["name"], "port" in site) for site in answer["sites"]] == [("lab", False)]
    refused = shared.site_settings_answer([{"name": "lab", "prot": 1}], "daphne", DAPHNE)
    assert refused == {"failed": True, "msg": refusal([{"name": "lab", "prot": 1}])}


def test_broken_rules_come_before_what_the_host_lacks() -> None:
    rule = {"variable": "a", "value": 1, "why": "too few.", "remedy": "Use 2."}
    faults = ["b is 3: taken.", "c is 4: taken."]
    found = shared.refusals([rule, {**rule, "that": False}, {"that": True}], faults)
    assert found == [{"variable": "a", "said": "a is 1: too few. Use 2."}] * 2
    assert shared.refusals([{"that": True}], faults) == [
        {"variable": "b", "said": "b is 3: taken. c is 4: taken."}
    ]
    assert shared.refusals([]) == []
