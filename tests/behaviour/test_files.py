"""Who owns what, who may read it, and that no secret stands where others look."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from testinfra.host import Host


@pytest.fixture(scope="module")
def sites(deployed: dict[str, Any]) -> list[str]:
    return [site["name"] for site in deployed["django"].get("sites", [])]


@pytest.fixture(scope="module")
def secrets(host: Host, sites: list[str]) -> dict[str, str]:
    """Map a label to each secret of each site on this host."""
    found = {}
    for site in sites:
        for name in ("secret_key.env", "secrets.env"):
            for line in host.file(f"/etc/switchboard/{site}/{name}").content_string.splitlines():
                variable, separator, value = line.partition("=")
                if separator and not line.startswith("#"):
                    found[f"{site} {variable}"] = "".join(shlex.split(value))
    return found


def test_environment_files_are_for_the_site_alone(host: Host, sites: list[str]) -> None:
    for site in sites:
        folder = host.file(f"/etc/switchboard/{site}")
        assert (folder.user, folder.group, folder.mode) == ("root", site, 0o750)
        for path in folder.listdir():
            entry = host.file(f"/etc/switchboard/{site}/{path}")
            assert (entry.user, entry.group, entry.mode) == ("root", site, 0o640), path


def test_each_site_has_its_own_secret_key(secrets: dict[str, str], sites: list[str]) -> None:
    keys = [value for label, value in secrets.items() if len(value) >= 50]
    assert len(set(keys)) == len(sites)


def test_a_site_cannot_change_its_own_code(host: Host, sites: list[str]) -> None:
    for site in sites:
        writable = host.check_output(
            "find -L /srv/%s/current/app /srv/%s/current/static /srv/%s/current/wsgi.py "
            "\\( -user %s -o -perm /022 \\) -not -type l -print",
            *[site] * 4,
        )
        assert writable == ""


def test_another_site_cannot_read_code_or_data(host: Host, sites: list[str]) -> None:
    for site in sites:
        for folder in ("current/app", "data", "archives"):
            assert host.file(f"/srv/{site}/{folder}").mode & 0o007 == 0, f"{site} {folder}"


def test_units_belong_to_root(host: Host) -> None:
    found = host.check_output(
        "find /etc/systemd/system /usr/local/lib/switchboard /usr/local/sbin /usr/local/bin /opt "
        "\\( -not -user root -o -perm /022 \\) -not -type l"
    )
    assert found == ""


def test_no_secret_is_in_a_process_list(host: Host, secrets: dict[str, str]) -> None:
    # the tool's own output is read here; no secret is sent to the host
    arguments = host.check_output("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert arguments
    assert [label for label, value in secrets.items() if value in arguments] == []


def test_no_secret_is_in_a_log(host: Host, secrets: dict[str, str]) -> None:
    logs = host.check_output(
        "journalctl --no-pager --output=cat; find /var/log -type f -not -path '*/journal/*' "
        "-size -4M -exec cat {} +"
    )
    assert logs
    assert [label for label, value in secrets.items() if value in logs] == []


def test_no_secret_is_in_a_file_that_all_may_read(host: Host, secrets: dict[str, str]) -> None:
    assert secrets or not host.file("/etc/switchboard").exists
    contents = host.run(
        "find /etc /srv /opt /usr/local /var/lib /tmp /run -xdev -type f -perm -004 -size -512k "
        "-not -path '*/venvs/*' -not -path '/var/lib/dpkg/*' -not -path '/var/lib/apt/*' "
        "-exec cat {} + 2>/dev/null"
    ).stdout_bytes
    assert [label for label, value in secrets.items() if value.encode() in contents] == []
