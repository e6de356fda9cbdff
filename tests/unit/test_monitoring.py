"""The rules and their page, what monitoring refuses, the files that it writes, and what is noted of a host."""

from __future__ import annotations

import json
import re
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins.filter.monitoring import (
    monitoring_alertmanager,
    monitoring_alerts,
    monitoring_blackbox,
    monitoring_lacking,
    monitoring_prometheus,
    monitoring_unit,
    verify_word,
)
from plugins.filter.monitoring_faults import (
    monitoring_faults,
    monitoring_foreign,
    monitoring_present,
)
from tests.unit.test_site_settings import plugin

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "roles" / "monitoring" / "files"
RULES: dict[str, Any] = yaml.safe_load(
    (ROOT / "roles" / "monitoring" / "vars" / "main.yml").read_text(encoding="utf-8")
)["__monitoring_rules"]
PAGE = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
DEBIAN = {"distribution": "Debian", "distribution_major_version": "13"}
GOOD: dict[str, Any] = {
    "mail_to": "ops@example.org, me@example.org",
    "mail_from": "alerts@example.org",
    "smtp": "127.0.0.1:25",
    "smtp_user": "",
    "smtp_password_lines": 0,
    "group_wait": "30s",
    "group_interval": "5m",
    "repeat_interval": "12h",
    "interval": "30s",
    "retention_days": 15,
    "retention_mb": 512,
    "memory_mb": 200,
    "thresholds": {},
    "for": {},
    "host": "lab-1",
    "alertmanager": "127.0.0.1:9093",
    "blackbox": "127.0.0.1:9115",
    "balancer": "",
    "targets": {"node": "127.0.0.1:9100"},
    "password_file": "/etc/prometheus/switchboard/smtp.password",
    "send_to": [],
    "send_ca": "/etc/switchboard/certificates/peers/ca.pem",
    "send_password_file": "/etc/prometheus/switchboard/central.password",
    "central_address": "",
    "central_users": [],
    "central_retention_days": 90,
    "central_retention_mb": 4096,
    "central_memory_mb": 300,
}
LAB: dict[str, Any] = {
    "name": "lab",
    "path": "/readyz",
    "metrics": ["127.0.0.1:9464"],
    "url": "https://127.0.0.1:443",
    "host": "lab.example.org",
    "forwarded_proto": "",
    "websocket_port": 9099,
    "max_websockets": 100,
    "threads": 30,
}

sys.path[:0] = [str(FILES), str(FILES.parents[2] / "plugins" / "module_utils")]
site_metrics = plugin("../roles/monitoring/files/site_metrics.py")
sys.modules["site_metrics"] = site_metrics
host_metrics = plugin("../roles/monitoring/files/host_metrics.py")


# -- the rules and their page --------------------------------------------------------------------------


def test_each_rule_has_its_entry_and_each_entry_its_rule() -> None:
    section = PAGE.split("\n## The alerts\n")[1].split("\n## ")[0]
    entries = re.split(r"^### ", section, flags=re.M)[1:]
    named = {text.partition("\n")[0]: text for text in entries}
    assert list(named) == list(RULES["alerts"])
    for name, text in named.items():
        rule = RULES["alerts"][name]
        assert f"{rule['severity']}, after {rule['for']}." in text, name
        steps = re.findall(r"^([0-9])\. ", text, re.M)
        assert steps == ["1", "2", "3"], f"{name}: the first three things to do"


def test_each_limit_is_in_the_table_with_its_default() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| ([0-9.]+) \|$", PAGE, re.M))
    assert table == {name: str(value) for name, value in RULES["thresholds"].items()}
    used = " ".join(alert["expr"] for alert in RULES["alerts"].values())
    assert set(re.findall(r"\$\{?(\w+)", used)) == RULES["thresholds"].keys()


def test_a_limit_and_a_length_can_be_replaced() -> None:
    written = monitoring_alerts(RULES, {"site_slow_seconds": 7}, {"SiteDown": "9m"})
    alerts = {one["alert"]: one for one in written["groups"][0]["rules"]}
    assert "> 7" in alerts["SiteSlow"]["expr"]
    assert "more than 7 s" in alerts["SiteSlow"]["annotations"]["summary"]
    assert alerts["SiteDown"]["for"] == "9m"
    assert alerts["SiteSlow"]["for"] == RULES["alerts"]["SiteSlow"]["for"]
    assert "{{ $labels.site }}" in alerts["SiteDown"]["annotations"]["summary"]
    assert "$site" not in json.dumps([one["expr"] for one in alerts.values()])


# -- what is refused -----------------------------------------------------------------------------------


def test_what_is_well_is_taken() -> None:
    assert monitoring_faults(GOOD, [LAB], RULES, DEBIAN) == []
    for interval in ("1m", "1s500ms"):
        assert monitoring_faults({**GOOD, "interval": interval}, [LAB], RULES, DEBIAN) == []
    more = {"smtp": "mail.example.org:587", "smtp_user": "lab", "smtp_password_lines": 1}
    assert monitoring_faults({**GOOD, **more}, [], RULES, DEBIAN) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mail_to": "ops"}, "monitoring_mail_to is ops: that is no address. Write"),
        ({"mail_from": ""}, "monitoring_mail_from is empty: a mail comes from one address."),
        ({"smtp": "mail"}, "monitoring_smtp is mail: that names no mail server. Write host:port"),
        ({"smtp_user": "lab"}, "monitoring_smtp_password is empty: lab needs a password"),
        ({"smtp_password_lines": 1}, "monitoring_smtp_user is empty: monitoring_smtp_password is"),
        ({"interval": "soon"}, "monitoring_interval is soon: that is no length of time."),
        (
            {"interval": "90s"},
            "monitoring_interval is 90s: the rules look at 300 s and need 4 values",
        ),
        ({"interval": "1m1s"}, "monitoring_interval is 1m1s: the rules look at"),
        ({"interval": "0s"}, "monitoring_interval is 0s: that is no time at all."),
        (
            {"thresholds": {"site_window_seconds": 100}},
            "monitoring_interval is 30s: the rules look at 100 s and need 4 values of them, one a minute at least. "
            "Use 25s or less, or a longer site_window_seconds.",
        ),
        ({"retention_days": 0}, "monitoring_retention_days is 0: Prometheus cannot work with"),
        (
            {"thresholds": {"site_slow_second": 1}},
            "monitoring_thresholds.site_slow_second is 1: there is none of that name. Did you mean site_slow_seconds?",
        ),
        ({"thresholds": {"lag_records": "a lot"}}, "monitoring_thresholds.lag_records is a lot"),
        ({"for": {"SiteDwn": "1m"}}, "monitoring_for.SiteDwn is 1m: there is none of that name."),
        ({"for": {"SiteDown": 3}}, "monitoring_for.SiteDown is 3: that is no length of time."),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], said: str) -> None:
    (rule,) = monitoring_faults({**GOOD, **changes}, [LAB], RULES, DEBIAN)
    assert f"{rule['variable']} is {rule['value']}: {rule['why']} {rule['remedy']}".startswith(said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"path": "readyz"}, "monitoring_path is readyz: that is no path of a site."),
        ({"metrics": ["relay"]}, "monitoring_metrics is relay: there is no such service"),
        ({"metrics": ["192.0.2.1:9464"]}, "monitoring_metrics is 192.0.2.1:9464: there is no"),
    ],
)
def test_a_site_that_cannot_be_watched_is_refused(changes: dict[str, Any], said: str) -> None:
    (rule,) = monitoring_faults(GOOD, [{**LAB, **changes}], RULES, DEBIAN)
    text = f"{rule['variable']} is {rule['value']}: {rule['why']} {rule['remedy']}"
    assert text.startswith(said)
    assert text.endswith("(site lab)")


def test_what_somebody_else_has_set_up_is_not_taken_over() -> None:
    programs = [{"name": "prometheus"}, {"name": "prometheus-node-exporter"}]
    nothing = dict.fromkeys(monitoring_present(programs), False)
    assert monitoring_foreign(programs, {"present": nothing}, []) == []
    there = {**nothing, "/usr/bin/prometheus": True}
    assert monitoring_foreign(programs, {"present": there}, []) == ["prometheus"]
    runs = ["prometheus-node-exporter.service"]  # from /usr/local, for example
    assert monitoring_foreign(programs, {"present": nothing}, runs) == ["prometheus-node-exporter"]
    own = {**there, "/etc/systemd/system/prometheus.service.d/switchboard.conf": True}
    assert monitoring_foreign(programs, {"present": own}, ["prometheus.service"]) == []
    assert monitoring_lacking(nothing) == ["prometheus", "prometheus-node-exporter"]


def test_another_distribution_is_refused() -> None:
    (rule,) = monitoring_faults(GOOD, [], RULES, {"distribution": "Ubuntu"})
    assert rule["variable"] == "ansible_distribution"


# -- what is written -----------------------------------------------------------------------------------


def test_a_site_is_asked_here_by_its_own_name_and_scheme() -> None:
    http = monitoring_blackbox([LAB])["modules"]["lab"]["http"]
    assert http["headers"] == {"Host": "lab.example.org"}
    assert http["tls_config"]["server_name"] == "lab.example.org"
    plain = monitoring_blackbox([{**LAB, "url": "http://127.0.0.1:80"}])
    assert "tls_config" not in plain["modules"]["lab"]["http"]
    behind = monitoring_blackbox([{**LAB, "forwarded_proto": "https"}])["modules"]["lab"]["http"]
    assert behind["headers"]["X-Forwarded-Proto"] == "https"  # where a balancer takes TLS off
    jobs = {one["job_name"]: one for one in monitoring_prometheus(GOOD, [LAB])["scrape_configs"]}
    asked = jobs["site"]["static_configs"][0]
    assert asked["targets"] == ["https://127.0.0.1:443/readyz"]
    assert asked["labels"] == {"site": "lab", "__param_module": "lab"}
    assert jobs["site_metrics"]["static_configs"][0]["targets"] == ["127.0.0.1:9464"]
    assert {"site", "site_metrics"} & {
        one["job_name"] for one in monitoring_prometheus(GOOD, [])["scrape_configs"]
    } == set()


def test_a_balancer_is_asked_for_itself_and_for_each_site() -> None:
    front = {"name": "lab", "url": "https://127.0.0.1:443", "host": "lab.example.org", "path": "/r"}
    told = monitoring_prometheus({**GOOD, "balancer": "127.0.0.1:9101"}, [], [front])
    jobs = {one["job_name"]: one for one in told["scrape_configs"]}
    assert jobs["balancer"]["static_configs"] == [{"targets": ["127.0.0.1:9101"]}]
    keep, drop, site = jobs["balancer"]["metric_relabel_configs"]
    for name in (
        "haproxy_process_max_connections;",
        "haproxy_backend_active_servers;",
        "haproxy_server_status;DOWN",
    ):
        assert re.fullmatch(keep["regex"], name), name
    for name in ("haproxy_server_status;UP", "haproxy_process_uptime_seconds;"):
        assert not re.fullmatch(keep["regex"], name), name
    assert re.fullmatch(drop["regex"], "acme.challenges")
    assert [re.fullmatch(site["regex"], name)[1] for name in ("lab", "lab.sockets")] == ["lab"] * 2  # type: ignore[index]
    (asked,) = jobs["site"]["static_configs"]
    assert asked["targets"] == ["https://127.0.0.1:443/r"]
    assert asked["labels"]["proxy"] == "lab"
    (closed,) = jobs["site_closed"]["static_configs"]
    modules = monitoring_blackbox([], [front])["modules"]
    assert {asked["labels"]["__param_module"], closed["labels"]["__param_module"]} == set(
        modules
    ) - {".host"}
    assert modules["lab.balancer"]["http"]["tls_config"]["server_name"] == "lab.example.org"
    assert modules["lab.closed"]["http"]["valid_status_codes"] == [503]
    assert "balancer" not in {
        one["job_name"] for one in monitoring_prometheus(GOOD, [LAB])["scrape_configs"]
    }


def test_a_site_cannot_write_what_others_are_believed_to_say() -> None:
    jobs = {one["job_name"]: one for one in monitoring_prometheus(GOOD, [LAB])["scrape_configs"]}
    job = jobs["site_metrics"]
    assert job["sample_limit"] == 5000
    (rule,) = job["metric_relabel_configs"]
    assert (rule["action"], rule["source_labels"]) == ("drop", ["__name__"])
    for name in (
        "switchboard_kafka_up",
        "node_timex_sync_status",
        "probe_success",
        "up",
        "pg_up",
        "haproxy_server_status",
    ):
        assert re.fullmatch(rule["regex"], name), name
    for name in ("notifications_consumers", "uploads_total", "process_cpu_seconds_total"):
        assert not re.fullmatch(rule["regex"], name), name
    assert "metric_relabel_configs" not in jobs["node"]
    jobs_of = {
        **{"switchboard": "node", "node": "node", "probe": "(site|host)", "pg": "postgresql"},
        "haproxy": "balancer",
    }
    for name, alert in RULES["alerts"].items():
        for kind, labels in re.findall(
            r"\b(switchboard|node|probe|pg|haproxy)_\w+({[^}]*})?", alert["expr"]
        ):
            assert re.search(f'job="{jobs_of[kind]}(_closed)?"', labels), name


def test_other_hosts_are_asked_for_a_sign_of_life() -> None:
    peers = [{"name": "bus1", "address": "10.0.0.31"}]
    jobs = monitoring_prometheus(GOOD, [], [], peers)["scrape_configs"]
    (job,) = [one for one in jobs if one["job_name"] == "host"]
    labels = {"peer": "bus1", "__param_module": ".host"}
    assert job["static_configs"] == [{"targets": ["10.0.0.31"], "labels": labels}]
    assert monitoring_blackbox([])["modules"][".host"]["prober"] == "icmp"
    assert "<peer>" in RULES["alerts"]["HostDown"]["summary"]


def test_no_alert_of_a_site_fires_while_it_is_closed() -> None:
    for name in ("SiteDown", "SiteErrors"):
        assert "unless on (site)" in RULES["alerts"][name]["expr"]
    rules = monitoring_alertmanager(GOOD)["inhibit_rules"]
    (down,) = [one for one in rules if one["source_matchers"] == ['alertname="SiteDown"']]
    assert down["target_matchers"] == ['alertname=~"SiteSlow|SiteErrors"']
    assert down["equal"] == ["host", "site"]
    assert 'probe_success{job="site_closed"} == 1' in RULES["alerts"]["SiteDown"]["expr"]


def test_a_page_that_is_forbidden_is_not_well() -> None:
    assert 403 not in monitoring_blackbox([LAB])["modules"]["lab"]["http"]["valid_status_codes"]


def test_tls_is_asked_of_a_mail_server_elsewhere_and_the_password_is_a_file() -> None:
    (mail,) = monitoring_alertmanager(GOOD)["receivers"][0]["email_configs"]
    assert mail["require_tls"] is False
    assert "auth_username" not in mail
    away = {**GOOD, "smtp": "mail.example.org:587", "smtp_user": "lab"}
    (mail,) = monitoring_alertmanager(away)["receivers"][0]["email_configs"]
    assert mail["require_tls"] is True
    (implicit,) = monitoring_alertmanager({**GOOD, "smtp": "mail.example.org:465"})["receivers"][0][
        "email_configs"
    ]
    assert implicit["require_tls"] is False, "there is no STARTTLS within TLS"
    assert mail["auth_password_file"] == GOOD["password_file"]
    assert "password" not in {key for key in mail if key != "auth_password_file"}


def test_what_is_inhibited_is_an_alert() -> None:
    text = json.dumps(monitoring_alertmanager(GOOD)["inhibit_rules"])
    named = set(re.findall(r"[A-Z]\w+", text))
    assert named
    assert named <= RULES["alerts"].keys()


def test_a_unit_takes_back_what_debian_says_and_waits_for_its_file() -> None:
    program = {"name": "prometheus", "memory": 200, "arguments": "--a\n  --b", "needs": ["/x.yml"]}
    unit = monitoring_unit(program, {"NoNewPrivileges": True})
    assert unit["Unit"] == {"ConditionPathExists": ["/x.yml"]}
    assert unit["Service"]["ExecStart"] == ["", "/usr/bin/prometheus --a --b"]
    assert unit["Service"]["EnvironmentFile"] == ""
    assert unit["Service"]["MemoryMax"] == "400M"
    assert unit["Service"]["Environment"] == ["GOMEMLIMIT=200MiB"]
    assert monitoring_lacking({"/usr/bin/prometheus": False, "/usr/bin/other": True}) == [
        "prometheus"
    ]


def test_a_verify_leaves_word_of_each_host() -> None:
    report: dict[str, Any] = {
        "started": "2026-11-29T06:00:00+00:00",
        "hosts": [{"name": "a", "drift": [{"handler": False}, {"handler": True}]}],
        "checks": [{"host": "a", "result": "bad"}, {"host": "b", "result": "bad"}],
    }
    at = report["started"]
    assert json.loads(verify_word(report, "a")) == {"at": at, "bad": 1, "drift": 1}
    report["hosts"].append({"name": "b", "drift": None})
    assert json.loads(verify_word(report, "b")) == {"at": at, "bad": 1, "drift": None}


def test_a_verify_of_some_hosts_leaves_the_word_of_others_alone() -> None:
    report = {"started": "2026-11-29T06:00:00+00:00", "hosts": [{"name": "a"}], "checks": []}
    assert verify_word(report, "c") == ""


# -- what is noted -------------------------------------------------------------------------------------


def values(families: Any) -> dict[str, float]:
    """Return each sample by its name and labels."""
    lines = host_metrics.text_of(list(families)).splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if line and not line.startswith("#")]
    return {name.removeprefix("switchboard_"): float(value) for name, value in pairs}


def write(root: Path, path: str, text: str) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_the_last_good_backup_is_noted_with_its_age_and_size(tmp_path: Path) -> None:
    sites = [{"name": "lab"}, {"name": "new"}]
    config = write(tmp_path, "etc/switchboard/backup.json", json.dumps({"sites": sites}))
    last = {"at": "1970-01-02T00:00:00Z", "snapshot": "x", "bytes": 5}
    told = {"sites": {"lab": {"good": False, "last_good": last}}}
    write(tmp_path, "var/lib/switchboard/backup/status.json", json.dumps(told))
    found = values(host_metrics.backups(tmp_path))
    assert found['backup_last_good_timestamp_seconds{site="lab"}'] == 86400
    assert found['backup_last_good_bytes{site="lab"}'] == 5
    assert found['backup_good{site="lab"}'] == 0
    assert found['backup_last_good_timestamp_seconds{site="new"}'] == 0
    since = found['backup_since_timestamp_seconds{site="new"}']
    assert since == pytest.approx(config.stat().st_mtime)
    assert 'backup_last_good_bytes{site="new"}' not in found


def test_restarts_that_are_due_are_noted_by_unit(tmp_path: Path) -> None:
    mapped = "7f01-7f02 r-xp 00026000 fe:01 1234 /usr/lib/x86_64-linux-gnu/libssl.so.3"
    for number, unit, rest in ((7, "kafka", " (deleted)"), (8, "apache2", "")):
        write(tmp_path, f"proc/{number}/cgroup", f"0::/system.slice/{unit}.service\n")
        write(tmp_path, f"proc/{number}/maps", f"{mapped}{rest}\n")
    wrong: list[str] = []
    assert values(host_metrics.restarts(tmp_path, wrong)) == {
        'restart_due{unit="apache2.service"}': 0,
        'restart_due{unit="kafka.service"}': 1,
    }
    assert wrong == []


def test_what_may_not_be_looked_at_counts_as_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none: list[str] = []
    told = ({"kafka.service": none, "apache2.service": none}, ["kafka.service"])
    monkeypatch.setattr(host_metrics, "replaced", lambda proc: told)
    wrong: list[str] = []
    found = values(host_metrics.restarts(tmp_path, wrong))
    assert found == {'restart_due{unit="apache2.service"}': 0}
    assert wrong == ["kafka.service: its processes cannot be looked at"]


def test_what_each_unit_takes_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = """Type=notify
Id=kafka.service
ActiveState=active
MemoryCurrent=4096
CPUUsageNSec=2500000000
NRestarts=3

Type=simple
Id=valkey-lab.service
ActiveState=failed
MemoryCurrent=[not set]
CPUUsageNSec=1000
NRestarts=0

Type=oneshot
Id=switchboard-metrics.service
ActiveState=activating
MemoryCurrent=1
CPUUsageNSec=1
NRestarts=0

Type=forking
Id=apache2.service
ActiveState=inactive
MemoryCurrent=[not set]
CPUUsageNSec=[not set]
NRestarts=0

Type=notify
Id=getty@tty1.service
ActiveState=active
MemoryCurrent=1
CPUUsageNSec=1
NRestarts=0
"""
    assert values(host_metrics.units(tmp_path)) == {}  # no systemd
    monkeypatch.setattr(host_metrics, "shown", lambda root: told)
    assert values(host_metrics.units(tmp_path)) == {
        'unit_active{unit="kafka.service"}': 1,
        'unit_active{unit="valkey-lab.service"}': 0,
        'unit_memory_bytes{unit="kafka.service"}': 4096,
        'unit_processor_seconds_total{unit="kafka.service"}': 2.5,
        'unit_processor_seconds_total{unit="valkey-lab.service"}': pytest.approx(1e-6),
        'unit_restarts_total{unit="kafka.service"}': 3,
        'unit_restarts_total{unit="valkey-lab.service"}': 0,
    }


def test_a_host_without_anything_is_noted_too(tmp_path: Path) -> None:
    assert values(host_metrics.backups(tmp_path)) == {}
    assert values(host_metrics.verified(tmp_path)) == {}
    assert values(host_metrics.reboot(tmp_path)) == {"reboot_required": 0}
    write(tmp_path, "proc/stat", f"cpu 1 2 3\nbtime {int(time.time()) + 60}\n")
    write(tmp_path, "boot/vmlinuz-6.12", "")
    assert values(host_metrics.reboot(tmp_path)) == {"reboot_required": 0}
    write(tmp_path, "proc/stat", "cpu 1 2 3\nbtime 1000\n")  # the kernel came after the boot
    assert values(host_metrics.reboot(tmp_path)) == {"reboot_required": 1}
    write(tmp_path, "proc/stat", "")
    write(tmp_path, "run/reboot-required", "")
    assert values(host_metrics.reboot(tmp_path)) == {"reboot_required": 1}
    write(
        tmp_path,
        "var/lib/switchboard/verify.json",
        '{"at": "1970-01-01T00:00:01+00:00", "bad": 2, "drift": 3}',
    )
    assert values(host_metrics.verified(tmp_path)) == {
        "verify_timestamp_seconds": 1,
        "verify_checks_bad": 2,
        "verify_drift": 3,
    }


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def test_partitions_without_a_leader_are_counted() -> None:
    # leader, replicas, in sync
    told = {"controller": 1, "topics": {"lab.owner": [(1, 1, 1), (-1, 2, 1)]}}
    assert host_metrics.partitions(told) == {
        "controller": 1,
        "all": 2,
        "leaderless": 1,
        "behind": 1,
    }


def test_kafka_and_zookeeper_that_do_not_answer_are_down(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert values(host_metrics.kafka(address, "", "")) == {"kafka_up": 0}
        assert values(host_metrics.zookeeper(address)) == {"zookeeper_serving": 0}
    assert capsys.readouterr().err.startswith("<4>Kafka at ")


def test_one_part_that_fails_keeps_no_other_from_the_notes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / host_metrics.FOLDER).mkdir(parents=True)
    config = {"sites": [LAB], "kafka": "", "zookeeper": ""}
    config["maintenance_dir"] = "/var/lib/switchboard/maintenance"
    write(tmp_path, host_metrics.CONFIG, json.dumps(config))
    write(tmp_path, "var/lib/switchboard/verify.json", "{")
    (tmp_path / "proc").mkdir()
    write(tmp_path, "var/lib/switchboard/maintenance/lab", "")
    assert host_metrics.main(tmp_path) == 1
    notes = (tmp_path / host_metrics.NOTES).read_text()
    assert 'switchboard_site_maintenance{site="lab"} 1\n' in notes
    assert "switchboard_notes_faults 1\n" in notes
    assert "verified" in capsys.readouterr().err
    (tmp_path / "var/lib/switchboard/verify.json").unlink()
    assert host_metrics.main(tmp_path) == 0
    assert "switchboard_notes_faults 0\n" in (tmp_path / host_metrics.NOTES).read_text()
