"""When certbot is asked for a certificate, and what puts it in place: by a program that keeps what certbot keeps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.run_module import run_module

# As certbot writes them; a certificate names what it was asked for, and the hook runs whatever comes of it.
CERTBOT = """#!{python}
import json, os, pathlib, subprocess, sys
words, home = sys.argv[1:], pathlib.Path("{home}")
with (home / "asked").open("a") as file:
    file.write(json.dumps(words) + "\\n")
def of(flag):
    return [words[at + 1] for at, word in enumerate(words) if word == flag]
if words[0] == "delete":
    (home / "renewal" / (of("--cert-name")[0] + ".conf")).unlink()
if words[0] == "certonly":
    if "refused.example.org" in words:
        sys.exit("the service refuses it")
    (name,), (server,), (hook,) = of("--cert-name"), of("--server"), of("--deploy-hook")
    live = home / "live" / name
    live.mkdir(parents=True, exist_ok=True)
    alt = ",".join("DNS:" + domain.lower() for domain in of("--domain"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-keyout", live / "privkey.pem", "-out", live / "cert.pem", "-subj", "/CN=x", "-addext",
        "subjectAltName=" + alt], check=True, capture_output=True)
    (live / "fullchain.pem").write_bytes((live / "cert.pem").read_bytes())
    port = of("--http-01-port")
    answers = "authenticator = webroot\\nwebroot_path = /webroot,"
    if port:
        answers = f"authenticator = standalone\\nhttp01_address = 127.0.0.1\\nhttp01_port = {{port[0]}}"
    (home / "renewal").mkdir(exist_ok=True)
    (home / "renewal" / (name + ".conf")).write_text(
        f"# days = 30\\n[renewalparams]\\nserver = {{server}}\\nrenew_hook = {{hook}}\\n{{answers}}\\n")
    account = home / "accounts" / server.removeprefix("https://") / "1"
    account.mkdir(parents=True, exist_ok=True)
    (account / "regr.json").write_text("{{}}")
    subprocess.run([hook], env=os.environ | {{"RENEWED_LINEAGE": str(live)}}, check=False)
"""
HOOK = """#!/bin/sh
test ! -e {home}/broken || {{ echo the disk is full >&2; exit 1; }}
mkdir -p {home}/place/lab && cp "$RENEWED_LINEAGE"/privkey.pem "$RENEWED_LINEAGE"/fullchain.pem {home}/place/lab/
"""


class Host:
    """A host with such a certbot."""

    def __init__(self, home: Path) -> None:
        self.home = home
        for name, text in (("certbot", CERTBOT), ("hook", HOOK)):
            program = home / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(text.format(home=home, python=sys.executable), encoding="utf-8")
            program.chmod(0o755)

    def run(self, *, check: bool = False, names: str = "lab.example.org", **more: Any) -> Any:
        """Run the module for one site."""
        return run_module(
            "acme_certificates",
            {
                "sites": [{"name": "lab", "names": names.split()}],
                "directory": "https://acme.example.org/dir",
                "webroot": "/webroot",
                "hook": str(self.home / "bin" / "hook"),
                "folder": str(self.home / "place"),
                "config": str(self.home),
                **more,
            },
            check=check,
        )

    def asked(self) -> list[list[str]]:
        """Return what certbot was asked since the last time."""
        path = self.home / "asked"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return Host(tmp_path)


def test_a_certificate_is_asked_for_once_and_for_all_names(host: Host) -> None:
    names = "www.lab.example.org Lab.example.org"
    assert host.run(names=names, check=True)["changed"]
    assert host.asked() == []
    assert host.run(names=names)["changed"]
    (words,) = host.asked()
    assert words[-4:] == ["--domain", "www.lab.example.org", "--domain", "Lab.example.org"]
    assert "--register-unsafely-without-email" in words
    assert host.run(names=names.lower())["reasons"] == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"directory": "https://other.example.org/dir"}, "server https://acme.example.org/dir -> "),
        ({"names": "lab.example.org lab"}, "names lab.example.org -> lab lab.example.org"),
        ({"listen": "127.0.0.1:8402"}, "authenticator webroot -> standalone, http01_address none"),
        ({"webroot": "/other"}, "certbot left webroot_path /webroot -> /other of lab undone"),
    ],
)
def test_another_service_name_or_way_asks_anew(
    host: Host, change: dict[str, Any], reason: str
) -> None:
    """The last one is what this certbot does not do, so that the module must not go on asking in silence."""
    host.run()
    host.asked()
    assert host.run(**change, check=True)["changed"]
    told = host.run(**change)
    assert reason in (told["reasons"][0] if "msg" not in told else told["msg"])
    (words,) = host.asked()
    assert "--force-renewal" in words
    assert ("--break-my-certs" in words) == ("directory" in change)
    if "msg" not in told:
        assert host.run(**change)["reasons"] == []


def test_a_webroot_is_the_same_with_a_slash_at_its_end(host: Host) -> None:
    """certbot keeps it without, and would be asked anew in each run."""
    host.run(webroot="/webroot/")
    host.asked()
    assert host.run(webroot="/webroot/")["reasons"] == []
    assert host.asked() == []


def test_a_certificate_that_cannot_be_read_is_asked_for_anew(host: Host) -> None:
    host.run()
    host.asked()
    (host.home / "live" / "lab" / "cert.pem").write_text("")  # a full disk left it so
    assert host.run(check=True)["changed"]
    assert host.run()["changed"]
    assert len(host.asked()) == 1
    assert host.run()["reasons"] == []


def test_the_service_learns_of_another_address(host: Host) -> None:
    host.run(email="one@example.org")
    assert "--email" in host.asked()[0]
    assert host.run(email="one@example.org")["reasons"] == []
    told = host.run(email="two@example.org")
    assert told["reasons"] == ["https://acme.example.org/dir writes to two@example.org"]
    (words,) = host.asked()
    assert (words[0], words[-1]) == ("update_account", "two@example.org")
    assert host.run()["reasons"] == ["https://acme.example.org/dir writes to nobody"]


def test_what_the_hook_did_not_put_in_place_the_next_run_does(host: Host) -> None:
    (host.home / "broken").touch()
    told = host.run()
    assert told["failed"]
    assert "the certificate of lab is not in place" in told["msg"]
    assert "the disk is full" in told["msg"]
    host.asked()
    (host.home / "broken").unlink()
    assert host.run(check=True)["reasons"] == ["lab: its new certificate was not in place"]
    assert host.run()["reasons"] == ["lab: its new certificate was not in place"]
    assert host.asked() == []
    for name in ("privkey.pem", "fullchain.pem"):
        subprocess.run(
            ["cmp", host.home / "live/lab" / name, host.home / "place/lab" / name], check=True
        )
    assert host.run()["reasons"] == []


def test_a_refusal_names_the_service_and_the_site(host: Host) -> None:
    told = host.run(names="refused.example.org")
    assert told["failed"]
    assert (
        "certificates_acme_directory is https://acme.example.org/dir: it gave the site lab no"
        in told["msg"]
    )
    assert "the service refuses it" in told["msg"]


@pytest.mark.parametrize("others", [["lab"], []], ids=["another certificate", "no site"])
def test_a_certificate_that_no_site_has_from_acme_any_longer_is_forgotten(
    host: Host, others: list[str]
) -> None:
    """Its renewal would put it in the place of the one that was given meanwhile, or fail twice a day."""
    host.run()
    host.asked()
    own = host.home / "renewal" / "own.conf"
    own.write_text("[renewalparams]\nrenew_hook = systemctl reload nginx\n")  # somebody's own
    gone: dict[str, Any] = {"sites": [], "others": others, "email": "ops@example.org"}
    told = ["lab: it has another certificate, or none here"]
    assert host.run(**gone, check=True)["reasons"] == told
    assert host.run(**gone)["reasons"] == told
    assert host.asked() == [["delete", "--non-interactive", "--cert-name", "lab"]]
    assert own.exists()
    assert host.run(**gone)["reasons"] == []


def test_a_site_that_is_still_served_and_not_listed_any_more_keeps_its_certificate(
    host: Host,
) -> None:
    """Apache has it until playbooks/remove.yml."""
    host.run()
    host.asked()
    assert host.run(sites=[], others=["other"])["reasons"] == []
    assert host.asked() == []
