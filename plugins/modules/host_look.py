#!/usr/bin/python
"""Look at a host once: what it has, and what of it stands in the way of the roles."""

from __future__ import annotations

import fnmatch
import glob
import json
import os
import socket
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.host_guard import armed
from ansible.module_utils.host_packages import LOCKS, holder, installed
from ansible.module_utils.host_ports import port_faults
from ansible.module_utils.host_ssh import ssh_ports
from ansible.module_utils.host_storage import free_mb, storage_faults
from ansible.module_utils.kafka_cluster import cluster_faults
from ansible.module_utils.kafka_log import deleted_faults
from ansible.module_utils.site_environment import database_of, read

DOCUMENTATION = r"""
---
module: host_look
short_description: Look at all that the roles ask of a host, in one trip
description:
  - Returns what the host has (packages, accounts, units), and answers what each role asks. Whatever stands in the way
    of a role is a sentence in its C(faults); the module itself refuses nothing and changes nothing.
options:
  roles:
    description: >-
      The questions of each role, by its name: C(ports) (variable, port, address, unit, socket_activated), C(storage)
      (path, path_variable, minimum_mb, minimum_variable, expect), C(cluster) (data_dir, zookeeper_connect),
      C(deleted) (Kafka's folder, for users that were deleted in its log), C(packages) (names), C(settings) (patterns of
      keys, by the path of a file of properties), C(present) (paths, or patterns of them), C(pythons) (paths of
      interpreters), C(calendars) (as systemd.time(7) writes them), C(addresses) (or names,
      that something is to listen on), C(free) (paths).
    type: dict
    required: true
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Look at the host
  host_look:
    roles:
      kafka:
        ports: [{variable: kafka_port, port: 9092, address: 127.0.0.1, unit: kafka.service}]
        present: [/var/lib/kafka/data/meta.properties]
"""

RETURN = r"""
looked:
  description: >-
    For each role C(faults), a list of sentences, C(lacking), the packages that are not installed, and C(present),
    C(settings) (keys and values; nothing of a file that is not there), C(pythons) (its version, or an empty text) and
    C(calendars) (the error, or an empty text), C(addresses) (whether the host has it) and C(free)
    (the MiB that a file may still take there) as asked.
    C(host) has C(installer) (who installs packages
    now, or an empty text), C(users) (home, shell and group of each), C(groups), C(units) (files in
    /etc/systemd/system), C(enabled) (units that one of its C(.wants) folders names), C(active), C(modules) (Apache's
    that are on), C(sites) (those with a release), C(databases) (where the rows of
    each of these are, postgresql or sqlite), C(archives) (of their releases), C(guards) (changes that are not
    confirmed yet), C(name), C(names_itself) (whether /etc/hosts has the name), C(ssh_ports) and C(tables)
    (of nftables, in the kernel).
  type: dict
  returned: success
"""

SYSTEMD = Path("/etc/systemd/system")
VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"


def names(folder: Path, pattern: str) -> list[str]:
    """Return the sorted names of what matches in a folder; none where it is not there."""
    return sorted({path.name for path in folder.glob(pattern)})


def names_itself(hosts: Path = Path("/etc/hosts")) -> bool:
    """Say whether the host's own name stands in its file of hosts (hosts(5))."""
    lines = [line.partition("#")[0].split() for line in hosts.read_text().splitlines()]
    return any(socket.gethostname() in line[1:] for line in lines)


def accounts() -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return the host's own users and the names of its groups (passwd(5), group(5))."""
    groups = [line.split(":") for line in Path("/etc/group").read_text().splitlines()]
    name_of = {fields[2]: fields[0] for fields in groups if len(fields) > 2}
    users = {}
    for line in Path("/etc/passwd").read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split(":")
        if len(fields) == 7:
            group = name_of.get(fields[3], fields[3])
            users[fields[0]] = {"home": fields[5], "shell": fields[6], "group": group}
    return users, sorted(name_of.values())


def tables(module: AnsibleModule) -> list[str]:
    """Return the tables of nftables that are in the kernel, as "family name"; none where it is not installed."""
    nft = "/usr/sbin/nft"
    if not os.access(nft, os.X_OK):
        return []
    _, out, _ = module.run_command([nft, "list", "tables"])
    return sorted(line.removeprefix("table ") for line in out.splitlines())


def own_address(address: str) -> bool:
    """Say whether something can listen on an address, or a name: whether the host has it, or it means all of them."""
    try:
        for family, *_, where in socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM):
            with socket.socket(family, socket.SOCK_STREAM) as tried:
                tried.bind(where)
    except OSError:
        return False
    return True


def released(home: Path = Path("/srv")) -> list[str]:
    """Return the sites with a release."""
    return sorted(path.parent.name for path in home.glob("*/current") if path.is_symlink())


def databases(
    home: Path = Path("/srv"), settings: Path = Path("/etc/switchboard")
) -> dict[str, str]:
    """Return where the rows of each site with a release are, as its environment says."""
    found = [site for site in released(home) if (settings / site).is_dir()]
    return {site: database_of(read(settings / site)) for site in found}


def host(module: AnsibleModule) -> dict[str, Any]:
    """Return what the host has."""

    def run(words: list[str]) -> tuple[int, str, str]:
        try:
            return module.run_command(words, handle_exceptions=False)
        except OSError as error:
            return 127, "", str(error)  # there is no such program

    users, groups = accounts()
    out = ""
    if systemctl := module.get_bin_path("systemctl"):
        listed = [systemctl, "list-units", "--state=active", "--plain", "--no-legend", "--full"]
        _, out, _ = module.run_command(listed, environ_update={"LC_ALL": "C"})
    return {
        "installer": next(filter(None, map(holder, LOCKS)), ""),
        "name": socket.gethostname(),
        "names_itself": names_itself(),
        "guards": armed(),
        "ssh_ports": ssh_ports(run),
        "tables": tables(module),
        "users": users,
        "groups": groups,
        "units": names(SYSTEMD, "*.*"),
        "enabled": names(SYSTEMD, "*.wants/*"),
        "active": [line.split()[0] for line in out.splitlines()],
        "modules": [
            path[: -len(".load")] for path in names(Path("/etc/apache2/mods-enabled"), "*.load")
        ],
        "archives": sorted(map(str, Path("/srv").glob("*/archives/*.tar.gz"))),
        "databases": databases(),
        "sites": released(),
    }


def settings_of(path: str, patterns: list[str]) -> dict[str, str]:
    """Return the keys and values of a file, of properties or JSON, whose keys match; nothing without the file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    if text.startswith("{"):
        found = {key: str(value) for key, value in json.loads(text).items()}
    else:
        parts = [line.partition("=") for line in text.splitlines()]
        found = {key: value for key, separator, value in parts if separator}
    return {
        key: value
        for key, value in found.items()
        if any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)
    }


def answers(module: AnsibleModule, asked: dict[str, Any], packages: set[str]) -> dict[str, Any]:
    """Return the answers to one role's questions."""
    faults = port_faults(asked.get("ports", []))
    for storage in asked.get("storage", []):
        faults += storage_faults(storage)
    if asked.get("cluster"):
        faults += cluster_faults(**asked["cluster"])
    if asked.get("deleted"):
        faults += deleted_faults(asked["deleted"])
    pythons = {}
    for python in asked.get("pythons", []):
        code, out = 1, ""
        if os.access(python, os.X_OK):
            code, out, _ = module.run_command([python, "-c", VERSION])
        pythons[python] = "" if code else out.strip()
    calendars = {}
    for calendar in asked.get("calendars", []):
        code, _, said = module.run_command(["systemd-analyze", "calendar", "--", calendar])
        calendars[calendar] = said.strip() or "refused" if code else ""
    return {
        "faults": faults,
        "lacking": [name for name in asked.get("packages", []) if name not in packages],
        "present": {
            path: os.path.lexists(path) or bool(glob.glob(path))
            for path in asked.get("present", [])
        },
        "settings": {
            path: settings_of(path, patterns)
            for path, patterns in asked.get("settings", {}).items()
        },
        "pythons": pythons,
        "calendars": calendars,
        "addresses": {address: own_address(address) for address in asked.get("addresses", [])},
        "free": {path: free_mb(path) for path in asked.get("free", [])},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"roles": {"type": "dict", "required": True}}, supports_check_mode=True
    )
    packages = set(installed())
    looked = {
        role: answers(module, asked, packages) for role, asked in module.params["roles"].items()
    }
    module.exit_json(changed=False, looked={**looked, "host": host(module)})


if __name__ == "__main__":
    main()
