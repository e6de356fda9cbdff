"""Writes the record of `make verify` as JSON and as one page of HTML that needs nothing else."""

from __future__ import annotations

import datetime
import ipaddress
import json
import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from tests.behaviour.summary import Seen, order
from tests.report.drawing import drawings

WORDS = {"good": "good", "bad": "fell short", "absent": "not here", "unseen": "not seen"}
NAMES = {
    "apache2": "Apache",
    "kafka": "Kafka",
    "zookeeper": "ZooKeeper",
    "libapache2-mod-wsgi-py3": "mod_wsgi",
    "libapache2-mod-qos": "mod_qos",
    "libapache2-mod-security2": "mod_security",
    "python3": "Python",
    "python": "Python",
    "openssl": "OpenSSL",
    "openssh-server": "OpenSSH",
    "postgresql": "PostgreSQL",
    "valkey-server": "Valkey",
    "redis-server": "Redis",
    "django": "Django",
    "daphne": "Daphne",
    "channels": "Channels",
    "confluent_kafka": "confluent-kafka",
    "twisted": "Twisted",
    "wagtail": "Wagtail",
}


def known(name: str) -> str:
    """Return the name of a package as people write it."""
    java = re.match(r"openjdk-(\d+)-", name)
    return f"Java {java[1]} (OpenJDK)" if java else NAMES.get(name, name)


def moment(text: str) -> str:
    """Return an ISO 8601 time for people, in the zone that it names."""
    when = datetime.datetime.fromisoformat(text)
    return f"{when.day} {when:%B %Y, %H:%M}"


def duration(seconds: float) -> str:
    """Return a length of time in its largest fitting unit."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size or (unit == "day" and seconds >= size):
            count = int(seconds // size)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds:.0f} s"


def size(megabytes: float) -> str:
    """Return a size of memory or disk."""
    return f"{megabytes / 1024:.1f} GB" if megabytes >= 1024 else f"{megabytes:.0f} MB"


def marked(text: str) -> Markup:
    """Return a text in which what stands between backticks is code."""
    pieces = text.split("`")
    return Markup().join(
        Markup("<code>{}</code>").format(piece) if number % 2 else Markup("{}").format(piece)
        for number, piece in enumerate(pieces)
    )


def version(name: str, text: str) -> str:
    """Return what people call a version: of Debian's without the epoch, of Kafka's folder the number alone."""
    if name == "kafka":
        return next(iter(re.findall(r"-(\d+\.\d+\.\d+)", text)), text)
    return text.partition(":")[2] if re.match(r"\d+:", text) else text


def reach(row: dict[str, Any]) -> str:
    """Return who can reach a listener."""
    if row["address"] in ("*", "0.0.0.0", "::"):
        return "the network"
    try:
        inside = ipaddress.ip_address(row["address"]).is_loopback
    except ValueError:
        inside = False
    return "this host alone" if inside else "the network"


def listeners(host: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the table of listeners, one a port and program."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in host["listeners"]:
        units = ", ".join(row["units"]) or ", ".join(row["programs"])
        key = (row["port"], row["protocol"], units, reach(row))
        found = rows.setdefault(key, {**row, "who": units, "reach": reach(row), "addresses": []})
        found["addresses"].append(row["address"])
    return [
        rows[key]
        for key in sorted(rows, key=lambda key: (key[3] != "the network", key[0], str(key)))
    ]


def subjects(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the checks by subject, those that fell short first."""
    groups: dict[str, dict[str, Any]] = {}
    for check in record["checks"]:
        group = groups.setdefault(
            check["module"],
            {"title": check["subject"], "checks": [], "counts": dict.fromkeys(WORDS, 0)},
        )
        group["checks"].append(check)
        group["counts"][check["result"]] += 1
    ranks = ["bad", "unseen", "good", "absent"]
    for group in groups.values():
        group["checks"].sort(key=lambda check: ranks.index(check["result"]))
    return [
        groups[module]
        for module in sorted(
            groups, key=lambda module: (not groups[module]["counts"].get("bad"), order(module))
        )
    ]


def short(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the checks that fell short, in the order in which to look at them, each with its first line."""
    bad = [check for check in record["checks"] if check["result"] == "bad"]
    return [
        {
            **check,
            "brief": Seen(
                check["module"], check["says"], check["host"], "bad", check["said"]
            ).brief,
        }
        for check in sorted(bad, key=lambda check: order(check["module"]))
    ]


def html(record: dict[str, Any]) -> str:
    """Return the page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "moment": moment,
        "duration": duration,
        "size": size,
        "marked": marked,
        "known": known,
    }
    return environment.get_template("page.html.j2").render(
        record=record,
        hosts=[
            (host, drawings(record["hosts"], host), listeners(host)) for host in record["hosts"]
        ],
        subjects=subjects(record),
        short=short(record),
        words=WORDS,
        version=version,
    )


def write(record: dict[str, Any], folder: Path) -> tuple[Path, Path]:
    """Write report.json and report.html into a folder, for their owner alone; return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "report.json": json.dumps(record, indent=2, ensure_ascii=False) + "\n",
        "report.html": html(record),
    }
    for name, text in texts.items():
        path = folder / name
        new = folder / f".{name}.new"
        new.touch(mode=0o600)
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    return folder / "report.json", folder / "report.html"
