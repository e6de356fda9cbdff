"""The filter rendered: a template and what it is given, nothing else."""

from __future__ import annotations

import jinja2
import pytest

from tests.unit.test_site_settings import plugin

rendered = plugin("filter/rendered.py").rendered


def test_a_unit_has_its_sections_in_order_and_each_kind_of_value() -> None:
    unit = {
        "Install": {"WantedBy": ["a.target", "b.target"]},
        "Service": {
            "Type": "exec",
            "NoNewPrivileges": True,
            "ExecReload": ["", "/bin/x"],
            "Nice": None,
        },
        "Unit": {"Description": "Lab"},
    }
    assert rendered({"unit": unit}, "unit.service").splitlines()[3:] == [
        "",
        "[Unit]",
        "Description=Lab",
        "",
        "[Service]",
        "ExecReload=",
        "ExecReload=/bin/x",
        "NoNewPrivileges=true",
        "Type=exec",
        "",
        "[Install]",
        "WantedBy=a.target",
        "WantedBy=b.target",
    ]


def test_properties_are_escaped_as_java_reads_them() -> None:
    text = rendered(
        {"properties": {"b": "x\\y\nz", "a": [1, 2], "c": None, "d": True}}, "java.properties"
    )
    assert text.splitlines()[3:] == ["a=1,2", "b=x\\\\y\\nz", "d=true"]


def test_a_roles_own_template_may_use_an_environment_files_form() -> None:
    text = rendered({"item": {"secrets": {"KEY": 'a"b'}}}, "django/secrets.env.j2")
    assert text == '#\n# Ansible managed\n#\nKEY="a\\"b"\n'


def test_what_is_not_given_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        rendered({}, "unit.service")
