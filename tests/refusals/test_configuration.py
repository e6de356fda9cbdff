"""A configuration that Apache refuses leaves the old one in place."""

from __future__ import annotations

import pytest

from tests.refusals.bench import Bench

pytestmark = pytest.mark.usefixtures("unchanged")


def test_apache_keeps_what_it_has(bench: Bench) -> None:
    assert bench.status("plain") == 200
    run = bench.role("apache", apache_sites=bench.sites("apache", "plain", wsgi_user="nobody-here"))
    assert run.code == 2
    run.says(
        "Apache refuses the new configuration, so no file was changed: ",
        "bad user name nobody-here",
        "apache_wsgi_user",
    )
    assert bench.status("plain") == 200


def test_apache_keeps_its_limits_too(bench: Bench) -> None:
    folder = "/etc/apache2/conf-enabled"
    bench.host.check_output(f"echo NoSuchDirective on >{folder}/zz-refusals.conf")
    try:
        run = bench.role("apache", apache_max_http_workers=65)
    finally:
        bench.host.check_output(f"rm {folder}/zz-refusals.conf")
    assert run.code == 2
    run.says("Apache refuses the new configuration, so no file was changed: ", "NoSuchDirective")
    assert bench.status("plain") == 200
