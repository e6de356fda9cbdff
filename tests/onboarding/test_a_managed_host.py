"""What onboarding leaves, before anything else happens to the host: Docker writes /etc/hosts anew at a reboot."""

from __future__ import annotations

import re

import pytest


@pytest.mark.parametrize("managed", ["managed13", "managed12"])
def test_the_host_is_what_the_inventory_says(managed: str, request: pytest.FixtureRequest) -> None:
    server, _ = request.getfixturevalue(managed)
    assert server.shell("hostname; getent hosts server1").split()[0] == "server1"
    told = server.shell(
        "apt-config dump | grep -E 'Unattended-Upgrade::(Origins-Pattern|Package-Blacklist|Automatic-Reboot) ?'"
    )
    assert 'Automatic-Reboot "false"' in told
    said = server.shell("unattended-upgrade --dry-run --debug 2>&1", check=False)
    assert re.search(
        r"Allowed origins are: origin=Debian,codename=\w+-security,label=Debian-Security$",
        said,
        re.M,
    ), said[-2000:]
    assert re.search(r"\^apache2", said), said[-2000:]
    assert server.shell("systemctl --failed --no-legend | grep -v cloud", check=False).strip() == ""
