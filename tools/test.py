"""Run every proof of the project and sum up: the last line is `N passed, N failed`.

Steps run two at a time, or as many as LANES says, and beside them, one after the other and at a lower priority, those
that need no host, which take what the others leave idle. Each writes build/logs/<step>.log, and what pytest ran
build/junit/<step>.xml. The exit status is 0 only if every step ran something and nothing failed.

Of the tests on hosts, a few that fail are run a second time, alone. One that passes then is named at the end with what
it said at first: on a machine as small and busy as this one, it is a race, of the test's or of what it tests. More
than SECOND_TRIES of a step are a fault, and none of them gets another try.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tools.common import (
    BUILD,
    DEMO_HOST,
    LOGS,
    ROOT,
    ToolError,
    environment,
    log_path,
    main_guard,
    run,
    run_logged,
    say,
    tail,
)
from tools.setup import PACKAGES, find_python, install_packages

LANES = os.environ.get("LANES", "2")  # how many steps run at a time
SOAK = bool(os.environ.get("SWITCHBOARD_SOAK"))
JUNIT = BUILD / "junit"
OLD_VENV = ROOT / ".venv-3.11"
DEMO_VENV = BUILD / "venv-demo"
# Logs are read as text.
PLAIN = {"NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1"}
SUMMARY = BUILD / "summary.txt"
SECOND_TRIES = 3  # tests of one run of pytest
MESSAGE_LINES, MESSAGE_WIDTH = 5, 300  # of what a test that failed said, in the summary
# What the README tells a newcomer to type, against the demonstration server. What docs/first-server.md has too, such as
# `deploy`, is typed by tests/onboarding.
TYPED = (
    "demo",
    "verify",
    "secrets",
    "releases",
    "backup SITE=graphspace",
    "backups",
    "maintenance SITE=graphspace STATE=on",
    "maintenance SITE=graphspace STATE=off",
)
# What needs no host, and how it is run: a processor that waits for a host is theirs.
ASIDE = ("unit", "lint", "demo")
YIELDING = ("nice", "-n", "10")
# What begins on images without the packages that the others' have, which are made meanwhile.
BARE = ("default", "debian12")
QUICK = [f"tests/behaviour/test_{name}.py" for name in ("routing", "daphne", "notifications")]


@dataclass
class Outcome:
    """What one step counted."""

    step: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    complaints: list[str] = field(default_factory=list)
    unsteady: list[str] = field(default_factory=list)

    def check(self, name: str, good: bool) -> None:
        """Count one check that is not a pytest test."""
        if good:
            self.passed += 1
        else:
            self.failed += 1
            self.complaints.append(name)

    def add_junit(self, path: Path, second: Path | None = None) -> None:
        """Count the tests of one pytest run; one that ran nothing counts as one failure.

        Args:
            path: what pytest wrote.
            second: what it wrote of those that failed, run once more.
        """
        suites = []
        if path.exists():
            suites = list(ElementTree.parse(path).getroot().iter("testsuite"))  # noqa: S314 - our own file
        if not sum(int(suite.get("tests", 0)) for suite in suites):
            self.check(f"no test ran ({path.name})", False)
        then = results(second) if second else {}
        for name, said in results(path).items():
            if said and then.get(name) == "":
                self.unsteady.append(f"{name}\n      {said}")
                self.passed += 1
                self.failed -= 1
            elif said:
                self.complaints.append(f"{name}\n      {said}")
        for suite in suites:
            bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped = int(suite.get("skipped", 0))
            # An error of a fixture's end is one more than the tests; nothing passes twice.
            self.passed += max(0, int(suite.get("tests", 0)) - bad - skipped)
            self.failed += bad
            self.skipped += skipped


def results(path: Path) -> dict[str, str]:
    """Return what each test of a pytest run said when it failed, "" for the others, by its name."""
    found: dict[str, str] = {}
    if not path.exists():
        return found
    for case in ElementTree.parse(path).getroot().iter("testcase"):  # noqa: S314 - our own file
        name = f"{case.get('classname')}::{case.get('name')}"
        for trouble in [*case.findall("failure"), *case.findall("error")]:
            lines = (trouble.get("message") or "it failed").splitlines()[:MESSAGE_LINES]
            found[name] = "\n      ".join(line[:MESSAGE_WIDTH] for line in lines)
        found.setdefault(name, "")
    return found


def junit(step: str) -> Path:
    """Return build/junit/<step>.xml, with its folder made and an older file removed."""
    JUNIT.mkdir(parents=True, exist_ok=True)
    path = JUNIT / f"{step}.xml"
    path.unlink(missing_ok=True)
    return path


def tracked_shell_scripts() -> list[str]:
    """Return the project's shell scripts: by name, or by their first line."""
    done = run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], check=False)
    found = []
    for name in done.stdout.splitlines():
        path = ROOT / name
        if not path.is_file() or path.suffix in {".j2", ".py", ".yml"}:
            continue
        with path.open("rb") as file:
            first = file.readline(80)
        if path.suffix == ".sh" or (first.startswith(b"#!") and b"sh" in first.split(b"/")[-1]):
            found.append(name)
    return found


def lint(outcome: Outcome) -> None:
    """Style and types; each tool counts one."""
    checks: dict[str, list[str]] = {
        "yamllint": ["yamllint", "--strict", "."],
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
        "mypy": ["mypy", "plugins", "tools", "tests"],
        "shellcheck": ["shellcheck", *tracked_shell_scripts()],
        "ansible-lint": ["ansible-lint", "--nocolor", "-q"],
    }
    env = environment() | PLAIN
    for name, command in checks.items():
        outcome.check(name, run_logged(outcome.step, [*YIELDING, *command], env=env) == 0)


def counted(outcome: Outcome, name: str, pytest: Callable[[str], int]) -> int:
    """Run pytest, a few of the tests that fail once more, and count them; return the first exit status.

    Args:
        outcome: where they count.
        name: that of the report.
        pytest: runs it with options as PYTEST_ADDOPTS has them, and returns the exit status.
    """
    report, second = junit(name), None
    cache = BUILD / "cache" / name  # two steps that run at a time must not mix up what failed
    shutil.rmtree(cache, ignore_errors=True)
    options = f"-o {shlex.quote(f'cache_dir={cache}')}"
    status = pytest(f"{options} {shlex.quote(f'--junitxml={report}')}")
    if 0 < sum(said != "" for said in results(report).values()) <= SECOND_TRIES:
        second = junit(f"{name}-again")
        options += " --last-failed --last-failed-no-failures=none"
        pytest(f"{options} {shlex.quote(f'--junitxml={second}')}")
    outcome.add_junit(report, second)
    return status


def pytest_step(folder: str, venv: Path, *, hosts: bool = True) -> Callable[[Outcome], None]:
    """Return a step that runs one folder of tests by the Ansible of an environment.

    Args:
        folder: of tests/.
        venv: of the Ansible.
        hosts: whether the tests make hosts; without them, a test that fails gets no second try.
    """

    def step(outcome: Outcome) -> None:
        env = environment(venv)
        command = [*(() if hosts else YIELDING), "pytest", folder]

        def pytest(options: str) -> int:
            return run_logged(outcome.step, command, env=env | {"PYTEST_ADDOPTS": options})

        if hosts:
            counted(outcome, outcome.step, pytest)
        else:
            report = junit(outcome.step)
            pytest(shlex.quote(f"--junitxml={report}"))
            outcome.add_junit(report)

    return step


def demo_tests(outcome: Outcome) -> None:
    """The demonstration project's own tests, in an environment of its own lock."""
    lock = ROOT / "demo" / "requirements-dev.txt"
    stamp = DEMO_VENV / ".lock"
    uv = str(ROOT / ".venv" / "bin" / "uv")
    if not stamp.exists() or stamp.read_bytes() != lock.read_bytes():
        shutil.rmtree(DEMO_VENV, ignore_errors=True)
        run([str(ROOT / ".venv" / "bin" / "python"), "-m", "venv", str(DEMO_VENV)])
        env = environment(DEMO_VENV)
        install = ["pip", "install", "-q", "--require-hashes", "-r", str(lock)]
        if run_logged(outcome.step, [uv, *install], env=env) != 0:
            run([str(DEMO_VENV / "bin" / "pip"), *install[1:]])
        stamp.write_bytes(lock.read_bytes())
    report = junit(outcome.step)
    command = [*YIELDING, "pytest", f"--junitxml={report}"]
    run_logged(outcome.step, command, env=environment(DEMO_VENV), cwd=ROOT / "demo")
    outcome.add_junit(report)


def scenario(
    name: str, venv: Path, *, then: tuple[str, ...] = (), soaked: tuple[str, ...] = ()
) -> Callable[[Outcome], None]:
    """Return a step that takes one molecule scenario through its whole sequence.

    Args:
        name: folder of molecule/.
        venv: whose Ansible drives it.
        then: folders of tests/ that run against the host before it is removed, whatever the scenario's own tests said;
            `folder:mark` takes those with a mark alone, but for `make soak`.
        soaked: what is left to `make soak`: folders of tests/ that come after those of `then`, and files or tests
            of tests/behaviour (`test_browser`).
    """

    def step(outcome: Outcome) -> None:
        env = environment(venv) | PLAIN | {"MOLECULE_COMMAND_BORDERS": "0"}
        if SOAK:
            env["SWITCHBOARD_BALANCER_DEBIAN"] = "12"  # of molecule/web
        left = [word for word in soaked if word.startswith("test_") and not SOAK]
        some = f" -k 'not ({' or '.join(left)})'" if left else ""
        remove = ["molecule", "destroy", "--scenario-name", name]
        run_logged(outcome.step, remove, env=env)  # what a killed run left
        command = ["molecule", "test", "--scenario-name", name, "--destroy=never"]

        def pytest(options: str) -> int:
            nonlocal command
            tests = env | {"PYTEST_ADDOPTS": options + some}
            status = run_logged(outcome.step, command, env=tests)
            command = ["molecule", "verify", "--scenario-name", name]  # for a second try
            return status

        try:
            status = counted(outcome, outcome.step, pytest)
            converged = (JUNIT / f"{outcome.step}.xml").exists()
            troubled = outcome.failed + len(outcome.unsteady)
            outcome.check("molecule test: its sequence", status == 0 or troubled > 0)
            late = [word for word in soaked if not word.startswith("test_") and SOAK]
            for folder in [*then, *late] if converged else ():
                path, _, mark = folder.partition(":")
                marked = ["-m", mark] if mark and not SOAK else []
                run_tests(outcome, name, [f"tests/{path}", *marked], env)
        finally:
            run_logged(outcome.step, remove, env=env)

    return step


def quick(outcome: Outcome) -> None:
    """What a contributor asks for between two edits: one server over SSH, its routing and its notifications."""
    env = environment() | PLAIN | {"MOLECULE_COMMAND_BORDERS": "0"}
    remove = ["molecule", "destroy", "--scenario-name", "single"]
    run_logged(outcome.step, remove, env=env)  # what a killed run left
    try:
        command = ["molecule", "converge", "--scenario-name", "single"]
        outcome.check("molecule converge", run_logged(outcome.step, command, env=env) == 0)
        run_tests(outcome, "single", QUICK, env)
    finally:
        run_logged(outcome.step, remove, env=env)


def run_tests(outcome: Outcome, name: str, paths: list[str], env: dict[str, str]) -> None:
    """Run tests against the host of a scenario that is converged, and count them."""
    command = ["pytest", *paths, "--connection=ansible", "--hosts=ansible://switchboard"]
    command += [f"--ansible-inventory={inventory_of(name, env)}"]

    def pytest(options: str) -> int:
        return run_logged(outcome.step, command, env=env | {"PYTEST_ADDOPTS": options})

    counted(outcome, f"{outcome.step}-{Path(paths[0]).stem}", pytest)


def inventory_of(name: str, env: dict[str, str]) -> str:
    """Return the folder of the inventory that molecule wrote for a scenario."""
    program = (
        "import sys; from molecule import config; "
        "c = config.Config(sys.argv[1], args={}); print(c.provisioner.inventory_directory)"
    )
    path = str(ROOT / "molecule" / name / "molecule.yml")
    return run(["python", "-c", program, path], env=env).stdout.strip().splitlines()[-1]


def readme_commands(outcome: Outcome) -> None:
    """Type what the README tells a newcomer to type for the demonstration server."""
    env = environment() | PLAIN
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^    make ([\w-]+)[ \w=/-]* #", readme, re.M)
    if run(["docker", "container", "inspect", DEMO_HOST], check=False).returncode == 0:
        raise ToolError("A demonstration server is there already: `make demo-down` removes it.")
    try:
        for words in TYPED:
            target, *settings = words.split()
            report = junit(f"{outcome.step}-{target}")
            tests = env | {"PYTEST_ADDOPTS": f"--junitxml={report}"}
            outcome.check(f"README: make {target}", target in listed)
            done = run_logged(
                outcome.step, ["make", "--no-print-directory", target, *settings], env=tests
            )
            outcome.check(f"make {words}", done == 0)
            if done:
                break
            if target == "verify":
                outcome.add_junit(report)
                page = BUILD / "verify" / "demo" / "report.html"
                good = page.exists() and "Everything is as it should be" in page.read_text("utf-8")
                outcome.check("make verify: its page says that all is good", good)
    finally:
        done = run_logged(outcome.step, ["make", "--no-print-directory", "demo-down"], env=env)
        outcome.check("make demo-down", done == 0)


def processor_time() -> tuple[int, int]:
    """Return what all cores idled since the boot, and their whole time, in the kernel's ticks (proc_stat(5))."""
    first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    ticks = [int(word) for word in first.split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def timed(name: str, step: Callable[[Outcome], None]) -> Outcome:
    """Run one step, say how it went, and turn what it raises into a failure."""
    outcome = Outcome(name)
    log_path(name).unlink(missing_ok=True)
    say(f"{name}: started")
    start, before = time.monotonic(), processor_time()
    try:
        step(outcome)
    except ToolError as error:
        with log_path(name).open("a", encoding="utf-8") as log:
            log.write(f"{error}\n")
        outcome.check(str(error).splitlines()[0], False)
    if not outcome.passed and not outcome.failed:
        outcome.check("nothing ran", False)
    skipped = f", {outcome.skipped} skipped" if outcome.skipped else ""
    took, (idle, whole) = time.monotonic() - start, processor_time()
    idled = 100 * (idle - before[0]) / max(1, whole - before[1])
    say(
        f"{name}: {outcome.passed} passed, {outcome.failed} failed{skipped} "
        f"in {took:.0f} s; the processor was idle for {idled:.0f} % of it"
    )
    if outcome.failed:
        print(f"--- {name}: the end of build/logs/{name}.log", flush=True)
        print(tail(name), flush=True)
        print(f"--- {name}: failed", *outcome.complaints, sep="\n  ", flush=True)
    return outcome


def set_up(*options: str, env: dict[str, str] | None = None) -> None:
    """Set up what options of tools.setup say.

    Raises:
        ToolError: it did not finish; the reason is printed.
    """
    command = [sys.executable, "-m", "tools.setup", *options]
    if subprocess.run(command, cwd=ROOT, check=False, env=env).returncode:
        raise ToolError("The set-up did not finish; the reason stands above.")


def environments() -> Path:
    """Make the two environments; return the one that drives most hosts.

    That is Debian's own Python 3.11, which takes a fifth less processor time for a run than one that was built without
    its profile. Where it is missing, every step runs with the newest.
    """
    set_up("--venv-only")
    env = {key: value for key, value in os.environ.items() if key != "PYTHON"}
    try:
        find_python("3.11")
    except ToolError:
        say("no Python 3.11 here: every step runs with the newest Python")
        return ROOT / ".venv"
    set_up("--venv-only", "--python", "3.11", "--venv", OLD_VENV.name, env=env)
    return OLD_VENV


def run_steps(chosen: dict[str, Callable[[Outcome], None]]) -> list[Outcome]:
    """Run steps, each once what it takes is set up: what needs no host first, then what takes bare images alone.

    A set-up that fails counts as a step that does, beside those that have begun.
    """
    hosts = set(chosen) - set(ASIDE)
    beside = [name for name in chosen if name in ASIDE] if hosts else []
    bare = [name for name in chosen if name in BARE]
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(int(LANES)) as pool, ThreadPoolExecutor(1) as aside:
        first = aside.submit(lambda: [timed(name, chosen[name]) for name in beside])
        others = []
        try:
            for names, options in ((bare, []), ([*set(chosen) - {*beside, *bare}], ["--tests"])):
                if hosts and (names or options):
                    set_up(*options)
                others += [
                    pool.submit(timed, name, chosen[name]) for name in chosen if name in names
                ]
        except ToolError as error:
            outcomes.append(Outcome("set-up"))
            outcomes[0].check(str(error), False)
        outcomes += [step.result() for step in others] + first.result()
    return outcomes


def closing_line(passed: int, failed: int) -> None:
    """Print the sum, and keep it for .ci/run, which must print it last."""
    text = f"{passed} passed, {failed} failed"
    SUMMARY.write_text(f"{text}\n", encoding="utf-8")
    print(text, flush=True)


def main() -> int:
    """Run the steps that the arguments name, or all of them."""
    if not LANES.isdigit() or int(LANES) < 1:
        raise ToolError(f"LANES is {LANES!r}: it must be a number from 1. Set one.")
    LOGS.mkdir(parents=True, exist_ok=True)
    SUMMARY.unlink(missing_ok=True)
    wanted = sys.argv[1:]
    only_style = bool(wanted) and set(wanted) <= {"lint", "unit"}
    # what unit and lint take, on a machine without an engine too
    install_packages({name: PACKAGES[name] for name in ("git", "shellcheck")})
    new = ROOT / ".venv"
    if only_style:
        set_up("--venv-only")
    old = new if only_style else environments()
    # the longest first, so that the lanes end at about the same time
    steps: dict[str, Callable[[Outcome], None]] = {
        "default": scenario(
            "default",
            old,
            then=("attacks", "refusals", "removal"),
            soaked=("test_a_job_that_runs_during_a_release_ends_once",),
        ),
        "debian12": scenario(
            "debian12",
            new,
            then=("attacks:core", "faults"),
            soaked=(
                *("test_browser", "test_workers", "test_backup", "test_logs"),
                *("test_the_next_run_would_change_nothing", "releases"),
            ),
        ),
        "single": scenario(
            "single",
            old,
            then=("releases", "mutations", "interruptions", "alerts", "move"),
            soaked=(
                *("test_kafka_users", "test_messaging", "test_apache", "test_strangers"),
                *("test_files", "test_limits", "test_backup", "test_logs"),
            ),
        ),
        "cluster": scenario("cluster", old, soaked=("test_messaging",)),
        "web": scenario("web", old),
        "onboarding": pytest_step("tests/onboarding", old),
        "upgrade": pytest_step("tests/upgrade", old),
        "drill": pytest_step("tests/drill", old),
        "readme": readme_commands,
        "postgresql": pytest_step("tests/postgresql", old),
        "unit": pytest_step("tests/unit", new, hosts=False),
        "lint": lint,
        "demo": demo_tests,
    }
    # a part of the others; what nobody runs a server with; what takes longer than all of them should
    alone: dict[str, Callable[[Outcome], None]] = {
        "quick": quick,
        "seed": scenario("seed", old),
        "whole": pytest_step("tests/whole", old),
        "kraft": scenario("kraft", old),
        "kraft-cluster": scenario("kraft-cluster", old),
    }
    former = (ROOT / "tests" / "upgrade" / "from").read_text(encoding="utf-8").strip()
    there = run(["git", "cat-file", "-e", f"{former}^{{commit}}"], check=False).returncode == 0
    if not there and "upgrade" not in wanted:
        say(f"upgrade: left out, for this clone has no commit {former[:12]} to upgrade from")
        del steps["upgrade"]
    unknown = set(wanted) - set(steps | alone)
    if unknown:
        raise ToolError(
            f"No such step: {', '.join(sorted(unknown))}. There are: {', '.join(steps | alone)}."
        )
    chosen = {name: step for name, step in (steps | alone).items() if name in (wanted or steps)}
    outcomes = run_steps(chosen)

    print()
    for outcome in outcomes:
        print(
            f"  {outcome.step:10} {outcome.passed:5} passed {outcome.failed:4} failed "
            f"{outcome.skipped:4} skipped"
        )
        for complaint in outcome.complaints:
            print(f"    failed: {complaint}")
        for complaint in outcome.unsteady:
            print(f"    failed, and passed alone: {complaint}")
    passed = sum(outcome.passed for outcome in outcomes)
    failed = sum(outcome.failed for outcome in outcomes)
    say("done")
    closing_line(passed, failed)
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    main_guard(main)
