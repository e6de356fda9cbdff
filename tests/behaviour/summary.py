"""The last lines of `make verify`: what was looked at, what fell short, and what to do."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import PurePosixPath

SUBJECTS = {
    "test_apache": "Apache's sizes, users and files",
    "test_browser": "people in browsers",
    "test_daphne": "Daphne's limits",
    "test_files": "owners, modes, secrets",
    "test_http2": "routing over HTTP/2",
    "test_limits": "headers, logs, maintenance",
    "test_media": "uploaded files",
    "test_messaging": "Kafka and ZooKeeper",
    "test_notifications": "notifications",
    "test_routing": "routing",
    "test_services": "services and listeners",
    "test_strangers": "what nobody asked for",
    "test_tls": "TLS",
    "test_zy_prediction": "the next run",
    "test_zz_reboot": "a reboot",
}
REMEDY = (
    "What to do: look at what is named above; `ansible-playbook -i INVENTORY site.yml` puts back what was changed. "
    "A failure that stays has its place in README.md, When it fails."
)
WIDEST = 150


def table(results: list[tuple[str, str, str]]) -> list[str]:
    """Return the lines for (node id, passed | failed | error | skipped, what it said) of each test."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    short: list[str] = []
    for node, outcome, said in results:
        counts[PurePosixPath(node.partition("::")[0]).stem][outcome] += 1
        if outcome in ("failed", "error"):
            first = next((line for line in said.splitlines() if line.strip()), "")
            name = node.partition("::")[2].partition("[")[0].removeprefix("test_").replace("_", " ")
            short.append(f"  {name}: {first.removeprefix('AssertionError: ')}"[:WIDEST])
    lines = [f"{'what was looked at':34} {'good':>5} {'bad':>5} {'not here':>9}"]
    for module in sorted(counts):
        count = counts[module]
        bad = count["failed"] + count["error"]
        subject = SUBJECTS.get(module, module)
        lines.append(f"{subject:34} {count['passed']:5} {bad:5} {count['skipped']:9}")
    if short:
        lines += ["", "What fell short:", *short, "", REMEDY]
    return lines
