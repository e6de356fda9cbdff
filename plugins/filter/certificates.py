"""Filters of the certificates role: the rules of its preflight, and how the CA is asked."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
except ImportError as error:  # ansible-core itself needs it
    raise AnsibleFilterError(
        "The control node's Python lacks cryptography. Install it: pip install cryptography"
    ) from error

HOST_NAME = re.compile(r"(?=.{1,253}$)(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
VAULT = b"$ANSIBLE_VAULT"
# Browsers take no certificate that is valid for longer (CA/Browser Forum, Baseline Requirements 6.3.2; for a CA that
# one has imported oneself some still hold to it).
MOST_DAYS = 397

Broken = tuple[str, Any, str, str]


def certificates_rules(
    sites: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return what can't work, as rules that do not hold; empty when all is well.

    ``sites`` are the complete sites that have a certificate, ``settings`` the role-wide variables with
    their names. Files of the control node are read. Each rule has ``variable``, ``value``, ``why``
    and ``remedy``.
    """
    rules = [
        {
            "variable": f"certificates_{key}",
            "value": "empty" if value in ("", None, []) else value,
            "why": why,
            "remedy": f"{remedy} (site {site['name']})",
        }
        for site in sites
        for key, value, why, remedy in _broken_site(site)
    ]
    if any(site["source"] == "acme" for site in sites):
        rules += [
            {"variable": variable, "value": value or "empty", "why": why, "remedy": remedy}
            for variable, value, why, remedy in _broken_acme(settings)
        ]
    if any(site["source"] == "ca" for site in sites) and int(settings["certificates_ca_days"]) < 1:
        rules.append(
            {
                "variable": "certificates_ca_days",
                "value": settings["certificates_ca_days"],
                "why": "the CA would be expired when it is made.",
                "remedy": "Choose a greater number, such as 3650.",
            }
        )
    return rules


def _broken_acme(settings: Mapping[str, Any]) -> Iterator[Broken]:
    url = settings["certificates_acme_directory"]
    if not re.fullmatch(r"https://[^\s/]+/\S*", url):
        yield (
            "certificates_acme_directory",
            url,
            "it is no address of an ACME service, which always begins with https.",
            "Write the directory URL that the service names.",
        )
    trusted = settings["certificates_acme_ca_file"]
    if trusted and not _read(trusted):
        yield (
            "certificates_acme_ca_file",
            trusted,
            "there is no such file on the control node.",
            "Name the service's root certificate, or leave it empty.",
        )


def _broken_site(site: Mapping[str, Any]) -> Iterator[Broken]:
    source, names = site["source"], site["names"]
    if not names:
        yield "names", names, "a certificate is for names.", "Write what stands in the browser."
    for name in names:
        if source == "acme" and ("*" in name or _is_address(name) or "." not in name):
            yield (
                "names",
                name,
                "no ACME service proves such a name by a request for a page.",
                "Use a full host name, or another certificates_source.",
            )
        elif not HOST_NAME.fullmatch(name) and not _is_address(name):
            yield (
                "names",
                name,
                "it is neither a host name nor an IP address.",
                "Write it without scheme, port and path.",
            )
    if source == "ca":
        if not 1 <= site["days"] <= MOST_DAYS:
            yield (
                "days",
                site["days"],
                f"browsers take certificates of 1 to {MOST_DAYS} days.",
                "Choose a number in between, such as 90.",
            )
        if not 0 <= site["renew_days"] < site["days"]:
            yield (
                "renew_days",
                site["renew_days"],
                f"each run would renew a certificate that is valid for {site['days']} days.",
                "Choose a smaller number, such as a third of certificates_days.",
            )
    if source == "files":
        yield from _broken_files(site)


def _read(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError:
        return b""


def _broken_files(site: Mapping[str, Any]) -> Iterator[Broken]:
    """Look into the files: whether they are there, belong together, and are for these names and this day."""
    content = {}
    for key in ("certificate", "key"):
        content[key] = _read(site[key]) if site[key] else b""
        if not content[key]:
            yield (
                key,
                site[key],
                "certificates_source is files, and there is no such file on the control node.",
                "Name a file in PEM.",
            )
    if not all(content.values()):
        return
    try:
        certificate = x509.load_pem_x509_certificates(content["certificate"])[0]
    except ValueError:
        yield (
            "certificate",
            site["certificate"],
            "it holds no certificate in PEM.",
            "Give the certificate followed by its chain, each between BEGIN and END CERTIFICATE.",
        )
        return
    until = certificate.not_valid_after_utc
    if until < datetime.datetime.now(datetime.UTC):
        yield (
            "certificate",
            site["certificate"],
            f"it expired on {until:%Y-%m-%d}.",
            "Give a newer one.",
        )
    yield from _uncovered(site, certificate)
    if content["key"].startswith(VAULT):
        return  # readable only where it is decrypted
    try:
        private = load_pem_private_key(content["key"], password=None)
    except (ValueError, TypeError):
        yield (
            "key",
            site["key"],
            "it holds no key in PEM that can be read without a passphrase.",
            "Take the passphrase off, and encrypt the file with ansible-vault instead.",
        )
        return
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        yield (
            "key",
            site["key"],
            f"it is not the key of {site['certificate']}.",
            "Give the two that belong together.",
        )


def _uncovered(site: Mapping[str, Any], certificate: Any) -> Iterator[Broken]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        covered = {name.lower() for name in extension.value.get_values_for_type(x509.DNSName)}
        covered |= {str(ip) for ip in extension.value.get_values_for_type(x509.IPAddress)}
    except x509.ExtensionNotFound:
        covered = set()
    for name in site["names"]:
        wildcard = "*." + name.lower().partition(".")[2]
        if name.lower() not in covered and (_is_address(name) or wildcard not in covered):
            yield (
                "names",
                name,
                f"the certificate is for {', '.join(sorted(covered)) or 'no name'}.",
                "Give a certificate that is for this name too, or take the name out.",
            )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def certificates_alt_names(names: Sequence[str]) -> list[str]:
    """Return names and addresses as OpenSSL writes them in subjectAltName."""
    return [f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in names]


PEER_DAYS = 397  # the most that certificates_rules takes


def certificates_peer_sites(
    peers: Sequence[Mapping[str, Any]], defaults: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the services between machines as complete sites with a certificate of the own CA.

    Each has ``group``, who may read its key, ``usages`` (RFC 5280, 4.2.1.12: it begins connections and takes them) and
    ``format``, since Java reads keys in PKCS #8 alone.
    """
    return [
        {
            **defaults,
            "name": f"peers/{peer['name']}",
            "source": "ca",
            "names": peer["names"],
            "group": peer["group"],
            # a run renews it, and no browser looks at it
            "days": max(PEER_DAYS, int(defaults["days"])),
            "usages": ["serverAuth", "clientAuth"],
            "format": "pkcs8",
        }
        for peer in peers
    ]


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "certificates_peer_sites": certificates_peer_sites,
            "certificates_alt_names": certificates_alt_names,
            "certificates_rules": certificates_rules,
        }
