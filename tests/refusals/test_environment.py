"""systemd reads an environment file as the project's own reader does."""

from __future__ import annotations

from tests.refusals.bench import Bench
from tests.unit.test_site_environment import NASTY, environment_file


def test_systemd_reads_each_value_as_it_was_written(bench: Bench) -> None:
    values = {f"NASTY_{number}": value for number, value in enumerate(NASTY)}
    path = "/run/switchboard-refusals.env"
    bench.host.check_output("printf '%%s' %s >%s", environment_file(values), path)
    try:
        said = bench.host.run(
            "systemd-run --quiet --collect --pipe --property=EnvironmentFile=%s env --null", path
        ).stdout_bytes
    finally:
        bench.host.check_output("rm %s", path)
    pairs = (part.partition("=") for part in said.decode().split("\0"))
    found = {name: value for name, _, value in pairs if name in values}
    assert found == values
