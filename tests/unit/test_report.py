"""The report of `make verify`: what is recorded, what is hidden, what is drawn, and how the page is written."""

from __future__ import annotations

import copy
import datetime
import html.parser
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from tests.report import page, record
from tests.report.drawing import Box, Drawing, drawings
from tests.report.plugin import Recorder, heard, sentences

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
NOW = datetime.datetime(2026, 11, 28, 18, 45, tzinfo=datetime.UTC)
HOSTILE = "</code></script><script>alert('x')</script><img src=x onerror=alert(1)>\" onload='x' {{ 7 * 7 }}"
SECRET = 's3cr3t "quoted" $and\'more/ü'


@pytest.fixture
def recorded() -> dict[str, Any]:
    """The record of a real run on a server that was broken by hand."""
    return dict(json.loads((FOLDER / "verify_record.json").read_text(encoding="utf-8")))


# -- what a host is asked ------------------------------------------------------------------------------


def test_the_command_looks_at_a_host_and_prints_one_answer() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", record.command([{"name": "no 'such' site"}])],
        capture_output=True,
        text=True,
        check=True,
    )
    told = record.answers(done.returncode, done.stdout, done.stderr)
    assert told["system"]["up_seconds"] > 0
    assert told["room"]["memory_mb"] > 0
    assert told["sites"] == [{"name": "no 'such' site", "release": "", "versions": {}}]


@pytest.mark.parametrize(
    ("out", "said", "heard"),
    [
        ("", "ssh: connect to host lab port 22: No route to host\n", "No route to host"),
        ("a banner\n", "", "a banner"),
        ("{broken\n", "", "{broken"),
        ("", "", r"no answer \(255\)"),
    ],
)
def test_who_does_not_answer_is_unreached(out: str, said: str, heard: str) -> None:
    with pytest.raises(record.UnreachedError, match=heard):
        record.answers(255, out, said)


def test_an_answer_is_found_behind_other_lines() -> None:
    assert record.answers(0, 'motd\n{"units": []}\n', "") == {"units": []}


def test_sites_are_asked_for_by_their_names_and_ports() -> None:
    description = {
        "apache": {
            "https_port": 8443,
            "sites": [
                {"name": "a", "server_name": "a.example", "tls": True},
                {"name": "b", "server_name": "b.example", "tls": False},
            ],
        },
        "django": {"sites": [{"name": "b"}, {"name": "c"}]},
    }
    assert record.questions(description) == [
        {"name": "a", "server_name": "a.example", "https_port": 8443},
        {"name": "b", "server_name": "b.example"},
        {"name": "c"},
    ]
    assert record.questions({}) == []


OUTPUT = """
TASK [apache : Write each site] ************************************************
--- before: /etc/apache2/sites-available/lab.conf
+++ after: /etc/apache2/sites-available/lab.conf
@@ -1,1 +1,1 @@
-Timeout 61
+Timeout 60

changed: [one]
--- before: /etc/other
+++ after: /etc/other
changed: [two] => (item=x)

TASK [apache : Look] ***********************************************************
ok: [one]

RUNNING HANDLER [apache : Reload] **********************************************
changed: [one]
"""


def test_drift_names_the_files_of_the_host_alone() -> None:
    (task, handler) = record.drift(OUTPUT, "one")
    assert (task["task"], task["handler"]) == ("apache : Write each site", False)
    assert task["files"] == ["/etc/apache2/sites-available/lab.conf"]
    assert task["difference"].endswith("+Timeout 60")
    assert (handler["task"], handler["handler"]) == ("apache : Reload", True)
    assert [item["files"] for item in record.drift(OUTPUT, "two")] == [["/etc/other"]]
    assert record.drift(OUTPUT, "on") == []


# -- what the run came to ------------------------------------------------------------------------------


def check(result: str, host: str = "one") -> dict[str, Any]:
    return {
        "id": "tests/behaviour/test_tls.py::test_x",
        "module": "test_tls",
        "says": "X",
        "why": "",
        "host": host,
        "result": result,
        "seconds": 0.0,
        "said": "",
    }


@pytest.mark.parametrize(
    ("results", "reached", "trouble", "status", "code"),
    [
        (["good", "absent"], True, "", "good", 0),
        (["good", "bad"], True, "", "short", 1),
        (["good", "bad"], False, "", "unseen", 2),
        (["absent"], True, "", "unseen", 2),
        ([], True, "", "unseen", 2),
        (["good"], True, "no such group", "unseen", 2),
    ],
)
def test_the_status_is_the_exit_code(
    results: list[str], reached: bool, trouble: str, status: str, code: int
) -> None:
    hosts = [{"name": "one", "reached": reached}]
    whole = record.whole("lab", NOW, NOW, hosts, [check(result) for result in results], trouble)
    assert (whole["status"], whole["exit"]) == (status, code)


def report(
    node: str, when: Literal["setup", "call", "teardown"], outcome: str, said: Any = None
) -> pytest.TestReport:
    return pytest.TestReport(node, ("x", 1, "x"), {}, outcome, said, when, duration=0.25)  # type: ignore[arg-type]


def recorder(folder: Path | None, *nodes: str) -> Recorder:
    """Return a recorder that knows some tests of the host `one`, which it has looked at."""
    made = Recorder("inventory/lab", folder)
    for node in nodes:
        made.checks[node] = {**check("unseen"), "id": node}
    made.looked["one"] = {"units": [], "listeners": []}
    return made


def crash(said: str) -> Any:
    return SimpleNamespace(reprcrash=SimpleNamespace(message=said))


def test_the_worst_phase_of_a_test_is_its_result() -> None:
    made = recorder(None, "a", "b", "c", "d", "e")
    for node, phases in {
        "a": [
            ("setup", "passed", None),
            ("call", "passed", None),
            ("teardown", "failed", crash("no end")),
        ],
        "b": [("setup", "skipped", ("x", 1, "Skipped: no TLS"))],
        "c": [
            ("setup", "passed", None),
            ("call", "failed", crash("0777")),
            ("teardown", "passed", None),
        ],
        "d": [("setup", "passed", None), ("call", "passed", None), ("teardown", "passed", None)],
        "e": [("call", "failed", crash("0777")), ("teardown", "skipped", ("x", 1, "Skipped: x"))],
    }.items():
        for when, outcome, said in phases:
            made.pytest_runtest_logreport(report(node, when, outcome, said))  # type: ignore[arg-type]
    told = {node: (one["result"], one["said"], one["seconds"]) for node, one in made.checks.items()}
    assert told == {
        "a": ("bad", "no end", 0.75),
        "b": ("absent", "no TLS", 0.25),
        "c": ("bad", "0777", 0.75),
        "d": ("good", "", 0.75),
        "e": ("bad", "0777", 0.5),
    }


def test_what_a_host_could_not_be_asked_is_not_seen() -> None:
    made = recorder(None, "a")
    made.heard["one"] = "No route to host"
    made.pytest_runtest_logreport(report("a", "setup", "skipped", ("x", 1, "Skipped: no route")))
    assert made.checks["a"]["result"] == "unseen"
    assert "one could not be reached: No route to host" in made.lines()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            RuntimeError(
                "CommandResult(command=b'x', _stdout=b'', _stderr=b'a\\r\\nssh: No route to host\\r\\n')"
            ),
            "ssh: No route to host",
        ),
        (record.UnreachedError("no answer (1)"), "no answer (1)"),
        (ValueError(), "ValueError"),
    ],
)
def test_what_was_heard_of_a_host_is_one_line(error: Exception, told: str) -> None:
    assert heard(error) == told


def example() -> None:
    """A sentence. And why
    it is so.
    """


@pytest.mark.parametrize(
    ("function", "params", "told"),
    [
        (example, {"_testinfra_host": "x"}, ("A sentence", "And why it is so.")),
        (
            example,
            {"service": ("kafka", "user"), "n": 3},
            ("A sentence (kafka, 3)", "And why it is so."),
        ),
        (None, {"row": {"id": "R01", "event": "A page", "reason": "so"}}, ("R01: A page", "so")),
        (None, {}, ("All is well", "")),
    ],
)
def test_a_check_is_said_in_words(
    function: Any, params: dict[str, Any], told: tuple[str, str]
) -> None:
    item: Any = SimpleNamespace(
        function=function, callspec=SimpleNamespace(params=params), name="test_all_is_well[x]"
    )
    assert sentences(item) == told


# -- secrets -------------------------------------------------------------------------------------------


def written(made: Recorder, folder: Path) -> str:
    made.finish(None)
    return "".join(
        (folder / name).read_text(encoding="utf-8") for name in ("report.json", "report.html")
    )


def test_a_secret_is_neither_in_the_page_nor_in_the_data(tmp_path: Path) -> None:
    forms = (SECRET, repr(SECRET), json.dumps(SECRET), json.dumps(SECRET, ensure_ascii=False))
    made = recorder(tmp_path, "a")
    made.hider.learn([SECRET, "plain-secret-1"])
    said = "found: " + " ".join((*forms, "xplain-secret-1y"))
    made.pytest_runtest_logreport(report("a", "call", "failed", crash(said)))
    made.looked["one"]["units"] = [{"name": "plain-secret-1", "active": "active", "state": "x"}]
    text = written(made, tmp_path)
    assert "found: " in text
    assert record.HIDDEN in text
    for piece in ("s3cr3t", "plain-secret-1", "and&#39;more"):
        assert piece not in text


def test_what_could_hold_a_secret_is_not_shown_where_none_is_known(tmp_path: Path) -> None:
    made = recorder(tmp_path, "a")
    made.hidden_known = False
    made.pytest_runtest_logreport(report("a", "call", "failed", crash("value 12345678")))
    text = written(made, tmp_path)
    assert "12345678" not in text
    assert "could not be read" in text


def test_a_secret_is_not_printed_either(tmp_path: Path) -> None:
    """A run of pytest beside this one, with the recorder and a test that says a secret."""
    (tmp_path / "conftest.py").write_text(
        "from tests.report.plugin import Recorder\n"
        "def pytest_configure(config):\n"
        "    recorder = Recorder('lab', None)\n"
        "    recorder.hider.learn(['plain-' + 'secret-1'])\n"
        "    config.pluginmanager.register(recorder)\n"
    )
    (tmp_path / "test_x.py").write_text(
        "def test_x():\n    x = 'plain-' + 'secret-1'\n    print(x)\n    assert not x, 'found ' + x\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--junitxml=x.xml",
        "test_x.py",
    ]
    path = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        command, cwd=tmp_path, env=path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    text = done.stdout + done.stderr + (tmp_path / "x.xml").read_text(encoding="utf-8")
    assert "found [secret]" in text
    assert "plain-secret-1" not in text


def test_a_secret_that_is_a_word_of_the_record_does_not_break_it(tmp_path: Path) -> None:
    made = recorder(tmp_path, "a")
    made.hider.learn(["unseen", "result", "checks", "inventory", "packages"])
    assert "Not everything could be looked at" in written(made, tmp_path)
    told = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (told["status"], told["checks"][0]["result"]) == ("unseen", "unseen")


def test_short_values_are_no_secrets() -> None:
    hider = record.Hider()
    hider.learn(["", "on", "12345"])
    assert hider.hide({"a": ["on", "12345"]}) == {"a": ["on", "12345"]}


# -- the page ------------------------------------------------------------------------------------------


class Tags(html.parser.HTMLParser):
    """Collects each tag with the names of its attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


TERMS = {
    *(
        "result",
        "status",
        "module",
        "started",
        "since",
        "until",
        "at",
        "protocol",
        "address",
        "active",
        "tls",
    ),
    "inventory",
}


def spoiled(value: Any, ending: str, key: str = "") -> Any:
    """Return a record whose free texts all end with something."""
    if isinstance(value, dict):
        return {name: spoiled(item, ending, name) for name, item in value.items()}
    if isinstance(value, list):
        return [spoiled(item, ending, key) for item in value]
    return value + ending if isinstance(value, str) and key not in TERMS else value


def test_no_text_of_a_host_becomes_markup(recorded: dict[str, Any]) -> None:
    recorded["hosts"][0]["unanswered"] = ["a question"]
    recorded["hosts"].append(
        {**copy.deepcopy(recorded["hosts"][0]), "reached": False, "heard": "x"}
    )
    recorded["trouble"] = "x"
    hostile = Tags(page.html(spoiled(recorded, HOSTILE)))
    assert hostile.tags == Tags(page.html(spoiled(recorded, "harmless"))).tags
    assert hostile.text.count("alert('x')") > 50
    assert "script" not in {tag for tag, _ in hostile.tags}
    assert "49" not in re.findall(r"onload='x' (\w+)", hostile.text)


def test_every_check_and_host_is_on_the_page(recorded: dict[str, Any]) -> None:
    text = " ".join(Tags(page.html(recorded)).text.split())
    for one in recorded["checks"]:
        assert " ".join(one["says"].split()) in text
    for thing in (
        "7 of 24 checks fell short",
        "server1",
        "5ab5efe9dd2e",
        "89 days left",
        "Kafka3.9.2",
    ):
        assert thing in text, thing
    assert "/etc/apache2/sites-available/graphspace.conf" in text


def test_nothing_is_loaded_from_elsewhere(recorded: dict[str, Any]) -> None:
    text = page.html(recorded)
    assert not re.search(r"(?:src|action|srcset)=|@import|url\((?!#)", text)
    assert set(re.findall(r'href="([^#"]*)', text)) == {"", "data:,"}


@pytest.mark.parametrize(
    ("status", "headline"),
    [
        ("good", "Everything is as it should be"),
        ("short", "7 of 24 checks fell short"),
        ("unseen", "Not everything could be looked at"),
    ],
)
def test_the_first_line_says_how_it_is(
    recorded: dict[str, Any], status: str, headline: str
) -> None:
    assert headline in page.html({**recorded, "status": status})


def test_the_files_are_for_their_owner_alone(recorded: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    for path in page.write(recorded, folder):
        assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == recorded
    assert {path.name for path in folder.iterdir()} == {"report.json", "report.html"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12, "12 s"), (119, "119 s"), (120, "2 minutes"), (90000, "1 day"), (7200, "2 hours")],
)
def test_a_length_of_time_is_told_in_its_unit(seconds: int, text: str) -> None:
    assert page.duration(seconds) == text


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1", "this host alone"),
        ("::1", "this host alone"),
        ("*", "the network"),
        ("10.0.0.1", "the network"),
        ("no address", "the network"),
    ],
)
def test_it_says_who_reaches_a_port(address: str, told: str) -> None:
    assert page.reach({"address": address}) == told


# -- the drawing ---------------------------------------------------------------------------------------


def hosts_of_all_kinds(recorded: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    host = recorded["hosts"][0]
    yield "as recorded", [host]
    second = {
        **copy.deepcopy(host["sites"][0]),
        "name": "a-site-with-a-name-that-is-longer-than-its-box",
    }
    third = {
        **copy.deepcopy(second),
        "name": "plain",
        "daphne": None,
        "topics": [],
        "websocket_paths": [],
    }
    yield "three sites", [{**host, "sites": [host["sites"][0], second, third]}]
    web = {**host, "name": "web", "ports": {**host["ports"], "kafka": None, "zookeeper": None}}
    bus = {
        **host,
        "name": "bus",
        "sites": [],
        "ports": {**host["ports"], "http": None, "https": None},
    }
    yield "two hosts", [web, bus]
    yield "no Kafka", [web]
    unreached: dict[str, Any] = {"listeners": [], "units": [], "connections": {}}
    yield "not reached", [{**host, **unreached}]
    yield "no host of its own", [{**web, "sites": [], "ports": dict.fromkeys(host["ports"])}]


def overlap(one: Box, other: Box) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


@pytest.mark.parametrize("kind", ["wide", "narrow"])
def test_boxes_are_in_the_picture_and_apart(recorded: dict[str, Any], kind: str) -> None:
    for name, hosts in hosts_of_all_kinds(recorded):
        for host in hosts:
            drawing: Drawing = drawings(hosts, host)[kind]
            inner = [box for box in drawing.boxes if not box.frame]
            for box in drawing.boxes:
                assert box.x >= 0, name
                assert box.x + box.width <= drawing.width, (name, box)
                assert box.y + box.height <= drawing.height, (name, box)
                assert box.width > 0, (name, box)
            pairs = [(a, b) for n, a in enumerate(inner) for b in inner[n + 1 :]]
            assert not [(a.title, b.title) for a, b in pairs if overlap(a, b)], name
            frames = [box for box in drawing.boxes if box.frame][1:]
            assert not [
                1 for n, a in enumerate(frames) for b in frames[n + 1 :] if overlap(a, b)
            ], name


def ways(hosts: list[dict[str, Any]], number: int = 0) -> dict[str, str]:
    return {way.words: way.state for way in drawings(hosts, hosts[number])["wide"].arrows}


def test_arrows_are_those_of_the_inventory(recorded: dict[str, Any]) -> None:
    kinds = dict(hosts_of_all_kinds(recorded))
    assert list(ways(kinds["as recorded"])) == [
        "Visitors → Apache: every connection",
        "Apache → Django in mod_wsgi: pages",
        "Apache → Daphne :9099: WebSockets /ws/",
        "Django in mod_wsgi → Kafka :9092: a record for each change",
        "Kafka :9092 → Daphne :9099: every record",
        "ZooKeeper :2181 → Kafka :9092: who leads, which topics there are",
    ]
    assert not [words for words in ways(kinds["no Kafka"]) if "Kafka" in words]
    (remote,) = [
        box
        for box in drawings(kinds["two hosts"], kinds["two hosts"][0])["wide"].boxes
        if box.title == "Kafka"
    ]
    assert remote.line == "on bus"


def test_what_does_not_run_is_drawn_so(recorded: dict[str, Any]) -> None:
    host = recorded["hosts"][0]
    assert ways([host])["Kafka :9092 → Daphne :9099: every record"] == "bad"
    for unit in host["units"]:
        unit["active"] = "active"
    assert set(ways([host]).values()) == {"good"}
    host["listeners"] = [row for row in host["listeners"] if row["port"] != 9092]
    bad = [box.title for box in drawings([host], host)["narrow"].boxes if box.state == "bad"]
    assert bad == ["Kafka :9092"]
    host["sites"][0]["wsgi"]["running"] = 1
    bad = [box.title for box in drawings([host], host)["narrow"].boxes if box.state == "bad"]
    assert bad == ["Kafka :9092", "Django in mod_wsgi"]


def test_nothing_is_said_of_what_nobody_looked_at(recorded: dict[str, Any]) -> None:
    (host,) = dict(hosts_of_all_kinds(recorded))["not reached"]
    told = {box.title: (box.line, box.state) for box in drawings([host], host)["wide"].boxes}
    assert told["Daphne :9099"] == ("2 instances, not looked at", "unknown")
    assert told["Django in mod_wsgi"] == ("2 processes, 30 threads in all", "unknown")
    assert told["Kafka :9092"] == ("not looked at", "unknown")


# -- the documentation ---------------------------------------------------------------------------------


def keys(value: Any, below: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield each key of the record's own; the names of packages and ports are data."""
    for item in value if isinstance(value, list) else [value]:
        for key, inner in item.items() if isinstance(item, dict) else ():
            if below[-1:] not in (("packages",), ("connections",), ("versions",)):
                yield key
            yield from keys(inner, (*below, key))


def test_each_key_of_the_data_is_documented(recorded: dict[str, Any]) -> None:
    text = (ROOT / "docs" / "verify.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", text))
    assert set(keys(recorded)) - named == set()


def test_the_last_good_backup_of_a_site_is_told() -> None:
    now = datetime.datetime(2026, 11, 24, 9, tzinfo=datetime.UTC)
    told = {"at": "2026-11-24T02:31:00Z", "bytes": 5, "good": False}
    found = record.backed_up(told, now)
    assert found == {"at": "2026-11-24T02:31:00+00:00", "bytes": 5, "good": False}
    none_yet = record.backed_up({"at": "", "bytes": None, "good": False}, now)
    assert none_yet == {"at": "", "bytes": None, "good": False}
    assert record.backed_up(None, now) is None


def test_the_page_tells_of_backups(recorded: dict[str, Any]) -> None:
    assert "24 November 2026, 02:31, 3 MB" in Tags(page.html(recorded)).text
    recorded["hosts"][0]["sites"][0]["backup"]["good"] = False
    assert "the last run made none" in Tags(page.html(recorded)).text
