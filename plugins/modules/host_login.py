#!/usr/bin/python
"""Make the acquaintance of a server over SSH: its host key, and whether a log-in works that somebody was given."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: host_login
short_description: See which key a server shows, and whether a log-in works; run on the control node
description:
  - Without a user it asks the server for its host key, and returns it with its fingerprint. Where I(known_hosts) has
    the server, another key is refused.
  - With a user it logs in, by key or by password, and returns what the log-in can do. A password is typed at ssh's
    prompt on a terminal of its own; it stands in no argument, no variable of the environment and no file.
  - A server that asks for a new password at the first log-in gets I(new_password); without one C(expired) is true.
options:
  host: {description: The address., type: str, required: true}
  port: {description: The port., type: int, default: 22}
  jump: {description: "A host that the way leads through, as ssh's option -J.", type: str, default: ''}
  options: {description: More options of ssh., type: str, default: ''}
  known_hosts: {description: The file that pins the server's key., type: path, required: true}
  user: {description: Who logs in; empty asks for the host key alone., type: str, default: ''}
  key: {description: "The private key; empty takes those that ssh takes by itself.", type: path, default: ''}
  password: {description: The password; empty logs in with a key., type: str, default: ''}
  new_password: {description: The password that takes the place of an expired one., type: str, default: ''}
  sudo_password: {description: What sudo may ask for., type: str, default: ''}
  timeout: {description: Seconds that one attempt has., type: int, default: 30}
  wait: {description: Seconds in which a server that still boots may begin to answer., type: int, default: 60}
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Ask the server for its key
  host_login:
    host: 192.0.2.10
    known_hosts: inventory/lab/known_hosts
  delegate_to: localhost
"""

RETURN = r"""
host_key: {description: The line of known_hosts., type: str, returned: without a user}
fingerprint: {description: "Its fingerprint, such as C(SHA256:…).", type: str, returned: without a user}
pinned: {description: Whether the file had it already., type: bool, returned: without a user}
works: {description: Whether the log-in works., type: bool, returned: with a user}
root: {description: Whether it is root, or becomes root by sudo., type: bool, returned: with a user}
expired: {description: Whether the password has to be changed first., type: bool, returned: with a user}
renewed: {description: Whether it was changed now., type: bool, returned: with a user}
said: {description: "What ssh said, where the log-in does not work.", type: str, returned: with a user}
"""

MARK = "switchboard-login"
# What the log-in can do: root's number, or that of sudo, which reads a password from its input.
LOOK = (
    f"echo {MARK}; if [ $(id -u) = 0 ]; then echo root=0; "
    "else echo root=$(sudo -k -S -p '' id -u 2>&1 | tail -n 1); fi"
)
EXPIRED = re.compile(
    r"password change required|password has expired|must change your password|required to change your password",
    re.I,
)
# The prompts of ssh, of PAM and of passwd(1), in the order in which they are looked for.
CURRENT = re.compile(r"(current|old)[^\n]*password: ?$|\(current\)[^\n]*: ?$", re.I)
NEW = re.compile(
    r"(new|retype|re-enter|again)[^\n]*password[^\n]*: ?$|(retype|re-enter)[^\n]*: ?$", re.I
)
PASSWORD = re.compile(r"password[^\n]*: ?$", re.I)
# What ssh says of a server that does not listen yet; also where the way to it is another's to open.
BOOTING = re.compile(
    r"connection (refused|reset|closed|timed out)|no route to host|kex_exchange_identification",
    re.I,
)
PROMPTS = 8  # more of them than this in one conversation get no answer


class Refused(Exception):
    """The server can't be had; the text says why and what helps."""


class Server:
    """A server, as ssh reaches it from here."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.given = options

    def command(self, known_hosts: str, strict: str, *more: str) -> list[str]:
        """Return the words of ssh, without the command on the server.

        Neither a connection of another run nor an agent's many keys come in the way: no shared connection is used.
        """
        given = self.given
        words = ["ssh", "-p", str(given["port"]), "-o", f"UserKnownHostsFile={known_hosts}"]
        words += ["-o", f"StrictHostKeyChecking={strict}", "-o", "GlobalKnownHostsFile=/dev/null"]
        words += ["-o", "HashKnownHosts=no", "-o", "ControlPath=none", "-o", "UpdateHostKeys=no"]
        words += ["-o", f"ConnectTimeout={given['timeout']}"]
        words += shlex.split(given["options"])
        if given["jump"]:
            words += ["-J", given["jump"]]
        if given["user"]:
            words += ["-l", given["user"]]
        if given["key"]:
            words += ["-i", given["key"], "-o", "IdentitiesOnly=yes"]
        return [*words, *more, given["host"]]

    @property
    def name(self) -> str:
        """Return what the server is called in known_hosts."""
        host, port = self.given["host"], self.given["port"]
        return host if port == 22 else f"[{host}]:{port}"

    def pinned(self) -> str:
        """Return the lines of the file that pins the server's key; empty where it has none."""
        path = self.given["known_hosts"]
        if not os.path.exists(path):
            return ""
        done = self.run(["ssh-keygen", "-F", self.name, "-f", path])
        return "".join(f"{line}\n" for line in done.stdout.splitlines() if not line.startswith("#"))

    def run(self, words: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command with a text as its input, within the time."""
        try:
            return subprocess.run(
                words,
                input=text,
                text=True,
                capture_output=True,
                check=False,
                timeout=self.given["timeout"] * 2,
            )
        except subprocess.TimeoutExpired as error:
            raise Refused(
                f"{self.name} does not answer within {self.given['timeout'] * 2} s."
            ) from error

    def host_key(self) -> dict[str, Any]:
        """Return the server's key, and whether it is pinned."""
        pinned = self.pinned()
        with tempfile.TemporaryDirectory(prefix="switchboard-") as folder:
            path = Path(folder) / "known_hosts"
            path.write_text(pinned, encoding="utf-8")
            strict = "yes" if pinned else "accept-new"
            words = self.command(
                str(path), strict, "-o", "PreferredAuthentications=none", "-o", "BatchMode=yes"
            )
            end = time.monotonic() + self.given["wait"]
            while True:
                done = self.run([*words, "true"])
                if not BOOTING.search(done.stderr) or time.monotonic() > end:
                    break
                time.sleep(2)  # until it has booted; without a key in time it is refused below
            if "Host key verification failed" in done.stderr:
                raise Refused(
                    f"onboard_host is {self.given['host']}: the server shows another key than "
                    f"{self.given['known_hosts']} has. If it was installed anew, take its line out of that file "
                    f"(ssh-keygen -R '{self.name}' -f …); else somebody stands between you and it."
                )
            line = path.read_text(encoding="utf-8")
            if not line or (pinned and done.returncode and "Permission denied" not in done.stderr):
                said = " ".join(done.stderr.split())[-300:]
                raise Refused(
                    f"onboard_host is {self.given['host']}: no SSH server answers at port {self.given['port']}. {said} "
                    "Correct onboard_host, onboard_port or onboard_jump."
                )
            told = self.run(["ssh-keygen", "-l", "-f", str(path)]).stdout.split()
        return {
            "host_key": line,
            "fingerprint": told[1],
            "kind": told[-1].strip("()"),
            "pinned": bool(pinned),
        }

    def login(self) -> dict[str, Any]:
        """Log in, by password where there is one, and change an expired one where a new one is given."""
        given = self.given
        known = given["known_hosts"]
        if not given["password"]:
            done = self.run(
                [*self.command(known, "yes", "-T", "-o", "BatchMode=yes"), LOOK],
                f"{given['sudo_password']}\n",
            )
            code, said = done.returncode, done.stdout + done.stderr
        else:
            code, said = self.converse("-T", LOOK)
        result = judged(code, said)
        if not result["expired"] or not given["new_password"]:
            return result
        if not given["password"]:
            raise Refused(
                "onboard_password is empty: the server asks for the old password before it takes a new one. Set it."
            )
        code, said = self.converse("-tt", "true")
        self.given = given | {"password": given["new_password"]}
        again = judged(*self.converse("-T", LOOK))
        if again["expired"] or not again["works"]:
            raise Refused(f"onboard_new_password: the server did not take it: {last_words(said)}")
        return again | {"renewed": True}

    def converse(self, terminal: str, remote: str) -> tuple[int, str]:
        """Run ssh on a terminal of its own, answer what it asks, and return its exit code and what it printed."""
        given = self.given
        only = "password,keyboard-interactive"
        options = [
            "-o",
            f"PreferredAuthentications={only}",
            "-o",
            "NumberOfPasswordPrompts=1",
            "-o",
            "PubkeyAuthentication=no",
        ]
        words = [*self.command(given["known_hosts"], "yes", terminal, *options), remote]
        child, terminal_end = pty.fork()
        if child == 0:
            os.environ.pop("SSH_ASKPASS", None)
            os.environ |= {"SSH_ASKPASS_REQUIRE": "never", "LC_ALL": "C"}
            os.execvp(words[0], words)  # noqa: S606 - a list of words, no shell
        said, asked, prompts = "", 0, 0
        end = time.monotonic() + given["timeout"] * 2
        try:
            while time.monotonic() < end:
                if not select.select([terminal_end], [], [], 1)[0]:
                    continue
                try:
                    piece = os.read(terminal_end, 4096)
                except OSError:
                    break  # the other end of the terminal is closed
                if not piece:
                    break
                said += piece.decode("utf-8", "replace").replace("\r\n", "\n")
                answer = self.answer(said[asked:])
                if answer is not None and prompts < PROMPTS:
                    asked, prompts = len(said), prompts + 1
                    os.write(terminal_end, f"{answer}\n".encode())
            else:
                os.kill(child, signal.SIGTERM)
                raise Refused(
                    f"{self.name} did not end the log-in within {given['timeout'] * 2} s: {last_words(said)}"
                )
        finally:
            os.close(terminal_end)
            _, status = os.waitpid(child, 0)
        for secret in (given["password"], given["new_password"], given["sudo_password"]):
            said = said.replace(secret, "…") if secret else said
        return os.waitstatus_to_exitcode(status), said

    def answer(self, said: str) -> str | None:
        """Return what is typed after a prompt; None where there is none."""
        if CURRENT.search(said):
            return str(self.given["password"])
        if NEW.search(said):
            return str(self.given["new_password"])
        if PASSWORD.search(said):
            return str(self.given["password"])
        if re.search(r"switchboard-login\n$", said):  # sudo reads its input
            return str(self.given["sudo_password"] or self.given["password"])
        return None


def last_words(said: str) -> str:
    """Return the end of what was printed, on one line."""
    return " ".join(said.split())[-200:]


def judged(code: int, said: str) -> dict[str, Any]:
    """Return what a log-in is worth, from its exit code and what it printed."""
    expired = bool(EXPIRED.search(said))
    works = code == 0 and MARK in said
    root = works and re.search(r"^root=0\s*$", said, re.M) is not None
    return {
        "works": works,
        "root": root,
        "expired": expired and not works,
        "renewed": False,
        "said": "" if root else last_words(said.replace(MARK, "")),
    }


def main() -> None:
    """Run the module."""
    text: dict[str, Any] = {"type": "str", "default": ""}
    secret = text | {"no_log": True}
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "default": 22},
            "jump": text,
            "options": text,
            "known_hosts": {"type": "path", "required": True},
            "user": text,
            "key": {"type": "path", "default": "", "no_log": False},
            "password": secret,
            "new_password": secret,
            "sudo_password": secret,
            "timeout": {"type": "int", "default": 30},
            "wait": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    server = Server(module.params)
    try:
        result = server.login() if module.params["user"] else server.host_key()
    except Refused as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(result.get("renewed")), **result)


if __name__ == "__main__":
    main()
