"""Background work: a job that runs while a release is made comes to its end, once, and the workers restart in turn."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from testinfra.host import Host

from tests.behaviour import rawhttp
from tests.behaviour.conftest import comes_back_after_a_kill, journal
from tests.behaviour.sites import Site
from tests.refusals.bench import ROOT, Bench
from tests.refusals.conftest import bench

__all__ = ["bench"]

SITE = "lecture-chat"
WORKERS = [f"django-{SITE}.worker@{number}.service" for number in (1, 2)]
SECONDS = 4  # that a job takes; two at a time, one is handed out every two
LATEST = 240  # seconds until all are done

pytestmark = pytest.mark.disruptive


class Jobs:
    """Jobs that are handed out one after another, and what they said of themselves."""

    def __init__(self, host: Host, site: Site) -> None:
        self.host, self.site = host, site
        self.names: list[str] = []
        self.wrong: list[str] = []
        self.enough = threading.Event()
        self.thread = threading.Thread(target=self.hand_out)

    def hand_out(self) -> None:
        while not self.enough.wait(SECONDS / 2):
            name = f"job-{time.time_ns()}"
            head = rawhttp.get(
                f"/jobs/{name}?seconds={SECONDS}", self.site.host, ("Content-Length: 0",), "POST"
            )
            answer = self.site.ask(head)
            if answer.status == 202:
                self.names.append(name)
            else:
                self.wrong.append(f"{name}: {answer}")

    def lines(self) -> list[list[str]]:
        """Return (what, job, release, process, when) of each line of these jobs."""
        log = self.host.file(f"/srv/{SITE}/data/jobs.log")  # which the first job makes
        rows = [line.split() for line in log.content_string.splitlines()] if log.exists else []
        return [row for row in rows if row[1] in self.names]

    def done(self) -> list[list[str]]:
        """Wait until each job has ended; return the lines."""
        end = time.monotonic() + LATEST
        while True:
            lines = self.lines()
            if {row[1] for row in lines if row[0] == "end"} == set(self.names):
                return lines
            assert time.monotonic() < end, (
                f"not all jobs ended: {self.names}\n{lines}\n{journal(self.host, WORKERS[0])}"
            )
            time.sleep(0.5)  # until they have; the assertion above ends it


@pytest.fixture
def jobs(host: Host, chat: Site) -> Iterator[Jobs]:
    found = Jobs(host, chat)
    found.thread.start()
    yield found
    found.enough.set()
    found.thread.join()


@pytest.fixture
def project(bench: Bench, chat: Site, tmp_path: Path) -> Iterator[Path]:
    """Return a copy of the project; afterwards the host has the project itself again."""
    yield Path(shutil.copytree(ROOT / "tests" / "projects" / "chat", tmp_path / "chat"))
    again = bench.play(ROOT / "playbooks" / "deploy.yml", {"site": SITE})
    assert again.code == 0, again.output[-3000:]


def moments(host: Host, unit: str) -> dict[str, float]:
    """Return when a unit was last asked to end, had ended, and began anew, in seconds since the boot."""
    names = (
        "ActiveExitTimestampMonotonic,InactiveEnterTimestampMonotonic,ActiveEnterTimestampMonotonic"
    )
    told = host.check_output("systemctl show --property=%s %s", names, unit)
    return {
        key.removesuffix("TimestampMonotonic"): int(value) / 1e6
        for key, _, value in (line.partition("=") for line in told.splitlines())
    }


def served(host: Host) -> str:
    return host.check_output(f"readlink /srv/{SITE}/current").rpartition("/")[2]


def test_a_job_that_runs_during_a_release_ends_once(
    host: Host, bench: Bench, jobs: Jobs, project: Path
) -> None:
    before = served(host)
    (project / "parlour" / "news.txt").write_text(f"{time.time_ns()}\n")
    sites = bench.changed(SITE, {"source.directory": str(project)})
    run = bench.play(ROOT / "playbooks" / "deploy.yml", {"sites": sites, "site": SITE})
    assert run.code == 0, run.output[-3000:]
    after = served(host)
    assert after != before
    time.sleep(2 * SECONDS)  # for the new code to get some jobs, too
    jobs.enough.set()
    jobs.thread.join()
    lines = jobs.done()

    assert jobs.wrong == []
    counted = Counter((row[0], row[1]) for row in lines)
    expected = {(what, name): 1 for what in ("begin", "end") for name in jobs.names}
    assert counted == expected, "a job began or ended twice, or was cut"
    assert {row[2] for row in lines} == {before, after}

    # a job was at work when its worker was asked to end
    now, uptime = host.check_output("date +%s.%N; cut -d ' ' -f 1 /proc/uptime").split()
    boot = float(now) - float(uptime)
    first, second = (moments(host, unit) for unit in WORKERS)
    spans = {name: [float(row[4]) for row in lines if row[1] == name] for name in jobs.names}
    asked = [boot + worker["ActiveExit"] for worker in (first, second)]
    assert any(begin < moment < end for begin, end in spans.values() for moment in asked), (
        f"no job ran at {asked}: {spans}"
    )
    # the second worker was left alone until the first had come back
    assert first["ActiveExit"] < first["ActiveEnter"] <= second["ActiveExit"]
    assert second["ActiveExit"] < second["ActiveEnter"]


def test_workers_end_before_what_they_ask(host: Host, jobs: Jobs) -> None:
    """All are asked to end at once, as when the host goes down; a worker gives back the jobs that it has not begun."""
    units = f"{' '.join(WORKERS)} valkey-{SITE}.service"  # systemctl asks for one after another, and waits for none
    end = time.monotonic() + LATEST
    while len({row[3] for row in jobs.lines()}) < len(WORKERS):
        assert time.monotonic() < end, "not every worker got a job"
        time.sleep(0.5)  # until each has one; the assertion above ends it
    jobs.enough.set()
    jobs.thread.join()
    try:
        host.check_output(f"systemctl stop {units}")
        asked = moments(host, f"valkey-{SITE}.service")["ActiveExit"]
        for unit in WORKERS:
            assert moments(host, unit)["InactiveEnter"] <= asked, f"Valkey ended before {unit}"
    finally:
        host.check_output(f"systemctl start {units}")


def test_a_worker_that_is_killed_comes_back(host: Host, chat: Site) -> None:
    comes_back_after_a_kill(host, WORKERS[1])
