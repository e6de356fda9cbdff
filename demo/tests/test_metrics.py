"""What the site's processes count, added up; and whether it says that it is ready."""

import http.client
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from django.test import Client

from graphs import actions
from notifications import exporter, metrics, ready

pytestmark = pytest.mark.django_db
DEMO = Path(__file__).resolve().parent.parent
CHILD = """
import os, sys, time
from notifications import metrics
metrics.add("produced.group", 5)
metrics.put("listener", 1); metrics.put("lag", 7); metrics.put("listening", 1)
metrics.put("heartbeat", time.time())
metrics.observe(0.03)
print("counted", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(settings, tmp_path):
    settings.NOTIFICATIONS_METRICS_DIR = tmp_path / "metrics"
    metrics._forget()
    yield settings.NOTIFICATIONS_METRICS_DIR
    metrics._forget()


@pytest.fixture
def other(folder):
    """Return a process of the site that has counted something."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "graphspace.settings",
        "NOTIFICATIONS_METRICS_DIR": str(folder),
    }
    code = f"import django; django.setup()\n{CHILD}"
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=DEMO,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout.readline() == b"counted\n"
    yield child
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()


def ask(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path)
    return connection.getresponse()


def value(text, name):
    return float(re.search(rf"^notifications_{re.escape(name)} (\S+)$", text, re.M)[1])


def test_the_counts_of_all_processes_are_added_up(other):
    metrics.add("produced.group", 2)
    metrics.add("sockets", 3)
    text = metrics.exposition()
    assert value(text, 'events_produced_total{kind="group"}') == 7
    assert value(text, "sockets_open") == 3
    assert value(text, "consumer_lag_records") == 7
    assert value(text, "consumers_assigned") == 1


def test_what_a_process_counted_stays_when_it_is_killed_and_its_gauges_go(other, folder):
    metrics.add("produced.group", 2)
    other.kill()
    other.wait()
    for _ in range(2):
        text = metrics.exposition()
        assert value(text, 'events_produced_total{kind="group"}') == 7
        assert value(text, "consumers") == 0
        assert value(text, "latency_seconds_count") == 1
    assert len(list(folder.glob(f"{other.pid}-*"))) == 0


def test_a_forked_process_counts_for_itself(folder):
    metrics.add("failed", 1)
    child = os.fork()
    if child == 0:
        try:
            metrics.add("failed", 1)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert value(metrics.exposition(), "events_failed_total") == 2


def test_the_histogram_is_cumulative(folder):
    for seconds in (0.001, 0.02, 0.03, 1000):
        metrics.observe(seconds)
    text = metrics.exposition()
    assert value(text, 'latency_seconds_bucket{le="0.005"}') == 1
    assert value(text, 'latency_seconds_bucket{le="0.02"}') == 2
    assert value(text, 'latency_seconds_bucket{le="300.0"}') == 3
    assert value(text, 'latency_seconds_bucket{le="+Inf"}') == 4
    assert value(text, "latency_seconds_count") == 4
    assert value(text, "latency_seconds_sum") == pytest.approx(1000.051)


def test_the_text_is_in_prometheus_format(folder, graph, everybody):
    actions.share(graph, everybody, graph.owner)
    text = metrics.exposition()
    assert value(text, "outbox_waiting") == 2
    family = None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split()[2]
        elif line.startswith("# TYPE "):
            assert line.split()[2:] in [
                [family, kind] for kind in ("gauge", "counter", "histogram")
            ]
        else:
            assert re.fullmatch(rf"{family}(_bucket|_sum|_count)?(\{{.*\}})? [-+.e\d]+", line)


def test_a_folder_that_cannot_be_written_costs_no_page(settings, caplog):
    settings.NOTIFICATIONS_METRICS_DIR = "/proc/nothing"
    metrics._forget()
    metrics.add("failed")
    assert "not counted with the others" in caplog.text
    metrics._forget()


def test_a_number_that_is_another_users_process_by_now_is_no_reader(folder, monkeypatch):
    """After a crash and a boot."""
    metrics.put("sockets", 1)
    [mine] = folder.glob(f"{os.getpid()}-*")
    mine.rename(folder / f"1-17.{metrics._LAYOUT}")
    metrics._forget()
    real = os.kill

    def kill(pid, number):
        if pid == 1:
            raise PermissionError  # what everybody but root gets
        real(pid, number)

    monkeypatch.setattr(os, "kill", kill)
    assert metrics.read()[1] == []


def test_what_is_counted_has_its_place_on_the_disk_beforehand(folder):
    metrics._open()
    [mine] = folder.glob(f"{os.getpid()}-*")
    assert mine.stat().st_blocks * 512 >= metrics._SIZE


@pytest.mark.django_db(transaction=True)
def test_metrics_are_served_on_loopback_and_nothing_else_is(folder):
    server = exporter.serve("127.0.0.1:0")
    try:
        at = server.server_address[1]
        answer = ask(at, "/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert b"notifications_sockets_open" in answer.read()
        assert ask(at, "/").status == 404
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("address", ["0.0.0.0:9464", "192.0.2.1:9464", "[::]:9464", "localhost:1"])
def test_another_address_than_loopback_is_refused(address):
    with pytest.raises(ValueError, match=r"others can reach|does not appear"):
        exporter.serve(address)


# -- readyz ----------------------------------------------------------------------------------------


@pytest.fixture
def parts(monkeypatch):
    """Have parts that nobody has asked yet."""
    made = [ready.Part(part.name, part._ask) for part in ready.PARTS]
    monkeypatch.setattr(ready, "PARTS", made)
    return {part.name: part for part in made}


@pytest.mark.django_db(transaction=True)
def test_each_part_says_how_it_is(parts, other, kafka):
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()) == (
        200,
        {"ready": True, "database": "ok", "kafka": "ok", "consumers": "ok"},
    )
    kafka.kafka = False
    time.sleep(ready.KEPT)
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()["kafka"]) == (503, "no broker answers")
    assert answer.json()["database"] == "ok"
    assert Client().get("/readyz/database").status_code == 200
    assert Client().get("/readyz/kafka").status_code == 503
    assert Client().get("/readyz/nothing").status_code == 404


def test_a_consumer_that_is_behind_stuck_or_gone_is_said(folder):
    with pytest.raises(ready.NotReadyError, match="no process reads"):
        ready.consumers()
    metrics.put("listener", 1)
    metrics.put("heartbeat", time.time())
    with pytest.raises(ready.NotReadyError, match="no partitions"):
        ready.consumers()
    metrics.put("listening", 1)
    assert ready.consumers() == "ok"
    metrics.put("lag", ready.LAG + 1)
    with pytest.raises(ready.NotReadyError, match="1001 records behind"):
        ready.consumers()
    metrics.put("lag", 0)
    metrics.put("heartbeat", time.time() - ready.SILENCE - 1)
    with pytest.raises(ready.NotReadyError, match="stopped reading"):
        ready.consumers()


def test_a_part_that_hangs_does_not_hang_the_page_and_is_asked_once(monkeypatch):
    asked = []
    go_on = threading.Event()

    def hang():
        asked.append(1)
        go_on.wait(20)
        return "ok"

    part = ready.Part("database", hang)
    monkeypatch.setattr(ready, "PARTS", [part])
    monkeypatch.setattr(ready, "TIMEOUTS", {"database": -0.4})
    begun = time.monotonic()
    for _ in range(5):
        answer = Client().get("/readyz")
        assert (answer.status_code, answer.json()["database"]) == (503, "no answer in time")
    assert time.monotonic() - begun < 5
    assert len(asked) == 1
    go_on.set()
    for _ in range(100):
        if Client().get("/readyz").status_code == 200:
            break
        time.sleep(0.02)
    else:
        raise AssertionError("it stays unwell")


def test_a_kept_answer_serves_everybody(monkeypatch):
    asked = []
    part = ready.Part("database", lambda: asked.append(1) or "ok")
    monkeypatch.setattr(ready, "PARTS", [part])
    for _ in range(20):
        assert Client().get("/readyz").status_code == 200
    assert len(asked) <= 2


def test_without_kafka_there_is_nothing_to_be_ready(settings):
    settings.NOTIFICATIONS_KAFKA_SERVERS = ""
    assert (ready.kafka(), ready.consumers()) == ("off", "off")
