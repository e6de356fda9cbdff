#!/usr/bin/python
"""Keep Kafka's users as declared: their passwords, what each may do, and how much of it."""

from __future__ import annotations

import struct
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_access import ITERATIONS, Access, Acl
from ansible.module_utils.kafka_client import login_of

DOCUMENTATION = r"""
---
module: kafka_users
short_description: Keep Kafka's users, ACLs and quotas as declared
description:
  - A user logs in by SCRAM-SHA-512. What it may not do by an ACL it may not do at all.
  - A password is compared by logging in with it; it is stored nowhere, and no broker is told it.
  - Of a user that is declared, ACLs and quotas that are not declared are taken away. A user that this module has made
    and that is declared no longer is taken away with its ACLs and quotas. Other users are left alone.
options:
  bootstrap_servers:
    description: The broker to ask, as C(host:port).
    type: str
    required: true
  config:
    description: A file of client properties, by which to log in.
    type: path
    required: true
  users:
    description: The users.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: The user's name., type: str, required: true}
      password:
        description: Its password; without one it has ACLs and quotas alone, as C(ANONYMOUS) has.
        type: str
      topics:
        description: Topics that it may read, write and describe; C(lab.*) are all that begin with C(lab.).
        type: list
        elements: str
        default: []
      read_topics: {description: Topics that it may read and describe., type: list, elements: str, default: []}
      groups: {description: Groups of consumers that it may join., type: list, elements: str, default: []}
      quotas:
        description: Such as C(producer_byte_rate), C(consumer_byte_rate), C(request_percentage).
        type: dict
        default: {}
      state: {description: Whether it exists., type: str, choices: [present, absent], default: present}
  quorum:
    description:
      - Whether the brokers work without ZooKeeper (KRaft), where a user that goes away stays with a password that
        nobody knows.
    type: bool
    default: false
  timeout:
    description: Seconds that the brokers have for each answer.
    type: int
    default: 30
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Let a site use its topics
  kafka_users:
    bootstrap_servers: 127.0.0.1:9092
    config: /etc/kafka/admin.properties
    users:
      - name: lab
        password: "{{ lab_password }}"
        topics: ["lab.*"]
        groups: ["lab.*"]
        quotas: {producer_byte_rate: 10000000}
"""

RETURN = r"""
made: {description: Users that were made., type: list, elements: str, returned: success}
renewed: {description: Users that got another password., type: list, elements: str, returned: success}
removed: {description: Users that were taken away., type: list, elements: str, returned: success}
"""

User = dict[str, Any]
READ, WRITE = ("read", "describe"), ("read", "write", "describe")


def acls_of(user: User) -> set[Acl]:
    """Return the ACLs that a declared user is to have."""
    kinds = [("topic", "topics", WRITE), ("topic", "read_topics", READ), ("group", "groups", READ)]
    found = set()
    for kind, key, operations in kinds:
        for name in user[key]:
            # Kafka's own word for all names is the literal *
            prefixed = name.endswith("*") and name != "*"
            pattern = "prefixed" if prefixed else "literal"
            resource = (kind, name[:-1] if prefixed else name, pattern, f"User:{user['name']}", "*")
            found |= {Acl(*resource, operation, "allow") for operation in operations}
    return found


def plan(
    declared: list[User],
    users: dict[str, int],
    acls: set[Acl],
    quotas: dict[str, dict[str, float]],
    known: set[str],
) -> dict[str, Any]:
    """Compare what is declared with what was found.

    Args:
        declared: the module's users.
        users: those with a password, and the number of iterations of each.
        acls: all ACLs.
        quotas: the quotas of each user.
        known: declared users that get in with their password.

    Returns:
        ``made`` and ``renewed``, users that get a password, ``removed``, users that lose theirs, ``granted`` and
        ``revoked``, ACLs, and ``quotas``, ``{user: {quota: value, or None to take it away}}``.
    """
    present = {user["name"]: user for user in declared if user["state"] == "present"}
    ours = {name for name, iterations in users.items() if iterations == ITERATIONS}
    absent = {user["name"] for user in declared} - present.keys() | (ours - present.keys())
    able = {name for name, user in present.items() if user["password"]}
    wanted = set().union(*map(acls_of, present.values()))
    there = {acl for acl in acls if acl.user in present.keys() | absent}
    changes: dict[str, dict[str, float | None]] = {}
    for name in present.keys() | absent:
        has = quotas.get(name, {})
        asked = present[name]["quotas"] if name in present else {}
        steps: dict[str, float | None] = dict.fromkeys(has.keys() - asked.keys())
        steps |= {key: float(value) for key, value in asked.items() if has.get(key) != float(value)}
        if steps:
            changes[name] = dict(sorted(steps.items()))
    return {
        "made": sorted(able - users.keys()),
        "renewed": sorted(able & users.keys() - (known & ours)),
        "removed": sorted((absent | present.keys() - able) & users.keys()),
        "granted": sorted(wanted - there),
        "revoked": sorted(there - wanted),
        "quotas": dict(sorted(changes.items())),
    }


def shown(
    changes: dict[str, Any], quotas: dict[str, dict[str, float]]
) -> tuple[list[str], list[str]]:
    """Return what changes as lines before and after it, with no password in them."""
    before = [f"{name}: password (another)" for name in changes["renewed"]]
    before += [f"{name}: password" for name in changes["removed"]]
    before += [f"{acl.user}: {acl}" for acl in changes["revoked"]]
    after = [f"{name}: password (as declared)" for name in changes["renewed"]]
    after += [f"{name}: password" for name in changes["made"]]
    after += [f"{acl.user}: {acl}" for acl in changes["granted"]]
    for name, steps in changes["quotas"].items():
        for key, value in steps.items():
            if key in quotas.get(name, {}):
                before.append(f"{name}: {key} {quotas[name][key]:g}")
            if value is not None:
                after.append(f"{name}: {key} {value:g}")
    return sorted(before), sorted(after)


def main() -> None:
    """Run the module."""
    lists = {
        key: {"type": "list", "elements": "str", "default": []}
        for key in ("topics", "read_topics", "groups")
    }
    module = AnsibleModule(
        argument_spec={
            "bootstrap_servers": {"type": "str", "required": True},
            "config": {"type": "path", "required": True},
            "users": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "password": {"type": "str", "no_log": True},
                    **lists,
                    "quotas": {"type": "dict", "default": {}},
                    "state": {
                        "type": "str",
                        "choices": ["present", "absent"],
                        "default": "present",
                    },
                },
            },
            "quorum": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    options = module.params
    declared, login = options["users"], login_of(options["config"])
    try:
        if not login and module.check_mode:  # the cluster asks nobody yet, so that it knows nobody
            changes, quotas = plan(declared, {}, set(), {}, set()), {}
        else:
            access = Access(
                options["bootstrap_servers"], login, options["timeout"], options["quorum"]
            )
            users, acls, quotas = access.users(), access.acls(), access.quotas()
            known = {
                user["name"]
                for user in declared
                if user["password"]
                and user["name"] in users
                and access.known(user["name"], user["password"])
            }
            changes = plan(declared, users, acls, quotas, known)
            if not module.check_mode:
                passwords = {user["name"]: user["password"] for user in declared}
                wanted = changes["made"] + changes["renewed"]
                # rights before the user that has them, and a user gone before its rights are
                access.change_acls(changes["granted"], [])
                if wanted or changes["removed"]:
                    renewed = {name: passwords[name] for name in wanted}
                    access.change_users(renewed, changes["removed"])
                access.change_acls([], changes["revoked"])
                if changes["quotas"]:
                    access.change_quotas(changes["quotas"])
    except (OSError, struct.error) as error:
        module.fail_json(
            msg=f"kafka_users could not be applied through {options['bootstrap_servers']}: {error}. "
            "Look at the broker (systemctl status kafka; journalctl -u kafka)."
        )
    before, after = shown(changes, quotas)
    module.exit_json(
        changed=any(changes.values()),
        **{key: changes[key] for key in ("made", "renewed", "removed")},
        diff={
            "before_header": "users of Kafka",
            "after_header": "users of Kafka",
            "before": "".join(f"{line}\n" for line in before),
            "after": "".join(f"{line}\n" for line in after),
        },
    )


if __name__ == "__main__":
    main()
