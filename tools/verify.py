"""Verify the servers of an inventory: run the harmless tests, write a page and its data, tell by the exit code.

Exit codes: 0 all is good, 1 something fell short, 2 not everything could be looked at, 130 interrupted.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.common import (
    BUILD,
    ROOT,
    ToolError,
    environment,
    main_guard,
    run,
    vault_password_file,
)

FOLDER = BUILD / "verify"
GOOD, SHORT, UNSEEN, INTERRUPTED = 0, 1, 2, 130
# What pytest's exit codes mean here: 2 is an interrupt, and ours; 3 to 5 are its own errors and "no test ran".
CODES = {0: GOOD, 1: SHORT}
DATED = "????-??-??T??????"


def inventory_name(path: Path) -> str:
    """Return what an inventory is called in a report: its path from here, or the whole of it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def report_folder(path: Path) -> Path:
    """Return where the reports of an inventory are: build/verify/<name>, without the folder `inventory`."""
    name = inventory_name(path).removeprefix("inventory/").strip("/")
    return FOLDER / (re.sub(r"[^\w.-]+", "-", name) or "inventory")


def found(inventory: str) -> Path:
    """Return the path of an inventory.

    Raises:
        ToolError: it is not there.
    """
    path = Path(os.path.abspath(ROOT / inventory))
    if not path.exists():
        there = sorted(inventory_name(folder) for folder in (ROOT / "inventory").glob("*/"))
        raise ToolError(
            f"There is no inventory {inventory}. Of those here, name one: {', '.join(there)}"
        )
    return path


def keep(folder: Path, number: int) -> None:
    """Copy the report to a folder of its time, and remove all but the last `number` of these."""
    if not (folder / "report.json").exists():
        return
    started = json.loads((folder / "report.json").read_text(encoding="utf-8"))["started"]
    dated = folder / datetime.datetime.fromisoformat(started).strftime("%Y-%m-%dT%H%M%S")
    dated.mkdir(exist_ok=True)
    for name in ("report.json", "report.html"):
        shutil.copy2(folder / name, dated / name)
    for old in sorted(folder.glob(DATED))[:-number]:
        shutil.rmtree(old)


def verify(inventory: Path, folder: Path, *, quiet: bool, extra: list[str]) -> int:
    """Run the tests; return the exit code.

    Args:
        inventory: its path.
        folder: of the report; an older one there is removed first.
        quiet: leave standard output alone.
        extra: more arguments for pytest.
    """
    for name in ("report.json", "report.html"):
        (folder / name).unlink(missing_ok=True)
    command = ["pytest", "tests/behaviour", "-m", "not disruptive", "-rN", "--connection=ansible"]
    command += ["-o", "verbosity_assertions=2"]  # what was found is shown whole
    command += ["--hosts=ansible://switchboard", f"--ansible-inventory={inventory}"]
    command += [f"--verify-report={folder}", f"--verify-name={inventory_name(inventory)}", *extra]
    env = environment() | vault_password_file(inventory)
    done = subprocess.run(
        command, cwd=ROOT, env=env, stdout=sys.stderr if quiet else None, check=False
    )
    if (folder / "report.json").exists() and done.returncode in CODES:
        return CODES[done.returncode]
    return UNSEEN


def tell(inventory: Path, report: Path) -> None:
    """Leave word of a report on the hosts that watch themselves; what was found stands without it."""
    words = ["ansible-playbook", "-i", str(inventory), "playbooks/verified.yml"]
    env = environment() | vault_password_file(inventory)
    done = run([*words, "-e", f"verify_report={report}"], env=env, check=False)
    if done.returncode:
        print(f"The hosts' metrics do not know of it:\n{done.stdout[-2000:]}", file=sys.stderr)


def main() -> int:
    """Read the arguments and verify."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.verify", description=__doc__)
    parser.add_argument(
        "--inventory", default="inventory/demo", help="its folder (default: %(default)s)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the data, and nothing else, on standard output"
    )
    parser.add_argument(
        "--keep", type=int, metavar="N", default=0, help="keep the last N reports beside this one"
    )
    parser.add_argument(
        "--tell", action="store_true", help="let the metrics of the hosts know what was found"
    )
    arguments, extra = parser.parse_known_args()
    if arguments.keep < 0:
        parser.error(f"--keep is {arguments.keep}: it is a number from 0.")
    try:
        inventory = found(arguments.inventory)
        if not (ROOT / ".venv" / "bin" / "pytest").exists():
            raise ToolError("There is no pytest in .venv: `make setup` prepares this machine.")
    except ToolError as error:
        print(f"\n{error}", file=sys.stderr)
        return UNSEEN
    folder = report_folder(inventory)
    folder.mkdir(parents=True, exist_ok=True)
    code = verify(inventory, folder, quiet=arguments.json, extra=extra)
    if arguments.tell and (folder / "report.json").exists():
        tell(inventory, folder / "report.json")
    if arguments.keep:
        keep(folder, arguments.keep)
    if arguments.json and (folder / "report.json").exists():
        print((folder / "report.json").read_text(encoding="utf-8"), end="")
    return code


if __name__ == "__main__":
    main_guard(main)
