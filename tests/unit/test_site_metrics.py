"""What is noted of each site, also where its user, or another one, has put something there that is to do harm."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.test_monitoring import LAB, host_metrics, site_metrics, values, write
from tests.unit.test_site_settings import plugin

wsgi_numbers = plugin("../roles/django/files/wsgi_numbers.py")
OTHER = {**LAB, "name": "other", "websocket_port": 9100}


TABLE = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:238B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:238B 0100007F:A000 01 00000010:00000000 00:00000000 00000000     0        0 2 1
   2: 0100007F:A000 0100007F:238B 01 00000000:00000000 00:00000000 00000000     0        0 3 1
"""


def test_websockets_are_what_daphne_says_or_the_kernel_while_it_says_nothing(
    tmp_path: Path,
) -> None:
    write(tmp_path, "proc/net/tcp", TABLE)
    found = values(site_metrics.websockets(tmp_path, [LAB, {**LAB, "websocket_port": 0}], []))
    assert found == {
        'websockets_open{site="lab"}': 1,
        'websockets_limit{site="lab"}': 100,
        'websockets_unsent_bytes{site="lab"}': 16,
    }
    for number in ("1", "2"):
        write(tmp_path, f"run/daphne-lab/{number}/numbers.json", '{"sockets": 4, "unsent": 100}')
    found = values(site_metrics.websockets(tmp_path, [LAB], []))
    assert found['websockets_open{site="lab"}'] == 8
    assert found['websockets_unsent_bytes{site="lab"}'] == 216


def line(status: int, seconds: float) -> str:
    return json.dumps({"status": status, "microseconds": int(seconds * 1e6)}) + "\n"


def test_answers_are_counted_once_also_over_midnight(tmp_path: Path) -> None:
    (tmp_path / site_metrics.FOLDER).mkdir(parents=True)
    folder = tmp_path / "var/log/apache2/lab"
    today = write(folder, "access-20261128.json", line(200, 9))
    (folder / "access.json").hardlink_to(today)

    def counted() -> dict[str, float]:
        return values(site_metrics.requests(tmp_path, [LAB], []))

    assert counted()['http_requests_total{site="lab",class="2xx"}'] == 0, "before anybody counted"
    with today.open("a") as log:
        log.write(line(200, 0.2) + line(500, 3) + line(101, 3600) + "no JSON\n" + '{"status": 2')
    found = counted()
    assert found['http_requests_total{site="lab",class="2xx"}'] == 1
    assert found['http_requests_total{site="lab",class="5xx"}'] == 1
    assert found['http_request_seconds_bucket{site="lab",le="0.25"}'] == 1
    assert found['http_request_seconds_bucket{site="lab",le="+Inf"}'] == 2
    with today.open("a") as log:
        log.write('00, "microseconds": 1}\n' + line(404, 0.1))
    tomorrow = write(folder, "access-20261129.json", line(302, 0.1))
    (folder / "access.json").unlink()
    (folder / "access.json").hardlink_to(tomorrow)
    for _ in range(2):
        found = counted()
        assert [
            found[f'http_requests_total{{site="lab",class="{n}xx"}}'] for n in (2, 3, 4, 5)
        ] == [2, 1, 1, 1]


def test_a_process_of_mod_wsgi_tells_how_busy_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = {"request_threads_maximum": 15, "capacity_utilization": 0.5, "queue_time_total": 2.0}
    fake = SimpleNamespace(request_metrics=lambda: numbers, active_requests={"a": {}, "b": {}})
    monkeypatch.setitem(sys.modules, "mod_wsgi", fake)
    site = f"lab{time.monotonic_ns()}"
    wsgi_numbers.tell(site)
    user = SimpleNamespace(pw_uid=os.getuid())
    monkeypatch.setattr(site_metrics.pwd, "getpwnam", lambda _: user)
    found = values(site_metrics.threads(Path("/"), [{**LAB, "name": site}], []))
    assert found == {
        f'wsgi_threads{{site="{site}"}}': 30,
        f'wsgi_threads_busy{{site="{site}"}}': 2,
        f'wsgi_utilization{{site="{site}"}}': 0.5,
        f'wsgi_queue_seconds{{site="{site}"}}': 2,
    }
    user.pw_uid += 1  # somebody else's socket of that name
    found = values(site_metrics.threads(Path("/"), [{**LAB, "name": site}], []))
    assert found == {f'wsgi_threads{{site="{site}"}}': 30}


def test_outside_of_mod_wsgi_nothing_is_told() -> None:
    site = f"lab{time.monotonic_ns()}"
    wsgi_numbers.tell(site)
    assert site_metrics.wsgi_processes(Path("/"), site) == []


# -- what somebody has put there -------------------------------------------------------------------------


NUMBERS = "run/daphne-lab/1/numbers.json"


def deep(path: Path) -> None:
    path.write_text("[" * 4000)


HARM: dict[str, Callable[[Path], object]] = {
    "a FIFO that nobody writes to": os.mkfifo,
    "a link to a file without an end": lambda path: path.symlink_to("/dev/zero"),
    "a link to another file": lambda path: path.symlink_to("/etc/hostname"),
    "a folder": lambda path: path.mkdir(),
    "a large file": lambda path: path.write_text(" " * 100_000 + "{}"),
    "a number that no float can hold": lambda path: path.write_text(
        json.dumps({"sockets": 10**400, "unsent": 0})
    ),
    "no number": lambda path: path.write_text('{"sockets": NaN, "unsent": Infinity}'),
    "a number below zero": lambda path: path.write_text('{"sockets": -1, "unsent": 0}'),
    "a text": lambda path: path.write_text('{"sockets": "4", "unsent": 0}'),
    "true": lambda path: path.write_text('{"sockets": true, "unsent": 0}'),
    "a list": lambda path: path.write_text("[1, 2]"),
    "what never ends to begin": deep,
    "no JSON": lambda path: path.write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("name", HARM)
def test_what_a_site_leaves_for_root_to_read_harms_no_other(tmp_path: Path, name: str) -> None:
    path = tmp_path / NUMBERS
    path.parent.mkdir(parents=True)
    HARM[name](path)
    write(tmp_path, "run/daphne-other/1/numbers.json", '{"sockets": 4, "unsent": 1, "x": "y"}')
    wrong: list[str] = []
    began = time.monotonic()
    found = values(site_metrics.websockets(tmp_path, [LAB, OTHER], wrong))
    assert time.monotonic() - began < 1
    assert len(wrong) == 1, wrong
    assert wrong[0].startswith("WebSockets of lab: ")
    assert len(wrong[0]) <= 300
    assert "is no file" in wrong[0] or "FIFO" not in name
    assert 'websockets_open{site="lab"}' not in found
    assert found['websockets_open{site="other"}'] == 4


def test_a_link_in_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/1/numbers.json", '{"sockets": 4, "unsent": 1}')
    (tmp_path / "run/daphne-lab").mkdir(parents=True)
    (tmp_path / "run/daphne-lab/1").symlink_to(tmp_path / "elsewhere/1")
    (tmp_path / "run/daphne-other").symlink_to(tmp_path / "elsewhere")
    wrong: list[str] = []
    found = values(site_metrics.websockets(tmp_path, [LAB, OTHER], wrong))
    assert len(wrong) == 2
    assert not [name for name in found if name.startswith("websockets_open")]


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> str:
    """Let each site's user be who runs the tests, and return the name of a site of theirs."""
    user = SimpleNamespace(pw_uid=os.getuid())
    monkeypatch.setattr(site_metrics.pwd, "getpwnam", lambda _: user)
    return f"lab{time.monotonic_ns()}"


def listening(site: str, answer: bytes | None) -> Iterator[None]:
    """Listen as a process of mod_wsgi would; None: the answer never comes, and one byte now and then does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(f"\0switchboard-wsgi/{site}/{os.getpid()}")
        listener.listen(4)

        def serve() -> None:
            try:
                connection, _ = listener.accept()
                with connection:
                    if answer is not None:
                        connection.sendall(answer)
                    for _ in range(4000 if answer is None else 0):
                        connection.sendall(b" ")
                        time.sleep(0.001)  # a drip that outlasts the deadline
            except OSError:
                return  # whoever asked has left

        threading.Thread(target=serve, daemon=True).start()
        yield


TOLD = {"active_requests": 2.0, "capacity_utilization": 0.5, "queue_time_total": 2.0}


@pytest.mark.parametrize(
    "answer",
    [
        b"[]\n",
        b"{}\n",
        b"{" * 3000 + b"\n",
        b" " * 5000,
        b"\xff\n",
        b"",
        json.dumps({**TOLD, "active_requests": 10**400}).encode() + b"\n",
        json.dumps({**TOLD, "queue_time_total": float("nan")}).encode() + b"\n",
        None,
    ],
    ids=["list", "empty", "deep", "long", "bytes", "nothing", "huge", "nan", "slow"],
)
def test_a_process_that_tells_nonsense_or_nothing_keeps_nobody_waiting(
    answer: bytes | None, mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_metrics, "ALL_SECONDS", 1.0)
    wrong: list[str] = []
    for _ in listening(mine, answer):
        began = time.monotonic()
        sites = [{**LAB, "name": mine}, OTHER]
        found = values(site_metrics.threads(Path("/"), sites, wrong))
        assert time.monotonic() - began < 1.2
    assert found == {f'wsgi_threads{{site="{mine}"}}': 30, 'wsgi_threads{site="other"}': 30}
    assert len(wrong) == 1, wrong
    assert wrong[0].startswith(f"switchboard-wsgi/{mine}/")


def test_names_of_sockets_that_others_take_are_not_asked(
    mine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"@switchboard-wsgi/{mine}/{number}" for number in range(5000)]
    write(tmp_path, "proc/net/unix", "\n".join(f"0: 2 0 10000 1 1 9 {name}" for name in names))
    for number, user in ((7, os.getuid() + 1), (8, os.getuid())):
        write(tmp_path, f"proc/{number}/status", f"Name:\tx\nUid:\t{user}\t0\t0\t0\n")
    assert len(site_metrics.wsgi_processes(tmp_path, mine)) == 5000
    asked: list[str] = []

    def tells(name: str, user: int, end: float) -> dict[str, float]:
        asked.append(name)
        return TOLD

    monkeypatch.setattr(site_metrics, "asked", tells)
    list(site_metrics.threads(tmp_path, [{**LAB, "name": mine}], []))
    assert asked == [f"switchboard-wsgi/{mine}/8"]


def test_so_many_processes_of_a_site_are_asked_and_no_more(
    mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"switchboard-wsgi/{mine}/{number}" for number in range(100)]
    asked: list[float] = []
    monkeypatch.setattr(site_metrics, "wsgi_processes", lambda *_: names)
    monkeypatch.setattr(site_metrics, "owner", lambda *_: os.getuid())

    def tells(name: str, user: int, end: float) -> dict[str, float]:
        asked.append(end)
        return TOLD

    monkeypatch.setattr(site_metrics, "asked", tells)
    list(site_metrics.threads(Path("/"), [{**LAB, "name": mine, "threads": 4}], []))
    assert len(asked) == site_metrics.PROCESSES
    assert max(asked) <= time.monotonic() + site_metrics.ALL_SECONDS


# -- a log that grows faster than it is read --------------------------------------------------------------


def test_a_large_log_is_read_bit_by_bit_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_metrics, "MOST", 100_000)
    (tmp_path / site_metrics.FOLDER).mkdir(parents=True)
    folder = tmp_path / "var/log/apache2/lab"
    log = write(folder, "access-20261128.json", "")
    (folder / "access.json").hardlink_to(log)

    def counted() -> float:
        found = values(site_metrics.requests(tmp_path, [LAB], []))
        return found['http_requests_total{site="lab",class="2xx"}']

    assert counted() == 0
    log.write_text(line(200, 0.1) * 10_000)  # 380 kB
    found = [counted()]
    assert 0 < found[0] < 3000
    # the day ends before it is read, and the next one begins
    (folder / "access.json").unlink()
    tomorrow = write(folder, "access-20261129.json", line(200, 0.1) * 5)
    (folder / "access.json").hardlink_to(tomorrow)
    for _ in range(4):
        found.append(counted())
    assert found == sorted(found)
    assert found[-1] == 10_005
    assert counted() == 10_005


def test_reading_a_large_log_takes_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    log = tmp_path / "access.json"
    with log.open("w") as file:
        for _ in range(100):
            file.write(line(200, 0.1) * 10_000)  # 38 MB
    kept = {"classes": {}, "buckets": [0] * 8, "seconds": 0.0, "offset": 0}
    kept["inode"] = log.stat().st_ino
    tracemalloc.start()
    for each in site_metrics.new_lines(tmp_path, kept):
        assert each.endswith(b"\n")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**20
    assert site_metrics.MOST <= kept["offset"] < site_metrics.MOST + 100


def test_what_is_far_behind_is_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "access.json"
    with log.open("w") as file:
        file.truncate(site_metrics.GAP + 100)  # it takes no room
    kept = {"offset": 10, "inode": log.stat().st_ino}
    assert list(site_metrics.new_lines(tmp_path, kept)) == []
    assert kept["offset"] == site_metrics.GAP + 100
    assert "bytes were not read in time and are not counted" in capsys.readouterr().err
    with log.open("a") as file:
        file.write(line(200, 1))
    assert list(site_metrics.new_lines(tmp_path, kept)) == [line(200, 1).encode()]


def test_a_line_without_an_end_is_passed_by(tmp_path: Path) -> None:
    log = tmp_path / "access.json"
    log.write_text("x" * 200_000 + "\n" + line(200, 1))
    kept = {"offset": 0, "inode": log.stat().st_ino}
    found = list(site_metrics.new_lines(tmp_path, kept))
    assert found[-1] == line(200, 1).encode()
    assert max(map(len, found)) <= site_metrics.LINE


def test_a_request_with_numbers_that_cannot_be_is_not_counted() -> None:
    kept = {"classes": {}, "buckets": [0] * 8, "seconds": 0.0}
    for told in ({"status": 10**400, "microseconds": 1}, {"status": 200, "microseconds": 10**400}):
        site_metrics.count(json.dumps(told).encode(), kept)
    site_metrics.count(b"[1]", kept)
    assert kept["classes"] == {}


def test_a_fault_of_one_site_is_counted_and_the_rest_is_noted(tmp_path: Path) -> None:
    (tmp_path / host_metrics.FOLDER).mkdir(parents=True)
    (tmp_path / "proc").mkdir()
    os.mkfifo(write(tmp_path, "run/daphne-lab/1/x", "").with_name("numbers.json"))
    config = {"sites": [LAB, OTHER], "kafka": "", "zookeeper": ""}
    text, wrong = host_metrics.gather(tmp_path, {**config, "maintenance_dir": "/closed"})
    assert len(wrong) == 1
    assert "switchboard_notes_faults 1\n" in text
    assert 'switchboard_websockets_open{site="other"} 0\n' in text
    assert 'switchboard_http_requests_total{site="lab",class="2xx"} 0\n' in text
