"""Prepare the control node: virtual environment, Debian packages, Docker engine, test images.

Safe to repeat: each step looks first and does only what is missing. Nothing to do takes under two
seconds.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.common import (
    IMAGES,
    ROOT,
    ToolError,
    as_root,
    environment,
    image_name,
    main_guard,
    run,
    say,
)

PYTHONS = ("3.13", "3.12", "3.11")

# Command that must be there -> Debian package that brings it.
PACKAGES = {
    "docker": "docker.io",
    "dockerd": "docker.io",
    "git": "git",
    "java": "default-jdk-headless",
    "mmdebstrap": "mmdebstrap",
    "mvn": "maven",
    "rsync": "rsync",
    "shellcheck": "shellcheck",
    "ssh": "openssh-client",
}
# What it takes to manage servers; the others are for test hosts.
CONTROL = ("git", "mvn", "rsync", "ssh")
# Wanted by the tests alone; what needs it says so when it is missing.
TEST_PACKAGES = {"chromium": "chromium", "git-lfs": "git-lfs"}

# What a test host has before the roles come: what a Debian server has, and no more. python3-apt is
# there because apt-listchanges, of Debian's standard task, needs it; Ansible's check mode cannot do
# without.
HOST_PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "openssh-server",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
)
# What filled images have more, for the test hosts that are not asked whether a role installs what it needs: it is half
# of what takes a bare one its time. Nothing of it starts a service.
FILLING = (
    "acl",
    "curl",
    "default-jre-headless",
    "nftables",
    "python3-confluent-kafka",
    "python3-venv",
    "restic",
    "rsync",
    "zookeeper",
)
# Run once in the new system's root. sshd is for the scenario that asks for it, with its own keys.
HOST_HOOK = (
    'rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/apt/apt.conf.d/docker-clean; '
    'chroot "$1" systemctl disable --quiet ssh.service ssh.socket || true'
)
RECIPE_LABEL = "switchboard.recipe"


# -- the virtual environment -----------------------------------------------------------------------


def python_version(interpreter: str) -> str | None:
    """Return the interpreter's "3.x", or None where it does not run or has no venv module."""
    program = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(
            [interpreter, "-c", program], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def find_python(wanted: str | None) -> tuple[str, str]:
    """Return (path, version) of the interpreter to use.

    Args:
        wanted: a version ("3.11"), a path or a command; None takes the newest supported one.

    Raises:
        ToolError: no such interpreter, or one without a lock.
    """
    versions: tuple[str, ...] = PYTHONS
    if wanted:
        if wanted not in PYTHONS:
            version = python_version(wanted)
            if version in PYTHONS:
                return shutil.which(wanted) or wanted, version
            raise ToolError(
                f"PYTHON is {wanted}: it is {version or 'no usable Python'}. "
                f"Set it to one of {', '.join('python' + known for known in PYTHONS)}."
            )
        versions = (wanted,)
    for version in versions:
        # a distribution's own is built with its profile; one that was built at home takes a quarter more time
        names = [
            f"/usr/bin/python{version}",
            shutil.which(f"python{version}"),
            shutil.which("python3"),
        ]
        kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
        for candidate in [name for name in names if name] + [str(path) for path in kept[::-1]]:
            if python_version(candidate) == version:
                return candidate, version
    raise ToolError(
        f"Python {' or '.join(versions)} with its venv module was not found. "
        "Fix it with: sudo apt-get install python3-venv"
    )


def lock_of(version: str, name: str = "control") -> Path:
    """Return the lock file of one Python: what the control node runs with, or what the benchmarks add."""
    return ROOT / "requirements" / f"{name}-{version}.txt"


def pinned(lock: Path, project: str) -> str:
    """Return one project's lines of a lock: its version and hashes."""
    found = re.search(rf"^{project}==(?:.*\\\n)*.*\n", lock.read_text(encoding="utf-8"), re.M)
    if not found:
        raise ToolError(f"{lock.relative_to(ROOT)} does not pin {project}. Run: make lock")
    return found.group(0)


def index_settings(python: Path) -> dict[str, str]:
    """Return pip's configured index in uv's words, which does not read pip's configuration."""
    lines = run([str(python), "-m", "pip", "config", "list"], check=False).stdout
    names = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX"}
    found = re.findall(r"^(?:global|user|site|:env:)\.([a-z-]+)='(.*)'$", lines, re.M)
    return {names[key]: value for key, value in found if key in names}


def make_venv(folder: Path, wanted: str | None) -> None:
    """Make or repair a virtual environment so that it holds exactly its lock."""
    stamp = folder / ".lock"
    if wanted is None and stamp.exists() and (folder / "bin" / "python").exists():
        # An environment that is there keeps its Python; only PYTHON=… changes it.
        wanted = stamp.read_text(encoding="utf-8").split()[0]
    interpreter, version = find_python(wanted)
    lock = lock_of(version)
    mark = f"{version} {hashlib.sha256(lock.read_bytes()).hexdigest()}\n"
    python = folder / "bin" / "python"
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == mark:
        return
    say(f"{folder.name}: installing the lock for Python {version}")
    shutil.rmtree(folder, ignore_errors=True)
    run([interpreter, "-m", "venv", str(folder)])
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as first:
        first.write(pinned(lock, "uv"))
        first.flush()
        run([str(python), "-m", "pip", "install", "-q", "--require-hashes", "-r", first.name])
    install(folder, lock)
    stamp.write_text(mark, encoding="utf-8")
    say(f"{folder.name}: ready")


def install(folder: Path, lock: Path) -> None:
    """Install a lock into an environment that has uv."""
    python = folder / "bin" / "python"
    env = environment(folder) | index_settings(python)
    quick = [str(folder / "bin" / "uv"), "pip", "install", "-q", "--require-hashes"]
    if run([*quick, "-r", str(lock)], env=env, check=False).returncode != 0:
        say(f"{folder.name}: uv could not install it, pip tries")
        run([str(python), "-m", "pip", "install", "-q", "--require-hashes", "-r", str(lock)])


# -- Debian packages -------------------------------------------------------------------------------


def missing(commands: dict[str, str]) -> list[str]:
    """Return the packages whose command is not on PATH (nor in sbin, which users often lack)."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return sorted({commands[name] for name in commands if not shutil.which(name, path=path)})


def install_packages(commands: dict[str, str], *, required: bool = True) -> None:
    """Install what is missing from Debian's packages.

    Raises:
        ToolError: something required is missing and cannot be installed from here.
    """
    wanted = missing(commands)
    if not wanted:
        return
    remedy = f"sudo apt-get update && sudo apt-get install {' '.join(wanted)}"
    apt = as_root(["apt-get"]) if shutil.which("apt-get") else None
    if apt is None:
        if not required:
            return
        where = (
            "They need root: neither this user nor `sudo -n` may install packages."
            if shutil.which("apt-get")
            else "This is no Debian: install the same programs with your system's packages."
        )
        raise ToolError(
            f"Missing: {', '.join(wanted)}. {where}\nOn Debian, remedy it with: {remedy}"
        )
    say(f"packages: installing {' '.join(wanted)}")
    # A dpkg that was killed half-way refuses everything until this ran.
    if (dpkg := as_root(["dpkg", "--configure", "-a"])) is not None:
        run(dpkg, check=False)
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", *apt, "-q", "-o", "DPkg::Lock::Timeout=120"]
    if apt[0] == "sudo":
        quiet = [*apt[:2], "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]
    run([*quiet, "update"], check=False)
    done = run([*quiet, "install", "-y", "--no-install-recommends", *wanted], check=False)
    if done.returncode != 0 and required:
        lines = "\n".join((done.stdout + done.stderr).strip().splitlines()[-10:])
        raise ToolError(f"apt-get could not install {' '.join(wanted)}:\n{lines}\nTry: {remedy}")


# -- the Docker engine -----------------------------------------------------------------------------


def engine_answers() -> bool:
    """Tell whether `docker info` reaches an engine; a client on PATH alone proves nothing."""
    done = run(["docker", "info", "--format", "{{.ServerVersion}}"], check=False)
    return done.returncode == 0 and bool(done.stdout.strip())


def running(pid_file: Path, program: str) -> bool:
    """Tell whether the process that a pid file names is there and is that program."""
    try:
        pid = int(pid_file.read_text(encoding="ascii").strip())
        return Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip().startswith(program)
    except (OSError, ValueError):
        return False


def start_engine() -> None:
    """Start the engine where nothing answers, by systemd or by hand, and wait until it is ready.

    Raises:
        ToolError: it cannot be started from here, or is not ready within a minute.
    """
    if engine_answers():
        return
    if os.environ.get("DOCKER_HOST"):
        raise ToolError(
            f"DOCKER_HOST is {os.environ['DOCKER_HOST']}: no engine answers there. "
            "Start it, or unset DOCKER_HOST."
        )
    refused = run(["docker", "info"], check=False)
    said = (refused.stdout + refused.stderr).lower()
    if os.geteuid() != 0 and "permission denied" in said:
        raise ToolError(
            "The Docker engine runs, but this user may not use it.\n"
            'Fix it with: sudo usermod -aG docker "$USER"   (then sign in again)'
        )
    if Path("/run/systemd/system").is_dir():
        start = as_root(["systemctl", "start", "docker"])
        by_hand = False
    else:
        start = as_root(["dockerd"])
        by_hand = True
    if start is None:
        raise ToolError(
            "No Docker engine answers, and starting it needs root.\n"
            "Fix it with: sudo systemctl enable --now docker"
        )
    say("engine: starting")
    log = Path(tempfile.gettempdir()) / f"switchboard-dockerd-{os.geteuid()}.log"
    if by_hand:
        pids = {
            Path("/var/run/docker.pid"): "dockerd",
            Path("/var/run/docker/containerd/containerd.pid"): "containerd",
        }
        for pid_file, program in pids.items():
            # A killed engine leaves its number behind; by now it may be another program's.
            if pid_file.exists() and not running(pid_file, program):
                run(as_root(["rm", "-f", str(pid_file)]) or ["true"], check=False)
        if not running(Path("/var/run/docker.pid"), "dockerd"):
            with log.open("ab") as out:
                subprocess.Popen(
                    start,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    env=os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
                )
    else:
        run(start)
    for _ in range(240):
        if engine_answers():
            say("engine: ready")
            return
        time.sleep(0.25)  # the engine reports readiness nowhere but on its socket
    tail = log.read_text(errors="replace").splitlines()[-10:] if by_hand and log.exists() else []
    raise ToolError(
        "The Docker engine did not become ready within 60 s.\n"
        + "\n".join(tail)
        + "\nStart it yourself and run `make setup` again: "
        "sudo systemctl start docker, or sudo dockerd"
    )


# -- the test images -------------------------------------------------------------------------------


def contents(release: str) -> tuple[str, tuple[str, ...]]:
    """Return the code name of an image's Debian and the packages that it has beside the smallest system's."""
    filling = FILLING if release.endswith("-filled") else ()
    return IMAGES[release[:2]], (*HOST_PACKAGES, *filling)


def recipe(release: str) -> str:
    """Return the digest of what an image is made from; one with another digest is made anew."""
    codename, packages = contents(release)
    words = (codename, *packages, HOST_HOOK)
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def mirrors(codename: str) -> list[str]:
    """Return source lines for a Debian release on the mirrors that this machine itself uses.

    An empty list leaves the choice to mmdebstrap: this machine is no Debian, or names no mirror.
    """
    system = Path("/etc/os-release")
    if not system.exists() or "ID=debian" not in system.read_text(encoding="utf-8").split():
        return []
    folder = Path("/etc/apt")
    files = [*folder.glob("sources.list"), *folder.glob("sources.list.d/*.list")]
    files += folder.glob("sources.list.d/*.sources")
    text = "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)
    addresses = re.findall(
        r"^(?:URIs:\s*|deb\s+(?:\[[^]]*\]\s*)?)(https?://\S+/debian(?:-security)?)/?(?=\s)",
        text,
        re.M,
    )
    main = next((url for url in addresses if not url.endswith("-security")), None)
    security = next((url for url in addresses if url.endswith("-security")), None)
    if not main or not security:
        return []
    return [
        f"deb {main} {codename} main",
        f"deb {main} {codename}-updates main",
        f"deb {security} {codename}-security main",
    ]


def image_is_current(release: str) -> bool:
    """Tell whether the image is there and made from today's recipe."""
    form = f'{{{{index .Config.Labels "{RECIPE_LABEL}"}}}}'
    done = run(["docker", "image", "inspect", "--format", form, image_name(release)], check=False)
    return done.returncode == 0 and done.stdout.strip() == recipe(release)


def bootstrap_image(release: str) -> None:
    """Make an image with mmdebstrap and `docker import`: needs packages only, no image registry."""
    codename, packages = contents(release)
    build = [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        f"--include={','.join(packages)}",
        f"--customize-hook={HOST_HOOK}",
        codename,
        "-",
        *mirrors(codename),
    ]
    load = [
        "docker",
        "import",
        "--change",
        'CMD ["/lib/systemd/systemd"]',
        "--change",
        f"LABEL {RECIPE_LABEL}={recipe(release)}",
        "-",
        image_name(release),
    ]
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(build, stdout=subprocess.PIPE, stderr=errors) as system:
            done = subprocess.run(
                load, stdin=system.stdout, capture_output=True, text=True, check=False
            )
        errors.seek(0)
        if system.returncode != 0:
            run(["docker", "image", "rm", "-f", image_name(release)], check=False)
            raise ToolError("\n".join(errors.read().strip().splitlines()[-8:]))
    if done.returncode != 0:
        raise ToolError(done.stderr.strip())


def pull_image(release: str) -> None:
    """Make an image from Debian's official one, where a registry answers."""
    steps = (
        f"FROM debian:{release[:2]}\n"
        "RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y "
        f"--no-install-recommends {' '.join(contents(release)[1])} && rm -rf /var/lib/apt/lists/* && "
        f"sh -c '{HOST_HOOK}' hook /\n"
        f"LABEL {RECIPE_LABEL}={recipe(release)}\n"
        'CMD ["/lib/systemd/systemd"]\n'
    )
    done = subprocess.run(
        ["docker", "build", "--tag", image_name(release), "-"],
        input=steps,
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise ToolError("\n".join((done.stdout + done.stderr).strip().splitlines()[-8:]))


def make_image(release: str) -> None:
    """Make the image of one Debian release, or the filled one, unless it is current.

    Raises:
        ToolError: neither way worked; the message holds both reasons.
    """
    if image_is_current(release):
        return
    say(f"image of Debian {release}: making it")
    reasons = []
    ways: tuple[tuple[str, Callable[[str], None]], ...] = (
        ("mmdebstrap", bootstrap_image),
        ("docker build", pull_image),
    )
    for name, way in ways:
        try:
            way(release)
            say(f"image of Debian {release}: ready")
            return
        except ToolError as error:
            reasons.append(f"{name}: {error}")
    raise ToolError(
        f"The image of Debian {release} could not be made.\n" + "\n".join(reasons) + "\n"
        "One of the two must work: Debian's package mirror (as root, or with the package uidmap), "
        f"or a registry. Try: docker pull debian:{release[:2]}"
    )


# -- all of it -------------------------------------------------------------------------------------


def main() -> int:
    """Set up what the arguments ask for; the default is everything but the test packages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=os.environ.get("PYTHON") or None)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--venv-only", action="store_true", help="the environment alone")
    parser.add_argument("--control", action="store_true", help="without what test hosts take")
    parser.add_argument("--tests", action="store_true", help="also what only the tests need")
    options = parser.parse_args()
    folder = options.venv if options.venv.is_absolute() else ROOT / options.venv

    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / ".setup.lock").open("w") as lock:
        # Two set-ups at once would make the same folder; the second waits and finds it done.
        fcntl.flock(lock, fcntl.LOCK_EX)
        with ThreadPoolExecutor(max_workers=3) as pool:
            jobs = [pool.submit(make_venv, folder, options.python)]
            if options.control:
                install_packages({name: PACKAGES[name] for name in CONTROL})
            elif not options.venv_only:
                install_packages(PACKAGES)
                start_engine()
                kinds = ("", "-filled") if options.tests else ("",)
                jobs += [
                    pool.submit(make_image, release + kind) for kind in kinds for release in IMAGES
                ]
                if options.tests:
                    install_packages(TEST_PACKAGES, required=False)
            for job in jobs:
                job.result()
    if sys.stdout.isatty():
        say(f"ready. Activate it with: source {folder.name}/bin/activate")
    return 0


if __name__ == "__main__":
    main_guard(main)
