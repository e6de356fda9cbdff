"""Each alert arrives in a real mailbox when the real thing happens, and its end does when it is over.

`make test` runs the short ones, `make soak` all.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.alerts.watched import (
    ADDRESS,
    CERTIFICATE,
    MAILBOX,
    RULES,
    SITE,
    Watched,
    listening,
    until,
    words_of,
)
from tests.refusals.bench import ROOT

PASSWORD = "/etc/prometheus/switchboard/smtp.password"
SMALL = "/mnt/switchboard-alerts"
STATUS = "/var/lib/switchboard/backup/status.json"
AGE = f"""import json
told = json.load(open("{STATUS}"))
told["sites"]["{SITE}"]["last_good"]["at"] = "2026-01-01T00:00:00Z"
open("{STATUS}", "w").write(json.dumps(told))"""
ZOOKEEPER = "/usr/share/zookeeper/bin/zkCli.sh -server 127.0.0.1:2181"
KAFKA = "--bootstrap-server 127.0.0.1:9092 --command-config /etc/kafka/admin.properties"
# A topic whose only replica in sync is on a broker that is gone, as ZooKeeper has it then.
LOSE = f"""set -e
kafka-topics.sh {KAFKA} --create --topic alerts.lost --partitions 1
systemctl stop kafka
change() {{ {ZOOKEEPER} set $1 "$({ZOOKEEPER} get $1 2>/dev/null | tail -1 | sed "$2")"; }}
change /brokers/topics/alerts.lost 's/"0":\\[1\\]/"0":[99,1]/'
change /brokers/topics/alerts.lost/partitions/0/state 's/"leader":1/"leader":99/; s/"isr":\\[1\\]/"isr":[99]/'
systemctl start kafka
"""
FIND = f"{ZOOKEEPER} deleteall /brokers/topics/alerts.lost; systemctl restart kafka"
# A notification that Kafka has no topic for.
LATE = """
from django.contrib.auth import get_user_model
from django.db import transaction
from notifications.notify import notify
from notifications.topics import Kind
person = get_user_model().objects.get(username="watcher")
with transaction.atomic():
    notify(kind=Kind("owner"), action="late", recipients=[person], actor=person, resource=person, message="late",
           link="/", tell_actor=True)
"""
CLUSTERS = "pg_lsclusters -h | while read v n rest; do systemctl {} postgresql@$v-$n; done"
# What a site's user may put where root looks for numbers of Daphne's.
ODD = f"/run/daphne-{SITE}/999"
FREEZE = f"systemctl kill --signal={{}} daphne-{SITE}@1"
# Each of mod_wsgi's processes stands still most of the time.
STUTTER = (
    "while true; do pkill -STOP -f '^.wsgi:'; sleep 1.6; pkill -CONT -f '^.wsgi:'; sleep 0.4; done"
)

EXPORTER = "/usr/bin/prometheus-apache-exporter"

# What cannot be made to happen here, and why.
ELSEWHERE = {
    "ClockOff": "a container has the clock of its machine",
    "NumbersNotSent": "tests/cluster has a host that others send to",
    **dict.fromkeys(
        ("SiteWithoutHost", "WebHostDown", "HostDown", "BalancerDown", "BalancerNearLimit"),
        "tests/web has a balancer, and hosts that look after each other",
    ),
}


@dataclass(frozen=True)
class Case:
    """How the thing is made to happen, and how it is made good."""

    alert: str
    fault: str | Callable[[Watched], None]
    repair: str | Callable[[Watched], None]
    says: str
    short: bool = False
    needs: str = ""  # a unit; where it does not run, the host has nothing of the kind


def fill_kafka_disk(watched: Watched) -> None:
    size = "$(($(df --output=size -B1 /var/lib/kafka | tail -1) / 100))"
    watched.host.check_output(f"fallocate --length {size} /var/lib/kafka/.filler")


def ask_for_errors(watched: Watched) -> None:
    watched.host.check_output("systemctl stop kafka")
    watched.visitors("errors")


def ask_no_more(watched: Watched) -> None:
    watched.host.check_output("systemctl start kafka")
    watched.visitors_leave()


def lose_mails(watched: Watched) -> None:
    """Let a mail fail while the mail server is down, and start it for the one that says so."""
    watched.host.check_output("systemctl stop postfix; touch /run/reboot-required")
    failing = 'ALERTS{alertname="MailsNotSent", alertstate="firing"}'
    assert until(60, lambda: watched.value(failing) == "1"), watched.state("MailsNotSent")
    watched.host.check_output("systemctl start postfix; rm /run/reboot-required")


def leave_word(drift: list[dict[str, object]]) -> Callable[[Watched], None]:
    """Return what leaves word of a verify that found so much drift."""

    def leave(watched: Watched) -> None:
        host = {"name": watched.bench.name, "drift": drift}
        report = {"started": "2026-11-29T00:00:00+00:00", "hosts": [host], "checks": []}
        path = watched.folder / "report.json"
        path.write_text(json.dumps(report))
        run = watched.bench.play(
            ROOT / "playbooks" / "verified.yml",
            {"verify_report": str(path), "monitoring_mail_to": ADDRESS},
        )
        assert run.code == 0, run.output

    return leave


CASES = [
    Case(
        "SiteDown",
        "systemctl stop apache2",
        "systemctl start apache2",
        f"The site {SITE} does not answer",
        short=True,
    ),
    Case(
        "SiteSlow",
        "systemd-run --quiet --collect --property=RuntimeMaxSec=300 --unit=switchboard-stutter "
        f'sh -c "{STUTTER}"',
        "systemctl stop switchboard-stutter; pkill -CONT -f '^.wsgi:'",
        f"Pages of the site {SITE} take",
    ),
    Case(
        "SiteErrors",
        ask_for_errors,
        ask_no_more,
        f"of the requests to the site {SITE} end with a server error",
    ),
    Case(
        "SocketsNearLimit",
        lambda watched: watched.visitors("sockets", "12"),
        lambda watched: watched.visitors_leave(),
        f"The site {SITE} has 1.2 % of the WebSockets",
    ),
    Case(
        "ThreadsUsedUp",
        lambda watched: watched.visitors("threads", "40"),
        lambda watched: watched.visitors_leave(),
        f"the threads that serve pages of the site {SITE} are busy",
    ),
    Case(
        "OutboxOld",
        lambda watched: watched.host.check_output(
            f"cd / && kafka-topics.sh {KAFKA} --delete --topic {SITE}.owner && {SITE}-manage shell -v 0 -c %s",
            LATE,
        ),
        f"kafka-topics.sh {KAFKA} --create --topic {SITE}.owner --partitions 3",
        f"A notification of the site {SITE} has waited for Kafka",
    ),
    Case(
        "ConsumerLag",
        FREEZE.format("STOP"),
        FREEZE.format("CONT"),
        f"Processes of the site {SITE} lag behind Kafka",
    ),
    Case("KafkaWithoutLeader", LOSE, FIND, "1 partitions of Kafka have no leader."),
    Case(
        "KafkaDown",
        "systemctl stop kafka",
        "systemctl start kafka",
        "Kafka does not answer.",
        short=True,
    ),
    Case(
        "KafkaDiskFilling",
        fill_kafka_disk,
        "rm -f /var/lib/kafka/.filler",
        "of the disk with Kafka's data are free",
    ),
    Case(
        "ZooKeeperWithoutQuorum",
        "systemctl stop zookeeper",
        "systemctl start zookeeper; sleep 5; systemctl start kafka",  # which ends where ZooKeeper is not there yet
        "ZooKeeper does not answer, or has no quorum.",
    ),
    Case(
        "PostgreSQLDown",
        CLUSTERS.format("stop"),
        CLUSTERS.format("start"),
        "PostgreSQL does not answer",
        needs="prometheus-postgres-exporter.service",
    ),
    Case(
        "CertificateExpires",
        lambda watched: watched.serve_tls(days=9),
        lambda watched: watched.serve_tls(days=90),
        "The certificate of the site certificate ends in 9 days.",
    ),
    Case(
        "BackupOld",
        lambda watched: watched.host.check_output(
            "switchboard-backup run >/dev/null && python3 -c %s", AGE
        ),
        "switchboard-backup run",
        f"The last good backup of the site {SITE} is",
        short=True,
    ),
    Case(
        "DiskFull",
        f"mkdir -p {SMALL} && mount -t tmpfs -o size=20m,mode=755 none {SMALL}"
        f" && fallocate --length 19700KiB {SMALL}/filler"
        # a container shares no mount with the units that run already, as a server does
        "; systemctl restart prometheus-node-exporter",
        f"umount {SMALL}; rmdir {SMALL}; systemctl restart prometheus-node-exporter",
        f"The disk at {SMALL} is full",
    ),
    Case(
        "RebootRequired",
        "touch /run/reboot-required",
        "rm /run/reboot-required",
        "wait for a reboot",
    ),
    Case(
        "RestartDue",
        f"cp -a {EXPORTER} {EXPORTER}.new && mv {EXPORTER}.new {EXPORTER}",
        "systemctl restart prometheus-apache-exporter",
        "prometheus-apache-exporter.service runs code that an upgrade has replaced.",
    ),
    Case(
        "DriftFound",
        leave_word([{"task": "Write", "handler": False}]),
        leave_word([]),
        "The last verify found 1 tasks",
    ),
    Case(
        "TargetDown",
        "systemctl stop prometheus-apache-exporter",
        "systemctl start prometheus-apache-exporter",
        "Nothing tells about apache",
    ),
    Case("MailsNotSent", lose_mails, "true", "Mails about alerts could not be sent", short=True),
    Case(
        "NotesOld",
        "systemctl stop switchboard-metrics.timer",
        "systemctl start switchboard-metrics.timer",
        "The notes on this host are",
    ),
    Case(
        "NotesIncomplete",
        f"mkdir -p {ODD} && mkfifo {ODD}/numbers.json",
        f"rm -r {ODD}",
        "1 parts of the notes on this host could not be taken.",
    ),
]


def do(watched: Watched, what: str | Callable[[Watched], None]) -> None:
    if callable(what):
        what(watched)
    else:
        watched.host.check_output("sh -c %s", what)


def test_each_alert_is_made_to_happen() -> None:
    assert {case.alert for case in CASES} | ELSEWHERE.keys() == RULES["alerts"].keys()


def test_all_of_it_listens_on_loopback_alone(watched: Watched) -> None:
    told = watched.host.check_output("ss -Hltnp")
    ours = listening("\n".join(line for line in told.splitlines() if "prometheus" in line))
    assert len(ours) >= 5
    assert [place for place in ours if not place.startswith("127.0.0.1:")] == []


def test_a_second_run_changes_nothing(watched: Watched) -> None:
    run = watched.play()
    assert run.code == 0
    assert "changed=0 " in run.output, run.output[-3000:]


@pytest.mark.soak
def test_what_somebody_else_has_set_up_is_not_taken_over(watched: Watched) -> None:
    addition = "/etc/systemd/system/prometheus-node-exporter.service.d/switchboard.conf"
    watched.host.check_output(f"mv {addition} {addition}.away")
    try:
        run = watched.play()
        assert run.code != 0
        run.says(
            "monitoring_takes_over is False: prometheus-node-exporter on this host is not of this role's making",
            "apt purge prometheus-node-exporter",
        )
        assert watched.host.run("test -e %s", addition).rc == 1
    finally:
        watched.host.check_output(f"mv {addition}.away {addition}")


@pytest.mark.soak
def test_a_site_that_is_closed_for_maintenance_is_not_down(watched: Watched) -> None:
    watched.forget()
    file = f"/var/lib/switchboard/maintenance/{SITE}"
    fires = f'count(ALERTS{{site="{SITE}", alertname=~"SiteDown|SiteErrors", alertstate="firing"}})'
    errors = f'increase(switchboard_http_requests_total{{site="{SITE}", class="5xx"}}[20s])'
    assert until(60, lambda: watched.value(fires) == "")
    watched.host.check_output("touch %s", file)
    watched.visitors("errors")
    try:
        down = f'min_over_time(probe_success{{site="{SITE}"}}[1m])'
        assert until(30, lambda: watched.value(down) == "0")
        assert until(
            30, lambda: watched.value(f'switchboard_site_maintenance{{site="{SITE}"}}') == "1"
        )
        assert until(30, lambda: float(watched.value(errors) or 0) > 5), "nobody was sent away"
        time.sleep(10)  # longer than the alert waits
        assert watched.value(fires) == ""
        watched.visitors_leave()
        watched.host.check_output("rm %s", file)
        time.sleep(10)  # those who were sent away are still within the window
        assert float(watched.value(errors)) > 0
        assert watched.value(fires) == ""
    finally:
        watched.visitors_leave()
        watched.host.check_output("rm -f %s", file)
    assert until(30, lambda: watched.value(f'probe_success{{site="{SITE}"}}') == "1")


@pytest.mark.soak
def test_no_mail_is_given_to_another_server(watched: Watched) -> None:
    """Another certificate than the one that the host trusts, at the same name."""
    host = watched.host
    watched.forget()
    host.check_output("cp -a /etc/postfix/mail.test.pem /etc/postfix/mail.test.key /root/")
    try:
        host.check_output("sh -c %s", f"{CERTIFICATE}systemctl restart postfix")
        began = host.check_output("date +%s")
        host.check_output("touch /run/reboot-required")
        told = f"journalctl -u prometheus-alertmanager --since=@{began} -o cat"
        assert until(90, lambda: "certificate signed by unknown authority" in host.run(told).stdout)
        assert host.run("grep -rl RebootRequired %s", MAILBOX).stdout == ""
    finally:
        host.check_output("mv /root/mail.test.pem /root/mail.test.key /etc/postfix/")
        host.check_output("systemctl restart postfix")
    watched.mailed("RebootRequired")
    host.check_output("rm /run/reboot-required")
    watched.mailed("RebootRequired", "resolved")


def test_the_password_reaches_the_mail_server_and_nothing_else(watched: Watched) -> None:
    secret, host = "hush-of-a-test", watched.host
    program, given = "/run/switchboard-mail-server.py", "/root/given-to-the-mail-server"
    watched.write(program, (ROOT / "tests" / "alerts" / "mail_server.py").read_text())
    start = f"systemd-run --quiet --collect --unit=switchboard-mail-server python3 {program} 2526 {given}"
    host.check_output(start)
    log_in = {"monitoring_smtp_user": "lab", "monitoring_smtp_password": secret}
    try:
        run = watched.play("--diff", "-vv", monitoring_smtp="127.0.0.1:2526", **log_in)
        assert run.code == 0, run.output[-3000:]
        assert secret not in run.output
        host.check_output("touch /run/reboot-required")
        assert until(90, lambda: host.run("test -s %s", given).rc == 0), watched.state(
            "RebootRequired"
        )
        assert host.check_output("cat %s", given) == f"lab {secret}"
        found = host.run(f"grep -rl {secret} /etc /run /var/lib 2>/dev/null").stdout.split()
        assert found == [PASSWORD]
        assert host.check_output("stat -c '%%a %%U:%%G' %s", PASSWORD) == "640 root:prometheus"
        told = host.check_output("curl -s http://127.0.0.1:9094/api/v2/status")
        assert "auth_username: lab" in told
        assert secret not in told + host.check_output("ps -eo args | grep -v grep")
    finally:
        host.run("systemctl stop switchboard-mail-server; rm -f /run/reboot-required %s", given)
        assert watched.play().code == 0


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.alert, marks=[] if case.short else pytest.mark.soak)
        for case in CASES
    ],
)
def test_an_alert_is_mailed_and_its_end_too(watched: Watched, case: Case) -> None:
    if case.needs and watched.host.run("systemctl is-active %s", case.needs).rc:
        pytest.skip(f"{case.needs} does not run: the host has nothing of the kind")
    watched.forget()
    try:
        do(watched, case.fault)
        mail = words_of(watched.mailed(case.alert))
        assert case.says in mail, mail
        assert f"docs/alerts.md#{case.alert.lower()}" in mail
    finally:
        do(watched, case.repair)
    watched.mailed(case.alert, "resolved", 90)
