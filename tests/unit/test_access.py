"""Directives of sshd, the ports that it listens on, and what ssh asks at a first log-in."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from plugins.filter.access import sshd_addresses, sshd_directives, sshd_ignores
from plugins.module_utils.host_ssh import ssh_ports
from tests.unit.run_module import run_module

SOCKET = "ActiveState={}\nListen=0.0.0.0:2222 (Stream)\nListen=[::]:2222 (Stream)\n"
SSHD = "port 22\naddressfamily any\nlistenaddress [::]:2200\nlistenaddress 192.0.2.1:22\n"


def test_directives_are_sorted_lines() -> None:
    told = sshd_directives({"X11Forwarding": False, "AllowUsers": ["a", "b"], "LoginGraceTime": 30})
    assert told == "AllowUsers a\nAllowUsers b\nLoginGraceTime 30\nX11Forwarding no\n"


def test_the_addresses_that_sshd_is_to_listen_on_have_no_ports() -> None:
    wanted = ["192.0.2.1", "192.0.2.2:2222", "[2001:db8::1]:22", "2001:db8::2 rdomain 1", "lab:22"]
    hosts = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "lab"]
    assert sshd_addresses({"listenaddress": wanted, "Port": 22}) == hosts
    assert sshd_addresses({"ListenAddress": "::"}) == ["::"]
    assert sshd_addresses({"Port": 22}) == []


def test_a_directive_that_another_file_overrides_is_told() -> None:
    settings = {
        "PermitRootLogin": "prohibit-password",
        "PasswordAuthentication": "no",
        "MACs": "-hmac-sha1*",
    }
    said = (
        "permitrootlogin without-password\npasswordauthentication yes\nmacs umac-64@openssh.com\n"
    )
    assert sshd_ignores(said, settings) == ["PasswordAuthentication is yes, not no"]


@pytest.mark.parametrize(
    ("state", "ports"), [("active", [2222]), ("inactive", [22, 2200]), ("broken", [22])]
)
def test_the_ports_are_those_that_answer(state: str, ports: list[int]) -> None:
    def run(words: list[str]) -> tuple[int, str, str]:
        if words[0] == "systemctl":
            return 0, SOCKET.format(state), ""
        return (0, SSHD, "") if state == "inactive" else (255, "", "no host key")

    assert ssh_ports(run) == ports


# What sshd and passwd(1) ask; the program takes ssh's place. It writes down the words that it was called with.
SSH = r"""#!/bin/sh
echo "$*" >> "$HOME/words"
ask() { printf '%s' "$1"; stty -echo 2>/dev/null; read -r got; stty echo 2>/dev/null; echo; }
now=$(cat "$HOME/password")
case "$*" in
  *PreferredAuthentications=password*) ;;
  *) echo "Permission denied (publickey,password)." >&2; exit 255 ;;
esac
ask "root@192.0.2.10's password: "
test "$got" = "$now" || { echo "Permission denied (publickey,password)."; exit 255; }
if test -e "$HOME/expired"; then
  case "$*" in
    *" -tt "*) ;;
    *) echo "Password change required but no TTY available."; exit 1 ;;
  esac
  echo "You are required to change your password immediately (administrator enforced)."
  ask "Current password: "
  test "$got" = "$now" || exit 1
  ask "New password: "; first=$got
  ask "Retype new password: "
  test "$got" = "$first" || { echo "Sorry, passwords do not match."; exit 1; }
  case $first in *weak*) echo "BAD PASSWORD: it is too simple"; exit 1 ;; esac
  printf '%s' "$first" > "$HOME/password"; rm "$HOME/expired"
  echo "passwd: password updated successfully"
  exit 0
fi
echo switchboard-login; echo root=0
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home with a program `ssh` that answers as a server with a password does."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(SSH)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "password").write_text("old-secret")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def login(home: Path, **more: str) -> dict[str, Any]:
    given = {"host": "192.0.2.10", "user": "root", "known_hosts": str(home / "known_hosts")}
    return run_module("host_login", {**given, **more})


def test_a_password_is_typed_and_stands_in_no_argument(server: Path) -> None:
    told = login(server, password="old-secret")
    assert (told["works"], told["root"], told["expired"]) == (True, True, False)
    assert "old-secret" not in (server / "words").read_text()


def test_a_wrong_password_does_not_get_in(server: Path) -> None:
    told = login(server, password="wrong-secret")
    assert (told["works"], told["root"]) == (False, False)
    assert "Permission denied" in told["said"]
    assert "wrong-secret" not in str(told)


def test_a_key_that_the_server_does_not_know_does_not_get_in(server: Path) -> None:
    assert login(server)["works"] is False


def test_an_expired_password_is_changed_only_where_a_new_one_is_given(server: Path) -> None:
    (server / "expired").touch()
    told = login(server, password="old-secret")
    assert (told["expired"], told["renewed"], told["works"]) == (True, False, False)
    told = login(server, password="old-secret", new_password="new-secret")
    assert (told["works"], told["root"], told["renewed"], told["changed"]) == (
        True,
        True,
        True,
        True,
    )
    assert (server / "password").read_text() == "new-secret"
    assert "secret" not in (server / "words").read_text()


def test_a_new_password_that_the_server_refuses_is_told(server: Path) -> None:
    (server / "expired").touch()
    told = login(server, password="old-secret", new_password="weak")
    assert told["failed"]
    assert "BAD PASSWORD" in told["msg"]
