"""What the tests of PostgreSQL do with their host."""

from __future__ import annotations

import shlex

from tests.refusals.bench import Run as Told
from tests.refusals.bench import run_playbook
from tools.bench import Host


def play(host: Host, name: str, *flags: str, **extra: object) -> Told:
    """Run a playbook for a site on PostgreSQL."""
    command = host.playbook(
        f"playbooks/{name}.yml",
        {"database": "postgresql"},
        postgresql_shared_buffers_mb=128,
        **extra,
    )
    return run_playbook([*command, *flags], 600)


def root(host: Host, command: str) -> str:
    return host.shell(f"sudo sh -c {shlex.quote(command)}").strip()
