"""Kafka from an archive and from a given file: the pack that Maven made, served as Apache's archive would be."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.refusals.bench import ROOT, Bench

CURRENT = "readlink /opt/kafka/current"
UNIT = "systemctl show --property ActiveState,MainPID kafka.service"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        pass


@pytest.fixture(scope="module")
def pack(bench: Bench) -> Path:
    """Return the pack that the host's Kafka came from."""
    packs = sorted(
        (ROOT / ".cache" / "kafka").glob("kafka_*.tar"), key=lambda path: path.stat().st_mtime
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


@pytest.mark.usefixtures("unchanged")
def test_an_archive_with_a_wrong_sum_is_refused(bench: Bench, served: str, tmp_path: Path) -> None:
    run = bench.role("kafka", **archive(served, "0" * 128, tmp_path))
    assert run.code != 0
    run.says(f"kafka_archive_sha512 is {'0' * 128}: the file at {served} has the SHA-512 ")
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.usefixtures("unchanged")
def test_a_file_that_is_not_there_is_refused(bench: Bench) -> None:
    run = bench.role("kafka", kafka_source="local", kafka_local_path="/nonexistent/kafka.tgz")
    assert run.code != 0
    run.says(
        "kafka_local_path is /nonexistent/kafka.tgz: the control node has no such file. Correct the path."
    )


@pytest.mark.usefixtures("unchanged")
def test_an_archive_of_another_version_is_refused_before_kafka_is_touched(
    bench: Bench, pack: Path
) -> None:
    run = bench.role(
        "kafka", kafka_source="local", kafka_local_path=str(pack), kafka_version="3.8.1"
    )
    assert run.code != 0
    run.says("kafka_version is 3.8.1: the archive holds Kafka 2.13-3.9.2, not 2.13-3.8.1.")


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
