"""What `make verify` has seen, as data: one record from which the page is drawn. docs/verify.md describes it."""

from __future__ import annotations

import base64
import datetime
import json
import re
import shlex
import subprocess
import urllib.parse
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cryptography import x509

from plugins.module_utils.wsgi_group import title as wsgi_title
from tests.behaviour.summary import Seen, order, remedies, title

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = 1
GOOD, SHORT, UNSEEN = 0, 1, 2  # exit codes
STATUS = {GOOD: "good", SHORT: "short", UNSEEN: "unseen"}
LONGEST = 8000  # characters of what a failing check said
SHORTEST = 6  # characters of a secret: what is shorter stands in too many words to be taken out
HIDDEN = "[secret]"
# Keys whose texts are of this program or of systemd; a password may be one of these words.
OWN = {
    *("result", "status", "module", "subject", "id", "page", "tls", "active", "state", "protocol"),
    *("address", "started", "since", "until"),
}
LEAST_DAYS = 10  # that a certificate must have left, as in test_tls.py
RESULT_LINE = re.compile(r"^(ok|changed|skipping|failed|fatal|included|rescued): \[([^\]\s]+)")


class UnreachedError(Exception):
    """A host gave no answer; the message is what was heard instead."""


def command(asked: list[dict[str, Any]]) -> str:
    """Return the shell command that looks at a host, look.py packed into it."""
    program = zlib.compress((Path(__file__).parent / "look.py").read_bytes(), 9)
    unpack = "import base64,sys,zlib;exec(compile(zlib.decompress(base64.b64decode('{}')),'look','exec'))"
    code = unpack.format(base64.b64encode(program).decode())
    return f"/usr/bin/python3 -c {shlex.quote(code)} {shlex.quote(json.dumps(asked))}"


def questions(description: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what look.py asks of each site that the inventory gives to a host."""
    apache = description.get("apache") or {}
    asked = []
    for site in apache.get("sites", []):
        one = {"name": site["name"], "server_name": site["server_name"]}
        if site["tls"]:
            one["https_port"] = apache["https_port"]
        asked.append(one)
    known = {one["name"] for one in asked}
    django = (description.get("django") or {}).get("sites", [])
    return asked + [{"name": site["name"]} for site in django if site["name"] not in known]


def answers(code: int, out: str, said: str) -> dict[str, Any]:
    """Return what look.py printed.

    Raises:
        UnreachedError: it printed nothing of its kind.
    """
    line = next((line for line in reversed(out.splitlines()) if line.startswith("{")), "")
    try:
        return dict(json.loads(line))
    except ValueError:
        heard = [text.strip() for text in (said + out).splitlines() if text.strip()]
        raise UnreachedError(heard[-1] if heard else f"no answer ({code})") from None


class Hider:
    """Takes secrets out of texts, however they are quoted."""

    def __init__(self) -> None:
        self.forms: set[str] = set()

    def __repr__(self) -> str:
        return f"<{len(self.forms)} forms>"

    def learn(self, values: Iterable[str]) -> None:
        """Know these values from now on."""
        for value in values:
            if len(value) >= SHORTEST:
                quoted = json.dumps(value)[1:-1]
                forms = {value, quoted, repr(value)[1:-1], urllib.parse.quote(value, safe="")}
                self.forms |= forms | {
                    json.dumps(value, ensure_ascii=False)[1:-1],
                    shlex.quote(value),
                }

    def hide(self, value: Any, key: str = "") -> Any:
        """Return a copy of texts, lists and mappings without them; the record's own words stay."""
        if isinstance(value, str):
            for form in sorted(self.forms, key=len, reverse=True) if key not in OWN else ():
                value = value.replace(form, HIDDEN)
            return value
        if isinstance(value, Mapping):
            return {name: self.hide(item, name) for name, item in value.items()}
        return (
            [self.hide(item, key) for item in value] if isinstance(value, (list, tuple)) else value
        )


def certificate(shown: str, now: datetime.datetime) -> dict[str, Any]:
    """Return what a certificate says, given as DER in base64."""
    found = x509.load_der_x509_certificate(base64.b64decode(shown))
    issuer = found.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    end = found.not_valid_after_utc
    return {
        "days_left": (end - now).days,
        "until": end.isoformat(timespec="seconds"),
        "issuer": str(issuer[0].value) if issuer else found.issuer.rfc4514_string(),
        "least_days": LEAST_DAYS,
    }


def drift(output: str, host: str) -> list[dict[str, Any]]:
    """Return what a run with --check --diff (Ansible's default output) would change on a host.

    Returns:
        For each task and handler its name, the files that it names, and its difference.
    """
    found = []
    for text in re.split(r"^(?=(?:TASK|RUNNING HANDLER) \[)", output, flags=re.M):
        head, _, rest = text.partition("\n")
        name = re.match(r"(TASK|RUNNING HANDLER) \[(.*)\]", head)
        if not name:
            continue
        waiting: list[str] = []
        for line in rest.splitlines():
            result = RESULT_LINE.match(line)
            if result and result[1] == "changed" and result[2] == host:
                difference = "\n".join(waiting).strip()
                headers = re.findall(r"^(?:--- before|\+\+\+ after)(?:: (.+))?$", difference, re.M)
                files = list(dict.fromkeys(path.strip() for path in headers if path))
                found.append(
                    {
                        "task": name[2],
                        "handler": name[1] != "TASK",
                        "files": files,
                        "difference": difference[:LONGEST],
                    }
                )
            waiting = [] if result else [*waiting, line]
    return found


def backed_up(told: Mapping[str, Any] | None, now: datetime.datetime) -> dict[str, Any] | None:
    """Return a site's last good backup, its time in the zone of who asks; None where the site is not backed up."""
    if told is None:
        return None
    at = str(told["at"]).replace("Z", "+00:00")
    local = datetime.datetime.fromisoformat(at).astimezone(now.tzinfo) if at else None
    return {
        "at": local.isoformat(timespec="seconds") if local else "",
        "bytes": told["bytes"],
        "good": bool(told["good"]),
    }


def site_record(
    description: Mapping[str, Any], looked: Mapping[str, Any], name: str, now: datetime.datetime
) -> dict[str, Any]:
    """Return what is known of one site on a host: addresses, processes, release, versions, certificate."""

    def part(role: str) -> Mapping[str, Any]:
        sites = (description.get(role) or {}).get("sites", [])
        return next((site for site in sites if site["name"] == name), {})

    apache, daphne, django = part("apache"), part("daphne"), part("django")
    deployed: Mapping[str, Any] = next(
        (site for site in looked.get("sites", []) if site["name"] == name), {}
    )
    ports = description.get("apache") or {}
    urls = []
    for name_ in [apache["server_name"], *apache.get("server_aliases", [])] if apache else []:
        scheme, port = (
            ("https", ports["https_port"]) if apache["tls"] else ("http", ports["http_port"])
        )
        usual = port == {"http": 80, "https": 443}[scheme]
        urls.append(f"{scheme}://{name_}" + ("" if usual else f":{port}") + "/")
    shown = looked.get(f"certificate {name}")
    since = deployed.get("since")
    local = (
        datetime.datetime.fromtimestamp(since, now.tzinfo).isoformat(timespec="seconds")
        if since
        else ""
    )
    live = bool(daphne.get("asgi_module"))
    source = next(
        (
            one["source"]
            for one in (description.get("certificates") or {}).get("sites", [])
            if one["name"] == name
        ),
        "none",
    )
    return {
        "name": name,
        "urls": urls,
        "tls": source if apache.get("tls") else "none",
        "wsgi": {
            "processes": apache.get("wsgi_processes", 0),
            "threads": apache.get("wsgi_threads", 0),
            "running": looked.get("workers", {}).get(wsgi_title(name), 0),
        },
        "daphne": {
            "instances": daphne["instances"],
            "address": daphne["address"],
            "port": daphne["port"],
        }
        if live
        else None,
        "websocket_paths": list(apache.get("websocket_paths", [])),
        "topics": list(django.get("kafka_topics", [])),
        "release": deployed.get("release", ""),
        "since": local,
        "releases_kept": deployed.get("kept", 0),
        "versions": dict(deployed.get("versions", {})),
        "certificate": certificate(shown, now) if shown else None,
        "backup": backed_up(deployed.get("backup"), now),
    }


def host_record(
    name: str,
    description: Mapping[str, Any],
    looked: Mapping[str, Any] | None,
    heard: str,
    predicted: str | None,
    now: datetime.datetime,
) -> dict[str, Any]:
    """Return what is known of a host.

    Args:
        name: as the inventory calls it.
        description: what the inventory says of it.
        looked: what look.py answered, None where the host was not reached.
        heard: what was heard instead of an answer.
        predicted: the output of a run that ended, with --check --diff; None without one.
        now: the time.
    """
    told = looked or {}
    apache = description.get("apache") or {}
    names = [one["name"] for one in questions(description)]
    return {
        "name": name,
        "address": description.get("address", ""),
        "groups": [group for group in description.get("groups", []) if group != "switchboard"],
        "reached": looked is not None,
        "heard": heard,
        "ports": {
            "http": apache.get("http_port"),
            "https": apache.get("https_port")
            if any(site["tls"] for site in apache.get("sites", []))
            else None,
            "kafka": (description.get("kafka") or {}).get("port"),
            "zookeeper": (description.get("zookeeper") or {}).get("client_port"),
        },
        "sites": [site_record(description, told, site, now) for site in names],
        **{key: told.get(key, {}) for key in ("system", "room", "packages", "connections")},
        **{key: told.get(key, []) for key in ("listeners", "units", "unanswered")},
        "drift": None if predicted is None else drift(predicted, name),
    }


def bundle() -> dict[str, Any]:
    """Return which bundle looked: its version, and its commit where it is a git repository."""
    version = re.search(
        r"^version: *(\S+)", (ROOT / "galaxy.yml").read_text(encoding="utf-8"), re.M
    )
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--tags"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {"version": version[1] if version else "", "commit": done.stdout.strip()}


def whole(
    inventory: str,
    started: datetime.datetime,
    now: datetime.datetime,
    hosts: list[dict[str, Any]],
    checks: list[dict[str, Any]],
    trouble: str,
) -> dict[str, Any]:
    """Return the record, with how it ended and what to do."""
    checks = sorted(checks, key=lambda one: order(one["module"]))
    seen = [
        Seen(one["module"], one["says"], one["host"], one["result"], one["said"]) for one in checks
    ]
    counts = {
        result: sum(one.result == result for one in seen)
        for result in ("good", "bad", "absent", "unseen")
    }
    blind = (
        trouble
        or any(not host["reached"] for host in hosts)
        or not (counts["good"] + counts["bad"])
    )
    code = UNSEEN if blind else SHORT if counts["bad"] else GOOD
    todo = [
        {"subject": subject, "checks": number, "text": text, "page": page}
        for subject, number, text, page in remedies(seen, inventory)
    ]
    return {
        "schema": SCHEMA,
        "inventory": inventory,
        "status": STATUS[code],
        "exit": code,
        "trouble": trouble,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round((now - started).total_seconds(), 1),
        "bundle": bundle(),
        "counts": counts,
        "todo": todo,
        "hosts": hosts,
        "checks": [{"subject": title(one["module"]), **one} for one in checks],
    }
