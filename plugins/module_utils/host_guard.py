"""A change that is taken back by the host itself, unless somebody comes back over a new connection and confirms it.

What was there before a change lies in ``/var/lib/switchboard/guard/<name>``, with a script that puts it back. A timer
of systemd runs the script. Both are on the disk, so that a host that was switched off and on again takes the change
back as well. Once confirmed or taken back, nothing of the guard is left.
"""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path("/var/lib/switchboard/guard")
UNITS = Path("/etc/systemd/system")
RESTORE = "restore"

Run = Callable[[list[str]], tuple[int, str, str]]

SERVICE = """[Unit]
Description=Take back a change of {name} that nobody has confirmed

[Service]
Type=oneshot
ExecStart=/bin/sh {script}
"""
TIMER = """[Unit]
Description=Take back a change of {name}, unless it is confirmed in time

[Timer]
OnActiveSec={seconds}
AccuracySec=100ms

[Install]
WantedBy=timers.target
"""


def unit(name: str) -> str:
    """Return the name of the guard's units, without the suffix."""
    return f"switchboard-guard-{name}"


def armed(root: Path = ROOT) -> list[str]:
    """Return the names of the changes that are not confirmed yet."""
    return sorted(path.parent.name for path in root.glob(f"*/{RESTORE}"))


def remains(name: str, root: Path, units: Path) -> list[Path]:
    """Return what the guard has put on the host; the folder is the last, since it says that the guard is armed."""
    timer = f"{unit(name)}.timer"
    return [
        units / "timers.target.wants" / timer,
        units / timer,
        units / f"{unit(name)}.service",
        root / name,
    ]


def script(
    name: str,
    saved: Sequence[tuple[str, bool]],
    before: Sequence[str],
    after: Sequence[str],
    root: Path,
    units: Path,
) -> str:
    """Return the shell script that brings everything back.

    Args:
        name: the guard.
        saved: the paths; whether each was there, and so lies in the guard's folder under its number.
        before: commands that come first; what they return does not matter.
        after: commands that come when the files are back.
        root: the folder of all guards.
        units: the folder of systemd's units.
    """
    lines = [
        "# What was there before a change. Run by a timer, unless the change is confirmed.",
        "wrong=",
    ]
    lines += [f"{command} || true" for command in before]
    for number, (path, there) in enumerate(saved):
        if there:
            copy = shlex.quote(str(root / name / str(number)))
            place = shlex.quote(path)
            lines.append(
                f"cp --archive {copy} {place}.guard && mv --force {place}.guard {place} || wrong=1"
            )
        else:
            lines.append(f"rm --force {shlex.quote(path)}")
    lines.append("systemctl daemon-reload")
    lines += [f"{command} || true" for command in after]
    lines.append(f"logger --tag switchboard 'took back a change of {name}: nobody confirmed it'")
    # what could not be put back stays where it is kept, and the timer tries again
    lines.append(
        f'[ -z "$wrong" ] || {{ systemctl --no-block restart {unit(name)}.timer; exit 1; }}'
    )
    lines += [
        f"rm --recursive --force {shlex.quote(str(path))}" for path in remains(name, root, units)
    ]
    lines += ["systemctl daemon-reload", f"systemctl stop {unit(name)}.timer"]
    return "".join(f"{line}\n" for line in lines)


def arm(
    name: str,
    paths: Sequence[str],
    seconds: int,
    run: Run,
    *,
    before: Sequence[str] = (),
    after: Sequence[str] = (),
    root: Path = ROOT,
    units: Path = UNITS,
) -> None:
    """Keep what is there now, and let the host put it back after so many seconds.

    Where the guard is armed already, an earlier change was not confirmed: what was there before that one is kept, and
    the time begins anew. Where this change touches more, the earlier one is taken back first.

    Raises:
        OSError: the state can't be kept, or the timer does not start; nothing may be changed then.
    """
    folder = root / name
    former = folder / RESTORE
    text = former.read_text(encoding="utf-8") if former.exists() else ""
    if any(shlex.quote(path) not in text for path in paths if text):
        # it does not know all of them: take the former change back, and begin anew
        run(["/bin/sh", str(former)])
    if not former.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        root.chmod(0o700)
        saved = []
        for number, path in enumerate(paths):
            there = Path(path).exists() or Path(path).is_symlink()
            if there:
                code, _, told = run(["cp", "--archive", path, str(folder / str(number))])
                if code:
                    raise OSError(f"{path} can't be kept: {told.strip()}")
            saved.append((path, there))
        text = script(name, saved, before, after, root, units)
        temporary = folder / f"{RESTORE}.new"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(folder / RESTORE)
    service = SERVICE.format(name=name, script=folder / RESTORE)
    (units / f"{unit(name)}.service").write_text(service, encoding="utf-8")
    (units / f"{unit(name)}.timer").write_text(
        TIMER.format(name=name, seconds=seconds), encoding="utf-8"
    )
    timer = f"{unit(name)}.timer"
    for words in (["daemon-reload"], ["enable", "--quiet", timer], ["restart", timer]):
        code, out, told = run(["systemctl", *words])
        if code:
            raise OSError(f"systemctl {' '.join(words)} fails: {(told or out).strip()}")


def disarm(name: str, run: Run, root: Path = ROOT, units: Path = UNITS) -> bool:
    """Confirm a change; return whether it still was there to be confirmed."""
    run(["systemctl", "stop", f"{unit(name)}.timer"])
    while restoring(name, run):
        time.sleep(0.2)  # the script ends by itself
    if name not in armed(root):
        return False
    for path in remains(name, root, units):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    run(["systemctl", "daemon-reload"])
    return True


def restoring(name: str, run: Run) -> bool:
    """Return whether the script runs now; a unit of the type oneshot is `activating` meanwhile."""
    words = ["systemctl", "show", "--property=ActiveState", "--value", f"{unit(name)}.service"]
    return run(words)[1].strip() == "activating"
