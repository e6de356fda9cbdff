"""Who owns what, who may read it, and that no secret stands where others look."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from testinfra.host import Host


@pytest.fixture(scope="module")
def sites(deployed: dict[str, Any]) -> list[str]:
    return [site["name"] for site in deployed["django"].get("sites", [])]


class Secrets:
    """The secrets of each site on a host. Its representation, which a failing test prints, shows none."""

    def __init__(self, values: dict[str, str], keys: set[str]) -> None:
        self.values, self.keys = values, keys

    def __repr__(self) -> str:
        return f"<{len(self.values)} secrets>"

    def found_in(self, text: bytes) -> list[str]:
        """Return the labels of the secrets that stand in a text."""
        return [label for label, value in self.values.items() if value.encode() in text]


@pytest.fixture(scope="module")
def secrets(host: Host, sites: list[str]) -> Secrets:
    found, keys = {}, set()
    for site in sites:
        for name in ("secret_key.env", "secrets.env"):
            for line in host.file(f"/etc/switchboard/{site}/{name}").content_string.splitlines():
                variable, separator, value = line.partition("=")
                if separator and not line.startswith("#"):
                    secret = found[f"{site} {variable}"] = "".join(shlex.split(value))
                    if name == "secret_key.env" and len(secret) >= 50:
                        keys.add(secret)
    return Secrets(found, keys)


def test_environment_files_are_for_the_site_alone(host: Host, sites: list[str]) -> None:
    """Files with a site's environment and secrets are for root and the site alone."""
    for site in sites:
        folder = host.file(f"/etc/switchboard/{site}")
        assert (folder.user, folder.group, folder.mode) == ("root", site, 0o750)
        for path in folder.listdir():
            entry = host.file(f"/etc/switchboard/{site}/{path}")
            assert (entry.user, entry.group, entry.mode) == ("root", site, 0o640), path


def test_each_site_has_its_own_secret_key(secrets: Secrets, sites: list[str]) -> None:
    """Each site has a secret key of its own."""
    assert len(secrets.keys) == len(sites)


def test_a_site_cannot_change_its_own_code(host: Host, sites: list[str]) -> None:
    """A site cannot change its own code."""
    for site in sites:
        writable = host.check_output(
            "find -L /srv/%s/current/app /srv/%s/current/static /srv/%s/current/wsgi.py "
            "\\( -user %s -o -perm /022 \\) -not -type l -print",
            *[site] * 4,
        )
        assert writable == ""


def test_another_site_cannot_read_code_or_data(host: Host, sites: list[str]) -> None:
    """A site's code and data cannot be read by other users."""
    for site in sites:
        for folder, others in (
            ("current/app", 0),
            ("data", 1),
            ("archives", 0),
        ):  # Apache passes through data
            assert host.file(f"/srv/{site}/{folder}").mode & 0o007 == others, f"{site} {folder}"


def test_units_belong_to_root(host: Host) -> None:
    """Units and programs belong to root, and only root may write them."""
    folders = "/etc/systemd/system /usr/local/lib/switchboard /usr/local/sbin /usr/local/bin /opt"
    found = host.check_output(
        f'for folder in {folders}; do test ! -e "$folder" || '
        'find "$folder" \\( -not -user root -o -perm /022 \\) -not -type l; done'
    )
    assert found == ""


def test_no_secret_is_in_a_process_list(host: Host, secrets: Secrets) -> None:
    """No secret is in the list of processes."""
    arguments = host.run("cat /proc/[0-9]*/cmdline").stdout_bytes
    assert arguments
    assert secrets.found_in(arguments) == []


def test_no_secret_is_in_a_log(host: Host, secrets: Secrets) -> None:
    """No secret is in a log."""
    logs = host.run(
        "journalctl --no-pager --output=cat; find /var/log -type f -not -path '*/journal/*' "
        "-size -4M -exec cat {} +"
    ).stdout_bytes
    assert logs
    assert secrets.found_in(logs) == []


def test_no_secret_is_in_a_file_that_all_may_read(host: Host, secrets: Secrets) -> None:
    """No secret is in a file that every user may read."""
    contents = host.run(
        "find /etc /srv /opt /usr/local /var/lib /tmp /run -xdev -type f -perm -004 -size -512k "
        "-not -path '*/venvs/*' -not -path '/var/lib/dpkg/*' -not -path '/var/lib/apt/*' "
        "-exec cat {} + 2>/dev/null"
    ).stdout_bytes
    assert contents
    assert secrets.found_in(contents) == []
