"""Who gets in: the log-ins that sshd takes, and the firewall, where the inventory asks for them."""

from __future__ import annotations

from typing import Any

import pytest
from testinfra.host import Host


def test_sshd_takes_the_log_ins_of_the_inventory_alone(
    host: Host, deployed: dict[str, Any]
) -> None:
    access = deployed["access"]
    if not access["user"]:
        pytest.skip("the inventory leaves the host's log-ins alone")
    said = dict(
        line.split(" ", 1)
        for line in host.check_output("/usr/sbin/sshd -T").splitlines()
        if " " in line
    )
    assert said["passwordauthentication"] == ("yes" if access["password_login"] else "no")
    assert said["permitrootlogin"] == ("without-password" if access["root_login"] else "no")
    sudo = host.check_output("sudo -l -U %s", access["user"])
    assert "(ALL : ALL)" in sudo, sudo


def test_no_change_of_the_way_in_waits_for_its_confirmation(host: Host) -> None:
    assert host.run("ls /var/lib/switchboard/guard").stdout.split() == []


def test_the_firewall_lets_in_what_the_inventory_names_alone(
    host: Host, deployed: dict[str, Any]
) -> None:
    if not deployed["firewall"]["enabled"]:
        pytest.skip("the inventory has no firewall")
    unit = "switchboard-firewall.service"
    assert host.check_output("systemctl is-enabled %s", unit) == "enabled"
    rules = host.check_output("nft list table inet switchboard_firewall")
    assert "policy drop" in rules
    # what is in the kernel is what the file has: loading the file would change nothing
    loaded = "nft -s list table inet switchboard_firewall"
    file = "unshare --net sh -c 'nft -f /etc/switchboard/firewall.nft && nft -s list table inet switchboard_firewall'"
    assert host.check_output(loaded) == host.check_output(file)
