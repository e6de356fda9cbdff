"""The unit that lets some users of a host alone connect to ports of its loopback (templates/ports.nft.j2)."""

from __future__ import annotations

from typing import Any


def port_guard(rules: str, table: str, title: str) -> dict[str, Any]:
    """Return the unit, as templates/unit.service takes it (systemd.service(5), systemd.exec(5)).

    The rules stand in a table of their own, which no other firewall names; one that begins with ``flush ruleset``, as
    Debian's example does, is followed by a new start of this unit.

    Args:
        rules: the file that nft loads; each load replaces the table in one transaction.
        table: its name in the family inet.
        title: what the unit is called.
    """
    return {
        "Unit": {
            "Description": title,
            "DefaultDependencies": False,
            "After": ["local-fs.target", "nftables.service"],
            "Before": ["sockets.target", "network-pre.target", "shutdown.target"],
            "Conflicts": "shutdown.target",
            "Wants": "network-pre.target",
            # nftables.service empties the whole ruleset when it is reloaded or stopped
            "PartOf": "nftables.service",
            "ReloadPropagatedFrom": "nftables.service",
        },
        "Service": {
            "Type": "oneshot",
            "RemainAfterExit": True,
            "ExecStart": f"/usr/sbin/nft --file {rules}",
            "ExecReload": f"/usr/sbin/nft --file {rules}",
            "ExecStop": f"-/usr/sbin/nft delete table inet {table}",
            "CapabilityBoundingSet": "CAP_NET_ADMIN",
            "LockPersonality": True,
            "NoNewPrivileges": True,
            "PrivateTmp": True,
            "ProtectHome": True,
            "ProtectSystem": "strict",
            "RestrictAddressFamilies": "AF_NETLINK AF_UNIX",
            "SystemCallArchitectures": "native",
            "SystemCallFilter": "@system-service",
        },
        "Install": {"WantedBy": ["sockets.target", "nftables.service"]},
    }


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {"port_guard": port_guard}
