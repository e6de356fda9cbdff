"""The roles as a collection: it is built, installed, and its roles find their modules and filters."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tools import collection
from tools.common import environment, run

# What a role refuses, by a value that it cannot work with.
REFUSED = {
    "zookeeper": ({"zookeeper_heap_mb": 1}, "zookeeper_heap_mb is 1:"),
    "kafka": ({"kafka_node_id": -1}, "kafka_node_id is -1:"),
    "daphne": ({"daphne_sites": [{"name": "Lab"}]}, "Lab"),
    "certificates": ({"certificates_sites": [{"name": "Lab"}]}, "Lab"),
    "apache": ({"apache_sites": [{"name": "Lab"}]}, "Lab"),
    "valkey": ({"valkey_sites": [{"name": "Lab"}]}, "Lab"),
    "monitoring": ({"monitoring_sites": [{"name": "Lab"}]}, "Lab"),
    "django": ({"django_sites": [{"name": "Lab"}]}, "Lab"),
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that the collection is installed in."""
    folder = tmp_path_factory.mktemp("collection")
    archive = collection.build(folder)
    command = [
        "ansible-galaxy",
        "collection",
        "install",
        "--no-deps",
        "-p",
        str(folder),
        str(archive),
    ]
    run(command, env=environment())
    return folder


def test_each_of_our_filters_is_known() -> None:
    assert {"site_settings", "rendered", "django_rules", "site_lists"} <= set(collection.filters())


def test_names_are_written_out() -> None:
    text = "from ansible.module_utils.host_ports import port_faults\nfrom ansible.module_utils.basic import x\n"
    assert collection.rewrite(text, "plugins/modules/a.py").splitlines() == [
        "from ansible_collections.switchboard.switchboard.plugins.module_utils.host_ports import port_faults",
        "from ansible.module_utils.basic import x",
    ]
    line = "content: \"{{ {'unit': __x} | rendered('unit.service') }}\""
    assert "| switchboard.switchboard.rendered(" in collection.rewrite(
        line, "roles/x/vars/main.yml"
    )
    assert collection.rewrite("| rendered", "README.md") == "| rendered"


def test_no_file_of_the_collection_imports_by_a_short_name(installed: Path) -> None:
    folder = installed / "ansible_collections" / "switchboard" / "switchboard" / "plugins"
    ours = "|".join(path.stem for path in (folder / "module_utils").glob("*.py"))
    short = re.compile(
        rf"^\s*(from ansible\.module_utils import|(from|import) ansible\.module_utils\.({ours})\b).*",
        re.M,
    )
    found = {
        str(path): match[0]
        for path in folder.rglob("*.py")
        if (match := short.search(path.read_text()))
    }
    assert found == {}


@pytest.fixture(scope="module")
def refusals(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what each role of the collection said of its values, all asked by one run."""
    folder = tmp_path_factory.mktemp("refused")
    plays = [
        {
            "hosts": "localhost",
            "connection": "local",
            "vars": REFUSED[role][0],
            "tasks": [
                {
                    "block": [
                        {
                            "ansible.builtin.import_role": {
                                "name": f"{collection.NAME}.{role}",
                                "tasks_from": "preflight",
                            }
                        }
                    ],
                    "rescue": [
                        {
                            "ansible.builtin.copy": {
                                "content": "{{ ansible_failed_result | to_json }}",
                                "dest": f"{folder}/{role}.json",
                                "mode": "0600",
                            }
                        }
                    ],
                }
            ],
        }
        for role in REFUSED
    ]
    (folder / "play.yml").write_text(json.dumps(plays), encoding="utf-8")
    (folder / "ansible.cfg").touch()  # not the project's own, which knows the short names
    env = environment() | {
        "ANSIBLE_COLLECTIONS_PATH": str(installed),
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
    }
    done = run(["ansible-playbook", "-i", "localhost,", "play.yml"], env=env, cwd=folder)
    print(done.stdout)
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}


@pytest.mark.parametrize("role", REFUSED)
def test_a_role_of_the_collection_refuses_what_it_cannot_work_with(
    refusals: dict[str, str], role: str
) -> None:
    assert REFUSED[role][1] in refusals[role]
