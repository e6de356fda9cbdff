"""What the valkey role refuses, and the units of its instances."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.filter.valkey import valkey_absent, valkey_inputs, valkey_rules, valkey_units

DEBIAN = {"distribution": "Debian", "distribution_major_version": "13", "memtotal_mb": 2000}
UBUNTU = {"distribution": "Ubuntu", "distribution_version": "24.04", "memtotal_mb": 2000}


def site(name: str = "lab", memory_mb: int = 64) -> dict[str, Any]:
    return {"name": name, "memory_mb": memory_mb}


def test_an_instance_is_a_unit_of_its_site() -> None:
    assert valkey_units([site(), site("shop")]) == ["valkey-lab.service", "valkey-shop.service"]
    (told,) = valkey_inputs([site()], "/usr/bin/valkey-check-rdb")
    assert (told["unit"], told["paths"]) == ("valkey-lab.service", ["/usr/bin/valkey-check-rdb"])
    assert told["code"] is False  # a restart forgets what is not persistent
    assert valkey_absent(["valkey-lab.service"]) == [
        {"path": "/etc/systemd/system/valkey-lab.service", "state": "absent"}
    ]


def test_what_fits_is_taken() -> None:
    assert valkey_rules([site(), site("shop", 436)], DEBIAN, 25) == []
    assert valkey_rules([], UBUNTU, 25) == []  # a host without an instance is nobody's business


@pytest.mark.parametrize(
    ("sites", "facts", "percent", "said"),
    [
        (
            [site(), site("shop", 437)],
            DEBIAN,
            25,
            "valkey_memory_mb is 437: the instances of all sites may hold 501 MiB together, and 25 % of this host's "
            "2000 MiB are 500 MiB. Lower it, or raise valkey_memory_percent, or give the host more. (site shop)",
        ),
        ([site(memory_mb=8)], DEBIAN, 25, "valkey_memory_mb is 8: an instance needs some of it"),
        ([], DEBIAN, 95, "valkey_memory_percent is 95: it is no part of the memory"),
        ([site()], UBUNTU, 25, "ansible_distribution is Ubuntu 24.04: the valkey role is built"),
    ],
)
def test_what_does_not_fit_is_refused(
    sites: list[dict[str, Any]], facts: dict[str, Any], percent: int, said: str
) -> None:
    (rule,) = valkey_rules(sites, facts, percent)
    text = f"{rule['variable']} is {rule['value']}: {rule['why']} {rule['remedy']}"
    assert text.startswith(said)
