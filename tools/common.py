"""Paths, commands and messages that the tools share.

Standard library only: it runs before `.venv` exists.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
LOGS = BUILD / "logs"
IMAGES = {"13": "trixie", "12": "bookworm"}
DEMO_HOST = "switchboard-demo"
# Where Ansible looks for the file with the password of encrypted variables.
VAULT_VARIABLE = "ANSIBLE_VAULT_PASSWORD_FILE"

_started = time.monotonic()
_print_lock = threading.Lock()


class ToolError(Exception):
    """Something the reader can remedy: the message says what is wrong and what fixes it."""


def say(text: str) -> None:
    """Print one line with the seconds since the start, whole even when threads print at once."""
    with _print_lock:
        print(f"[{time.monotonic() - _started:6.1f} s] {text}", flush=True)


def image_name(release: str) -> str:
    """Return the name of the test image of a Debian release, "13" or "12", or of its filled one, "13-filled"."""
    return f"switchboard/debian:{release}"


def run(
    command: list[str],
    *,
    env: dict[str, str] | None = None,
    check: bool = True,
    cwd: Path = ROOT,
) -> subprocess.CompletedProcess[str]:
    """Run a command, from the project's root unless told, and capture what it prints.

    Raises:
        ToolError: the command failed and `check` is set; the message ends with its last lines.
    """
    try:
        done = subprocess.run(
            command, cwd=cwd, env=env, text=True, capture_output=True, check=False
        )
    except FileNotFoundError as error:
        raise ToolError(f"{command[0]} is not installed.") from error
    if check and done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise ToolError(f"{' '.join(command)} ended with {done.returncode}:\n{tail}")
    return done


def log_path(step: str) -> Path:
    """Return build/logs/<step>.log and make its folder."""
    LOGS.mkdir(parents=True, exist_ok=True)
    return LOGS / f"{step}.log"


def run_logged(
    step: str, command: list[str], *, env: dict[str, str] | None = None, cwd: Path = ROOT
) -> int:
    """Run a command with all it prints appended to the step's log; return its exit status."""
    with log_path(step).open("a", encoding="utf-8") as log:
        log.write(f"\n$ {' '.join(command)}\n")
        log.flush()
        return subprocess.run(
            command, cwd=cwd, env=env, stdout=log, stderr=subprocess.STDOUT, check=False
        ).returncode


def tail(step: str, lines: int = 60) -> str:
    """Return the last lines of a step's log."""
    path = log_path(step)
    if not path.exists():
        return ""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def environment(venv: Path | None = None) -> dict[str, str]:
    """Return the environment as `source <venv>/bin/activate` leaves it, with ansible.cfg named.

    molecule finds ansible through PATH, so a venv must be active and not only called by its path. Without one it is
    that of the project which is active already, else .venv.
    """
    env = dict(os.environ)
    active = Path(env.get("VIRTUAL_ENV", ""))
    venv = venv or (active if active.parent == ROOT else ROOT / ".venv")
    env["VIRTUAL_ENV"] = str(venv)
    env["PATH"] = f"{venv / 'bin'}{os.pathsep}{env.get('PATH', '')}"
    env.pop("PYTHONHOME", None)
    env["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")
    # Debian's minimal images have no locale set; Ansible refuses to start without UTF-8.
    if "utf" not in (env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or "").lower():
        env["LC_ALL"] = "C.UTF-8"
    return env


def vault_password_file(inventory: Path) -> dict[str, str]:
    """Return the environment by which Ansible finds the password that `make secrets` made for an inventory.

    Empty where there is none, or where the environment names one already.
    """
    made = inventory / ".private" / "vault-password"
    return (
        {} if os.environ.get(VAULT_VARIABLE) or not made.is_file() else {VAULT_VARIABLE: str(made)}
    )


def as_root(command: list[str]) -> list[str] | None:
    """Return the command as root runs it, or None where neither root nor `sudo -n` is at hand."""
    if os.geteuid() == 0:
        return command
    if shutil.which("sudo") and run(["sudo", "-n", "true"], check=False).returncode == 0:
        return ["sudo", "-n", *command]
    return None


def main_guard(function: object) -> None:
    """Call a tool's main function; print a ToolError as a message, not as a traceback."""
    try:
        sys.exit(function())  # type: ignore[operator]
    except ToolError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
