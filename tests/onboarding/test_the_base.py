"""What `base` makes of a host: upgrades and reboots in their window, swap."""

from __future__ import annotations

from typing import Any

import pytest

from tests.onboarding.conftest import Managed
from tests.onboarding.server import ROLE, until

# Nothing is upgraded, and a reboot stands on the list of systemd in the place of happening now.
HARMLESS = """
printf '#clear Unattended-Upgrade::Origins-Pattern;\nUnattended-Upgrade::Automatic-Reboot-Time "+600";\n' \
  > /etc/apt/apt.conf.d/92-test
touch /run/reboot-required
"""
# What the timer starts, as if it had not run today; then what systemd has on its list.
UPGRADE = """
rm -f /var/lib/apt/periodic/*-stamp
systemctl start "$(systemctl show --property=Unit --value apt-daily-upgrade.timer)"
"""
SCHEDULED = "cat /run/systemd/shutdown/scheduled 2>/dev/null; shutdown -c 2>/dev/null"


@pytest.mark.soak
def test_a_reboot_comes_in_the_window_alone(managed12: Managed) -> None:
    server = managed12[0]
    clock = server.shell("date +%s -d '1 day'; date +%H:%M -d '150 seconds'").split()
    window = clock[1]
    server.shell(HARMLESS)
    try:
        server.shell(UPGRADE)
        assert "MODE" not in server.shell(SCHEDULED, check=False), "a reboot without a window"
        server.onboard("playbooks/base.yml", base_upgrades_window=window).succeeds()
        told = server.shell(
            "systemctl show --property=NextElapseUSecRealtime --value apt-daily-upgrade.timer"
        ).strip()
        assert told.split()[2] == f"{window}:00", told
        behind = "systemctl show --property=After --value apt-daily-upgrade.service"
        assert "switchboard-backup.service" in server.shell(behind), "a reboot in a backup"
        assert int(server.shell(f"date +%s -d '{told}'")) <= int(clock[0]) + 150
        server.shell("rm -f /var/lib/apt/periodic/*-stamp")
        # the timer itself; it may take a minute more (AccuracySec)
        fired = until(lambda: "MODE=reboot" in server.shell(SCHEDULED, check=False), 240)
        assert fired, server.shell("journalctl -n 30 -u apt-daily-upgrade.service")
    finally:
        server.shell(
            "rm -f /run/reboot-required /etc/apt/apt.conf.d/92-test; " + SCHEDULED, check=False
        )
        server.onboard("playbooks/base.yml").succeeds()


@pytest.mark.soak
def test_swap_is_made_as_far_as_a_container_lets_it(managed12: Managed) -> None:
    """The kernel of a container's host takes no swap from it, so that everything but its use is looked at."""
    server = managed12[0]
    swap: dict[str, Any] = {"role": "base", "tasks_from": "swap"}
    server.shell("chmod -x /sbin/mkswap")  # as a disk that fills up does
    try:
        run = server.onboard(ROLE, **swap, base_swap_mb=64)
    finally:
        server.shell("chmod +x /sbin/mkswap")
    run.says("base_swap_mb is 64: Make it swap fails.")
    assert server.shell("ls /swapfile*", check=False) == "", "what fills the disk stays"
    run = server.onboard(ROLE, **swap, base_swap_mb=64)
    run.says("FAILED server1: base : Use it, or use it no longer", "swapfile.swap")
    assert server.shell(
        "blkid -p -s TYPE -o value /swapfile; stat -c '%a %s' /swapfile"
    ).split() == [
        "swap",
        "600",
        str(64 * 2**20),
    ]
    unit = "/etc/systemd/system/swapfile.swap"
    server.shell(f"systemd-analyze verify {unit}")
    assert "What=/swapfile" in server.shell(f"cat {unit}")
    server.onboard(ROLE, **swap, base_swap_mb=0).succeeds()
    left = (
        f"ls /swapfile {unit}; find /etc/systemd/system -name 'swapfile*'; systemctl reset-failed"
    )
    assert server.shell(left, check=False) == ""
