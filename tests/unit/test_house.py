"""The rules of the house that a machine can check by reading the files."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.interruptions.test_interruptions import CASES as INTERRUPTED
from tests.onboarding.test_onboarding import TASKS as ONBOARDED

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if (path / "tasks").is_dir())
TIERS = ("zookeeper", "kafka", "web", "switchboard")
TASK_ORDER = ("preflight", "install", "configure", "service")


def tracked() -> list[Path]:
    """Return the files that are, or are about to be, in the repository."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in done.stdout.splitlines() if (path := ROOT / name).is_file()]


TRACKED = tracked()


def files_of(*folders: str, suffixes: tuple[str, ...] = ()) -> list[Path]:
    """Return tracked text files below folders of the root."""
    tops = tuple(ROOT / folder for folder in folders)
    return [
        path
        for path in TRACKED
        if any(path.is_relative_to(top) for top in tops)
        and (not suffixes or path.suffix in suffixes)
    ]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield ("file:line", text) for each line."""
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        yield f"{name(path)}:{number}", line


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None


def defaults(role: str) -> dict[str, Any]:
    return load(ROOT / "roles" / role / "defaults" / "main.yml") or {}


def options(role: str) -> dict[str, dict[str, Any]]:
    specs = load(ROOT / "roles" / role / "meta" / "argument_specs.yml") or {}
    return specs.get("argument_specs", {}).get("main", {}).get("options", {})


# -- roles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_each_public_variable_has_a_default_and_a_specification(role: str) -> None:
    required = {key for key, option in options(role).items() if option.get("required")}
    # A required variable has no default, or it would never be missed.
    assert defaults(role).keys() == options(role).keys() - required
    assert options(role), f"{role} has no meta/argument_specs.yml"


@pytest.mark.parametrize("role", ROLES)
def test_each_option_has_a_type_and_a_description(role: str) -> None:
    def incomplete(found: dict[str, dict[str, Any]], prefix: str) -> Iterator[str]:
        for key, option in found.items():
            if not option.get("type") or not option.get("description"):
                yield prefix + key
            if option.get("type") == "list" and not option.get("elements"):
                yield f"{prefix}{key} (elements)"
            yield from incomplete(option.get("options") or {}, f"{prefix}{key}.")

    assert list(incomplete(options(role), "")) == []


@pytest.mark.parametrize("role", ROLES)
def test_a_default_that_stands_twice_is_the_same_twice(role: str) -> None:
    stated = {
        key: option["default"] for key, option in options(role).items() if "default" in option
    }
    assert stated == {key: defaults(role)[key] for key in stated}


@pytest.mark.parametrize("role", ROLES)
def test_each_default_is_explained(role: str) -> None:
    path = ROOT / "roles" / role / "defaults" / "main.yml"
    text = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    bare = []
    for number, line in enumerate(text):
        if not re.match(r"[a-z]\w*:", line):
            continue
        # A comment above explains every variable down to the next empty line.
        above = number - 1
        while above >= 0 and text[above].strip() and not text[above].startswith(("#", "---")):
            above -= 1
        if " # " not in line and (above < 0 or not text[above].startswith("#")):
            bare.append(line)
    assert bare == []


@pytest.mark.parametrize("role", ROLES)
def test_variables_carry_the_name_of_their_role(role: str) -> None:
    assert [key for key in defaults(role) if not key.startswith(f"{role}_")] == []
    private = load(ROOT / "roles" / role / "vars" / "main.yml") or {}
    assert [key for key in private if not key.startswith(f"__{role}_")] == []


@pytest.mark.parametrize("role", ROLES)
def test_no_other_roles_private_variable_is_named(role: str) -> None:
    others = "|".join(other for other in ROLES if other != role)
    found = [
        where
        for path in files_of(f"roles/{role}")
        for where, line in lines(path)
        if re.search(rf"\b__(?:{others})_[a-z]", line)
    ]
    assert found == []


@pytest.mark.parametrize("role", ROLES)
def test_no_inventory_group_is_named(role: str) -> None:
    groups = "|".join(TIERS)
    pattern = rf"\bgroup_names\b|(?<![-\w])groups\s*[\[.]|\bhosts:\s*(?:{groups})\b"
    found = [
        where
        for path in files_of(f"roles/{role}", suffixes=(".yml", ".j2"))
        for where, line in lines(path)
        if re.search(pattern, line.split("#")[0])
    ]
    assert found == []


@pytest.mark.parametrize("role", ROLES)
def test_tasks_read_as_a_table_of_contents(role: str) -> None:
    def steps(name: str) -> list[str]:
        return [
            (task.get("ansible.builtin.include_role") or {}).get("tasks_from")
            or task.get("ansible.builtin.import_tasks")
            or task["ansible.builtin.include_tasks"]
            for task in load(ROOT / "roles" / role / "tasks" / name)
        ]

    found = steps("main.yml")
    if "wanted" in found[1]:  # what a host may do without is one entry there
        found[1:2] = steps("wanted.yml")
    assert [name.removesuffix(".yml") for name in found if name != "unwanted.yml"] == [*TASK_ORDER]


@pytest.mark.parametrize("role", ROLES)
def test_only_handlers_restart(role: str) -> None:
    found = [
        where
        for path in files_of(f"roles/{role}/tasks")
        for where, line in lines(path)
        if re.search(
            r"\bstate:\s*(restarted|reloaded)\b|\brestarted:|systemctl (restart|reload)\b", line
        )
    ]
    assert found == []


def templates() -> list[Path]:
    return [path for path in files_of("roles", "templates") if path.suffix == ".j2"]


@pytest.mark.parametrize("path", templates(), ids=name)
def test_each_template_says_first_that_it_is_managed(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    # A word for the reader of the template, and an interpreter line, may stand before it.
    text = re.sub(r"\A(?:\s*\{#.*?#\}-?\s*)+", "", text, flags=re.S)
    first = next(line for line in text.splitlines() if not line.startswith(("#!", "#jinja2:")))
    assert re.match(r"\{\{-? ansible_managed \| comment\b", first), first


# -- the whole repository ------------------------------------------------------------------------------


def locks() -> list[Path]:
    return [
        path
        for path in TRACKED
        if path.match("requirements*.txt")
        or path.match("*.lock")
        or name(path).startswith("requirements/control-")
    ]


@pytest.mark.parametrize("path", locks(), ids=name)
def test_a_lock_names_neither_a_host_nor_a_path(path: Path) -> None:
    found = [
        where
        for where, line in lines(path)
        if re.search(
            r"://|--(extra-)?index-url|--find-links|--trusted-host|\s@\s|(^|\s|=)/\w", line
        )
    ]
    assert found == []


@pytest.mark.parametrize("path", [path for path in locks() if path.suffix == ".txt"], ids=name)
def test_each_locked_requirement_has_a_hash(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    pinned = [line for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    assert pinned
    assert [line.split()[0] for line in pinned if "--hash=sha256:" not in line] == []


SOFT = re.compile(r"^\s*(?:- )?(changed_when|failed_when|ignore_errors|no_log|ignore_unreachable):")


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in files_of("roles", "playbooks", "molecule", suffixes=(".yml",))
        if path.parent.name != "meta"
    ],
    ids=name,
)
def test_what_can_hide_a_failure_carries_its_reason(path: Path) -> None:
    bare = []
    for where, line in lines(path):
        # A condition over several lines is its own reason.
        if SOFT.match(line) and " # " not in line and not line.endswith(">-"):
            bare.append(where)
        if "# noqa" in line and not re.search(r"# noqa:? [\w\[\]-]+.*\S+ \S+", line):
            bare.append(where)
    assert bare == []


def tasks_of(path: Path) -> Iterator[dict[str, Any]]:
    """Yield each task of a file, those of blocks too."""
    several = [load(path)]
    while several:
        for task in several.pop() or []:
            yield task
            several += [task[key] for key in ("block", "rescue", "always") if key in task]


@pytest.mark.parametrize("path", files_of("roles", suffixes=(".yml",)), ids=name)
def test_a_unit_that_does_not_come_up_fails_its_task(path: Path) -> None:
    """Ansible takes a unit that dies every few seconds for a started one, and `failed_when` overrides `until`."""
    if path.parent.name != "tasks":
        return
    for task in tasks_of(path):
        unit = task.get("ansible.builtin.systemd_service", {})
        service = unit.get("state") == "started" and not str(unit["name"]).endswith(".timer")
        if "until" in task or (service and "apache2.service" not in unit["name"]):
            assert "ActiveState" in str(task.get("failed_when")), task["name"]


def test_no_private_key_and_no_conflict_mark() -> None:
    marks = (
        "-----BEGIN " + "RSA PRIVATE KEY",
        "-----BEGIN " + "OPENSSH PRIVATE KEY",
        "<<<<<<" + "< ",
    )
    found = [
        where
        for path in TRACKED
        for where, line in lines(path)
        if any(mark in line for mark in marks)
    ]
    assert found == []


def test_ansible_looks_where_the_files_are() -> None:
    text = (ROOT / "ansible.cfg").read_text(encoding="utf-8")
    keys = r"inventory|roles_path|library|module_utils|filter_plugins|callback_plugins|vars_plugins"
    found = dict(re.findall(rf"^({keys}) = (\S+)$", text, re.M))
    assert len(found) == len(keys.split("|"))
    assert [path for path in found.values() if not (ROOT / path).exists()] == []


def test_modules_are_documented_and_know_check_mode() -> None:
    folder = ROOT / "plugins" / "modules"
    for path in folder.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert re.search(r"^DOCUMENTATION = ", text, re.M), f"{path.name} has no DOCUMENTATION"
        assert "supports_check_mode=True" in text, f"{path.name} does not support check mode"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "plugins" / "modules").glob("*.py")), ids=lambda path: path.stem
)
def test_the_documentation_of_a_module_can_be_read(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = dict(re.findall(r'^(DOCUMENTATION|EXAMPLES|RETURN) = r"""(.*?)"""', text, re.M | re.S))
    assert "DOCUMENTATION" in found
    for name, told in found.items():
        assert yaml.safe_load(told), name


def test_a_version_has_its_entries() -> None:
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    for name in ("CHANGELOG.md", "UPGRADING.md"):
        headings = re.findall(r"^## (\d\S*)", (ROOT / name).read_text(encoding="utf-8"), re.M)
        assert headings[:1] == [version], name


def test_the_tasks_that_tests_kill_a_run_at_are_there() -> None:
    named = {case.task for case in INTERRUPTED} | {task for task in ONBOARDED if " : " in task}
    there = {
        f"{path.parts[-3]} : {task['name']}"
        for path in files_of("roles", suffixes=(".yml",))
        if path.parent.name == "tasks"
        for task in yaml.safe_load(path.read_text(encoding="utf-8")) or []
        if "name" in task
    }
    assert sorted(named - there) == []
