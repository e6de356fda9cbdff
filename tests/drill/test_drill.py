"""A server is lost, and a new one takes its place with every row that was committed before the backup.

The snapshots lie on another server, reached over SFTP. The tests run in order, each with what the one before left.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.people import Person, Target
from tests.onboarding.server import Run
from tools.bench import Host
from tools.common import ROOT, environment, vault_password_file

SITE = "graphspace"
DOMAIN = "lab.test"
WHO, WORD = "linnea", "a-word-of-linnea-alone"
# What `make secrets` writes into an inventory: its owner keeps it, whatever server is lost.
KEPT = ("group_vars/all/secrets.yml", ".private/vault-password")
DATABASE = f"/srv/{SITE}/data/{SITE}.sqlite3"
MEDIA = f"/srv/{SITE}/data/media/photo.bin"
VAULT = "/home/admin/lab"
NAMES = """import json, sqlite3, sys
rows = sqlite3.connect(sys.argv[1]).execute("SELECT name FROM graphs_graph")
print(json.dumps([name for name, in rows]))"""
MAKE = f"""from django.contrib.auth import get_user_model
get_user_model().objects.create_user("{WHO}", password="{WORD}")"""
# A file system of its own that the tests can fill: in seconds, and nobody else's.
ROOM = "mount -t tmpfs -o size=1600M,mode=755 tmpfs /srv"
FIRST_SECONDS = 900  # that a first run may take; the machine may have other work


@dataclass
class Drill:
    """The server with the site, the one with the snapshots, and what somebody did on the site."""

    folder: Path
    server: Host
    vault: Host
    inventory: Path
    before: list[str] = field(default_factory=list)  # names of graphs that the backup must have
    session: str = ""
    snapshot: str = ""
    photo: str = ""

    @property
    def target(self) -> Target:
        return Target(self.server.address, 80, DOMAIN)

    def write_inventory(self, **site: Any) -> None:
        """Write what its owner keeps: the same for both servers, but for the address."""
        written = self.server.whole_inventory(
            {"domain": DOMAIN, "aliases": [self.server.address], **site}
        )
        backup = {
            "backup_repository": f"sftp:admin@{self.vault.address}:{VAULT}",
            "backup_ssh_known_hosts": (self.vault.folder / "known_hosts").read_text().splitlines(),
            "kafka_heap_mb": 384,
            "zookeeper_heap_mb": 128,
        }
        (written / "group_vars" / "all" / "backup.yml").write_text(yaml.safe_dump(backup))
        self.inventory = written
        if self.kept.is_dir():
            shutil.copytree(self.kept, written, dirs_exist_ok=True)
        else:
            self.make_secrets()

    def make_secrets(self) -> None:
        """Make the password and the key of the backup, and let the key in on the other server."""
        done = subprocess.run(
            ["make", "--no-print-directory", "secrets", f"INVENTORY={self.inventory}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "made backup_password, backup_ssh_key, switchboard_secrets.kafka." in done.stdout
        line = next(part for part in done.stdout.splitlines() if "ssh-ed25519" in part).strip()
        self.vault.shell(f"echo {shlex.quote(line)} >> ~/.ssh/authorized_keys")
        for name in KEPT:
            (self.kept / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.inventory / name, self.kept / name)

    @property
    def kept(self) -> Path:
        return self.folder / "kept"

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment in which its owner works."""
        plain = {"NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1"}
        return environment() | plain | vault_password_file(self.inventory)

    def play(self, name: str, *words: str) -> Run:
        """Run a playbook as its owner does."""
        began = time.monotonic()
        done = subprocess.run(
            ["ansible-playbook", "-i", str(self.inventory), name, *words],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=FIRST_SECONDS,
        )
        return Run(done.returncode, done.stdout + done.stderr, time.monotonic() - began)

    def restore(self, *words: str) -> Run:
        """Bring the site back; somebody has confirmed it."""
        return self.play(
            "playbooks/restore.yml", "-e", f"site={SITE}", "-e", "restore_confirmed=true", *words
        )

    def root(self, command: str) -> str:
        """Run a command on the server as root."""
        return self.server.shell(f"sudo sh -c {shlex.quote(command)}").strip()

    def graphs(self) -> set[str]:
        """Return the names of the graphs in the database."""
        return set(json.loads(self.root(f"python3 -c {shlex.quote(NAMES)} {DATABASE}")))

    def state(self) -> tuple[Any, ...]:
        """Return what a restore changes, and must not where it fails."""
        folders = self.root(f"ls -A /srv/{SITE} /var/lib/switchboard/maintenance 2>&1 || true")
        key = self.root(f"sha256sum /etc/switchboard/{SITE}/secret_key.env")
        active = self.root(
            "systemctl list-units --plain --no-legend --state=active 'daphne-*' 'django-*' | cut -d ' ' -f 1"
        )
        return self.graphs(), folders, key, sorted(active.splitlines())


def new_server(folder: Path, name: str = "switchboard-drill") -> Host:
    """Return a fresh server whose sites have a file system of their own."""
    made = Host(name, folder)
    made.create()
    made.shell(f"sudo sh -c 'mkdir -p /srv && {ROOM}'")
    return made


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    folder = tmp_path_factory.mktemp("drill")
    vault = Host("switchboard-drill-vault", folder / "vault")
    server = Host("switchboard-drill", folder / "first")
    try:
        with ThreadPoolExecutor() as pool:
            making = pool.submit(vault.create)
            server = new_server(folder / "first")
            making.result()
        made = Drill(folder, server, vault, folder)
        made.write_inventory()
        run = made.play("site.yml")
        assert run.code == 0, run.output[-4000:]
        print(f"\nfirst site.yml: {run.seconds:.0f} s")
        yield made
    finally:
        server.remove()
        vault.remove()


async def draw(drill: Drill, person: Person, name: str) -> None:
    """Make a graph, and wait for the answer: then it is committed."""
    status, _ = await person.post("/graphs/new/", name=name, nodes="one\ntwo")
    assert status == 302, f"{name}: {status}"


def test_a_snapshot_is_made_while_the_site_writes(drill: Drill) -> None:
    drill.root(f"{SITE}-manage shell -c {shlex.quote(MAKE)}")
    drill.root(f"install -d -o {SITE} -g {SITE} -m 750 $(dirname {MEDIA})")
    drill.root(
        f"head -c 3000000 /dev/urandom > {MEDIA}; chown {SITE}:{SITE} {MEDIA}; chmod 640 {MEDIA}"
    )
    drill.photo = drill.root(f"sha256sum {MEDIA}").split()[0]
    backed_up, done = threading.Event(), threading.Event()
    runs: list[Run] = []

    async def people() -> None:
        person = await Person.sign_in(drill.target, WHO, WORD)
        drill.session = next(
            cookie.value for cookie in person.session.cookie_jar if cookie.key == "sessionid"
        )
        for number in range(20):
            await draw(drill, person, f"before-{number}")
            drill.before.append(f"before-{number}")
        backed_up.set()
        number = 0
        while not done.is_set():
            await draw(drill, person, f"meanwhile-{number}")
            number += 1
        for number in range(5):
            await draw(drill, person, f"after-{number}")
        await person.close()

    def back_up() -> None:
        backed_up.wait(60)
        runs.append(drill.play("playbooks/backup_now.yml"))
        done.set()

    thread = threading.Thread(target=back_up)
    thread.start()
    asyncio.run(people())
    thread.join()
    assert runs[0].code == 0, runs[0].output[-4000:]
    runs[0].says(f"{SITE}: snapshot ")
    told = json.loads(drill.root("cat /var/lib/switchboard/backup/status.json"))
    drill.snapshot = told["sites"][SITE]["snapshot"]
    print(f"backup: {told['sites'][SITE]['seconds']} s")
    listed = drill.play("playbooks/restore.yml", "-e", "list=true")
    listed.says(drill.snapshot, SITE, "server1")


@pytest.mark.soak
def test_what_cannot_be_restored_is_said_and_changes_nothing(drill: Drill) -> None:
    before = drill.state()
    secret = "/etc/switchboard/backup.password"
    drill.root(f"cp -p {secret} {secret}.kept && echo another > {secret}")
    wrong = drill.restore()
    drill.root(f"mv {secret}.kept {secret}")
    packs = f"find {VAULT}/data -type f"
    drill.vault.shell(f"{packs} -exec sh -c 'cp $1 $1.kept; truncate -s 100 $1' - {{}} ';'")
    damaged = drill.restore()
    drill.vault.shell(f"{packs} -name '*.kept' -exec sh -c 'mv -f $1 ${{1%.kept}}' - {{}} ';'")
    drill.root("fallocate -l $(($(df --output=avail -B1 /srv | tail -1) - 2000000)) /srv/full")
    full = drill.restore()
    drill.root("rm /srv/full")
    unknown = drill.restore("-e", "at=0123456789")
    for run, said in (
        (wrong, "backup_password does not open it. Take the one that it was made with."),
        (damaged, f"backup_repository is sftp:admin@{drill.vault.address}"),
        (full, "/srv/graphspace has room for "),
        (unknown, f"at is 0123456789: {SITE} has no such snapshot."),
    ):
        assert run.code != 0, run.output[-3000:]
        run.says(said)
    assert drill.state() == before
    drill.server.check()


@pytest.mark.soak
def test_a_restore_that_fails_after_the_change_brings_back_what_was_there(drill: Drill) -> None:
    before = drill.state()
    assert "after-4" in before[0]
    drill.write_inventory(releases={"smoke": {"/there-is-no-such-page/": 200}})
    run = drill.restore()
    drill.write_inventory()
    assert run.code != 0, run.output[-3000:]
    run.says("/there-is-no-such-page/ gives 404", "What was there is there again, and served.")
    assert drill.state() == before
    drill.server.check()


def test_a_new_server_has_all_that_was_committed(drill: Drill) -> None:
    drill.server.remove()
    drill.server = new_server(drill.folder / "second")
    drill.write_inventory()
    run = drill.play("site.yml")
    assert run.code == 0, run.output[-4000:]
    assert not drill.graphs() & set(drill.before)
    back = drill.restore()
    assert back.code == 0, back.output[-4000:]
    back.says(
        f"snapshot {drill.snapshot}", "What was there is in /srv/graphspace/data.before-restore-"
    )
    print(f"\nsecond site.yml: {run.seconds:.0f} s, restore: {back.seconds:.0f} s\n{back.output}")
    there = drill.graphs()
    assert set(drill.before) <= there
    assert not [name for name in there if name.startswith("after-")]
    assert drill.root(f"sha256sum {MEDIA}").split()[0] == drill.photo
    assert drill.root(f"stat -c '%U:%G %a' {MEDIA} {DATABASE} /srv/{SITE}/data").split() == [
        *(f"{SITE}:{SITE}", "640"),
        *(f"{SITE}:{SITE}", "640"),
        *(f"{SITE}:{SITE}", "751"),
    ]
    drill.server.check()


def test_people_come_in_with_the_password_and_the_session_that_they_had(drill: Drill) -> None:
    async def people() -> None:
        kept = Person.with_cookies(drill.target, WHO, {"sessionid": drill.session})
        await kept.fetch_token("/graphs/new/")
        page = await kept.page("/")
        assert [name for name in drill.before if name not in page] == []
        await draw(drill, kept, "on-the-new-server")
        await kept.close()
        await (await Person.sign_in(drill.target, WHO, WORD)).close()

    asyncio.run(people())
    assert "on-the-new-server" in drill.graphs()


@pytest.mark.soak
def test_verify_finds_the_backups_of_the_new_server_in_order(drill: Drill) -> None:
    run = drill.play("playbooks/backup_now.yml", "-e", f"site={SITE}")
    assert run.code == 0, run.output[-3000:]
    done = subprocess.run(
        [
            *("pytest", "tests/behaviour/test_backup.py", "-m", "not disruptive", "-q"),
            *("--connection=ansible", "--hosts=ansible://switchboard"),
            f"--ansible-inventory={drill.inventory}",
        ],
        cwd=ROOT,
        env=drill.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
    again = drill.play("site.yml", "-v")
    assert "changed=0 " in again.output.replace("changed=0\n", "changed=0 "), again.output[-3000:]
