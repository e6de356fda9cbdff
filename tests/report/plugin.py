"""Follows a run of the behaviour tests: its last lines, and with --verify-report its record and its page."""

from __future__ import annotations

import datetime
import inspect
import re
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.summary import Seen, module_of, table, words
from tests.report import page, record

Descriptions = dict[str, dict[str, Any]]
NO_HOST = "The inventory has no host in the group switchboard, or none that these checks are for."


def variant(item: pytest.Item) -> str:
    """Return what sets one run of a test apart from its others, in words; empty where it runs once a host."""
    values = {**getattr(getattr(item, "callspec", None), "params", {})}
    values.pop("_testinfra_host", None)
    pieces = [
        piece
        for value in values.values()
        for piece in (value[:1] if isinstance(value, tuple) else [value])
    ]
    return ", ".join(str(piece) for piece in pieces if isinstance(piece, (str, int)))[:60]


def sentences(item: pytest.Item) -> tuple[str, str]:
    """Return what a test says in words, and why it is so: a row of a contract, or its docstring, or its name."""
    row = getattr(getattr(item, "callspec", None), "params", {}).get("row")
    if isinstance(row, dict) and "event" in row:
        return f"{row['id']}: {row['event']}", str(row.get("reason", ""))
    function = getattr(item, "function", None)
    text = " ".join(((inspect.getdoc(function) if function else "") or "").split())
    first = re.match(r"(.+?)[.](?:\s+(.*))?$", text)
    name = words(item.name)
    says, why = (first[1], first[2] or "") if first else (name[:1].upper() + name[1:], "")
    which = variant(item)
    return f"{says} ({which})" if which else says, why


def host_of(item: pytest.Item) -> Any:
    """Return testinfra's host of a test, None where it has none: it needs none, or the inventory gives none."""
    host = getattr(getattr(item, "callspec", None), "params", {}).get("_testinfra_host")
    return host if hasattr(host, "backend") else None


def heard(error: Exception) -> str:
    """Return what was heard of a host that did not answer, without what testinfra puts around it."""
    text = str(error).strip() or type(error).__name__
    inner = re.search(r"_stderr=b?(['\"])(.*)\1\)", text, re.S)
    told = inner[2].replace("\\r", "").replace("\\n", "\n").strip() if inner else text
    return (told or text).splitlines()[-1][:300]


class Recorder:
    """Keeps what each test came to; knows which hosts could not be reached."""

    def __init__(self, inventory: str, folder: Path | None) -> None:
        self.inventory = inventory
        self.folder = folder
        self.started = datetime.datetime.now().astimezone()
        self.checks: dict[str, dict[str, Any]] = {}
        self.descriptions: Descriptions = {}
        self.looked: dict[str, dict[str, Any]] = {}
        self.heard: dict[str, str] = {}
        self.trouble = ""
        self.hider = record.Hider()
        self.hidden_known = True
        self.code = record.GOOD
        self.written: list[str] = []

    def begin(self, items: list[pytest.Item], describe: Callable[[], Descriptions]) -> None:
        """Name the tests; where a report is wanted, look at each of their hosts."""
        hosts = {}
        for item in items:
            says, why = sentences(item)
            host = host_of(item)
            name = host.backend.host if host is not None else ""
            hosts[name] = host
            self.checks[item.nodeid] = {
                "id": item.nodeid.partition("[")[0],
                "module": module_of(item.nodeid),
                "says": says,
                "why": why,
                "host": name,
                "result": "unseen",
                "seconds": 0.0,
                "said": "",
            }
        hosts.pop("", None)
        if self.folder is None:
            return
        if not hosts:
            self.trouble = NO_HOST
            return
        self.descriptions = describe()
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(self.look, hosts, hosts.values()))

    def look(self, name: str, host: Any) -> None:
        """Look at a host once."""
        asked = record.questions(self.descriptions.get(name, {}))
        try:
            done = host.run(record.command(asked))
            told = record.answers(done.rc, done.stdout, done.stderr)
        except Exception as error:  # whatever stands between here and there is told, not raised
            self.heard[name] = heard(error)
            return
        self.hidden_known &= "secrets" in told
        self.hider.learn(told.pop("secrets", []))
        self.looked[name] = told

    def unreached(self, item: pytest.Item) -> str:
        """Return why a test's host could not be reached, empty where it was."""
        return self.heard.get(self.checks.get(item.nodeid, {}).get("host", ""), "")

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Take secrets out of what a failing test says, before anybody prints it."""
        report = yield
        text = str(report.longrepr) if report.failed else ""
        crash = getattr(report.longrepr, "reprcrash", None)
        if (hidden := self.hider.hide(text)) != text:
            report.said = self.hider.hide(str(crash.message)) if crash else hidden  # type: ignore[attr-defined]
            report.longrepr = hidden
        report.sections = [(name, self.hider.hide(told)) for name, told in report.sections]
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep one phase of a test: the worst of them is what it came to."""
        check = self.checks.get(report.nodeid)
        if check is None:
            return
        check["seconds"] = round(check["seconds"] + report.duration, 2)
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            said = getattr(report, "said", str(crash.message if crash else report.longrepr))
            check["said"] = "\n".join(
                filter(None, [check["said"] if check["result"] == "bad" else "", said])
            )
            check["result"] = "bad"
        elif report.skipped and check["result"] != "bad":
            said = (
                report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            )
            check["said"] = said.removeprefix("Skipped: ")
            check["result"] = "unseen" if check["host"] in self.heard else "absent"
        elif report.when == "call" and report.passed:
            check["result"] = "good"

    def lines(self) -> list[str]:
        """Return the table of the run's end."""
        seen = [
            Seen(one["module"], one["says"], one["host"], one["result"], one["said"])
            for one in self.checks.values()
        ]
        lines = table(seen, self.inventory) if seen else []
        for name, heard in sorted(self.heard.items()):
            lines += ["", f"{name} could not be reached: {heard}"]
        if self.trouble:
            lines = ["The inventory could not be read:", "", *self.trouble.splitlines()]
        return lines + self.written

    def finish(self, predicted: str | None) -> None:
        """Write record and page, where they are wanted.

        Args:
            predicted: the output of a run with --check --diff that came to its end; None without one.
        """
        if self.folder is None:
            return
        now = datetime.datetime.now().astimezone()
        names = sorted({*self.descriptions, *self.looked, *self.heard})
        hosts = [
            record.host_record(
                name,
                self.descriptions.get(name, {}),
                self.looked.get(name),
                self.heard.get(name, ""),
                predicted,
                now,
            )
            for name in names
        ]
        checks = [dict(check) for check in self.checks.values()]
        if not self.hidden_known:
            for one in [*checks, *(entry for host in hosts for entry in host["drift"] or [])]:
                key = "difference" if "difference" in one else "said"
                one[key] = (
                    one[key]
                    and "Not shown: the host's secrets could not be read, so none can be taken out."
                )
        whole = record.whole(self.inventory, self.started, now, hosts, checks, self.trouble)
        for one in whole["checks"]:
            one["said"] = self.hider.hide(one["said"])[: record.LONGEST]
        self.code = whole["exit"]
        data, html = page.write(self.hider.hide(whole), self.folder)
        self.written = ["", f"The page: {html}", f"As data: {data}"]
