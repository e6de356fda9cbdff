"""Snapshots of the sites: made when they are due, readable, and secret."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from testinfra.host import Host

from tests.behaviour.conftest import journal

PROGRAM = "/usr/local/sbin/switchboard-backup"
STATE = "/var/lib/switchboard/backup"
UNIT = "switchboard-backup.service"
SECRETS = ("backup.json", "backup.password", "backup.environment.json", "backup.ssh-key")


@pytest.fixture(scope="module")
def sites(deployed: dict[str, Any]) -> list[str]:
    """Return the names of the sites that are backed up."""
    if not deployed.get("backup"):
        pytest.skip("the inventory has no backup_repository")
    return deployed["backup"]["sites"]


def status(host: Host) -> dict[str, Any]:
    """Return what the runs have noted; without a run, no site."""
    file = host.file(f"{STATE}/status.json")
    return json.loads(file.content_string) if file.exists else {"sites": {}}


def seconds(host: Host, unit: str, name: str) -> float:
    """Return a time of a unit in seconds since the epoch, 0 for never."""
    told = host.check_output("systemctl show --property=%s --value %s", name, unit)
    return float(host.check_output("date -d %s +%%s", told)) if told not in ("", "n/a") else 0.0


def last_good(host: Host) -> dict[str, dict[str, str]]:
    """Map each site to its last good snapshot, of those that have one."""
    return {
        name: told["last_good"] for name, told in status(host)["sites"].items() if told["last_good"]
    }


@pytest.mark.disruptive
def test_a_run_makes_a_snapshot_of_each_site(host: Host, sites: list[str]) -> None:
    before = last_good(host)
    done = host.run("systemctl start %s", UNIT)
    assert done.rc == 0, journal(host, UNIT)
    told = status(host)
    assert told["good"]
    assert told["sites"].keys() == set(sites)
    for name, one in last_good(host).items():
        assert one["snapshot"] != before.get(name, {}).get("snapshot")
        assert told["sites"][name]["added"] > 0
    stage = json.loads(host.check_output("cat /etc/switchboard/backup.json"))["stage"]
    assert host.check_output("ls %s", stage) == "", "what was staged is still there"


@pytest.mark.disruptive
def test_a_snapshot_has_the_databases_the_environment_and_the_topics(
    host: Host, sites: list[str], deployed: dict[str, Any]
) -> None:
    of = {site["name"]: site for site in deployed["django"]["sites"]}
    dumped = {one["name"] for one in deployed["postgresql"].get("databases", [])}
    for name in sites:
        folder = f"/srv/{name}/.fetched-by-a-test"
        told = json.loads(host.check_output("%s fetch %s latest %s", PROGRAM, name, folder))
        try:
            data, live = told["data"], f"/srv/{name}/data"
            found = host.check_output("find %s -name '*.sqlite3' -printf '%%P\\n' | sort", data)
            assert found == host.check_output(
                "find %s -name '*.sqlite3' -printf '%%P\\n' | sort", live
            )
            assert bool(told["dump"]) == (name in dumped)
            if told["dump"]:
                listed = host.check_output("pg_restore --list %s", told["dump"])
                assert "TABLE DATA public django_migrations" in listed
            for path in found.splitlines():
                ask = "python3 -c %s %s"
                program = (
                    "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
                    "print(c.execute('PRAGMA integrity_check').fetchone()[0], "
                    "c.execute('SELECT count(*) FROM sqlite_master').fetchone()[0])"
                )
                whole = host.check_output(ask, program, f"{data}/{path}")
                assert whole == host.check_output(ask, program, f"{live}/{path}")
                assert whole.startswith("ok ")
            key = "/secret_key.env"
            assert (
                host.run("cmp %s %s", told["environment"] + key, f"/etc/switchboard/{name}{key}").rc
                == 0
            )
            assert told["release"] == host.check_output(
                "basename $(readlink /srv/%s/current)", name
            )
            assert (told["topics"] or {}).keys() == set(of[name]["kafka_topics"])
        finally:
            host.check_output("rm -rf %s", folder)


@pytest.mark.disruptive
def test_a_site_that_fails_keeps_no_other_from_its_snapshot(host: Host, sites: list[str]) -> None:
    if len(sites) < 2:
        pytest.skip("the host has one site")
    bad, before = sites[-1], last_good(host)
    path, uploaded = f"/srv/{bad}/data/closed.sqlite3", f"/srv/{sites[0]}/data/damaged.db"
    for one in (path, uploaded):
        host.check_output(
            f"umask 077; printf 'SQLite format 3\\000' > {one}; head -c 5000 /dev/urandom >> {one}"
        )
    host.check_output("chown %s: %s", sites[0], uploaded)
    try:
        assert host.run("systemctl start %s", UNIT).rc != 0
        told, found = status(host), last_good(host)
        assert not told["good"]
        assert [name for name, one in told["sites"].items() if not one["good"]] == [bad]
        assert f"{bad}: its SQLite databases can't be copied. [Errno 13] " in told["why"]
        assert path in told["why"]
        assert told["why"].splitlines()[0] in journal(host, UNIT)
        assert found[bad] == before[bad]
        for name in sites[:-1]:
            assert found[name]["snapshot"] != before[name]["snapshot"]
        (note,) = told["sites"][sites[0]]["notes"]
        assert note.startswith(f"{uploaded} is no sound database, ")
        assert note in journal(host, UNIT)
    finally:
        host.check_output("rm %s %s; systemctl reset-failed %s", path, uploaded, UNIT)
    assert host.run("systemctl start %s", UNIT).rc == 0, journal(host, UNIT)


def test_the_timers_are_set(host: Host, sites: list[str]) -> None:
    """The timers of backups and of checks run, and will start at the next boot."""
    for name in ("switchboard-backup.timer", "switchboard-backup-check.timer"):
        state = host.run("systemctl is-active %s; systemctl is-enabled %s", name, name)
        assert state.stdout.split() == ["active", "enabled"], f"{name}: {state.stdout}"
        assert seconds(host, name, "NextElapseUSecRealtime") > 0, f"{name} has no next time"


def test_each_site_has_a_snapshot_that_is_young_enough(host: Host, sites: list[str]) -> None:
    """Each site has a good snapshot since the timer last ran, and the last run went well."""
    told = status(host)
    assert told.get("good", True), told["why"]
    due = seconds(host, "switchboard-backup.timer", "LastTriggerUSec")
    known = float(host.check_output("stat -c %Y /etc/switchboard/backup.json"))
    if due <= known or host.run("systemctl is-active %s", UNIT).stdout.strip() == "activating":
        pytest.skip("the timer has not run since the sites were written down")
    found = last_good(host)
    old = [
        f"{name}: {found.get(name, {}).get('at', 'none')}"
        for name in sites
        if name not in found or datetime.fromisoformat(found[name]["at"]).timestamp() < due - 60
    ]
    since = datetime.fromtimestamp(due, UTC).isoformat()
    assert old == [], f"no snapshot since {since}:\n{journal(host, UNIT)}"


def test_the_last_check_of_the_repository_went_well(host: Host, sites: list[str]) -> None:
    """The last check of the repository found nothing wrong."""
    told = status(host).get("check")
    if not told:
        pytest.skip("the repository was not checked yet")
    assert told["good"], told["why"]


def test_a_file_of_the_last_snapshot_comes_back(host: Host, sites: list[str]) -> None:
    """The repository can be read, and a file of each site's last snapshot comes back byte for byte."""
    listed = host.run("%s list", PROGRAM)
    assert listed.rc == 0, listed.stderr
    there = {one["id"]: one["paths"] for one in json.loads(listed.stdout)}
    for name, one in last_good(host).items():
        assert one["snapshot"] in there, f"{name}: {one['snapshot']} is gone"
        stage = next(path for path in there[one["snapshot"]] if path.endswith(f"/stage/{name}"))
        dump = f"{PROGRAM} restic dump --no-lock {one['snapshot']} {stage}/manifest.json"
        back = host.run(f"bash -o pipefail -c '{dump} | sha256sum'")
        assert back.rc == 0, back.stderr
        told = status(host)["sites"][name]
        if told["good"]:  # else the sum of that one is noted no more
            assert back.stdout.split()[0] == told["manifest"], name


def test_the_secrets_of_the_backups_are_roots_alone(host: Host, sites: list[str]) -> None:
    """The password of the snapshots and the other secrets of restic are for root alone, and nowhere else."""
    values = []
    for name in SECRETS:
        file = host.file(f"/etc/switchboard/{name}")
        assert (file.user, file.group, file.mode) == ("root", "root", 0o600), name
        if name != "backup.json":
            values += [line for line in file.content_string.splitlines() if len(line) > 7]
    assert values
    seen = host.run(
        "cat /proc/[0-9]*/cmdline; cat /etc/systemd/system/switchboard-backup*; "
        "journalctl --no-pager --output=cat --unit='switchboard-backup*'"
    ).stdout
    assert [number for number, value in enumerate(values) if value in seen] == []
    given = json.loads(host.file("/etc/switchboard/backup.environment.json").content_string)
    assert [name for name, value in given.items() if str(value) in seen] == []


def test_the_units_of_the_backups_are_sandboxed(host: Host, sites: list[str]) -> None:
    """The units of the backups run in a sandbox (systemd's own measure of exposure, 0 to 10)."""
    for name in (UNIT, "switchboard-backup-check.service"):
        told = host.check_output("systemd-analyze security --no-pager %s", name).splitlines()[-1]
        assert float(told.split(":")[1].split()[0]) <= 4.0, f"{name}: {told}"
