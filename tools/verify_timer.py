"""Let systemd on this machine verify an inventory at set times: install the units, remove them, mail a failure.

As root the units are the system's, in /etc/systemd/system; as another user they are the user's own. The service fails
where `tools.verify` does, so that `systemctl --failed`, and what watches it, shows a server that fell short.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from tools.common import ROOT, ToolError, main_guard, run, say
from tools.verify import found, inventory_name, report_folder

KEPT = 14
NO_SYSTEMD = (
    "There is no systemd here. Let cron run `python3 -m tools.verify` instead: its exit code tells."
)
NEVER = "never"
SENDMAIL = "/usr/sbin/sendmail"
ADDRESS = r"[^@\s,<>-][^@\s,<>]*@[^@\s,<>]+"


def escaped(text: object) -> str:
    """Return a text in which systemd finds no specifier (systemd.unit(5))."""
    return str(text).replace("%", "%%")


def quoted(text: object) -> str:
    """Return one argument of a command line of systemd (systemd.service(5))."""
    plain = escaped(text).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{plain}"'


def unit_name(inventory: Path) -> str:
    """Return what the units of an inventory are called, without the ending."""
    return f"switchboard-verify-{report_folder(inventory).name}"


def units(inventory: Path, when: str, mail: str = "") -> dict[str, str]:
    """Return the unit files by their names.

    Args:
        inventory: its path.
        when: a time as systemd.time(7) writes it (`daily`, `Mon 06:00`).
        mail: who hears of a failure; nobody where it is empty.
    """
    name = unit_name(inventory)
    python = quoted(ROOT / ".venv" / "bin" / "python")
    called = inventory_name(inventory)
    common = f"Type=oneshot\nWorkingDirectory={escaped(ROOT)}\nEnvironment=HOME=%h\n"
    files = {
        f"{name}.service": (
            f"# Written by `make verify-timer`; `make verify-timer INVENTORY={called} WHEN={NEVER}` removes it.\n"
            f"[Unit]\nDescription=Switchboard: verify the servers of {escaped(called)}\n"
            "Wants=network-online.target\nAfter=network-online.target\n"
            + (f"OnFailure={name}-mail.service\n" if mail else "")
            + f"\n[Service]\n{common}"
            f"ExecStart={python} -m tools.verify {quoted(f'--inventory={inventory}')} --keep={KEPT} --tell\n"
            "Nice=10\nTimeoutStartSec=1h\n"
        ),
        f"{name}.timer": (
            f"[Unit]\nDescription=Switchboard: when to verify the servers of {escaped(called)}\n"
            f"\n[Timer]\nOnCalendar={when}\nPersistent=true\nRandomizedDelaySec=5min\n"
            "\n[Install]\nWantedBy=timers.target\n"
        ),
    }
    if mail:
        files[f"{name}-mail.service"] = (
            f"[Unit]\nDescription=Switchboard: tell that {escaped(called)} fell short\n"
            f"\n[Service]\n{common}"
            f"ExecStart={python} -m tools.verify_timer mail {quoted(f'--inventory={inventory}')} "
            f"{quoted(f'--mail={mail}')}\n"
        )
    return files


def place() -> tuple[Path, list[str]]:
    """Return the folder for units, and the systemctl of who asks."""
    if os.geteuid() == 0:
        return Path("/etc/systemd/system"), ["systemctl"]
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / "systemd" / "user", ["systemctl", "--user"]


def refuse(when: str, mail: str) -> None:
    """Refuse what cannot work, before anything is written.

    Raises:
        ToolError: what is wrong, and what fixes it.
    """
    if "\n" in when or not when.strip():
        raise ToolError(f"WHEN is {when!r}: name a time, such as daily, or never.")
    done = run(["systemd-analyze", "calendar", "--", when], check=False)
    if done.returncode:
        raise ToolError(
            f"WHEN is {when!r}, which systemd does not take for a time: {done.stderr.strip()}. "
            "Write it as in systemd.time(7): daily, hourly, Mon 06:00."
        )
    if mail and not re.fullmatch(ADDRESS, mail):
        raise ToolError(f"MAIL is {mail!r}: name one address, such as ops@example.org.")
    if mail and not os.access(SENDMAIL, os.X_OK):
        raise ToolError(
            f"MAIL is {mail}, and nothing here sends mail: there is no {SENDMAIL}. Install a mail transport agent, "
            "or leave MAIL out: a failure is then seen with `systemctl --failed`."
        )
    if not (ROOT / ".venv" / "bin" / "python").exists():
        raise ToolError("There is no .venv here: `make setup` makes it.")


def install(inventory: Path, when: str, mail: str) -> None:
    """Write the units and start the timer."""
    if not shutil.which("systemctl"):
        raise ToolError(NO_SYSTEMD)
    refuse(when, mail)
    folder, systemctl = place()
    folder.mkdir(parents=True, exist_ok=True)
    files = units(inventory, when, mail)
    for old in unit_files(folder, inventory):
        if old.name not in files:
            old.unlink()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    timer = f"{unit_name(inventory)}.timer"
    run([*systemctl, "daemon-reload"])
    run([*systemctl, "enable", timer])
    run([*systemctl, "restart", timer])  # one that runs would go on with its old times
    say(f"{timer} verifies {inventory_name(inventory)}: {when}")
    service = f"{unit_name(inventory)}.service"
    print(f"Try it now: {' '.join(systemctl)} start {service}")
    print(f"The page: {report_folder(inventory) / 'report.html'}")
    if systemctl[-1] == "--user":
        print("It runs while you are signed in; `loginctl enable-linger` lets it run always.")


def unit_files(folder: Path, inventory: Path) -> list[Path]:
    """Return the unit files of an inventory that are there."""
    name = unit_name(inventory)
    return [
        path
        for end in (".service", ".timer", "-mail.service")
        if (path := folder / f"{name}{end}").exists()
    ]


def remove(inventory: Path) -> None:
    """Stop the timer and remove the units; the reports stay."""
    folder, systemctl = place()
    if not shutil.which("systemctl"):
        raise ToolError(NO_SYSTEMD)
    there = unit_files(folder, inventory)
    if there:
        run([*systemctl, "disable", "--now", f"{unit_name(inventory)}.timer"], check=False)
        for path in there:
            path.unlink()
        run([*systemctl, "daemon-reload"])
    say(f"{inventory_name(inventory)}: {'the timer is removed' if there else 'there was no timer'}")


def message(record: dict[str, Any] | None, called: str, page: Path, to: str) -> EmailMessage:
    """Return the mail that tells of a failure.

    Args:
        record: of the report; None where the run left none.
        called: the inventory.
        page: the report's page.
        to: who gets it.
    """
    mail = EmailMessage()
    mail["To"] = to
    if record is None:
        mail["Subject"] = f"Switchboard: {called} was not verified"
        mail.set_content("The run did not come to its end. Its journal says why.\n")
        return mail
    counts = record["counts"]
    status = {
        "good": "all is good",
        "short": f"{counts['bad']} of {counts['good'] + counts['bad']} checks fell short",
        "unseen": "not everything could be looked at",
    }[record["status"]]
    mail["Subject"] = f"Switchboard: {called}: {status}"
    lines = [record["trouble"]] if record["trouble"] else []
    lines += [
        f"{host['name']} could not be reached: {host['heard']}"
        for host in record["hosts"]
        if not host["reached"]
    ]
    bad = [check for check in record["checks"] if check["result"] == "bad"]
    lines += [f"- {check['host']}: should be: {check['says']}" for check in bad]
    lines += ["", "What to do, the first first:"] if record["todo"] else []
    lines += [f"- {item['subject']}: {item['text']} See {item['page']}." for item in record["todo"]]
    mail.set_content("\n".join([*lines, "", f"The page: {page}", ""]))
    return mail


def send(inventory: Path, to: str) -> None:
    """Mail what the last run found."""
    folder = report_folder(inventory)
    path = folder / "report.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    mail = message(record, inventory_name(inventory), folder / "report.html", to)
    done = subprocess.run(
        [SENDMAIL, "-t", "-i"], input=mail.as_bytes(), capture_output=True, check=False
    )
    if done.returncode:
        raise ToolError(f"{SENDMAIL} ended with {done.returncode}: {done.stderr.decode().strip()}")


def main() -> int:
    """Read the arguments and do what they name."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.verify_timer", description=__doc__)
    parser.add_argument("do", choices=("set", "mail"))
    parser.add_argument(
        "--inventory", default="inventory/demo", help="its folder (default: %(default)s)"
    )
    parser.add_argument(
        "--when",
        default="daily",
        help=f"a time of systemd.time(7), or {NEVER} (default: %(default)s)",
    )
    parser.add_argument("--mail", default="", metavar="ADDRESS", help="who hears of a failure")
    arguments = parser.parse_args()
    if arguments.do == "set" and arguments.when == NEVER:
        remove(Path(os.path.abspath(ROOT / arguments.inventory)))  # which may be gone by now
        return 0
    inventory = found(arguments.inventory)
    if arguments.do == "mail":
        send(inventory, arguments.mail)
        return 0
    install(inventory, arguments.when, arguments.mail)
    return 0


if __name__ == "__main__":
    main_guard(main)
