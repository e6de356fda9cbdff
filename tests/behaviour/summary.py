"""What `make verify` looks at, by subject, and its last lines: what fell short, on which host, and what to do."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath

ANEW = "`ansible-playbook -i INVENTORY site.yml` puts back what was changed."


@dataclass(frozen=True)
class Subject:
    """A file of tests in plain words: its title, what to do where it falls short, and the page that explains it."""

    title: str
    remedy: str
    page: str


# One line a file of tests, the first to look at first: what stands above explains much of what stands below.
SUBJECTS = {
    "test_services": Subject(
        "services and listeners",
        "Ask the unit that is named: `systemctl status UNIT` and `journalctl -u UNIT`. " + ANEW,
        "README.md#when-it-fails",
    ),
    "test_zy_prediction": Subject(
        "the next run",
        "The server is not what the last run left, or the inventory was changed since: see it with "
        "`ansible-playbook -i INVENTORY site.yml --check --diff`. Without `--check` it is put back.",
        "docs/operating.md#what-restarts-when",
    ),
    "test_messaging": Subject(
        "Kafka and ZooKeeper",
        "Read `journalctl -u kafka -u zookeeper`; pages go on meanwhile, notifications wait. "
        + ANEW,
        "docs/notifications.md",
    ),
    "test_kafka_users": Subject(
        "users and passwords of Kafka",
        "A run makes the users, passwords and rights of the inventory again: `ansible-playbook -i INVENTORY site.yml`. "
        "Treat a password that others could read as known, and change it.",
        "docs/kafka.md",
    ),
    "test_postgresql": Subject(
        "PostgreSQL",
        "`pg_lsclusters` and the end of /var/log/postgresql/*.log first. " + ANEW,
        "docs/database.md",
    ),
    "test_routing": Subject(
        "routing",
        "A request reached another process than it should: the site's file in /etc/apache2/sites-available was "
        "changed, or the process does not answer (`systemctl status apache2 'daphne-*'`). " + ANEW,
        "docs/routing.md",
    ),
    "test_http2": Subject(
        "routing over HTTP/2",
        "As for routing. Where HTTP/1.1 is right and only this is wrong, `https.http2: false` of the site leaves it "
        "out.",
        "docs/routing.md",
    ),
    "test_tls": Subject(
        "TLS",
        "A run renews what is due of the own CA; `systemctl status certbot.timer` and `journalctl -u certbot` tell of "
        "ACME; certificates of your own are replaced in the files that `certificate` names, then run again.",
        "docs/operating.md#tls",
    ),
    "test_strangers": Subject(
        "what nobody asked for",
        "Somebody has put it there by hand. Take it away, or into the inventory; a run leaves alone what it does not "
        "know.",
        "docs/operating.md",
    ),
    "test_files": Subject(
        "owners, modes, secrets",
        "Treat a secret that others could read as known, and change it. Owners and modes: " + ANEW,
        "docs/operating.md#secrets",
    ),
    "test_backup": Subject(
        "backups",
        "`journalctl -u switchboard-backup` says why a site has no snapshot; `make backup` makes one once that is put "
        "right.",
        "docs/backup.md#when-a-backup-fails",
    ),
    "test_logs": Subject(
        "logs elsewhere",
        "`journalctl -u switchboard-logs` says why the receiver takes nothing; what is not sent waits. "
        + ANEW,
        "docs/operating.md#logs-elsewhere",
    ),
    "test_monitoring": Subject(
        "monitoring",
        "docs/alerts.md has for each alert what it means and the first three things to do; what does not run says "
        "why in its journal.",
        "docs/alerts.md",
    ),
    "test_notifications": Subject(
        "notifications",
        "Read the journal of the site's relay and of Kafka, then the site's error log.",
        "docs/notifications.md",
    ),
    "test_apache": Subject(
        "Apache's sizes, users and files",
        "`sudo apachectl configtest` and `systemctl status apache2` first. " + ANEW,
        "docs/apache.md",
    ),
    "test_limits": Subject(
        "headers, logs, maintenance",
        "Look at the site's file in /etc/apache2/sites-available. " + ANEW,
        "docs/apache.md",
    ),
    "test_media": Subject(
        "uploaded files",
        "Until it is put right an uploaded file may act in the site's name. " + ANEW,
        "docs/apache.md#uploaded-files",
    ),
    "test_daphne": Subject(
        "Daphne's limits",
        "Read `journalctl -u 'daphne-*'`. " + ANEW,
        "docs/operating.md#a-client-that-does-not-read-and-memory",
    ),
    "test_valkey": Subject(
        "Valkey of the sites",
        "Ask the unit that is named: `systemctl status 'valkey-*'` and `journalctl -u 'valkey-*'`. "
        + ANEW,
        "docs/valkey.md",
    ),
    "test_workers": Subject(
        "background work",
        "Read the journal of the site's services: `journalctl -u 'django-*'`.",
        "docs/valkey.md#background-work",
    ),
    "test_browser": Subject(
        "people in browsers",
        "Do by hand what is named, with the browser's console open; then the site's error log.",
        "docs/notifications.md",
    ),
    "test_zz_reboot": Subject(
        "a reboot",
        "`systemctl --failed` and `systemctl is-enabled UNIT`. " + ANEW,
        "README.md#when-it-fails",
    ),
}
WIDEST = 150


@dataclass(frozen=True)
class Seen:
    """One check on one host: its file of tests, what it says in words, and good, bad, absent or unseen."""

    module: str
    says: str
    host: str
    result: str
    said: str = ""

    @property
    def brief(self) -> str:
        """What it found, in one line."""
        return brief(self.said)


def owned(text: str) -> str:
    """Return a text in which (user, group, mode) is written as `ls` and `chmod` do."""
    return re.sub(
        r"\('([\w-]+)', '([\w-]+)', (\d+)\)",
        lambda found: f"{found[1]}:{found[2]} {int(found[3]):04o}",
        text,
    )


def brief(said: str) -> str:
    """Return what a failing check said as one line for people, without what pytest and testinfra put around it."""
    lines = [line.strip().rstrip("* ") for line in owned(said).splitlines() if line.strip()]
    first = re.sub(r"^(?:\w+\.)*\w*(?:Error|Failed|Exception): ", "", lines[0]) if lines else ""
    ran = re.search(
        r"exit_status=(\d+), command=b?(['\"])(.*?)\2, _stdout=.*?_stderr=b?(['\"])(.*)\4", first
    )
    if ran:
        command = re.sub(r"^(?:sudo )?/bin/sh -c ", "", ran[3]).strip("'\"")
        told = ran[5].replace("\\n", " ").strip()
        return f"`{command}` ended with {ran[1]}" + (f": {told}" if told else "")
    if first.endswith(":") and len(lines) > 1:
        return f"{first} {lines[1]}"
    compared = re.match(r"assert (.+) == (\S.*)$", first)
    if compared:
        empty = compared[2] in ("[]", "{}", "set()", "''", '""')
        return compared[1] if empty else f"{compared[1]}, where {compared[2]} should be"
    more = re.match(r"assert (.+) == (\S.*)$", lines[1]) if len(lines) > 1 else None
    if more and len(first) < 60:
        return f"{first}: {more[1]}, where {more[2]} should be"
    return first


def words(name: str) -> str:
    """Return the name of a test as words."""
    return name.partition("[")[0].removeprefix("test_").replace("_", " ")


def module_of(node: str) -> str:
    """Return the file of tests of a node id, without its ending."""
    return PurePosixPath(node.partition("::")[0]).stem


def title(module: str) -> str:
    """Return what a file of tests looks at."""
    return SUBJECTS[module].title if module in SUBJECTS else module


def order(module: str) -> int:
    """Return the place of a file of tests among the subjects; an unknown one comes last."""
    return list(SUBJECTS).index(module) if module in SUBJECTS else len(SUBJECTS)


def remedies(seen: list[Seen], inventory: str) -> list[tuple[str, int, str, str]]:
    """Return what to do, the first first: the subject, how many checks fell short, the remedy and its page."""
    bad = Counter(one.module for one in seen if one.result == "bad")
    found = []
    for module in sorted(bad, key=order):
        subject = SUBJECTS.get(module, Subject(module, ANEW, "README.md#when-it-fails"))
        text = subject.remedy.replace("INVENTORY", inventory)
        found.append((subject.title, bad[module], text, subject.page))
    return found


def table(seen: list[Seen], inventory: str = "INVENTORY") -> list[str]:
    """Return the last lines: a row for each subject and host, then what fell short and what to do."""
    counts = Counter((one.module, one.host, one.result) for one in seen)
    rows = sorted({(order(one.module), one.module, one.host) for one in seen})
    unseen = any(one.result == "unseen" for one in seen)
    wide = max([len("on"), *(len(one.host) for one in seen)])
    head = f"{'what was looked at':34} {'on':{wide}} {'good':>5} {'bad':>5} {'not here':>9}"
    lines = [head + (f" {'not seen':>9}" if unseen else "")]
    for _, module, host in rows:
        good, bad, absent, blind = (
            counts[module, host, result] for result in ("good", "bad", "absent", "unseen")
        )
        line = f"{title(module):34} {host:{wide}} {good:5} {bad:5} {absent:9}"
        lines.append(line + (f" {blind:9}" if unseen else ""))
    short = [one for one in seen if one.result == "bad"]
    if short:
        lines += ["", "What fell short:"]
        for one in sorted(short, key=lambda one: (one.host, order(one.module))):
            place = f"on {one.host}: " if one.host else ""
            lines += [f"  {place}{one.says}"[:WIDEST], f"    found: {one.brief}"[:WIDEST]]
        lines += ["", "What to do, the first first:"]
        for subject, number, text, page in remedies(seen, inventory):
            lines.append(f"  {subject} ({number}): {text} See {page}.")
    return lines
