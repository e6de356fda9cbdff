"""The converged host that the tests of refusals share.

SWITCHBOARD_TEST_INVENTORY, or pytest's --ansible-inventory, names its inventory: that of the molecule
scenario `default` after `molecule converge`, or one like it. The host is a test host: nothing here is to
be run against a server that people use.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest
import testinfra

from tests.refusals.bench import ROOT, Bench

HELP = (
    "The tests of refusals need a converged test host. Set SWITCHBOARD_TEST_INVENTORY to its inventory, "
    "such as the one that `molecule converge` leaves; `make test STEPS=default` does it all."
)


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest) -> Bench:
    """Return the first web host of the inventory."""
    option = request.config.getoption("ansible_inventory", None)
    inventory = os.environ.get("SWITCHBOARD_TEST_INVENTORY") or option
    if not inventory:
        pytest.fail(HELP, pytrace=False)
    done = subprocess.run(
        ["ansible-inventory", "-i", inventory, "--list"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    listing = json.loads(done.stdout) if done.returncode == 0 else {}
    names = listing.get("web", {}).get("hosts", [])
    if not names:
        pytest.fail(
            f"{inventory} has no host in the group web. {HELP}\n{done.stderr}", pytrace=False
        )
    host = testinfra.get_host(f"ansible://{names[0]}", ansible_inventory=inventory)
    return Bench(inventory, names[0], listing, host)


@pytest.fixture
def unchanged(bench: Bench) -> Iterator[None]:
    """Assert that the test changes nothing on the host: no process, no file, no link, no package."""
    before = bench.state()
    assert len(before) > 100, "the host is not converged"
    yield
    after = bench.state()
    assert sorted(before - after) == []
    assert sorted(after - before) == []
