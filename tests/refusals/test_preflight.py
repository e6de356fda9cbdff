"""What can be known beforehand is refused before anything is touched, with variable, value and remedy.

All cases are one run of playbooks/preflight.yml, the first playbook of site.yml: the host stands in it under many
names. A task that refuses says all that it refuses, so the cases of one task share a name where they are about
different variables.
"""

from __future__ import annotations

import copy
import hashlib
import io
import os
import re
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.refusals.bench import ROOT, Answer, Bench

PREFLIGHT = ROOT / "playbooks" / "preflight.yml"
STAGE = "/var/tmp/switchboard-refusals"
STRANGER = 17099  # a port that another process listens on, on the host
CLOSED = 1  # a port that nothing listens on, here
ZEROS = "0" * 64
SOAK = bool(os.environ.get("SWITCHBOARD_SOAK"))


@dataclass(frozen=True)
class Case:
    """One wrong variable, and what the refusal must say of it."""

    name: str
    variables: dict[str, Any]
    says: tuple[str, ...]


class Name:
    """One name of the host in the inventory.

    Args:
        task: how the task is called that refuses all of its cases.
        cases: what is wrong under this name.
        pretends: one of PRETENCES.
        tiers: its groups; where none is given, those that the variables are about.
        long: whether `make soak` alone asks; another name is refused by the same task.
    """

    def __init__(
        self,
        task: str,
        *cases: Case,
        pretends: str = "",
        tiers: tuple[str, ...] = (),
        long: bool = False,
    ) -> None:
        self.task, self.cases, self.pretends, self.tiers = task, cases, pretends, tiers
        self.marks = [pytest.mark.soak] if long else []

    def __str__(self) -> str:
        return self.cases[0].name


def of_site(role: str, name: str, **changes: Any) -> dict[str, Any]:
    """Mark changes to one site's entry, by a role's variables; they are put into `sites` later."""
    return of_entry(name, {f"{role}_{key}": value for key, value in changes.items()})


def of_entry(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Mark changes to one site's entry, by its keys; they are put into `sites` later.

    `plain-lock` is an entry more, which is otherwise as that of `plain`.
    """
    return {"sites": (name, changes)}


# A host with another operating system, less memory or a smaller disk: Ansible runs its modules there with a Python
# that sees another /etc/os-release, another /proc/meminfo, a small file system of its own.
PRETENCES = {
    "ubuntu": (
        'printf \'NAME="Ubuntu"\\nID=ubuntu\\nID_LIKE=debian\\nVERSION_ID="24.04"\\nVERSION="24.04 LTS (Noble)"\\n'
        'VERSION_CODENAME=noble\\nPRETTY_NAME="Ubuntu 24.04 LTS"\\n\' >$stage/os-release',
        "mount --bind $stage/os-release /etc/os-release",
    ),
    "small": (
        "sed 's/^MemTotal:.*/MemTotal:         307200 kB/' /proc/meminfo >$stage/meminfo",
        "mount --bind $stage/meminfo /proc/meminfo",
    ),
    "full": (
        "true",
        "mount -t tmpfs -o size=16m tmpfs /srv; mount -t tmpfs -o size=16m tmpfs /var/lib",
    ),
    "stranger": (
        "mkdir -p $stage/records && "
        "printf 'version=0\\nbroker.id=1\\ncluster.id=AnotherCluster\\n' >$stage/records/meta.properties",
        "mount --bind $stage/records /var/lib/kafka/data",
    ),
}


PYTHON_312 = f"{STAGE}/python3.12"


def even(count: int) -> Case:
    """An ensemble of an even number of servers."""
    servers = [{"id": number, "host": f"192.0.2.{number}"} for number in range(1, count + 1)]
    return Case(
        f"zookeeper-even-{count}",
        {"zookeeper_servers": servers},
        (
            "zookeeper_servers is ",
            f"{count} servers bear the loss of no more of them than {count - 1} do, and one more can fail.",
            "Name one, three or five servers.",
        ),
    )


def taken(variable: str) -> Case:
    """Return the case of a port that another process listens on."""
    return Case(
        f"port-taken-{variable.split('_')[0]}",
        {variable: STRANGER},
        (
            f"{variable} is {STRANGER}: python3 (process ",
            f", switchboard-refusals.service) listens on 127.0.0.1:{STRANGER} already. "
            "Stop it, or choose another port.",
        ),
    )


LAST = "Refuse what hosts and services cannot be beside one another"
NAMES = [
    Name(
        "Say how to go on",
        Case(
            "host-that-does-not-answer",
            {"ansible_host": "switchboard-nowhere", "switchboard_reach_timeout": 2},
            (
                " does not answer at switchboard-nowhere. Set ansible_host and ansible_user in the inventory",
            ),
        ),
    ),
    Name(
        "Refuse variables that no role has",
        Case(
            "mistyped",
            {"daphne_prot": 9100},
            (
                "daphne_prot is 9100: the role daphne has no such variable. Did you mean daphne_port?",
            ),
        ),
        Case(
            "mistyped-secret",
            {"django_secrt_key": "hush"},
            ("django_secrt_key is hidden: ", "Did you mean django_secret_key?"),
        ),
        Case(
            "removed",
            {"apache_http2_websockets": True},
            ("apache_http2_websockets is True: it was removed. Delete it",),
        ),
    ),
    Name(
        "Refuse sites, and hosts beside one another, that no playbook can set up",
        Case(
            "type-of-sites",
            {"sites": [{"name": "lab"}]},
            ("sites is [{'name': 'lab'}]: it must be a mapping. Write the name of each site",),
        ),
        long=True,
    ),
    Name(
        "Refuse sites, and hosts beside one another, that no playbook can set up",
        Case(
            "former-list",
            {"apache_sites": [{"name": "probe", "server_name": "probe.test"}]},
            ("apache_sites is set in the inventory: a site is one entry of `sites` now.",),
        ),
        Case(
            "one-site-that-is-not-there",
            {"site": "nowhere"},
            ("site is 'nowhere': `sites` has graphspace, lecture-chat, plain, probe.",),
        ),
        Case(
            "missing-settings",
            of_site("django", "plain", settings_module=""),
            ("sites.plain.settings is empty: a site needs one.",),
        ),
        Case(
            "missing-server-name",
            of_entry("plain", {"domain": ""}),
            ("sites.plain.domain is empty: a site needs one.",),
        ),
        Case(
            "two-sources",
            of_entry(
                "plain",
                {
                    "source.git": "https://git.example.org/lab.git",
                    "source": {"directory": "a", "git": "b"},
                },
            ),
            ("sites.plain.source is {", "Name one of directory, git, archive."),
        ),
        Case(
            "websockets-without-asgi",
            of_entry("plain", {"websockets.port": 9119}),
            ("sites.plain.websockets is given, and asgi is empty",),
        ),
        Case(
            "key-of-a-site",
            of_entry("probe", {"websockets.instance": 2}),
            (
                "sites.probe.websockets.instance is 2: a site has no such key. Did you mean websockets.instances?",
            ),
        ),
        Case(
            "removed-from-a-site",
            of_entry("probe", {"https.http2_websockets": True}),
            ("sites.probe.https.http2_websockets is True: a site has no such key.",),
        ),
        Case(
            "topic-with-another-key",
            of_entry("graphspace", {"topics": {"owner": {"parts": 3}}}),
            (
                "sites.graphspace.topics.owner is {'parts': 3}: a topic has config, partitions, replication_factor.",
            ),
        ),
    ),
    Name(
        "Refuse sites, and hosts beside one another, that no playbook can set up",
        Case(
            "site-name",
            of_entry("Not a user", {}),
            (
                "sites.Not a user is 'Not a user': ",
                "Use a letter, then up to 30 lower-case letters",
            ),
        ),
        Case(
            "group-of-a-site",
            of_entry("probe", {"websockets": 9109}),
            ("sites.probe.websockets is 9109: it must be a mapping of keys.",),
        ),
        long=True,
    ),
    Name(
        "Refuse sites, and hosts beside one another, that no playbook can set up",
        Case(
            "two-sites-on-one-port",
            of_site("daphne", "probe", port=9099),
            ("sites.probe.websockets.port is 9099: the site graphspace has it. 9109 is free.",),
        ),
        long=True,
    ),
    Name(
        "Validate what the roles are told",
        Case("type-dict", {"zookeeper_properties": [1]}, ("zookeeper_properties", "dict")),
        long=True,
    ),
    Name(
        "Validate what the roles are told",
        Case("choice", {"kafka_source": "svn"}, ("kafka_source", "maven, archive, local", "svn")),
        long=True,
    ),
    Name(
        "Validate what the roles are told",
        Case("type-int", {"daphne_instances": "two"}, ("daphne_instances", "'two'", "int")),
        long=True,
    ),
    Name(
        "apache : Work out each site's Apache settings",
        Case(
            "type-of-a-site",
            of_site("apache", "probe", wsgi_threads="many"),
            (
                "apache_wsgi_threads is 'many': it is no whole number. Write a whole number. (site probe)",
            ),
        ),
        long=True,
    ),
    Name(
        "apache : Work out each site's Apache settings",
        Case(
            "choice-of-a-site",
            of_site("apache", "probe", websocket_mode="any"),
            (
                "apache_websocket_mode is 'any': it is none of its choices. Use one of rewrite, seed. (site probe)",
            ),
        ),
        long=True,
    ),
    Name(
        "base : Refuse what the base role cannot work with",
        Case(
            "distribution-ubuntu",
            {},
            ("ansible_distribution is Ubuntu 24.04: ", "Use a host with one of these."),
        ),
        pretends="ubuntu",
    ),
    Name(
        "Refuse what ZooKeeper cannot work with",
        Case(
            "memory-zookeeper",
            {"zookeeper_heap_mb": 256},
            (
                "zookeeper_heap_mb is 256: that is more than half of this host's 300 MiB",
                "Lower it, or use",
            ),
        ),
        pretends="small",
    ),
    Name("Refuse what ZooKeeper cannot work with", even(2)),
    Name(
        "Refuse what ZooKeeper cannot work with",
        even(4),
        Case(
            "zookeeper-password",
            {"zookeeper_users": {"kafka": 'a "quoted" word'}},
            (
                "zookeeper_users is hidden: the password of kafka is empty, no text, or has a quote",
                "a password of one line without quotes and backslashes.",
            ),
        ),
        Case(
            "zookeeper-tls-without-a-ca",
            {"zookeeper_tls_keystore": "/etc/ssl/private/zookeeper.pem"},
            (
                "zookeeper_tls_ca is empty: zookeeper_tls_keystore is /etc/ssl/private/zookeeper.pem",
            ),
        ),
    ),
    Name(
        "Refuse what ZooKeeper cannot work with",
        taken("zookeeper_client_port"),
        Case(
            "zookeeper-id",
            {"zookeeper_id": 7},
            (
                "zookeeper_id is 7: ",
                "was written by the server with the id 1. Set zookeeper_id to 1",
            ),
        ),
        long=True,
    ),
    Name(
        "Refuse what ZooKeeper cannot work with",
        Case(
            "disk-zookeeper",
            {},
            (
                "zookeeper_data_dir is /var/lib/zookeeper/data: its file system has 16 MiB free",
                "Free some",
            ),
        ),
        pretends="full",
        tiers=("zookeeper",),
    ),
    Name(
        "Refuse what Kafka cannot work with",
        Case(
            "memory-kafka",
            {"kafka_heap_mb": 0},
            (
                "kafka_heap_mb is 0: that gives 75 MiB on this host with 300 MiB of memory",
                "Set it to 256",
            ),
        ),
        Case(
            "missing-kafka-checksum",
            {"kafka_source": "archive", "kafka_archive_url": "http://127.0.0.1:1/kafka.tgz"},
            ("kafka_archive_sha512 is empty: ", "Set it to the sum on the page of the release."),
        ),
        Case(
            "kafka-4-with-zookeeper",
            {"kafka_version": "4.0.0"},
            (
                "kafka_version is 4.0.0: Kafka 4 has no ZooKeeper mode",
                "Set kafka_version to 3.9.2.",
            ),
        ),
        pretends="small",
        long=True,
    ),
    Name(
        "Refuse what Kafka cannot work with",
        taken("kafka_port"),
        Case(
            "kafka-node-id",
            {"kafka_node_id": 7},
            (
                "kafka_node_id is 7: /var/lib/kafka/data/meta.properties was written by the server with the id 1. "
                "Set kafka_node_id to 1, or move /var/lib/kafka/data away",
            ),
        ),
    ),
    Name(
        "Refuse what Kafka cannot work with",
        Case(
            "kafka-cluster",
            {},
            (
                "kafka_data_dir is /var/lib/kafka/data: its records are those of the cluster AnotherCluster, and "
                "ZooKeeper at 127.0.0.1:2181 knows the cluster ",
                "If ZooKeeper lost its data folder, restore that",
            ),
        ),
        Case(
            "port-of-a-neighbour",
            {"kafka_port": 2181},
            (
                "kafka_port is 2181: java (process ",
                "zookeeper.service) listens on",
                "choose another port.",
            ),
        ),
        pretends="stranger",
        tiers=("kafka",),
        long=True,
    ),
    Name(
        "Refuse what Kafka cannot work with",
        Case(
            "port-too-high-kafka",
            {"kafka_port": 70000},
            ("kafka_port is 70000: a TCP port is a whole number from 1 to 65535. Choose one.",),
        ),
        Case(
            "disk-kafka",
            {},
            (
                "kafka_data_dir is /var/lib/kafka/data: its file system has 16 MiB free, fewer than the 1024 "
                "of kafka_disk_minimum_mb. Free some, ",
            ),
        ),
        pretends="full",
        tiers=("kafka",),
    ),
    Name(
        "Refuse a host or a site that Django cannot be set up for",
        Case(
            "python-of-another-version",
            of_site("django", "plain", python=PYTHON_312),
            (
                f"django_python is {PYTHON_312}: it is Python 3.12, and the mod_wsgi of Debian ",
                "Set it to /usr/bin/python3, Debian's own. (site plain)",
            ),
        ),
        Case(
            "missing-archive-checksum",
            of_site("django", "plain-archive", archive="http://127.0.0.1:1/plain.tar.gz"),
            (
                "django_archive_sha256 is empty: ",
                "Take them from `sha256sum` of an archive that you trust.",
            ),
        ),
        Case(
            "secret-value",
            of_site("django", "plain-secret", secrets={"TOKEN": "hush\nhush"}),
            (
                "django_secrets.TOKEN is a text with a line break",
                "Put it into a file and name its path here.",
            ),
        ),
        Case(
            "service-outside-of-the-environment",
            of_entry("lecture-chat", {"services": {"worker": {"program": "/bin/sh -c celery"}}}),
            (
                "django_services.worker.program is /bin/sh -c celery: that is no program of the virtual environment.",
                "(site lecture-chat)",
            ),
        ),
    ),
    Name(
        "Refuse what Valkey cannot work with",
        Case(
            "memory-valkey",
            of_entry("lecture-chat", {"valkey.memory_mb": 1_000_000}),
            (
                "valkey_memory_mb is 1000000: the instances of all sites may hold 1000000 MiB together, and 25 % ",
                "Lower it, or raise valkey_memory_percent, or give the host more. (site lecture-chat)",
            ),
        ),
        long=True,
    ),
    Name(
        "Refuse what cannot be watched",
        Case(
            "mail-without-a-sender",
            {"monitoring_mail_to": "ops@example.org"},
            (
                "monitoring_mail_from is empty: a mail comes from one address. Write one that the mail server takes",
            ),
        ),
        Case(
            "threshold-of-no-rule",
            {"monitoring_thresholds": {"site_slow_second": 1}},
            (
                "monitoring_thresholds.site_slow_second is 1: there is none of that name.",
                " Did you mean site_slow_seconds?",
            ),
        ),
        Case(
            "metrics-of-no-service",
            of_entry("graphspace", {"monitoring": {"metrics": ["relais"]}}),
            ("monitoring_metrics is relais: there is no such service", "(site graphspace)"),
        ),
        tiers=("web",),
        long=True,
    ),
    Name(
        "Refuse what PostgreSQL cannot work with",
        Case(
            "memory-postgresql",
            {"postgresql_shared_buffers_mb": 1_000_000},
            (
                "postgresql_shared_buffers_mb is 1000000: that gives 1000000 MiB, more than two fifths of this host's ",
                "Lower it, or use a host with more memory.",
            ),
        ),
        tiers=("database",),
        long=True,
    ),
    Name(
        "Refuse a database that would lack a site's rows",
        Case(
            "database-without-its-rows",
            of_entry("plain", {"database": "postgresql"}),
            (
                "sites.plain.database is postgresql: the site is on sqlite, and its rows would stay behind.",
                "playbooks/move_database.yml -e site=plain takes them along;",
            ),
        ),
    ),
    Name(
        "Refuse a host or a site that Django cannot be set up for",
        Case(
            "disk-web",
            {},
            (
                "is /srv: its file system has 16 MiB free, fewer than the 1024 of django_disk_minimum_mb.",
            ),
        ),
        Case(
            "port-taken-relay",
            of_entry("graphspace", {"services": {"relay": {"command": "relay", "port": STRANGER}}}),
            (
                f"django_service_ports.relay (site graphspace) is {STRANGER}: python3 (process ",
                "Stop it, or choose another",
            ),
        ),
        pretends="full",
        tiers=("web",),
    ),
    Name(
        "Fetch each project, look into it and pack it",
        Case(
            "folder-that-is-not-there",
            of_site("django", "plain", directory="/nonexistent/plain"),
            (
                "django_directory is /nonexistent/plain: the control node has no such directory. "
                "Name your project's folder.",
            ),
        ),
        Case(
            "project-without-asgi",
            of_site("django", "probe", asgi_module="beacon.nowhere"),
            (
                "django_asgi_module is beacon.nowhere: the project has no such module.",
                "leave it empty",
            ),
        ),
        Case(
            "unreachable-repository",
            of_site("django", "plain-git", repository=f"git://127.0.0.1:{CLOSED}/plain.git"),
            (
                f"django_repository is git://127.0.0.1:{CLOSED}/plain.git: it can't be fetched: ",
                "Correct the address, or let this control node reach it",
            ),
        ),
        Case(
            "archive-checksum",
            of_site(
                "django",
                "plain-archive",
                archive="{server}/plain.tar.gz",
                archive_sha256=ZEROS,
            ),
            (
                f"django_archive_sha256 is {ZEROS}: ",
                "has the SHA-256 {digest}. Take the sum from a source",
            ),
        ),
        Case(
            "project-without-wsgi",
            of_site("django", "plain-wsgi", wsgi_module="ledger.nowhere"),
            (
                "django_wsgi_module is ledger.nowhere: the project has no such module. The project has no "
                "ledger/nowhere.py; name the module as Python imports it.",
            ),
        ),
        Case(
            "requirements-without-channels-and-daphne",
            of_entry("plain-asgi", {"asgi": "ledger.entry", "websockets.port": 9119}),
            (
                "django_requirements is requirements.txt: it lacks channels and daphne. Add it and lock again, "
                "or leave django_asgi_module empty.",
            ),
        ),
        Case(
            "requirements-without-hashes",
            of_site("django", "plain-lock", directory="{folder}/unlocked"),
            ("django_requirements is requirements.txt: django has no hash.", "--generate-hashes"),
        ),
    ),
    Name(
        "Refuse a site that Daphne cannot serve",
        Case(
            "port-too-low-daphne",
            of_site("daphne", "probe", port=0),
            (
                "daphne_port (site probe) is 0: a TCP port is a whole number from 1 to 65535. Choose one.",
            ),
        ),
        Case(
            "port-taken-daphne",
            of_site("daphne", "probe-taken", port=STRANGER),
            (
                f"daphne_port (site probe-taken) is {STRANGER}: python3 (process ",
                "Stop it, or choose another",
            ),
        ),
    ),
    Name(
        "Refuse a host or a site that Apache cannot be set up for",
        Case(
            "memory-apache",
            {},
            ("apache_max_websockets is ", "of this host's 300 MiB are 150 MiB. Set it to at most "),
        ),
        Case(
            "port-too-high",
            {"apache_http_port": 65536},
            ("apache_http_port is 65536: it must be a number from 1 to 65535. Choose one.",),
        ),
        Case(
            "apache-ping-interval",
            {"apache_websocket_timeout": 10, "apache_websocket_ping_interval": 20},
            ("apache_websocket_timeout of site graphspace is 10: ", "Set it to more than 40"),
        ),
        pretends="small",
        tiers=("web",),
    ),
    Name(
        "Refuse a host or a site that Apache cannot be set up for",
        taken("apache_http_port"),
        long=True,
    ),
    Name(
        "Refuse what hosts and services cannot be beside one another",
        Case(
            "relay-on-the-port-of-apache",
            {
                **of_entry(
                    "graphspace", {"services": {"relay": {"command": "relay", "port": 17001}}}
                ),
                "apache_http_port": 17001,
            },
            (
                "django_service_ports.relay (site graphspace) is 17001: apache_http_port names the same port.",
            ),
        ),
        Case(
            "two-services-on-one-port",
            {"kafka_port": 17002, "zookeeper_client_port": 17002},
            (
                "kafka_port is 17002: zookeeper_client_port names the same port. Give each service its own.",
            ),
        ),
        tiers=("zookeeper", "kafka", "web"),
    ),
]


# What must pass, so that a refusal above is one of its variable and of nothing else.
GOOD = [
    Name(
        LAST,
        Case("as-it-is", {}, ()),
    ),
    Name(
        LAST,
        Case(
            "variable-of-a-user",
            {"kafka_of_mine": 1, "switchboard_own_variables": ["kafka_of_.*"]},
            (),
        ),
        Case("name-in-another-script", of_entry("plain", {"domain": "münchen.example"}), ()),
        Case(
            "kafka-archive",
            {
                "kafka_source": "archive",
                "kafka_archive_url": "{server}/plain.tar.gz",
                "kafka_archive_sha512": "{digest512}",
                "kafka_cache": "{cache}",
            },
            (),
        ),
        Case("another-port", {"apache_http_port": 17080}, ()),
    ),
    Name(
        LAST,
        Case("name-in-ascii", of_entry("plain", {"domain": "xn--mnchen-3ya.example"}), ()),
        Case(
            "archive",
            of_site(
                "django",
                "plain",
                archive="{server}/plain.tar.gz",
                archive_sha256="{digest}",
            ),
            (),
        ),
    ),
]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Serve an archive of the plain project over HTTP here, and lay out projects with faults."""
    folder = tmp_path_factory.mktemp("served")
    source = ROOT / "tests" / "projects" / "plain"
    with tarfile.open(folder / "plain.tar.gz", "w:gz") as archive:
        archive.add(source, "plain")
    (folder / "unlocked").mkdir()
    with tarfile.open(folder / "plain.tar.gz") as archive:
        data = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        for name, content in data.items():
            path = folder / "unlocked" / Path(name).relative_to("plain")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((content or io.BytesIO()).read())
    (folder / "unlocked" / "requirements.txt").write_text("django==5.2\n")
    git(folder, "init", "--quiet", "--bare", "plain.git")
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield {
            "server": f"http://127.0.0.1:{http.server_port}",
            "folder": str(folder),
            "cache": str(folder / "cache"),
            "digest512": hashlib.sha512((folder / "plain.tar.gz").read_bytes()).hexdigest(),
            "digest": hashlib.sha256((folder / "plain.tar.gz").read_bytes()).hexdigest(),
        }
        http.shutdown()
        thread.join()


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(folder), *words], check=True)


@pytest.fixture(scope="module")
def stage(bench: Bench) -> Iterator[None]:
    """Prepare the pretences, a Python of another version and a process that listens, on the host."""
    clean = f"systemctl stop switchboard-refusals 2>/dev/null || true; rm -rf {STAGE}"
    lines = [clean, f"set -eu; stage={STAGE}; mkdir -p $stage"]
    for name, (prepare, mounts) in PRETENCES.items():
        lines += [
            prepare,
            f"cat >$stage/{name} <<END",
            "#!/bin/sh",
            "exec unshare --mount --propagation private sh -c "
            f'\'{mounts}; exec /usr/bin/python3 "\\$@"\' sh "\\$@"',
            "END",
        ]
    lines += [
        f"printf '#!/bin/sh\necho 3.12\n' >{PYTHON_312}; chmod 755 $stage/*",
        "systemd-run --quiet --collect --unit=switchboard-refusals "
        f"/usr/bin/python3 -m http.server --bind 127.0.0.1 {STRANGER}",
        f"for i in $(seq 120); do ss -Hltn 'sport = {STRANGER}' | grep -q . && exit; sleep 0.5; done; exit 1",
    ]
    bench.host.check_output("sh -c %s", "\n".join(lines))
    yield
    bench.host.check_output("sh -c %s", clean)


@dataclass
class Told:
    """What every name was told, and what the host looked like before and after."""

    answers: dict[str, Answer]
    before: set[str]
    after: set[str]


@pytest.fixture(scope="module")
def told(
    bench: Bench, stage: None, served: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Told:
    asked = [name for name in (*NAMES, *GOOD) if SOAK or not name.marks]
    cases = {str(name): filled(expanded(bench, name), served) for name in asked}
    for variables in cases.values():
        variables.setdefault("django_cache", served["cache"])
    before = bench.state()
    answers = bench.play_many(PREFLIGHT, cases, tmp_path_factory.mktemp("many"))
    return Told(answers, before, bench.state())


def expanded(bench: Bench, name: Name) -> dict[str, Any]:
    """Return the variables of a name: what of_site marks in the whole of `sites`, and without tiers it is not about."""
    whole: dict[str, Any] = {}
    given = [item for case in name.cases for item in case.variables.items()]
    changes = [value for _, value in given if isinstance(value, tuple)]
    places = [key for key, value in given if not isinstance(value, tuple)]
    places += [f"{site}.{key}" for site, keys in changes for key in keys]
    assert len(set(places)) == len(places), f"{name}: two cases are about one variable: {places}"
    for key, value in given:
        if isinstance(value, tuple):
            site, keys = value
            sites = whole.get("sites") or copy.deepcopy(bench.entries)
            sites.setdefault(site, copy.deepcopy(bench.entries.get(site.partition("-")[0], {})))
            value = bench.changed(site, keys, sites)
        whole[key] = value
    tiers = {"zookeeper": "zookeeper", "kafka": "kafka"} | dict.fromkeys(
        ("django", "daphne", "apache", "sites"), "web"
    )
    about = {tiers.get(key.split("_")[0], "switchboard") for key in whole}
    if name.pretends:
        whole["ansible_python_interpreter"] = f"{STAGE}/{name.pretends}"
    if name.tiers or len(about) == 1:
        groups = ["switchboard", *(name.tiers or about)]
        # a site of the inventory is on PostgreSQL, which web hosts without that group are refused for
        whole["groups"] = groups + ["database"] * ("web" in groups)
    if "web" in whole.get("groups", ["web"]) and name.pretends:
        # PostgreSQL is asked before the roles that these names are about
        whole |= {"postgresql_disk_minimum_mb": 0, "postgresql_shared_buffers_mb": 64}
    return whole


def filled(value: Any, names: dict[str, str]) -> Any:
    """Put what is known only now for {server}, {folder}, {cache} and {digest}."""
    if isinstance(value, dict):
        return {key: filled(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, names) for item in value]
    if isinstance(value, str):
        for name, text in names.items():
            value = value.replace(f"{{{name}}}", text)
    return value


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, id=case.name, marks=name.marks)
        for name in NAMES
        for case in name.cases
    ],
)
def test_it_is_refused_before_anything_is_touched(
    told: Told, served: dict[str, str], name: Name, case: Case
) -> None:
    answer = told.answers[str(name)]
    assert answer.failed, answer.tasks
    assert name.task in answer.task
    # the sentence, without Ansible's own about where it came from
    assert not re.search("Finalization of task|Error while", answer.text), answer.text
    for text in case.says:
        assert filled(text, served) in answer.text
    assert answer.changed == 0


def test_what_is_secret_is_not_told(told: Told) -> None:
    name = next(name for name in NAMES for case in name.cases if case.name == "secret-value")
    assert "hush" not in told.answers[str(name)].text


@pytest.mark.parametrize(
    ("name", "case"),
    [pytest.param(name, case, id=case.name) for name in GOOD for case in name.cases],
)
def test_what_is_right_is_not_refused(told: Told, name: Name, case: Case) -> None:
    answer = told.answers[str(name)]
    assert not answer.failed, answer.text
    assert answer.changed == 0
    assert any(task.startswith(LAST) for task in answer.tasks), (
        "it did not come to the last refusal"
    )


def test_nothing_on_the_host_changed(told: Told) -> None:
    assert len(told.before) > 100, "the host is not converged"
    assert sorted(told.before - told.after) == []
    assert sorted(told.after - told.before) == []


def test_everything_begins_with_this_playbook() -> None:
    plays = yaml.safe_load((ROOT / "site.yml").read_text(encoding="utf-8"))
    assert plays[0]["ansible.builtin.import_playbook"] == "playbooks/preflight.yml"


@pytest.mark.usefixtures("unchanged")
def test_the_whole_ends_with_the_preflight_and_says_why(bench: Bench) -> None:
    run = bench.play(ROOT / "site.yml", {"kafka_node_id": 7})
    assert run.code == 2
    run.says("kafka_node_id is 7: ", "Set kafka_node_id to 1, or move /var/lib/kafka/data away")
    assert run.plays()[-1] == "Refuse what cannot work"
    plays = yaml.safe_load(PREFLIGHT.read_text(encoding="utf-8"))
    assert set(run.plays()) <= {play["name"] for play in plays}
    assert "changed: [" not in run.output
