"""What the tests of PostgreSQL do with their host."""

from __future__ import annotations

import shlex
import subprocess

from tests.refusals.bench import Run as Told
from tools.bench import Host
from tools.common import ROOT, environment


def play(host: Host, name: str, *flags: str, **extra: object) -> Told:
    """Run a playbook for a site on PostgreSQL."""
    command = host.playbook(
        f"playbooks/{name}.yml",
        {"database": "postgresql"},
        postgresql_shared_buffers_mb=128,
        **extra,
    )
    done = subprocess.run(
        [*command, *flags],
        cwd=ROOT,
        env=environment() | {"NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    return Told(done.returncode, done.stdout + done.stderr)


def root(host: Host, command: str) -> str:
    return host.shell(f"sudo sh -c {shlex.quote(command)}").strip()
