"""A site that was taken out of `sites` is removed by a playbook of its own; its data stay until told.

The last tests that a host sees: one of its sites is gone afterwards, and the others are as they were.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.refusals.bench import ROOT, Bench, Run

REMOVE = ROOT / "playbooks" / "remove.yml"
SITE = "lecture-chat"
# What of a site there can be on a host.
PLACES = (
    f"/srv/{SITE}/* /etc/switchboard/{SITE} /etc/apache2/sites-*/{SITE}.conf /usr/local/sbin/{SITE}-manage "
    f"/etc/systemd/system/daphne-{SITE}* /etc/systemd/system/*/daphne-{SITE}* /var/log/apache2/{SITE} "
    f"/etc/systemd/system/valkey-{SITE}* /etc/systemd/system/*/valkey-{SITE}* /run/valkey-{SITE} /var/lib/valkey-{SITE}"
)


def left(bench: Bench) -> set[str]:
    return set(bench.host.run(f"ls -d {PLACES} 2>/dev/null").stdout.split())


def remove(bench: Bench, *flags: str, **extra: object) -> Run:
    sites = {name: entry for name, entry in bench.entries.items() if name != SITE}
    return bench.play(
        REMOVE, {"sites": sites, "site": SITE, "remove_confirmed": True, **extra}, *flags
    )


def serves(bench: Bench) -> bool:
    """Say whether the page is the project's."""
    return bench.page(SITE) == "chat"  # check_output takes the line's end away


def units(bench: Bench) -> str:
    return bench.host.check_output(
        f"systemctl list-units --all --plain --no-legend '*-{SITE}*' | grep -v slice || true"
    )


@pytest.fixture(autouse=True)
def the_others(bench: Bench) -> Iterator[None]:
    """The other sites serve and run as before each test."""

    def seen() -> tuple[list[int], str]:
        names = sorted(set(bench.entries) - {SITE})
        shown = "systemctl show --property=Id,MainPID 'daphne-*' 'django-*' 'kafka*' 'postgresql@*'"
        ids = bench.host.check_output(shown).split("\n\n")
        return [bench.status(name) for name in names], "".join(
            sorted(text for text in ids if f"-{SITE}" not in text)
        )

    before = seen()
    yield
    assert seen() == before


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (
            {"sites": {SITE: {}}},
            f"site is {SITE}: `sites` has it, so the next run would bring it back.",
        ),
        ({"site": "../etc"}, "site is ../etc: that is no name of a site."),
        ({"site": "nowhere"}, "site is nowhere: there is no /srv/nowhere on "),
        ({"remove_confirmed": False}, "Nothing was removed."),
    ],
)
def test_what_must_not_be_removed_is_refused(
    bench: Bench, extra: dict[str, object], said: str
) -> None:
    before = left(bench)
    run = remove(bench, **extra)
    assert run.code != 0
    run.says(said)
    assert left(bench) == before
    assert serves(bench)


@pytest.mark.soak
def test_a_dry_run_removes_nothing(bench: Bench) -> None:
    before = left(bench)
    run = remove(bench, "--check", "--diff", remove_confirmed=False)
    assert run.code == 0, run.output[-4000:]
    assert left(bench) == before
    assert serves(bench)


def test_its_code_and_units_go_and_its_data_stay(bench: Bench) -> None:
    run = remove(bench)
    assert run.code == 0, run.output[-4000:]
    assert left(bench) == {
        f"/srv/{SITE}/data",
        f"/etc/switchboard/{SITE}",
        f"/var/lib/valkey-{SITE}",
        f"/var/log/apache2/{SITE}",
    }
    assert not serves(bench)
    assert units(bench) == ""
    again = remove(bench)
    assert re.search(r"changed=0 .*failed=0", again.output), again.output[-4000:]


def test_all_of_it_goes_when_told_also_after_a_run_that_failed(bench: Bench) -> None:
    place = f"/var/log/apache2/{SITE}"
    bench.host.check_output(f"mount -t tmpfs none {place}")
    run = remove(bench, remove_data=True)
    bench.host.check_output(f"umount {place}")
    assert run.code != 0
    run.says(place)
    run = remove(bench, remove_data=True)
    assert run.code == 0, run.output[-4000:]
    assert left(bench) == set()
    assert bench.host.run("getent passwd %s", SITE).rc == 2
    assert not bench.host.file(f"/srv/{SITE}").exists
    remove(bench, remove_data=True).says(f"site is {SITE}: there is no /srv/{SITE} on ")
