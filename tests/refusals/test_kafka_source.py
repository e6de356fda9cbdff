"""Kafka from an archive and from a given file: the pack that Maven made, served as Apache's archive would be.

The wrong sources are one run of the role, each under a name of its own.
"""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.refusals.bench import ALONE, ROOT, Answer, Bench

CURRENT = "readlink /opt/kafka/current"
UNIT = "systemctl show --property ActiveState,MainPID kafka.service"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        pass


@pytest.fixture(scope="module")
def pack(bench: Bench) -> Path:
    """Return the pack that the host's Kafka came from."""
    packs = sorted(
        (ROOT / ".cache" / "kafka").glob("kafka_*-3.9.2-*.tar"),
        key=lambda path: path.stat().st_mtime,
    )
    assert packs, "Kafka was not packed on this control node; converge the host from here first"
    return packs[-1]


@pytest.fixture(scope="module")
def served(pack: Path) -> Iterator[str]:
    """Serve the pack over HTTP on loopback, and return its address."""
    handler = partial(Quiet, directory=str(pack.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{pack.name}"
        server.shutdown()


@pytest.fixture
def restored(bench: Bench) -> Iterator[None]:
    """Put the release back that was current before, and remove the others."""
    before = bench.host.check_output(CURRENT)
    yield
    assert bench.role("kafka").code == 0
    assert bench.host.check_output(CURRENT) == before
    bench.host.check_output(
        "find /opt/kafka -mindepth 1 -maxdepth 1 -type d ! -name %s -exec rm -r {} +", before
    )


def archive(served: str, sha512: str, cache: Path) -> dict[str, str]:
    return {
        "kafka_source": "archive",
        "kafka_archive_url": served,
        "kafka_archive_sha512": sha512,
        "kafka_cache": str(cache),
    }


@dataclass
class Told:
    """What every wrong source was told, the cache of the first, and what the host looked like before and after."""

    answers: dict[str, Answer]
    cache: Path
    before: set[str]
    after: set[str]


@pytest.fixture(scope="module")
def told(bench: Bench, pack: Path, served: str, tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("sources")
    cache = folder / "cache"
    local = {"kafka_source": "local", "kafka_local_path": str(pack)}
    cases = {
        "wrong-sum": archive(served, "0" * 128, cache),
        "no-file": local | {"kafka_local_path": "/nonexistent/kafka.tgz"},
        "another-version": local | {"kafka_version": "3.8.1"},
    }
    alone = {"role_alone": "kafka", **bench.kafka, "groups": ["web"]}
    before = bench.state()
    names = {name: alone | variables for name, variables in cases.items()}
    answers = bench.play_many(ALONE, names, folder)
    return Told(answers, cache, before, bench.state())


def test_an_archive_with_a_wrong_sum_is_refused(told: Told, served: str) -> None:
    answer = told.answers["wrong-sum"]
    assert answer.failed, answer.tasks
    said = f"kafka_archive_sha512 is {'0' * 128}: the file at {served} has the SHA-512 "
    assert said in answer.text
    assert [path.name for path in told.cache.iterdir()] == [".lock"]


def test_a_file_that_is_not_there_is_refused(told: Told) -> None:
    answer = told.answers["no-file"]
    assert answer.failed, answer.tasks
    said = "kafka_local_path is /nonexistent/kafka.tgz: the control node has no such file. Correct the path."
    assert said in answer.text


def test_an_archive_of_another_version_is_refused(told: Told) -> None:
    answer = told.answers["another-version"]
    assert answer.failed, answer.tasks
    said = "kafka_version is 3.8.1: the archive holds Kafka 2.13-3.9.2, not 2.13-3.8.1."
    assert said in answer.text


def test_no_refused_source_touches_kafka(told: Told) -> None:
    assert len(told.before) > 100, "the host is not converged"
    assert sorted(told.before ^ told.after) == []


@pytest.mark.soak
@pytest.mark.usefixtures("restored")
def test_an_archive_with_the_right_sum_is_installed(
    bench: Bench, pack: Path, served: str, tmp_path: Path
) -> None:
    before = bench.host.check_output(UNIT)
    sha512 = hashlib.sha512(pack.read_bytes()).hexdigest()
    run = bench.role("kafka", **archive(served, sha512, tmp_path))
    assert run.code == 0, run.output[-4000:]
    assert bench.host.check_output(CURRENT).endswith(f"-{sha512[:8]}")
    after = bench.host.check_output(UNIT)
    assert "ActiveState=active" in after
    assert after != before, "Kafka still runs from the release before"
    assert bench.host.run("kafka-topics.sh --version").rc == 0
