"""Start the demonstration server in a container and deploy the site on it, or remove it."""

from __future__ import annotations

import ast
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from tools.common import DEMO_HOST, ROOT, ToolError, environment, image_name, main_guard, run, say

ADDRESS = "127.0.0.1"
PORT = 8080
URL = f"http://{ADDRESS}:{PORT}/"
SEED = ROOT / "demo" / "graphs" / "management" / "commands" / "seed.py"


def container(question: str) -> str:
    """Return what `docker inspect` says of the server, empty where there is none."""
    return run(["docker", "inspect", "--format", question, DEMO_HOST], check=False).stdout.strip()


def refuse_taken_port() -> None:
    """Raise a ToolError where another program listens on the demo's port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, PORT))
        except OSError as error:
            raise ToolError(
                f"Port {PORT} of {ADDRESS} is taken ({error.strerror}): the demonstration "
                f"site answers there. See who has it with: ss -ltnp 'sport = :{PORT}'"
            ) from error


def play(*arguments: str) -> None:
    """Run ansible-playbook with its output on the terminal.

    Raises:
        ToolError: it failed; what went wrong stands above.
    """
    done = subprocess.run(
        ["ansible-playbook", "-i", "inventory/demo", *arguments],
        cwd=ROOT,
        env=environment(),
        check=False,
    )
    if done.returncode != 0:
        raise ToolError(
            "The demonstration server could not be set up; the reason stands above. "
            "`make demo` goes on where it stopped, `make demo-down` removes the server."
        )


def start() -> None:
    """See to it that the server runs and is prepared; what is there stays."""
    state = container("{{.State.Status}}")
    if state in {"exited", "created", "paused"}:
        run(["docker", "unpause" if state == "paused" else "start", DEMO_HOST])
    ready = ["docker", "exec", DEMO_HOST, "test", "-e", "/etc/pip.conf"]
    if state and run(ready, check=False).returncode == 0:
        return
    if not state:
        refuse_taken_port()
    say("demo: starting the server")
    hosts = {
        "test_hosts": [
            {
                "name": DEMO_HOST,
                "image": image_name("13"),
                "published_ports": [f"{ADDRESS}:{PORT}:80"],
            }
        ]
    }
    play(
        "molecule/shared/create.yml",
        "molecule/shared/prepare.yml",
        "--extra-vars",
        json.dumps(hosts),
    )


def wait_for_site(seconds: float = 60) -> None:
    """Wait until the site answers a page, as a browser on this machine would ask for it."""
    end = time.monotonic() + seconds
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            with opener.open(URL, timeout=5):
                return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > end:
                raise ToolError(f"{URL} does not answer: {error}") from error
            time.sleep(0.5)  # Apache may still be starting


def sign_ins() -> list[tuple[str, str]]:
    """Return (name, password) of the people that the demo's seed command makes."""
    people: list[str] = []
    for node in ast.parse(SEED.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PEOPLE":
            people = ast.literal_eval(node.value)
    answer = run(
        ["ansible-inventory", "-i", "inventory/demo", "--host", DEMO_HOST], env=environment()
    )
    password = json.loads(answer.stdout)["sites"]["graphspace"]["secrets"]["SEED_PASSWORD"]
    return [(name, password) for name in people]


def up() -> None:
    """Deploy the site on a server that runs, and say how to sign in."""
    if subprocess.run([sys.executable, "-m", "tools.setup"], cwd=ROOT, check=False).returncode:
        raise ToolError("The set-up did not finish; the reason stands above.")
    start()
    say("demo: deploying the site (the first time takes some minutes)")
    play("site.yml")
    wait_for_site()
    print(f"\nThe site answers at {URL}\nSign in as")
    for name, password in sign_ins():
        print(f"  {name:8} {password}")
    print(
        "\nUse two browsers (or a private window) and two people: who shares a graph with a "
        "group makes the bell of the others count up.\n`make demo-down` removes the server."
    )


def main() -> int:
    """Read the one argument, `up` or `down`."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command == "up":
        up()
    elif command == "down":
        gone = container("{{.Id}}")
        if gone:
            run(["docker", "rm", "--force", "--volumes", DEMO_HOST])
        say(f"demo: {'removed' if gone else 'there was none'}")
    else:
        raise ToolError("Usage: python3 -m tools.demo up|down")
    return 0


if __name__ == "__main__":
    main_guard(main)
