"""Make the secrets that an inventory's servers need and nobody has written, and keep them encrypted beside it.

They go into ``<inventory>/group_vars/all/secrets.yml``, which Ansible Vault encrypts. What the inventory gives already,
from a vault of its own, from `pass`, SOPS or the environment, is left alone. No secret is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from ansible import constants
from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.parsing.vault import VaultLib, VaultSecret
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from plugins.filter.cluster import kafka_asks, site_database, zookeeper_asks
from plugins.filter.database_sites import database_names
from plugins.filter.kafka_sites import kafka_names
from plugins.filter.monitoring_central import monitoring_central
from tools.common import (
    VAULT_VARIABLE,
    ToolError,
    environment,
    main_guard,
    run,
    vault_password_file,
)

HEAD = (
    "# Made by `make secrets`, which keeps what stands here and adds what is lacking.\n"
    "# `ansible-vault edit` opens it; values of your own may be added.\n"
)
BITS = 256

Name = tuple[str, ...]  # of a variable, and the keys below it
Maker = Callable[[], str]


def password() -> str:
    """Return a password of 256 bits, in letters that no file format and no shell minds."""
    return secrets.token_urlsafe(BITS // 8)


def ssh_key() -> str:
    """Return a private key of OpenSSH, Ed25519, without a passphrase."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def public_line(private: str, comment: str) -> str:
    """Return the line of authorized_keys that belongs to a private key."""
    key = load_ssh_private_key(private.encode(), None).public_key()
    line = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return f"{line} {comment}"


def wanted(
    variables: Mapping[str, Any],
    plain: Path,
    served: bool = False,
    asked: bool = False,
    readers: Sequence[str] = (),
) -> dict[Name, Maker]:
    """Return what makes each secret that a host's roles need, by the name of its variable and the keys below it.

    Args:
        variables: those of the host, as the inventory has them, not templated.
        plain: the folder of what runs have made without this tool; it is taken over.
        served: whether the host's sites, or those of others in its PostgreSQL, come in from another host.
        asked: whether servers of ZooKeeper ask Kafka for a password.
        readers: the users of a Prometheus that hears of all hosts.
    """
    makers: dict[Name, Maker] = {}
    repository = str(variables.get("backup_repository") or "")
    if repository:
        makers["backup_password",] = password
    if repository.startswith("sftp:"):
        makers["backup_ssh_key",] = ssh_key
    names: dict[str, list[str]] = {"kafka": [], "postgresql": []}
    if boolean(variables.get("kafka_authentication") or False, strict=False):
        broker = str(variables.get("kafka_broker_user") or "broker")
        names["kafka"] = [*kafka_names(variables.get("sites")), broker]
    if served:
        names["postgresql"] = database_names(variables.get("sites"))
    if asked:
        names["zookeeper"] = ["kafka"]
    names["monitoring"] = list(readers)
    for service, some in names.items():
        for name in some:
            path = plain / f"{service}-{name}"
            makers["switchboard_secrets", service, name] = partial(taken_over, path)
    return makers


def taken_over(path: Path) -> str:
    """Return the password that a run has made and kept in a file, or a new one."""
    return path.read_text(encoding="utf-8").strip() if path.exists() else password()


def found(variables: Mapping[str, Any], name: Name) -> Any:
    """Return the value of a variable, or of a key below it; nothing where there is none."""
    value: Any = variables
    for key in name:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def lacking(
    hosts: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]], plain: Path
) -> dict[Name, Maker]:
    """Return what makes each secret that some host needs and the inventory does not give."""
    return {
        name: maker
        for host, variables in hosts.items()
        for name, maker in wanted(
            {"kafka_authentication": kafka_asks(groups, hosts, host), **variables},
            plain,
            site_database(groups, hosts, host)["served"],
            zookeeper_asks(groups, hosts),
            monitoring_central(groups, hosts, host)["users"],
        ).items()
        if not found(variables, name)
    }


def with_made(kept: dict[str, Any], made: Mapping[Name, str]) -> dict[str, Any]:
    """Return the variables of the file with what was made among them."""
    for name, value in made.items():
        place = kept
        for key in name[:-1]:
            place = place.setdefault(key, {})
        place[name[-1]] = value
    return kept


def hosts_of(inventory: Path) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """Return the variables of each host, as the inventory's files have them, and the hosts of each group.

    Raises:
        ToolError: Ansible cannot read the inventory, or what is encrypted in it.
    """
    env = environment() | vault_password_file(inventory)
    done = run(["ansible-inventory", "-i", str(inventory), "--list"], env=env)
    listing = json.loads(done.stdout)
    variables = listing.pop("_meta")["hostvars"]

    def members(group: str) -> list[str]:
        told = listing.get(group, {})
        below = [host for child in told.get("children", []) for host in members(child)]
        return list(dict.fromkeys([*told.get("hosts", []), *below]))

    groups = {group: members(group) for group in listing}
    return {host: variables.get(host, {}) for host in members("all")}, groups


def vault_of(path: Path) -> VaultLib:
    """Return the vault that the password in a file opens."""
    if path.stat().st_mode & stat.S_IXUSR:
        words = run([str(path)]).stdout.strip()
    else:
        words = path.read_text(encoding="utf-8").strip()
    if not words:
        raise ToolError(f"{path} is empty: it has to hold the password of the vault. Write it.")
    return VaultLib([("default", VaultSecret(words.encode()))])


def kept_in(path: Path, vault: VaultLib) -> dict[str, Any]:
    """Return what the encrypted file holds; nothing where there is none.

    Raises:
        ToolError: another password encrypted it, or it is not what this tool writes.
    """
    if not path.exists():
        return {}
    text = path.read_bytes()
    try:
        read = yaml.safe_load(vault.decrypt(text))
    except AnsibleError as error:
        raise ToolError(
            f"{path} cannot be opened: {error}. Name the file with the password that encrypted it in {VAULT_VARIABLE}."
        ) from error
    if not isinstance(read, dict):
        raise ToolError(f"{path} holds no variables. Move it away, and run this again.")
    return read


def write(path: Path, content: bytes, mode: int) -> None:
    """Replace a file at once, so that a killed run leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def configured() -> str:
    """Return the file that Ansible's environment or configuration names, an empty text for none."""
    named = constants.DEFAULT_VAULT_PASSWORD_FILE or ""
    return str(named or next(iter(constants.DEFAULT_VAULT_IDENTITY_LIST), "").rpartition("@")[2])


def password_file(inventory: Path) -> Path:
    """Return the file with the vault's password; one is made where neither Ansible nor the inventory names one."""
    named = vault_password_file(inventory).get(VAULT_VARIABLE) or configured()
    if named:
        return Path(named).expanduser()
    made = inventory / ".private" / "vault-password"
    made.parent.mkdir(mode=0o700, exist_ok=True)
    (made.parent / ".gitignore").write_text("*\n", encoding="utf-8")
    write(made, f"{password()}\n".encode(), 0o600)
    return made


def shown(names: Mapping[Name, Any]) -> str:
    """Return names as a person writes them."""
    return ", ".join(".".join(name) for name in sorted(names))


def main() -> int:
    """Make what is lacking, and say what was made."""
    parser = argparse.ArgumentParser(prog="make secrets", description=__doc__)
    parser.add_argument("--inventory", type=Path, required=True)
    inventory: Path = parser.parse_args().inventory
    if not (inventory / "group_vars").is_dir():
        raise ToolError(
            f"INVENTORY is {inventory}: there is no folder group_vars in it. Name the folder of an inventory."
        )
    path, plain = (
        inventory / "group_vars" / "all" / "secrets.yml",
        inventory / ".private" / "secrets",
    )
    hosts, groups = hosts_of(inventory)
    missing = lacking(hosts, groups, plain)
    if not missing:
        print(f"{inventory} lacks no secret.")
        return 0
    keeper = password_file(inventory)
    vault = vault_of(keeper)
    kept = kept_in(path, vault)
    for name in {name[0] for name in missing if len(name) > 1} - kept.keys():
        if any(name in variables for variables in hosts.values()):
            raise ToolError(
                f"{name} stands in another file of {inventory}, and lacks {shown(missing)}: "
                f"one of the two would hide the other. Write them there, or move it to {path.name} "
                "with `ansible-vault edit`."
            )
    made = {name: maker() for name, maker in sorted(missing.items())}
    text = HEAD + yaml.safe_dump(with_made(kept, made), sort_keys=True, width=200)
    write(path, vault.encrypt(text) + b"\n", 0o600)
    for _, service, name in (name for name in made if name[0] == "switchboard_secrets"):
        (plain / f"{service}-{name}").unlink(missing_ok=True)
    print(f"{path}: made {shown(made)}.")
    if ("backup_ssh_key",) in made:
        print("The account on the other server lets this key in (~/.ssh/authorized_keys there):")
        print(f"  {public_line(made['backup_ssh_key',], f'backup@{inventory.name}')}")
    print(
        f"The password that opens it is in {keeper}: keep a copy where neither this machine nor a server is.\n"
        f"`make` finds it; elsewhere: export {VAULT_VARIABLE}={keeper}"
    )
    return 0


if __name__ == "__main__":
    main_guard(main)
