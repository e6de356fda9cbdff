"""The module wsgi_renew: which processes it finds, and when it takes one for replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugins.filter.apache import apache_wsgi_title
from plugins.module_utils import wsgi_group


def process(proc: Path, pid: int, name: str, threads: int, comm: str = "apache2") -> None:
    (proc / str(pid) / "task").mkdir(parents=True)
    (proc / str(pid) / "comm").write_text(f"{comm}\n")
    (proc / str(pid) / "cmdline").write_bytes(name.encode() + b"\0-k\0start\0")
    for number in range(threads):
        (proc / str(pid) / "task" / str(pid + number)).mkdir()


NAMES = ("lab", "graphspace", "graphspaces", "customer-portal-1")


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(wsgi_group, "PROC", tmp_path)
    monkeypatch.setattr(wsgi_group.processes, "__defaults__", (tmp_path,))
    monkeypatch.setattr(wsgi_group.threads, "__defaults__", (tmp_path,))
    monkeypatch.setattr(wsgi_group.loaded, "__defaults__", (tmp_path,))
    (tmp_path / "self").mkdir()
    return tmp_path


def test_processes_of_other_groups_are_left_alone(proc: Path) -> None:
    process(proc, 10, "(wsgi:lab)", 20)
    process(proc, 11, "(wsgi:lab-two)", 20)
    process(proc, 12, "/usr/sbin/apache2", 500)
    assert wsgi_group.processes("lab") == [10]


def test_the_name_of_a_process_fits_over_that_of_apache(proc: Path) -> None:
    """Apache's own would be cut off, and the two below would be one."""
    assert wsgi_group.title("graphspace") == "(wsgi:graphspace)"
    assert [wsgi_group.title(name) for name in NAMES] == [apache_wsgi_title(name) for name in NAMES]
    names = [wsgi_group.title(f"customer-portal-{number}") for number in (1, 2)]
    assert [len(name) for name in names] == [len("/usr/sbin/apache2")] * 2
    for pid, name in enumerate(names, 10):
        process(proc, pid, name, 20)
    assert [wsgi_group.processes(f"customer-portal-{number}") for number in (1, 2)] == [[10], [11]]


@pytest.mark.parametrize(
    ("comm", "threads", "served"),
    [
        ("apache2", 20, True),
        ("apache2", 15, True),
        ("apache2", 3, False),
        # the one before has a pool of connections, whose threads a new process gets with its first request
        ("wsgi-loaded", 3, True),
    ],
)
def test_a_process_is_replaced_when_another_has_loaded_the_project(
    proc: Path, monkeypatch: pytest.MonkeyPatch, comm: str, threads: int, served: bool
) -> None:
    process(proc, 10, "(wsgi:lab)", 20)

    def kill(pid: int, number: int) -> None:
        (proc / str(pid) / "cmdline").unlink()
        process(proc, 30, "(wsgi:lab)", threads, comm)

    monkeypatch.setattr("os.kill", kill)
    assert wsgi_group.replace("lab", 10, 0.3) is served
