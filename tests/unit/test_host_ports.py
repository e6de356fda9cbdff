"""The module that refuses a port which a service could not bind."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_site_settings import plugin

host_ports = plugin("module_utils/host_ports.py")

Holder = tuple[int, str, str]


def entry(port: Any, variable: str = "kafka_port", **more: Any) -> dict[str, Any]:
    return {
        "variable": variable,
        "port": port,
        "address": "127.0.0.1",
        "unit": "kafka.service",
        **more,
    }


def refusals(
    *wanted: dict[str, Any], held: tuple[str, int] | None = None, by: Holder | None = None
) -> list[str]:
    """Return what is refused when one socket is held by one process."""
    sockets = [(held[0], held[1], "77")] if held else []
    return host_ports.refusals(list(wanted), sockets, {"77": [by]} if by else {})


STRANGER: Holder = (4711, "nginx", "nginx.service")
KAFKA: Holder = (4712, "java", "kafka.service")


def test_a_free_port_is_had() -> None:
    assert refusals(entry(9092)) == []
    assert refusals(entry("9092")) == []


@pytest.mark.parametrize(
    "port", [0, -1, 65536, 70000, "http", "", None, "9092.5", 9092.5, True, [9092]]
)
def test_what_is_no_port_is_refused(port: Any) -> None:
    (text,) = refusals(entry(port))
    assert text == (
        f"kafka_port is {port}: a TCP port is a whole number from 1 to 65535. Choose one."
    )


@pytest.mark.parametrize("port", [1, 65535])
def test_the_first_and_the_last_port_are_ports(port: int) -> None:
    assert refusals(entry(port)) == []


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::"])
def test_a_port_held_by_another_process_is_refused_with_its_name(address: str) -> None:
    (text,) = refusals(entry(9092), held=(address, 9092), by=STRANGER)
    assert text == (
        f"kafka_port is 9092: nginx (process 4711, nginx.service) listens on {address}:9092 already. "
        "Stop it, or choose another port."
    )


@pytest.mark.parametrize("wanted", ["*", "0.0.0.0", "::", ""])
def test_all_addresses_meet_a_port_that_is_held_on_one(wanted: str) -> None:
    assert len(refusals(entry(80, address=wanted), held=("10.0.0.5", 80), by=STRANGER)) == 1


def test_a_port_held_on_another_address_is_free() -> None:
    assert refusals(entry(9092), held=("10.0.0.5", 9092), by=STRANGER) == []


def test_a_process_outside_any_unit_is_named_so() -> None:
    (text,) = refusals(entry(9092), held=("127.0.0.1", 9092), by=(4711, "nc", ""))
    assert "nc (process 4711, no unit) listens" in text


def test_the_unit_that_wants_a_port_may_hold_it() -> None:
    assert refusals(entry(9092), held=("127.0.0.1", 9092), by=KAFKA) == []


def test_a_unit_may_be_a_pattern_and_no_more_than_that() -> None:
    wanted = entry(9099, unit="daphne-lab@*.service")
    at = ("127.0.0.1", 9099)
    assert refusals(wanted, held=at, by=(1000, "python", "daphne-lab@2.service")) == []
    assert len(refusals(wanted, held=at, by=(1000, "python", "daphne-lab2@2.service"))) == 1


def test_systemd_may_hold_a_port_for_a_socket_unit_alone() -> None:
    systemd = (1, "systemd", "init.scope")
    at = ("127.0.0.1", 9092)
    assert refusals(entry(9092, socket_activated=True), held=at, by=systemd) == []
    assert len(refusals(entry(9092), held=at, by=systemd)) == 1


def test_one_stranger_beside_the_unit_is_refused() -> None:
    owners = {"77": [KAFKA, STRANGER]}
    found = host_ports.refusals([entry(9092)], [("127.0.0.1", 9092, "77")], owners)
    assert len(found) == 1
    assert "nginx" in found[0]


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("*", "127.0.0.1", True),
        ("127.0.0.1", "::", True),
        ("127.0.0.1", "10.0.0.5", False),
    ],
)
def test_two_services_on_one_port_are_refused(one: str, other: str, clash: bool) -> None:
    wanted = [entry(9092, address=one), entry(9092, "apache_http_port", address=other)]
    texts = refusals(*wanted)
    assert texts == (
        ["apache_http_port is 9092: kafka_port names the same port. Give each service its own."]
        if clash
        else []
    )


def test_everything_that_is_wrong_is_told_at_once() -> None:
    texts = refusals(entry(0), entry(9092, "b"), entry(9092, "c"), entry("x", "d"))
    assert [text.split()[0] for text in texts] == ["kafka_port", "c", "d"]


# -- what the kernel says ------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "10.1.2.3", "::", "::1", "fe80::1"])
def test_addresses_are_decoded(address: str) -> None:
    raw = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    words = [int.from_bytes(raw[i : i + 4], sys.byteorder) for i in range(0, len(raw), 4)]
    assert host_ports.decode_address("".join(f"{word:08X}" for word in words)) == address


def test_an_ipv4_address_in_the_table_of_ipv6_is_one_of_ipv4() -> None:
    raw = socket.inet_pton(socket.AF_INET6, "::ffff:127.0.0.1")
    words = [int.from_bytes(raw[i : i + 4], sys.byteorder) for i in range(0, len(raw), 4)]
    assert host_ports.decode_address("".join(f"{word:08X}" for word in words)) == "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("0::/system.slice/kafka.service\n", "kafka.service"),
        ("12:cpu:/x\n1:name=systemd:/system.slice/kafka.service\n0::/\n", "kafka.service"),
        (
            "0::/system.slice/system-daphne\\x2dlab.slice/daphne-lab@1.service\n",
            "daphne-lab@1.service",
        ),
        ("0::/user.slice/user-0.slice/session-3.scope\n", "session-3.scope"),
        ("0::/\n", ""),
        ("12:cpu:/system.slice/kafka.service\n", ""),
    ],
)
def test_the_unit_of_a_process_is_read_from_its_control_group(
    tmp_path: Path, text: str, unit: str
) -> None:
    (tmp_path / "42").mkdir()
    (tmp_path / "42" / "cgroup").write_text(text)
    assert host_ports.unit_of(42, str(tmp_path)) == unit
    assert host_ports.unit_of(43, str(tmp_path)) == ""


def test_a_real_listener_is_found_with_its_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = [row for row in host_ports.listening_sockets() if row[1] == port]
        assert [row[:2] for row in found] == [("127.0.0.1", port)]
        owners = host_ports.holders({found[0][2]})[found[0][2]]
    assert os.getpid() in [pid for pid, _, _ in owners]


def process(root: Path, pid: int, command: str, unit: str) -> None:
    (root / str(pid)).mkdir()
    (root / str(pid) / "comm").write_text(f"{command}\n")
    (root / str(pid) / "cgroup").write_text(f"0::/system.slice/{unit}\n")


def test_a_holder_that_the_kernel_hides_is_judged_by_its_user(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    row = "0: 0100007F:0885 00000000:0000 0A 00000000:00000000 00:00000000 00000000  107 0 4242 1"
    (tmp_path / "net" / "tcp").write_text(f"  sl  local_address\n   {row}\n")
    assert host_ports.socket_users({"4242", "1"}, str(tmp_path)) == {"4242": 107}

    process(tmp_path, 30, "bash", "session-1.scope")
    process(tmp_path, 31, "java", "zookeeper.service")
    root, me = str(tmp_path), os.stat(tmp_path).st_uid
    zookeeper = entry(2181, unit="zookeeper.service")
    assert host_ports.likely_holders(me, [zookeeper], root) == [(31, "java", "zookeeper.service")]
    assert host_ports.likely_holders(me, [entry(2181)], root) == [(31, "java", "zookeeper.service")]
    assert host_ports.likely_holders(me + 1, [zookeeper], root) == [
        (0, "a process", f"user {me + 1}")
    ]


def test_a_real_listener_is_a_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wanted = [entry(listener.getsockname()[1])]
        (fault,) = host_ports.port_faults(wanted)
    assert "listens on 127.0.0.1" in fault
    assert host_ports.port_faults(wanted) == []
