"""`make secrets`: what is lacking is made, encrypted and kept; what is there is left alone; nothing secret is said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from tools import secrets
from tools.common import ROOT, VAULT_VARIABLE

UNASKED = "kafka_authentication: false\n"
SFTP = f"backup_repository: sftp:backup@192.0.2.20:/srv/lab\n{UNASKED}"

PRIVATE = shutil.ignore_patterns(".private")  # of somebody who tried it


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "inventory" / "single", tmp_path / "lab", ignore=PRIVATE)
    (tmp_path / "lab" / "group_vars" / "all" / "backup.yml").write_text(SFTP)
    return tmp_path / "lab"


def make(inventory: Path, **env: str) -> subprocess.CompletedProcess[str]:
    plain = {key: value for key, value in os.environ.items() if key != VAULT_VARIABLE}
    return subprocess.run(
        [sys.executable, "-m", "tools.secrets", f"--inventory={inventory}"],
        cwd=ROOT,
        env=plain | env,
        capture_output=True,
        text=True,
        check=False,
    )


def opened(inventory: Path, password: str = "") -> dict[str, Any]:
    """Return what the encrypted file holds."""
    word = password or (inventory / ".private" / "vault-password").read_text().strip()
    vault = VaultLib([("default", VaultSecret(word.encode()))])
    text = (inventory / "group_vars" / "all" / "secrets.yml").read_bytes()
    return dict(yaml.safe_load(vault.decrypt(text)))


def test_a_password_and_a_key_are_made_once(lab: Path) -> None:
    done = make(lab)
    assert done.returncode == 0, done.stderr
    held = opened(lab)
    assert sorted(held) == ["backup_password", "backup_ssh_key"]
    assert len(held["backup_password"]) >= 40
    # the tool says what belongs on the other server, as ssh-keygen reads it out of the key
    key = lab / "key"
    key.write_text(held["backup_ssh_key"])
    key.chmod(0o600)
    read = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(key)], capture_output=True, text=True, check=True
    )
    assert f"{read.stdout.strip()} backup@lab" in done.stdout
    again = make(lab)
    assert "lacks no secret" in again.stdout, again.stderr
    assert opened(lab) == held


def test_nothing_secret_is_said_or_readable(lab: Path) -> None:
    done = make(lab)
    said = done.stdout + done.stderr
    word = (lab / ".private" / "vault-password").read_text().strip()
    for secret in (*opened(lab).values(), word):
        assert secret not in said
    assert (lab / ".private").stat().st_mode & 0o777 == 0o700
    assert (lab / ".private" / "vault-password").stat().st_mode & 0o777 == 0o600
    written = (lab / "group_vars" / "all" / "secrets.yml").read_text()
    assert written.startswith("$ANSIBLE_VAULT;")
    assert not [name for name in (lab / "group_vars" / "all").iterdir() if name.name[0] == "."]


def test_what_is_given_is_left_alone(lab: Path) -> None:
    of_pass = "{{ lookup('community.general.passwordstore', 'lab/backup') }}"
    (lab / "group_vars" / "all" / "zz.yml").write_text(yaml.safe_dump({"backup_password": of_pass}))
    assert "made backup_ssh_key." in make(lab).stdout
    assert sorted(opened(lab)) == ["backup_ssh_key"]


def test_what_somebody_added_stays(lab: Path, tmp_path: Path) -> None:
    word = tmp_path / "word"
    word.write_text("of-the-team\n")
    path = lab / "group_vars" / "all" / "secrets.yml"
    vault = VaultLib([("default", VaultSecret(b"of-the-team"))])
    path.write_bytes(vault.encrypt("vault_lab: {SMTP_PASSWORD: of-the-mail}\n"))
    done = make(lab, **{VAULT_VARIABLE: str(word)})
    assert done.returncode == 0, done.stderr
    assert not (lab / ".private" / "vault-password").exists()
    held = opened(lab, "of-the-team")
    assert held["vault_lab"] == {"SMTP_PASSWORD": "of-the-mail"}
    assert "backup_password" in held


def test_the_password_that_ansibles_configuration_names_is_taken(lab: Path, tmp_path: Path) -> None:
    word, config = tmp_path / "word", tmp_path / "ansible.cfg"
    word.write_text("of-the-configuration\n")
    config.write_text(f"[defaults]\nvault_password_file = {word}\n")
    done = make(lab, ANSIBLE_CONFIG=str(config))
    assert done.returncode == 0, done.stderr
    assert not (lab / ".private" / "vault-password").exists()
    assert sorted(opened(lab, "of-the-configuration")) == ["backup_password", "backup_ssh_key"]


def test_git_does_not_take_the_password_of_an_inventory_anywhere(lab: Path) -> None:
    make(lab)
    git = ["git", "-C", str(lab)]
    subprocess.run([*git, "init", "-q"], check=True)
    status = [*git, "status", "--porcelain", "-uall"]
    told = subprocess.run(status, capture_output=True, text=True, check=True).stdout
    assert "group_vars/all/secrets.yml" in told
    assert ".private" not in told


def test_another_password_is_said_and_changes_nothing(lab: Path, tmp_path: Path) -> None:
    make(lab)
    path = lab / "group_vars" / "all" / "secrets.yml"
    before = path.read_bytes()
    word = tmp_path / "word"
    word.write_text("another\n")
    done = make(lab, **{VAULT_VARIABLE: str(word)})
    assert done.returncode == 1
    assert "Decryption failed" in done.stderr
    assert path.read_bytes() == before


def test_a_folder_that_is_no_inventory_is_refused(tmp_path: Path) -> None:
    done = make(tmp_path)
    assert done.returncode == 1
    assert "there is no folder group_vars in it" in done.stderr


def test_a_local_repository_needs_no_key() -> None:
    wanted = secrets.wanted({"backup_repository": "/mnt/backup"}, Path("none"))
    assert [*wanted] == [("backup_password",)]
    assert not secrets.wanted({}, Path("none"))


def test_kafkas_passwords_are_made_and_those_of_earlier_runs_taken_over(lab: Path) -> None:
    (lab / "group_vars" / "all" / "backup.yml").unlink()  # Kafka asks without a word
    plain = lab / ".private" / "secrets"
    plain.mkdir(parents=True)
    (plain / "kafka-graphspace").write_text("of-an-earlier-run\n")
    done = make(lab)
    assert done.returncode == 0, done.stderr
    assert (
        "made switchboard_secrets.kafka.broker, switchboard_secrets.kafka.graphspace."
        in done.stdout
    )
    kafka = opened(lab)["switchboard_secrets"]["kafka"]
    assert kafka["graphspace"] == "of-an-earlier-run"
    assert len(kafka["broker"]) >= 40
    assert [*plain.iterdir()] == []
    assert "lacks no secret" in make(lab).stdout


def test_the_passwords_of_a_database_on_another_host_are_made(lab: Path) -> None:
    sites = lab / "group_vars" / "all" / "sites.yml"
    content = yaml.safe_load(sites.read_text())
    content["sites"]["graphspace"]["database"] = "postgresql"
    sites.write_text(yaml.safe_dump(content))
    (lab / "group_vars" / "all" / "backup.yml").write_text(UNASKED)
    assert "lacks no secret" in make(lab).stdout
    hosts = {name: {"switchboard_address": name} for name in ("10.0.0.11", "10.0.0.15")}
    children: dict[str, Any] = {
        "web": {"hosts": {"10.0.0.11": {}}},
        "database": {"hosts": {"10.0.0.15": {}}},
    }
    told = {"switchboard": {"hosts": hosts, "children": children}}
    (lab / "hosts.yml").write_text(yaml.safe_dump(told))
    plain = lab / ".private" / "secrets"
    plain.mkdir(parents=True)
    (plain / "postgresql-graphspace").write_text("of-an-earlier-run\n")
    done = make(lab)
    assert "made switchboard_secrets.postgresql.graphspace." in done.stdout, done.stderr
    assert opened(lab)["switchboard_secrets"] == {"postgresql": {"graphspace": "of-an-earlier-run"}}
    assert [*plain.iterdir()] == []


def test_what_stands_in_another_file_is_not_hidden(lab: Path) -> None:
    text = (
        "kafka_authentication: true\nswitchboard_secrets: {kafka: {broker: of-the-team-itself}}\n"
    )
    (lab / "group_vars" / "all" / "backup.yml").write_text(text)
    done = make(lab)
    assert done.returncode == 1
    assert "switchboard_secrets stands in another file" in done.stderr
    assert not (lab / "group_vars" / "all" / "secrets.yml").exists()


def test_the_inventory_of_several_servers_gets_what_they_need_of_one_another(
    tmp_path: Path,
) -> None:
    folder = Path(shutil.copytree(ROOT / "inventory" / "cluster", tmp_path / "lab", ignore=PRIVATE))
    done = make(folder)
    assert done.returncode == 0, done.stderr
    made = opened(folder)["switchboard_secrets"]
    assert {service: sorted(names) for service, names in made.items()} == {
        "kafka": ["broker", "graphspace"],
        "postgresql": ["graphspace"],
        "zookeeper": ["kafka"],
    }
