"""TLS as visitors meet it: who vouches for a site, for how long, with which protocols, and how one gets there."""

from __future__ import annotations

import datetime
import socket
import ssl
import warnings
from typing import Any

import pytest
from cryptography import x509
from testinfra.host import Host

from tests.behaviour import rawhttp
from tests.behaviour.conftest import journal
from tests.behaviour.sites import Site, trust, web_sites

pytestmark = pytest.mark.tls

LEAST_DAYS = (
    10  # that a certificate has left; those of the own CA and of ACME are renewed well before
)
CHALLENGES = "/.well-known/acme-challenge/"


@pytest.fixture(scope="module")
def sites(deployed: dict[str, Any], address: str) -> list[Site]:
    found = [site for site in web_sites(deployed, address) if site.tls]
    if not found:
        pytest.skip("no site of this host has TLS")
    return found


def source(deployed: dict[str, Any], site: Site) -> str:
    (told,) = [one for one in deployed["certificates"]["sites"] if one["name"] == site.name]
    return str(told["source"])


def shake(site: Site, context: ssl.SSLContext, name: str = "") -> ssl.SSLSocket:
    """Return a connection after its TLS handshake."""
    bare = socket.create_connection((site.address, site.port), 15)
    return context.wrap_socket(bare, server_hostname=name or site.settings["server_name"])


def certificate(site: Site) -> x509.Certificate:
    """Return the certificate that a site shows."""
    assert site.tls
    with shake(site, site.tls) as connection:
        shown = connection.getpeercert(binary_form=True)
    assert shown
    return x509.load_der_x509_certificate(shown)


def test_a_visitor_trusts_each_name_of_a_site(deployed: dict[str, Any], sites: list[Site]) -> None:
    """Browsers trust the certificate, for each name of a site."""
    for site in sites:
        assert site.tls
        for name in (site.settings["server_name"], *site.settings["server_aliases"]):
            with shake(site, site.tls, name) as connection:
                assert connection.version() in ("TLSv1.2", "TLSv1.3")
        shown = certificate(site)
        if source(deployed, site) == "acme":
            assert shown.issuer != shown.subject, "it is the one to begin with: ACME gave none"
        if site.tls.verify_mode == ssl.CERT_NONE:
            assert "Pebble" in shown.issuer.rfc4514_string()


def test_no_certificate_expires_soon(sites: list[Site]) -> None:
    """No certificate ends within ten days."""
    for site in sites:
        left = certificate(site).not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        assert left.days >= LEAST_DAYS, f"{site.name}: {left.days} days left"


def test_balancers_know_the_web_host_by_its_certificate(
    host: Host, deployed: dict[str, Any]
) -> None:
    """Balancers are shown a certificate of the own CA, for the web host's name and ten days at least."""
    apache, address = deployed["apache"], deployed["private_address"]
    if not apache.get("balanced_certificate"):
        pytest.skip("no balancer asks this host by TLS")
    where = f"{f'[{address}]' if ':' in address else address}:{apache['https_port']}"
    ca = f"{deployed['certificates']['dir']}/peers/ca.pem"
    shown = host.check_output(
        f"openssl s_client -connect {where} -CAfile {ca} -verify_return_error"
        f" -verify_hostname {deployed['host']} </dev/null 2>&1"
    )
    found = x509.load_pem_x509_certificate(shown[shown.index("-----BEGIN") :].encode())
    left = found.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert left.days >= LEAST_DAYS


def test_a_name_that_no_site_has_gets_no_page(sites: list[Site]) -> None:
    """Who asks for a name that no site has gets no page."""
    for site in sites:
        answer = site.ask(rawhttp.get("/", "no-such-site.invalid"))
        assert (answer.status, answer.answerer) in ((421, "apache"), (400, "apache")), site.name


def test_old_protocols_are_refused(sites: list[Site]) -> None:
    """TLS 1.0 and 1.1 are refused."""
    for site in sites:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings(action="ignore"):  # that it is old is what this is about
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
            shake(site, context).close()


def test_what_was_recorded_stays_secret_whatever_becomes_of_the_key(sites: list[Site]) -> None:
    """What somebody recorded stays secret, even if the key is stolen later."""
    for site in sites:
        assert site.tls
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with shake(site, context) as connection:
            cipher = connection.cipher()
            assert cipher
            assert cipher[0].startswith(("ECDHE-", "DHE-")), cipher


def test_browsers_are_offered_http_2(deployed: dict[str, Any], sites: list[Site]) -> None:
    """Browsers are offered HTTP/2 where the inventory says so."""
    for site in sites:
        context = trust(deployed, site.name)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with shake(site, context) as connection:
            wanted = "h2" if site.settings["http2"] else "http/1.1"
            assert connection.selected_alpn_protocol() == wanted, site.name


def test_https_alone_is_asked_for_from_then_on(sites: list[Site]) -> None:
    """Browsers are told to use HTTPS alone from then on."""
    for site in sites:
        wanted = site.settings["hsts_max_age"]
        told = site.page("/").header("Strict-Transport-Security") or ""
        assert told.split(";")[0] == (f"max-age={wanted}" if wanted else ""), site.name


def test_plain_http_leads_to_https(deployed: dict[str, Any], sites: list[Site]) -> None:
    """Plain HTTP leads to the same address over HTTPS."""
    port = deployed["apache"]["http_port"]
    for site in sites:
        if not site.settings["tls_redirect"]:
            continue
        name = site.settings["server_name"]
        for path in ("/", "/a%2Fb/%C3%A9?next=%2Fx%20y&a=1"):
            answer = rawhttp.ask(site.address, port, rawhttp.get(path, name))
            assert (answer.status, answer.header("Location")) == (301, site.origin + path)
            assert answer.header("Strict-Transport-Security") is None  # RFC 6797, 7.2
        # Whoever asks for a WebSocket there is not led anywhere by a browser, and gets no socket.
        handshake = rawhttp.handshake(site.under("x") if site.prefix else "/x", name)
        assert rawhttp.ask(site.address, port, handshake).status == 301


def test_challenges_are_answered_over_plain_http(
    deployed: dict[str, Any], sites: list[Site]
) -> None:
    """The challenges of a certificate authority are answered over plain HTTP."""
    for site in sites:
        request = rawhttp.get(CHALLENGES + "none", site.settings["server_name"])
        answer = rawhttp.ask(site.address, deployed["apache"]["http_port"], request)
        # 403 where no site of the host asks an ACME service, and the folder is not there
        gone = (404,) if source(deployed, site) == "acme" else (403, 404)
        assert answer.answerer == "apache", site.name
        assert answer.status in gone, site.name


@pytest.fixture(scope="module")
def keeper(host: Host, deployed: dict[str, Any], request: pytest.FixtureRequest) -> Host:
    """Return the host that has the certificates: the web host, or the balancer before it."""
    inventory = request.config.option.ansible_inventory
    names = deployed.get("balancers", [])[:1]
    found = [Host.get_host(f"ansible://{name}", ansible_inventory=inventory) for name in names]
    return (*found, host)[0]


def test_keys_are_for_root_alone(keeper: Host, deployed: dict[str, Any], sites: list[Site]) -> None:
    """Private keys are for root alone."""
    host = keeper
    for site in sites:
        folder = host.file(f"{deployed['certificates']['dir']}/{site.name}")
        key = host.file(f"{folder.path}/privkey.pem")
        assert (folder.user, folder.mode) == ("root", 0o700)
        assert (key.user, key.mode) == ("root", 0o600)
        assert host.run("runuser -u www-data -- cat %s", key.path).rc != 0


def test_certificates_of_acme_are_renewed_by_a_timer(
    keeper: Host, deployed: dict[str, Any], sites: list[Site]
) -> None:
    """A timer renews the certificates of ACME."""
    acme = [site for site in sites if source(deployed, site) == "acme"]
    if not acme:
        pytest.skip("no site of this host asks an ACME service")
    state = keeper.run("systemctl is-active certbot.timer; systemctl is-enabled certbot.timer")
    assert state.stdout.split() == ["active", "enabled"]


def test_visitors_see_what_the_acme_service_gave_last(
    keeper: Host, deployed: dict[str, Any], sites: list[Site]
) -> None:
    """Visitors see the certificate that the ACME service gave last."""
    acme = [site for site in sites if source(deployed, site) == "acme"]
    if not acme:
        pytest.skip("no site of this host asks an ACME service")
    for site in acme:
        pem = keeper.file(f"/etc/letsencrypt/live/{site.name}/cert.pem").content
        assert certificate(site) == x509.load_pem_x509_certificate(pem), site.name


@pytest.mark.disruptive
def test_a_renewal_is_taken_up_without_a_restart(
    keeper: Host, deployed: dict[str, Any], sites: list[Site]
) -> None:
    acme = [site for site in sites if source(deployed, site) == "acme"]
    if not acme:
        pytest.skip("no site of this host asks an ACME service")
    host, unit = keeper, "haproxy.service" if acme[0].balanced else "apache2.service"
    before = certificate(acme[0]).serial_number
    main = host.check_output("systemctl show --property=MainPID --value %s", unit)
    # As the timer does it, in the unit and its sandbox, but for its waiting for the day.
    folder = "/run/systemd/system/certbot.service.d"
    command = f"/usr/bin/certbot -q renew --no-random-sleep-on-renew --force-renewal --cert-name {acme[0].name}"
    host.check_output(
        "mkdir -p %s && printf '[Service]\nExecStart=\nExecStart=%%s\n' %s > %s/now.conf && systemctl daemon-reload",
        folder,
        command,
        folder,
    )
    try:
        done = host.run("systemctl start certbot.service")
    finally:
        host.check_output("rm -r %s && systemctl daemon-reload", folder)
    assert done.rc == 0, journal(host, "certbot") + journal(host, "pebble")
    assert certificate(acme[0]).serial_number != before
    assert host.check_output("systemctl show --property=MainPID --value %s", unit) == main
    assert acme[0].page("/").answerer == "mod_wsgi"
