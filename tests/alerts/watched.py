"""A converged test host that is watched, with a mail server of its own and a mailbox that its mails arrive in."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import yaml

from tests.refusals.bench import ROOT, Bench, Run

SITE = "graphspace"
ADDRESS = "ops@mail.test"
MAILBOX = "/home/ops/Maildir/new"
HURRY = "2s"
VISITORS = "/run/switchboard-visitors.py"
TLS = "/run/switchboard-alerts-tls"
TLS_PORT = 8444
RULES: dict[str, Any] = yaml.safe_load(
    (ROOT / "roles" / "monitoring" / "vars" / "main.yml").read_text(encoding="utf-8")
)["__monitoring_rules"]
PERSON = """
from django.contrib.auth import get_user_model
person, _ = get_user_model().objects.get_or_create(username="watcher")
person.set_password("watches-for-a-test")
person.save()
"""
# Debian's postfix, for this host alone: who is called ops has a mailbox.
POSTFIX = """compatibility_level = 3.6
myhostname = mail.test
mydestination = mail.test
inet_interfaces = loopback-only
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
home_mailbox = Maildir/
alias_maps =
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = /etc/postfix/mail.test.pem
smtpd_tls_key_file = /etc/postfix/mail.test.key
"""
INSTALL = """set -e
id ops >/dev/null 2>&1 || useradd --create-home --shell /usr/sbin/nologin ops
echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections
export DEBIAN_FRONTEND=noninteractive
test -x /usr/sbin/postfix || apt-get -qq update
test -x /usr/sbin/postfix || apt-get -qq install --no-install-recommends postfix
test -f /etc/postfix/master.cf || cp /usr/share/postfix/master.cf.dist /etc/postfix/master.cf
grep -q mail.test /etc/hosts || echo 127.0.0.1 mail.test >> /etc/hosts
cp /etc/postfix/mail.test.pem /etc/ssl/certs/mail.test.pem
systemctl restart postfix
"""
REMOVE = """systemctl stop switchboard-alerts-tls postfix
DEBIAN_FRONTEND=noninteractive apt-get -qq purge postfix
userdel --remove ops
rm -rf /etc/postfix /etc/ssl/certs/mail.test.pem
sed '/ mail.test$/d' /etc/hosts > /run/hosts.kept && cat /run/hosts.kept > /etc/hosts
"""
# The certificate by which clients know the mail server.
CERTIFICATE = """openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=mail.test \
  -addext subjectAltName=DNS:mail.test -keyout /etc/postfix/mail.test.key -out /etc/postfix/mail.test.pem 2>/dev/null
"""
# A place with TLS whose certificate lasts so many days.
SERVE_TLS = """set -e
systemctl stop switchboard-alerts-tls 2>/dev/null || true
mkdir -p {folder}
openssl req -x509 -newkey rsa:2048 -nodes -days {days} -subj /CN=certificate.test \
  -keyout {folder}/key.pem -out {folder}/cert.pem 2>/dev/null
systemd-run --quiet --collect --unit=switchboard-alerts-tls \
  openssl s_server -quiet -www -accept 127.0.0.1:{port} -key {folder}/key.pem -cert {folder}/cert.pem
"""
WAIT = """cd {mailbox} 2>/dev/null || exit 3
for i in $(seq {tries}); do
  grep -lE '^Subject: \\[{status}\\] [^ ]+: {alert}( |$)' -- * 2>/dev/null | head -1 | xargs -r cat | grep . && exit 0
  sleep 0.3
done
grep -h '^Subject: ' -- * 2>/dev/null
exit 1
"""


class Watched:
    """The host, and what is done to it."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench, self.host, self.folder = bench, bench.host, folder

    def begin(self) -> None:
        """Install the mail server and let monitoring begin, with everything sooner than on a server."""
        self.write("/etc/postfix/main.cf", POSTFIX)
        self.host.check_output("sh -c %s", CERTIFICATE)
        self.host.check_output("sh -c %s", INSTALL)
        visitors = (ROOT / "tests" / "alerts" / "visitors.py").read_text(encoding="utf-8")
        self.write(VISITORS, visitors)
        self.host.check_output(f"cd / && {SITE}-manage shell -c %s", PERSON)
        self.serve_tls(days=90)
        free = float(
            self.host.check_output(
                "sh -c %s", "df --output=avail,size /var/lib/kafka | awk 'NR>1{print 100*$1/$2}'"
            )
        )
        self.kafka_free = round(free - 0.4, 2)
        self.backed_up = self.host.run("systemctl is-enabled switchboard-backup.timer").rc == 0
        if not self.backed_up:
            self.back_up(backup_repository="/var/backups/alerts", backup_password="of-a-test")
        self.has_databases = self.host.run("pg_lsclusters -h | grep -q .").rc == 0
        if self.has_databases:
            self.let_in(monitoring_mail_to=ADDRESS)
        # what an earlier run of these tests has mailed of would not be mailed again
        self.host.check_output("find /var/lib/prometheus/alertmanager -type f -delete || true")
        run = self.play()
        assert run.code == 0, run.output[-3000:]

    def let_in(self, **variables: Any) -> None:
        """Let the exporter into PostgreSQL, or no longer, as site.yml does before it comes to monitoring."""
        run = self.bench.play(ROOT / "playbooks" / "database.yml", variables)
        assert run.code == 0, run.output[-3000:]

    def back_up(self, **variables: Any) -> None:
        """Run the playbook of backups."""
        run = self.bench.play(ROOT / "playbooks" / "backup.yml", variables)
        assert run.code == 0, run.output[-3000:]

    def play(self, *flags: str, **changes: Any) -> Run:
        """Run the playbook of monitoring."""
        return self.bench.play(
            ROOT / "playbooks" / "monitoring.yml", {**self.variables(), **changes}, *flags
        )

    def variables(self) -> dict[str, Any]:
        """Return what the tests ask of the role."""
        tls = {
            "name": "certificate",
            "url": f"https://127.0.0.1:{TLS_PORT}",
            "host": "certificate.test",
        }
        return {
            "monitoring_mail_to": ADDRESS,
            "monitoring_mail_from": "alerts@mail.test",
            "monitoring_smtp": "mail.test:25",  # no address of loopback, so that it has to offer TLS
            "monitoring_interval": HURRY,
            "monitoring_group_wait": "1s",
            "monitoring_group_interval": HURRY,
            "monitoring_for": dict.fromkeys(RULES["alerts"], "0s")
            # the clock of a test host is its machine's; a site that is closed is noted a moment after it is
            | {"ClockOff": "12h", "SiteDown": "8s"},
            "monitoring_thresholds": {
                "site_slow_seconds": 1,
                "mail_window_seconds": 20,
                "site_window_seconds": 20,
                "sockets_percent": 0.9,
                "outbox_seconds": 3,
                "silence_seconds": 5,
                "kafka_disk_free_percent": self.kafka_free,
                "notes_seconds": 10,
                "disk_hours": 0,
            },
            "monitoring_sites": [*map(self.asked, self.bench.lists["monitoring"]), tls],
        }

    def asked(self, site: dict[str, Any]) -> dict[str, Any]:
        """Return what the role is told of a site, with all that there is to ask the demonstration site."""
        more = {"path": "/readyz/database", "metrics": ["127.0.0.1:9464"]}
        return {**site, **more} if site["name"] == SITE else site

    def value(self, query: str) -> str:
        """Return what Prometheus has for a query that gives one number, empty without any."""
        url = "http://127.0.0.1:9090/api/v1/query"
        told = self.host.check_output("curl -s --get --data-urlencode %s %s", f"query={query}", url)
        found = json.loads(told)["data"]["result"]
        return str(found[0]["value"][1]) if found else ""

    def write(self, path: str, text: str) -> None:
        """Write a file of root's."""
        self.host.check_output("mkdir -p %s", str(Path(path).parent))
        self.host.check_output("printf %%s %s > %s", text, path)

    def serve_tls(self, days: int) -> None:
        """Serve TLS with a new certificate."""
        text = SERVE_TLS.format(folder=TLS, days=days, port=TLS_PORT)
        self.host.check_output("sh -c %s", text)

    def forget(self) -> None:
        """Empty the mailbox."""
        self.host.check_output(
            "runuser -u ops -- mkdir -p %s; find %s -type f -delete", MAILBOX, MAILBOX
        )

    def mailed(self, alert: str, status: str = "firing", seconds: float = 60) -> str:
        """Wait for the mail about an alert, and return it."""
        text = WAIT.format(mailbox=MAILBOX, status=status, alert=alert, tries=int(seconds / 0.3))
        done = self.host.run("sh -c %s", text)
        assert done.rc == 0, (
            f"no mail says that {alert} is {status}; there are\n{done.stdout}\n{self.state(alert)}"
        )
        return str(done.stdout)

    def state(self, alert: str) -> str:
        """Return what Prometheus says of an alert, for a test that fails."""
        told = self.host.run(
            "curl -s http://127.0.0.1:9090/api/v1/rules; "
            "journalctl --no-pager -n 5 -u prometheus-alertmanager -u switchboard-metrics -o cat"
        ).stdout
        rules = json.JSONDecoder().raw_decode(told)[0]["data"]["groups"][0]["rules"]
        found = [one for one in rules if one["name"] == alert]
        return f"{found}\n{told[told.rindex('}') :][-1500:]}"

    def visitors(self, *words: str) -> None:
        """Let visitors do something in the background, until `visitors_leave`."""
        self.host.check_output(
            f"systemd-run --quiet --collect --property=RuntimeMaxSec=600 --unit=switchboard-visitors "
            f"python3 {VISITORS} {self.bench.entries[SITE]['domain']} {' '.join(words)}"
        )

    def visitors_leave(self) -> None:
        """End what they do."""
        self.host.run("systemctl stop switchboard-visitors")

    def end(self) -> None:
        """Switch monitoring off, and remove the mail server and the rest."""
        self.visitors_leave()
        run = self.play(monitoring_mail_to="")
        kept = self.host.run("test -e /etc/prometheus/switchboard/smtp.password").rc == 0
        on = self.host.run("systemctl is-active 'prometheus*' switchboard-metrics.timer").stdout
        if self.has_databases:
            self.let_in()
        if not self.backed_up:
            self.back_up()
            self.host.run("rm -rf /var/backups/alerts")
        self.host.run("rm -rf %s %s", TLS, VISITORS)
        self.host.run("sh -c %s", REMOVE)
        assert run.code == 0, run.output[-3000:]
        assert not kept, "switched off, and the password is there"
        assert "\nactive" not in f"\n{on}", f"switched off, and it runs: {on}"


def listening(told: str) -> list[str]:
    """Return the addresses that listening sockets of `ss` have."""
    return [line.split()[3] for line in told.splitlines() if line.startswith("LISTEN")]


def until(seconds: float, look: Any) -> bool:
    """Say whether something comes to hold in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if look():
            return True
        time.sleep(0.5)  # between two looks; the caller asserts
    return bool(look())


def words_of(mail: str) -> str:
    """Return the text of a mail as it reads, its soft line breaks taken away (RFC 2045, quoted-printable)."""
    return re.sub(r"=\r?\n", "", mail).replace("=3D", "=")
