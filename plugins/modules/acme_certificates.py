#!/usr/bin/python
"""Ask an ACME service for the sites' certificates by certbot, where what is kept is not what is wanted."""

from __future__ import annotations

import filecmp
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: acme_certificates
short_description: Ask an ACME service for certificates by certbot, and put them in place
description:
  - A certificate is asked for where there is none, where its names are others, and where certbot would renew it
    otherwise than wanted, by another service for example (C(/etc/letsencrypt/renewal/<site>.conf)). Where the address
    that the service writes to is another, the account learns of it.
  - A certificate that certbot has and its hook did not put in place, since it failed, is put there by the hook.
  - certbot forgets a certificate with this hook whose site has another one now, or none on this host. A renewal would
    put it in the place of that one, or fail twice a day.
options:
  sites:
    description: The sites, each with its names.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: The name of the site and of the certificate., type: str, required: true}
      names: {description: What the certificate is for., type: list, elements: str, required: true}
  others:
    description: The names of the host's other sites. Where a host has no site at all, all are others.
    type: list
    elements: str
    default: []
  directory: {description: The directory URL of the service., type: str, required: true}
  email: {description: 'Where the service writes to, or an empty text.', type: str, default: ''}
  webroot: {description: The folder of the answers to challenges., type: path, required: true}
  listen: {description: 'Where certbot answers them itself, address:port.', type: str, default: ''}
  hook: {description: The program that puts a new certificate in place., type: path, required: true}
  folder: {description: 'Where it puts them, in a folder by the name of each site.', type: path, required: true}
  config: {description: The folder of certbot's configuration., type: path, default: /etc/letsencrypt}
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Ask the ACME service
  acme_certificates:
    sites: [{name: lab, names: [lab.example.org]}]
    directory: https://acme-v02.api.letsencrypt.org/directory
    webroot: /var/lib/switchboard/acme
    hook: /usr/local/lib/switchboard/deploy-certificate
    folder: /etc/switchboard/certificates
"""

RETURN = r"""
reasons: {description: 'What was done, and why.', type: list, elements: str, returned: success}
"""

CONTACTS = "switchboard-contacts.json"  # by the service; certbot itself keeps none
FILES = ("privkey.pem", "fullchain.pem")


class Failed(Exception):
    """certbot or the hook failed; the text says of what."""


def settings(path: Path) -> dict[str, str]:
    """Return what certbot's configuration of a renewal says, without its sections; empty where there is none."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    pairs = [line.split("=", 1) for line in text.splitlines() if "=" in line and line[0] != "#"]
    return {key.strip(): value.strip().rstrip(",") for key, value in pairs}


class Certbot:
    """certbot on this host, and what it keeps."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module, self.params = module, module.params
        self.config = Path(self.params["config"])
        self.directory: str = self.params["directory"]
        address, _, port = self.params["listen"].rpartition(":")
        webroot = os.path.abspath(self.params["webroot"])  # as certbot keeps it
        self.answers = {"authenticator": "webroot", "webroot_path": webroot}
        self.flags = ["--webroot", "--webroot-path", webroot]
        if port:
            address = address.strip("[]")
            self.answers = {
                "authenticator": "standalone",
                "http01_address": address,
                "http01_port": port,
            }
            self.flags = ["--standalone", "--http-01-address", address, "--http-01-port", port]

    def run(
        self, words: list[str], variable: str, what: str, env: Mapping[str, str] | None = None
    ) -> str:
        """Run a command and return what it printed; raise Failed with that, a variable and what did not happen."""
        code, out, err = self.module.run_command(
            words, environ_update={"LC_ALL": "C", **(env or {})}
        )
        if code:
            raise Failed(
                f"{variable}: {what}. {words[0]} said: {' '.join((out + err).split())[-1500:]}"
            )
        return str(out)

    def names(self, site: str) -> list[str]:
        """Return the names that the certificate of a site is for; none where there is none that can be read."""
        path = str(self.config / "live" / site / "cert.pem")
        words = ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", path]
        code, out, _ = self.module.run_command(words, environ_update={"LC_ALL": "C"})
        return [] if code else sorted(re.findall(r"DNS:([^,\s]+)", out))

    def other(self, site: Mapping[str, Any]) -> dict[str, str]:
        """Return what certbot's renewals of a site go by and is not what is wanted, by its name there, as texts."""
        wanted = {"server": self.directory, "renew_hook": self.params["hook"], **self.answers}
        found = settings(self.config / "renewal" / f"{site['name']}.conf")
        names, known = sorted({name.lower() for name in site["names"]}), self.names(site["name"])
        if known != names or not found:
            wanted["names"] = " ".join(names)
            found["names"] = " ".join(known)
        return {
            key: f"{key} {found.get(key) or 'none'} -> {value}"
            for key, value in wanted.items()
            if found.get(key) != value and (known or key == "names")
        }

    def ask(self, site: Mapping[str, Any], other: Mapping[str, str]) -> None:
        """Ask for the certificate of a site (certbot(1)); the hook is kept with it, so renewals run it too."""
        words = [
            "certbot",
            "certonly",
            "--non-interactive",
            "--agree-tos",
            "--quiet",
            "--no-eff-email",
        ]
        words += ["--server", self.directory, "--cert-name", site["name"], *self.flags]
        words += ["--key-type", "ecdsa", "--force-renewal", "--renew-with-new-domains"]
        words += ["--deploy-hook", self.params["hook"]]
        words += (
            ["--break-my-certs"] if "server" in other else []
        )  # somebody chose a staging service
        words += [*self.contact(), *(word for name in site["names"] for word in ("--domain", name))]
        told = f"certificates_acme_directory is {self.directory}"
        self.run(words, told, f"it gave the site {site['name']} no certificate")
        if left := self.other(site):
            raise Failed(
                f"{told}: certbot left {', '.join(left.values())} of {site['name']} undone"
            )

    def contact(self) -> list[str]:
        """Return the words by which certbot is told where the service writes to."""
        email = self.params["email"]
        return ["--email", email] if email else ["--register-unsafely-without-email"]

    @property
    def contacts(self) -> dict[str, str]:
        """Return where each service was told to write to."""
        path = self.config / CONTACTS
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}

    def account(self) -> bool:
        """Say whether the service knows this host."""
        where = urlsplit(self.directory)
        return any(self.config.glob(f"accounts/{where.netloc}{where.path}/*/regr.json"))

    def tell(self, known: bool) -> None:
        """Let the service know where to write to, and note it."""
        if known:
            words = [
                "certbot",
                "update_account",
                "--non-interactive",
                "--agree-tos",
                "--no-eff-email",
            ]
            words += ["--server", self.directory, *self.contact()]
            told = f"certificates_acme_email is {self.params['email'] or 'empty'}"
            self.run(words, told, f"{self.directory} did not take it")
        text = json.dumps({**self.contacts, self.directory: self.params["email"]})
        (self.config / CONTACTS).write_text(f"{text}\n", encoding="utf-8")

    def apart(self, site: str) -> bool:
        """Say whether certbot has another certificate for a site than the one that is in place."""
        live, place = self.config / "live" / site, Path(self.params["folder"]) / site
        return live.is_dir() and any(
            not (place / name).is_file()
            or not filecmp.cmp(live / name, place / name, shallow=False)
            for name in FILES
        )

    def left(self) -> list[str]:
        """Return the sites that certbot renews certificates of, with this hook, and that have none of it any longer."""
        asked = [site["name"] for site in self.params["sites"]]
        others = self.params["others"]
        found = [
            path.stem
            for path in sorted(self.config.glob("renewal/*.conf"))
            if settings(path).get("renew_hook") == self.params["hook"]
        ]
        if not self.module.get_bin_path("certbot"):
            return []  # nothing is renewed
        return [name for name in found if name in others or not (asked or others)]

    def forget(self, site: str) -> None:
        """Let certbot renew the certificate of a site no longer."""
        words = ["certbot", "delete", "--non-interactive", "--cert-name", site]
        self.run(words, "certificates_source", f"certbot still has a certificate of {site}")

    def deploy(self, site: str) -> None:
        """Put the certificate of a site in place by the hook."""
        lineage = {"RENEWED_LINEAGE": str(self.config / "live" / site)}
        self.run(
            [self.params["hook"]],
            self.params["hook"],
            f"the certificate of {site} is not in place",
            lineage,
        )


def main() -> None:
    """Run the module."""
    text = {"type": "str", "required": True}
    path = {"type": "path", "required": True}
    names = {"type": "list", "elements": "str", "required": True}
    sites = {"type": "list", "elements": "dict", "options": {"name": text, "names": names}}
    module = AnsibleModule(
        argument_spec={
            "sites": {**sites, "required": True},
            "others": {"type": "list", "elements": "str", "default": []},
            "directory": text,
            "email": {"type": "str", "default": ""},
            "webroot": path,
            "listen": {"type": "str", "default": ""},
            "hook": path,
            "folder": path,
            "config": {"type": "path", "default": "/etc/letsencrypt"},
        },
        supports_check_mode=True,
    )
    certbot, reasons, failed = Certbot(module), list[str](), list[str]()
    known, email = certbot.account(), module.params["email"]

    def act(reason: str, action: Any, *given: Any) -> None:
        reasons.append(reason)
        if not module.check_mode:
            try:
                action(*given)
            except Failed as error:
                failed.append(str(error))

    for site in module.params["sites"]:
        if other := certbot.other(site):
            act(f"{site['name']}: {', '.join(other.values())}", certbot.ask, site, other)
        if certbot.apart(site["name"]):
            act(
                f"{site['name']}: its new certificate was not in place",
                certbot.deploy,
                site["name"],
            )
    for name in certbot.left():
        act(f"{name}: it has another certificate, or none here", certbot.forget, name)
    if module.params["sites"] and certbot.contacts.get(certbot.directory, "") != email:
        act(f"{certbot.directory} writes to {email or 'nobody'}", certbot.tell, known)
    if failed:
        module.fail_json(msg="\n".join(failed), reasons=reasons)
    shown = {"prepared": "".join(f"{reason}\n" for reason in reasons)}
    module.exit_json(changed=bool(reasons), reasons=reasons, diff=shown)


if __name__ == "__main__":
    main()
