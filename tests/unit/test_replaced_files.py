"""Which units run code that an upgrade has replaced, and what is done about it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils import replaced_files
from plugins.module_utils.replaced_files import OURS, replaced
from plugins.module_utils.systemd_units import (
    PLAIN,
    planned,
    renewed,
    upgraded,
    with_older_code,
)
from tests.unit.test_host_units import Recorded
from tests.unit.test_site_settings import plugin

SSL = "/usr/lib/x86_64-linux-gnu/libssl.so.3"
JVM = "7f01-7f02 r-xp 00001000 fe:01 77 /usr/lib/jvm/java-21/lib/server/libjvm.so"


def mapped(path: str, mode: str = "r-xp") -> str:
    return f"7f3a5c000000-7f3a5c100000 {mode} 00026000 fe:01 1234                       {path}"


def process(
    proc: Path, number: int, unit: str, *maps: str, parent: int = 1, files: tuple[str, ...] = ()
) -> Path:
    """Make a process of a unit as proc(5) shows it."""
    folder = proc / str(number)
    (folder / "fd").mkdir(parents=True)
    slices = "/system.slice/system-x.slice" if "@" in unit else "/system.slice"
    (folder / "cgroup").write_text(f"0::{slices}/{unit}\n")
    (folder / "maps").write_text("".join(f"{line}\n" for line in maps))
    (folder / "stat").write_text(f"{number} (a (b) c) S {parent} 1 1 0\n")
    for at, path in enumerate(files):
        (folder / "fd" / str(at)).symlink_to(path)
    return folder


@pytest.mark.parametrize(
    ("path", "mode", "counts"),
    [
        (f"{SSL} (deleted)", "r-xp", True),
        ("/usr/bin/python3.13 (deleted)", "r-xp", True),
        ("/lib/x86_64-linux-gnu/libc.so.6 (deleted)", "r-xp", True),
        ("/usr/lib/a b/lib.so (deleted)", "r-xp", True),
        (SSL, "r-xp", False),
        (f"{SSL} (deleted)", "r--p", False),
        ("/usr/lib/locale/C.utf8/LC_CTYPE (deleted)", "r--p", False),
        ("/srv/lab/releases/1/venv/lib/python3.13/site-packages/x.so (deleted)", "r-xp", False),
        ("/opt/kafka/3.9.2/libs/x.so (deleted)", "r-xp", False),
        ("/tmp/librocksdbjni.so (deleted)", "r-xp", False),
        ("/run/x.so (deleted)", "r-xp", False),
        ("/memfd:libffi (deleted)", "r-xp", False),
        ("/dev/zero (deleted)", "rwxs", False),
        ("/SYSV00000000 (deleted)", "rwxs", False),
        ("", "rwxp", False),
    ],
)
def test_code_of_packages_counts_alone(tmp_path: Path, path: str, mode: str, counts: bool) -> None:
    process(tmp_path, 7, "kafka.service", mapped(SSL), mapped(path, mode))
    files = [path.removesuffix(" (deleted)")] if counts else []
    assert replaced(tmp_path) == ({"kafka.service": files}, [])


def test_archives_count_where_java_has_them_open(tmp_path: Path) -> None:
    jar, other = "/usr/share/java/zookeeper.jar (deleted)", "/srv/x.jar (deleted)"
    process(tmp_path, 7, "zookeeper.service", JVM, files=(jar, other, "socket:[1]"))
    process(tmp_path, 8, "apache2.service", mapped(SSL), files=(jar,))
    found = {"apache2.service": [], "zookeeper.service": ["/usr/share/java/zookeeper.jar"]}
    assert replaced(tmp_path) == (found, [])


@pytest.mark.parametrize(
    ("unit", "ours"),
    [
        ("apache2.service", True),
        ("haproxy.service", True),
        ("kafka.service", True),
        ("zookeeper.service", True),
        ("postgresql@17-main.service", True),
        ("valkey-lab.service", True),
        ("daphne-lab@1.service", True),
        ("django-lab.relay.service", True),
        ("django-chat.worker@2.service", True),
        ("prometheus.service", True),
        ("prometheus-node-exporter.service", True),
        ("switchboard-logs.service", True),
        ("systemd-journald.service", True),
        ("ssh.service", False),
        ("dbus.service", False),
        ("zookeeper-of-mine.service", False),
        ("session-1.scope", False),
    ],
)
def test_units_of_the_bundle_are_looked_at(tmp_path: Path, unit: str, ours: bool) -> None:
    process(tmp_path, 7, unit, mapped(f"{SSL} (deleted)"))
    assert replaced(tmp_path) == ({unit: [SSL]} if ours else {}, [])
    assert bool(OURS.fullmatch(unit)) is ours


def test_the_unit_is_read_from_either_version_of_control_groups(tmp_path: Path) -> None:
    one = process(tmp_path, 7, "kafka.service", mapped(f"{SSL} (deleted)"))
    (one / "cgroup").write_text(
        "9:pids:/docker/1/system.slice/kafka.service\n1:name=systemd:/docker/1/system.slice/kafka.service\n"
    )
    other = process(tmp_path, 8, "x.service", mapped(f"{SSL} (deleted)"))
    (other / "cgroup").write_text("0::/user.slice/user-0.slice/user@0.service/zookeeper.service\n")
    assert replaced(tmp_path) == ({"kafka.service": [SSL]}, [])


def test_processes_of_haproxy_that_end_with_their_connections_do_not_count(tmp_path: Path) -> None:
    process(tmp_path, 7, "haproxy.service", mapped(SSL))
    process(tmp_path, 8, "haproxy.service", mapped(f"{SSL} (deleted)"), parent=7)
    assert replaced(tmp_path) == ({"haproxy.service": []}, [])
    process(tmp_path, 9, "haproxy.service", mapped(f"{SSL} (deleted)"))
    assert replaced(tmp_path) == ({"haproxy.service": [SSL]}, [])


def test_children_of_others_count(tmp_path: Path) -> None:
    process(tmp_path, 7, "apache2.service", mapped(SSL))
    process(tmp_path, 8, "apache2.service", mapped(f"{SSL} (deleted)"), parent=7)
    assert replaced(tmp_path)[0] == {"apache2.service": [SSL]}


def test_what_may_not_be_seen_is_told_and_what_has_ended_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, unit in enumerate(("kafka", "zookeeper", "apache2"), 7):
        process(tmp_path, number, f"{unit}.service", mapped(f"{SSL} (deleted)"))
    refusals = {"7": PermissionError, "8": ProcessLookupError}
    real = replaced_files.files_of

    def files_of(one: Path) -> Any:
        if one.name in refusals:
            raise refusals[one.name]
        return real(one)

    monkeypatch.setattr(replaced_files, "files_of", files_of)
    found, unseen = replaced(tmp_path)
    assert unseen == ["kafka.service"]
    assert found["apache2.service"] == [SSL]
    assert found["zookeeper.service"] == []


def test_verify_runs_it_as_it_is() -> None:
    source = Path(replaced_files.__file__).read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "-c", source], capture_output=True, text=True, check=True
    )
    found, unseen = json.loads(done.stdout)
    assert isinstance(found, dict)
    assert isinstance(unseen, list)


def test_the_kernel_marks_a_file_that_was_replaced(tmp_path: Path) -> None:
    """What this relies on, with a program of the test's own."""
    program = tmp_path / "sleep"
    program.write_bytes(Path("/usr/bin/sleep").resolve().read_bytes())
    program.chmod(0o755)
    with subprocess.Popen([program, "30"]) as running:
        try:
            maps = Path(f"/proc/{running.pid}/maps")
            while f" {program}\n" not in maps.read_text():
                pass  # until it has become the program
            (tmp_path / "new").write_bytes(program.read_bytes())
            os.replace(tmp_path / "new", program)
            lines = [line for line in maps.read_text().splitlines() if str(program) in line]
        finally:
            running.kill()
    assert lines
    assert all(line.endswith(f" {program} (deleted)") for line in lines)


# -- what a run does about it ----------------------------------------------------------------------------


def service(name: str, unit: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "unit": unit, **PLAIN, "code": None, **options}


APACHE = [
    service("restart", "apache2.service", code=False),
    service("reload", "apache2.service", reload=True),
]
HAPROXY = [
    service("restart", "haproxy.service", code=False),
    service("reload", "haproxy.service", reload=True, code=True),
]


@pytest.mark.parametrize(
    ("services", "restarted", "reloaded", "waits"),
    [
        ([service("kafka", "kafka.service")], ["kafka.service"], [], False),
        ([service("kafka", "kafka.service", code=False)], [], [], True),
        ([service("job", "kafka.service", restart=False)], [], [], True),
        (APACHE, [], [], True),
        (HAPROXY, [], ["haproxy.service"], False),
    ],
)
def test_what_begins_anew_and_what_waits(
    services: list[dict[str, Any]], restarted: list[str], reloaded: list[str], waits: bool
) -> None:
    unit = services[0]["unit"]
    reasons = with_older_code(services, {unit: SSL, "other.service": SSL})
    assert all(
        text == f"{unit} runs with {SSL} as it was before an upgrade" for text in reasons.values()
    )
    options = {"services": services, "restarted": [], "stopped": [], "started": []}
    plan = planned(Recorded(), options, list(reasons))
    assert (plan["restarted"], plan["reloaded"]) == (restarted, reloaded)
    assert (unit not in renewed(plan, services)) is waits


def test_an_apache_that_is_restarted_for_another_reason_waits_no_longer() -> None:
    options = {"services": APACHE, "restarted": [], "stopped": [], "started": []}
    assert renewed(planned(Recorded(), options, ["restart"]), APACHE) == ["apache2.service"]
    assert renewed(planned(Recorded(), options, ["reload"]), APACHE) == []


def test_what_is_asked_for_comes_in_the_order_of_the_patterns() -> None:
    units = ["apache2.service", "kafka.service", "valkey-b.service", "valkey-a.service"]
    found = upgraded(units, ["postgresql@*", "valkey-*", "apache2.service"])
    assert found == ["valkey-b.service", "valkey-a.service", "apache2.service"]


# -- in the window of upgrades ---------------------------------------------------------------------------

LIBRARY = str(Path(replaced_files.__file__).parent)


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return the program, with no reboot ahead."""
    monkeypatch.syspath_prepend(LIBRARY)
    module = plugin("../roles/base/files/restart_upgraded.py")
    monkeypatch.setattr(module, "REBOOT", tmp_path / "reboot-required")
    return module


def run_of(
    window: Any, monkeypatch: pytest.MonkeyPatch, found: list[str], failing: str = ""
) -> tuple[int, list[str]]:
    """Run the program; return its exit code and what it asked of systemctl."""
    commands: list[str] = []

    def run(words: list[str], **_: Any) -> Any:
        commands.append(" ".join(words[1:]))
        return subprocess.CompletedProcess(words, int(words[-1] == failing))

    monkeypatch.setattr(window.subprocess, "run", run)
    units = {unit: [SSL] for unit in found} | {"prometheus.service": []}
    monkeypatch.setattr(window, "replaced", lambda: (units, []))
    return window.main(), commands


def test_the_window_restarts_what_others_need_first(
    window: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        "apache2",
        "daphne-lab@1",
        "haproxy",
        "kafka",
        "postgresql@17-main",
        "switchboard-logs",
    ]
    found = [f"{name}.service" for name in [*found, "zookeeper"]]
    assert run_of(window, monkeypatch, found) == (
        0,
        [
            "try-restart zookeeper.service",
            "try-restart kafka.service",
            "try-restart postgresql@17-main.service",
            "try-restart switchboard-logs.service",
            "try-restart daphne-lab@1.service",
            "try-reload-or-restart haproxy.service",
            "try-restart apache2.service",
        ],
    )


def test_the_window_ends_at_the_first_that_does_not_come_back(
    window: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ["daphne-lab@1.service", "daphne-lab@2.service", "apache2.service"]
    asked = run_of(window, monkeypatch, found, failing="daphne-lab@1.service")
    assert asked == (1, ["try-restart daphne-lab@1.service"])


def test_the_window_leaves_it_to_a_reboot(window: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    window.REBOOT.write_text("")
    assert run_of(window, monkeypatch, ["apache2.service"]) == (0, [])
