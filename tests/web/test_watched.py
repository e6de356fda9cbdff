"""The balancer is watched: what happens to it, its web hosts and its certificates arrives as a mail."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import pytest

from tests.alerts.dashboards import FACTS, blank, wanted
from tests.alerts.watched import words_of
from tests.behaviour import rawhttp
from tests.web.conftest import BACKENDS, BALANCER, HOSTS, Web
from tools.common import ROOT

FIRST, SECOND = HOSTS
MAILS = "/root/mails"
SECONDS = 60
CERTIFICATES = "/etc/switchboard/certificates/probe"
SHORT = f"""set -e
cp -a {CERTIFICATES} /root/kept
openssl req -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN=probe.test \\
  -keyout /root/new.key -out /root/new.crt 2>/dev/null
cat /root/new.crt >{CERTIFICATES}/fullchain.pem
cat /root/new.key >{CERTIFICATES}/privkey.pem
rm /root/new.*
systemctl reload haproxy
"""
LONG = f"""set -e
cat /root/kept/fullchain.pem >{CERTIFICATES}/fullchain.pem
cat /root/kept/privkey.pem >{CERTIFICATES}/privkey.pem
rm -r /root/kept
systemctl reload haproxy
"""


def until(look: Callable[[], bool], told: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait until something holds; a test that waits in vain says what it saw."""
    end = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < end, told()
        time.sleep(0.5)  # between two looks; the assertion above ends them


class Watch:
    """What Prometheus on the balancer knows, and the mails about it."""

    def __init__(self, web: Web) -> None:
        self.web = web

    def values(self, query: str) -> list[float]:
        """Return what Prometheus has for a query."""
        url = "http://127.0.0.1:9090/api/v1/query"
        words = ("curl", "-sS", "--fail", "--get", "--data-urlencode", f"query={query}", url)
        found = json.loads(self.web.output(BALANCER, *words))["data"]["result"]
        return [float(one["value"][1]) for one in found]

    def mailed(self, alert: str, status: str = "firing", says: str = "") -> str:
        """Wait for a mail about an alert that says something, and return it."""

        def mails() -> list[str]:
            text = words_of(self.web.output(BALANCER, "cat", MAILS))
            return re.split(r"(?m)^(?=Subject: )", text)[1:]

        start = f"Subject: [{status}] {BALANCER}: {alert}"
        found: list[str] = []

        def look() -> bool:
            found[:] = [mail for mail in mails() if mail.startswith(start) and says in mail]
            return bool(found)

        until(look, lambda: [mail.partition("\n")[0] for mail in mails()])
        return found[0]

    def forget(self) -> None:
        """Empty the mailbox."""
        self.web.output(BALANCER, "truncate", "--size=0", MAILS)


@pytest.fixture(scope="module")
def watch(web: Web) -> Iterator[Watch]:
    """Return the watch, while a mail server takes its mails."""
    program = (ROOT / "tests" / "alerts" / "mail_server.py").read_text(encoding="utf-8")
    run = ("systemd-run", "--quiet", "--collect", "--unit=test-mails", "python3", "-c", program)
    web.output(BALANCER, "touch", MAILS)
    web.output(BALANCER, *run, "25", "/dev/null", MAILS)
    found = Watch(web)
    until(
        lambda: found.values('ALERTS{alertstate="firing", alertname!="MailsNotSent"}') == [],
        lambda: found.values("ALERTS"),
    )
    yield found
    web.output(BALANCER, "systemctl", "stop", "test-mails")
    web.output(BALANCER, "rm", MAILS)


@contextmanager
def undone(web: Web, name: str, do: str, undo: str) -> Iterator[None]:
    """Do something to a host, and take it back whatever happens."""
    web.output(name, "sh", "-c", do)
    try:
        yield
    finally:
        web.output(name, "sh", "-c", undo)


def without_apache(web: Web, name: str) -> AbstractContextManager[None]:
    return undone(web, name, "systemctl stop apache2", "systemctl start apache2")


def test_a_web_host_that_is_down_is_mailed_and_so_is_a_site_without_any(watch: Watch) -> None:
    watch.forget()
    with without_apache(watch.web, FIRST):
        for backend in BACKENDS:  # in one mail, or in two
            said = f"The web host {FIRST} of the site probe is down ({backend})."
            mail = watch.mailed("WebHostDown (probe)", says=said)
        assert "docs/alerts.md#webhostdown" in mail
        with without_apache(watch.web, SECOND):
            watch.mailed("SiteWithoutHost (probe)", says="for the site probe (probe).")
            # asked by the balancer, as a visitor would
            down = 'ALERTS{alertname="SiteDown", site="probe", proxy="probe"}'
            until(lambda: watch.values(down) == [1], lambda: watch.values("ALERTS"))
        watch.mailed("SiteWithoutHost (probe)", "resolved")
    watch.mailed("WebHostDown (probe)", "resolved")
    watch.web.whole()


@pytest.mark.soak
def test_a_web_host_that_was_taken_out_is_no_alert(watch: Watch) -> None:
    """In maintenance it may even be down; and a release drains it, with everything in order."""
    noticed = 'haproxy_server_status{state="DOWN", server="%s", proxy="%s"}'
    for backend, state in zip(BACKENDS, ("maint", "drain"), strict=True):
        watch.web.haproxy(f"set server {backend}/{SECOND} state {state}")
    watch.web.haproxy(f"set server graphspace/{SECOND} state maint")
    try:
        with without_apache(watch.web, SECOND):
            # the one that is drained counts as down, so that the others have been looked at by then
            down = noticed % (SECOND, "probe.sockets")
            until(lambda: watch.values(down) == [1], lambda: watch.values("haproxy_server_status"))
            assert watch.values(noticed % (SECOND, "probe")) == [0]
            assert watch.values(noticed % (SECOND, "graphspace")) == [0]
            assert watch.values('ALERTS{alertname="WebHostDown", proxy="probe"}') == []
    finally:
        for backend in (*BACKENDS, "graphspace"):
            watch.web.haproxy(f"set server {backend}/{SECOND} state ready")
    watch.web.whole()


@pytest.mark.soak
def test_a_site_that_is_closed_for_maintenance_is_not_down(watch: Watch) -> None:
    """The balancer has no word of its own for it: Apache says it to visitors."""
    file = "/var/lib/switchboard/maintenance/probe"
    fails = 'probe_success{job="site", proxy="probe"} == 0'
    with ExitStack() as stack:
        for name in HOSTS:
            stack.enter_context(undone(watch.web, name, f"touch {file}", f"rm {file}"))
        assert watch.web.page().header("Switchboard-Closed") == "maintenance"
        until(lambda: watch.values(fails) == [0], lambda: watch.values("probe_success"))
        closed = 'probe_success{job="site_closed", site="probe"}'
        until(lambda: watch.values(closed) == [1], lambda: watch.values("probe_success"))
        # a rule is looked at as often as the site is asked
        until(
            lambda: watch.values('ALERTS{alertname="SiteDown", site="probe"}') == [],
            lambda: watch.values("ALERTS"),
            10,
        )
        assert watch.values(fails) == [0]
        assert set(watch.web.states().values()) == {"UP"}
    assert watch.web.page().header("Switchboard-Closed") is None


@pytest.mark.soak
def test_a_balancer_that_is_down_is_mailed(watch: Watch) -> None:
    watch.forget()
    with undone(watch.web, BALANCER, "systemctl stop haproxy", "systemctl start haproxy"):
        assert "docs/alerts.md#balancerdown" in watch.mailed("BalancerDown")
    watch.mailed("BalancerDown", "resolved")
    watch.web.whole()


@pytest.mark.soak
def test_connections_near_the_limit_are_mailed(watch: Watch) -> None:
    """The inventory has 4000 of them at once, of which 1 % is the limit here."""
    watch.forget()
    with ExitStack() as stack:
        for _ in range(60):
            connection = stack.enter_context(rawhttp.Connection(watch.web.front, 80, 15))
            # HAProxy closes one that asks for nothing after 10 s
            connection.send(rawhttp.handshake("/live/echo", "probe.test"))
            assert connection.response().status == 101
        mail = watch.mailed("BalancerNearLimit")
        assert "% of the connections that it may have." in mail
    watch.mailed("BalancerNearLimit", "resolved")


def test_a_host_that_is_silent_is_mailed_by_another(watch: Watch) -> None:
    watch.forget()
    table = "inet test_silent"
    chain = "{ type filter hook input priority -300; policy drop; }"
    silent = f"nft 'add table {table}; add chain {table} everything {chain}'"
    with undone(watch.web, SECOND, silent, f"nft delete table {table}"):
        mail = watch.mailed("HostDown")
        assert f"The host {SECOND} does not answer this one." in mail
        assert FIRST not in mail
    watch.mailed("HostDown", "resolved")
    watch.web.whole()


@pytest.mark.soak
def test_a_certificate_of_the_balancer_that_ends_soon_is_mailed(watch: Watch) -> None:
    watch.forget()
    with undone(watch.web, BALANCER, SHORT, LONG):
        mail = watch.mailed("CertificateExpires (probe)")
        assert "The certificate of the site probe ends in 8." in mail or "in 9 days" in mail
    watch.mailed("CertificateExpires (probe)", "resolved")


def test_what_haproxy_tells_is_for_prometheus_alone(watch: Watch) -> None:
    ask = "curl --silent --output /dev/null --max-time 10 --write-out %{http_code} http://127.0.0.1:9101/"
    for user, path, status in (("prometheus", "metrics", "200"), ("prometheus", "", "404")):
        done = watch.web.output(BALANCER, "sh", "-c", f"runuser -u {user} -- {ask}{path}")
        assert done == status
    assert watch.web.run(BALANCER, "sh", "-c", f"runuser -u nobody -- {ask}metrics").returncode == 7
    names = '{job="balancer", __name__=~"haproxy_.*"}'
    kept = watch.web.output(
        BALANCER,
        *("curl", "-sS", "--get", "--data-urlencode", f"match[]={names}"),
        "http://127.0.0.1:9090/api/v1/label/__name__/values",
    )
    assert json.loads(kept)["data"] == [
        "haproxy_backend_active_servers",
        "haproxy_process_current_connections",
        "haproxy_process_max_connections",
        "haproxy_server_status",
    ]


def test_each_panel_of_the_dashboards_has_an_answer(watch: Watch) -> None:
    def ask(path: str) -> Any:
        words = ("curl", "-sS", "-g", "--fail", f"http://127.0.0.1:9090/api/v1/{path}")
        return json.loads(watch.web.output(BALANCER, *words))["data"]

    told = watch.web.output(BALANCER, "python3", "-c", FACTS)

    def lacking() -> dict[str, str]:  # an alert that fires may end meanwhile
        return blank(ask, wanted(ask, told))

    for panel in (
        "Balancers",
        "Web hosts of a site",
        "Connections, of those that it may have",
        "Sites up",
    ):
        assert panel in " ".join(wanted(ask, told))
    until(lambda: not lacking(), lacking)
