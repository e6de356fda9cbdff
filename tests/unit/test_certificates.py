"""What the certificates role refuses: names, days, and files that do not belong together."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.test_site_settings import plugin

certificates = plugin("filter/certificates.py")

SETTINGS = {
    "certificates_acme_directory": "https://acme.example.org/directory",
    "certificates_acme_ca_file": "",
    "certificates_ca_days": 3650,
}


def site(**changes: Any) -> dict[str, Any]:
    return {
        "name": "lab",
        "source": "ca",
        "names": ["lab.example.org"],
        "certificate": "",
        "key": "",
        "days": 90,
        "renew_days": 30,
        **changes,
    }


def told(settings: dict[str, Any] | None = None, **changes: Any) -> list[str]:
    rules = certificates.certificates_rules([site(**changes)], {**SETTINGS, **(settings or {})})
    return [
        f"{rule['variable']} is {rule['value']}: {rule['why']} {rule['remedy']}" for rule in rules
    ]


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def written(
    folder: Path,
    key: ec.EllipticCurvePrivateKey,
    names: tuple[str, ...] = ("lab.example.org",),
    days: int = 30,
) -> dict[str, Any]:
    """Write a certificate and its key; return the settings that name them."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "lab")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=60))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
    )
    made = builder.sign(key, hashes.SHA256())
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return {
        "source": "files",
        "certificate": str(folder / "cert.pem"),
        "key": str(folder / "key.pem"),
    }


def test_good_ones_break_no_rule(tmp_path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    assert told() == []
    assert told(names=["192.0.2.7", "*.lab.example.org", "intern"]) == []
    assert told(source="acme") == []
    assert told(**written(tmp_path, key)) == []
    assert told(**written(tmp_path, key, ("*.example.org",))) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"names": []}, "certificates_names is empty: a certificate is for names."),
        ({"names": ["lab/x"]}, "certificates_names is lab/x: it is neither a host name"),
        ({"days": 398}, "certificates_days is 398: browsers take certificates of 1 to 397 days."),
        ({"renew_days": 90}, "certificates_renew_days is 90: each run would renew a certificate"),
        ({"source": "acme", "names": ["192.0.2.7"]}, "certificates_names is 192.0.2.7: no ACME"),
        ({"source": "acme", "names": ["intern"]}, "certificates_names is intern: no ACME"),
        ({"source": "acme", "names": ["*.lab.org"]}, "certificates_names is *.lab.org: no ACME"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], text: str) -> None:
    (found,) = told(**changes)
    assert found.startswith(text)
    assert found.endswith("(site lab)")


def test_an_acme_service_is_asked_over_https_alone() -> None:
    (found,) = told({"certificates_acme_directory": "http://acme.example.org/"}, source="acme")
    assert found.startswith("certificates_acme_directory is http://acme.example.org/: ")
    (found,) = told({"certificates_acme_ca_file": "/no/such/file"}, source="acme")
    assert found.startswith("certificates_acme_ca_file is /no/such/file: there is no such file")


def test_given_files_must_be_there_and_belong_together(
    tmp_path: Path, key: ec.EllipticCurvePrivateKey
) -> None:
    assert len(told(source="files", certificate="/no/such/file")) == 2
    given = written(tmp_path, key)
    (found,) = told(**{**given, "names": ["other.example.org"]})
    assert "other.example.org: the certificate is for lab.example.org." in found
    (found,) = told(**written(tmp_path, key, days=-1))
    assert " it expired on " in found

    other = tmp_path / "other"
    other.mkdir()
    stranger = written(other, ec.generate_private_key(ec.SECP256R1()))
    (found,) = told(**{**written(tmp_path, key), "key": stranger["key"]})
    assert f"it is not the key of {given['certificate']}." in found
    (found,) = told(**{**given, "certificate": given["key"]})
    assert "it holds no certificate in PEM." in found
    (found,) = told(**{**given, "key": given["certificate"]})
    assert "it holds no key in PEM" in found


def test_a_key_that_a_vault_holds_is_not_read(
    tmp_path: Path, key: ec.EllipticCurvePrivateKey
) -> None:
    given = written(tmp_path, key)
    (tmp_path / "key.pem").write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    assert told(**given) == []


def test_addresses_are_named_as_such() -> None:
    assert certificates.certificates_alt_names(["lab.org", "::1"]) == ["DNS:lab.org", "IP:::1"]
