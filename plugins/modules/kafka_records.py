#!/usr/bin/python
"""Take the records of a Kafka cluster, with its topics, groups and rights, and give them to another one."""

from __future__ import annotations

import json
import os
import struct
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_access import Access, Acl
from ansible.module_utils.kafka_admin import Cluster, Refused
from ansible.module_utils.kafka_client import Connection, login_of
from ansible.module_utils.kafka_files import Partition, file_of, moved
from ansible.module_utils.kafka_records import (
    RecordsError,
    commit,
    committed,
    fetch,
    next_producer,
    send,
    there,
)

DOCUMENTATION = r"""
---
module: kafka_records
short_description: Take the records of a Kafka cluster into a folder, and give them to another cluster
description:
  - Of each record its partition, its order, key, value, headers and time are kept. Offsets begin anew, and those that
    groups of consumers have committed are worked out anew.
  - Topics that the other cluster lacks are made with the partitions and the settings that they had; ACLs and quotas of
    users that are not declared are given to it too. The password of a user that somebody made by hand can't be taken.
  - C(read) begins anew, and with I(whole) goes on from what the one before has read. C(write) goes on where one
    that was interrupted has ended, and compares what has come to the other cluster.
  - For nothing to be missed, no client may be let in from before the last C(read) to after C(write).
options:
  bootstrap_servers: {description: "The broker to ask, as C(host:port).", type: str, required: true}
  config:
    description: A file of client properties, by which to log in; without such a file nobody does.
    type: path
    default: ""
  folder: {description: Where the records lie between the two., type: path, required: true}
  state: {description: Which of the two is done., type: str, choices: [read, write], required: true}
  whole: {description: "With C(read): whether clients are kept out, so that this is all.", type: bool, default: false}
  users: {description: Users that are declared., type: list, elements: str, default: []}
  leave_users: {description: Whether users that are not declared are left behind., type: bool, default: false}
  minimum_mb: {description: MiB that stay free beside the folder., type: int, default: 1024}
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Take the records
  kafka_records: {bootstrap_servers: 127.0.0.1:9092, folder: /var/lib/kafka/data.records, state: read, whole: true}
"""

RETURN = r"""
topics: {description: How many topics there are., type: int, returned: success}
records: {description: How many records they have., type: int, returned: success}
groups: {description: Groups of consumers with offsets., type: list, elements: str, returned: success}
used: {description: Those of them that have members, who said otherwise., type: list, elements: str, returned: success}
"""

OWN = ("__consumer_offsets", "__transaction_state", "__share_group_state")  # Kafka's
Plan = dict[str, Any]


class Move:
    """One cluster, and the folder."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options, self.server = options, options["bootstrap_servers"]
        self.folder = Path(options["folder"])
        self.login = login_of(options["config"]) if options["config"] else {}
        self.admin = Cluster(self.server, 30, self.login)

    def access(self) -> Access | None:
        """Connect for what is asked of users; a broker closes a connection that is not used for ten minutes."""
        return Access(self.server, self.login, 30) if self.login else None

    # -- the plan, which says what is in the folder ------------------------------------------------------

    @property
    def path(self) -> Path:
        """Return where the plan is."""
        return self.folder / "cluster.json"

    def load(self) -> Plan:
        """Return the plan."""
        found: Plan = json.loads(self.path.read_text(encoding="utf-8"))
        return found

    def save(self, plan: Plan) -> None:
        """Write the plan so that it is there whole or not at all."""
        draft = self.path.with_suffix(".draft")
        with draft.open("w", encoding="utf-8") as file:
            json.dump(plan, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self.path)

    @staticmethod
    def partitions(plan: Plan) -> list[Partition]:
        """Return the partitions of all topics."""
        return [
            (name, number)
            for name, topic in plan["topics"].items()
            for number in range(topic["partitions"])
        ]

    # -- from the one cluster ----------------------------------------------------------------------------

    def look(self) -> Plan:
        """Return what the cluster has, without its records.

        Raises:
            Refused: somebody has made users by hand.
        """
        with Connection(self.server, self.login, 30) as connection:
            told = connection.layout(all_topics=True)
        names = sorted(name for name in told["topics"] if name not in OWN)
        plan: Plan = {"topics": self.admin.find(names, names), "acls": [], "quotas": {}}
        for topic in plan["topics"].values():
            del topic["config"]
        if access := self.access():
            declared = set(self.options["users"])
            by_hand = sorted(access.users().keys() - declared)
            if by_hand and not self.options["leave_users"]:
                raise Refused(
                    f"kafka_users lacks {', '.join(by_hand)}: somebody has made them by hand, and nobody can read "
                    "their passwords. Declare them with a password, or leave them behind with -e leave_users=true."
                )
            plan["acls"] = sorted(acl for acl in access.acls() if acl.user not in declared)
            quotas = access.quotas()
            plan["quotas"] = {name: quotas[name] for name in quotas.keys() - declared}
        numbers = []
        for address, _ in told["brokers"].values():
            with Connection(address, self.login, 30) as connection:
                numbers.append(next_producer(connection))
        return {**plan, "producers": max(numbers)}

    def read(self) -> dict[str, Any]:
        """Bring into the folder what it lacks."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        plan, whole = self.look(), self.options["whole"]
        if not whole:  # an earlier run's may be of topics that were made anew since
            for path in self.folder.glob("*.records"):
                path.unlink()
        some = self.partitions(plan)
        least = self.options["minimum_mb"]
        counts = fetch(self.server, self.login, self.folder, some, least, whole)
        if whole:
            groups = committed(self.server, self.login, some)
            plan["groups"] = {
                name: [
                    [topic, number, moved(file_of(self.folder, (topic, number)), offset)]
                    for topic, number, offset in told
                ]
                for name, told in groups.items()
            }
        plan["counts"] = [[*partition, count] for partition, count in counts.items()]
        self.save({**plan, "whole": whole})
        return plan

    # -- to the other one --------------------------------------------------------------------------------

    def write(self, plan: Plan) -> list[str]:
        """Give all of it to the cluster, and compare; return the groups that have members."""
        self.skip_numbers(plan["producers"])
        self.make(plan["topics"])
        counts = {(name, number): count for name, number, count in plan["counts"]}
        policies = self.policies(list(plan["topics"]))
        have = there(self.server, self.login, self.folder, counts, policies)
        rest = {
            partition: have[partition]
            for partition in counts
            if have[partition] < counts[partition]
        }
        send(self.server, self.login, self.folder, rest)
        have = there(self.server, self.login, self.folder, counts, policies)
        for (name, number), count in counts.items():
            if have[name, number] != count:
                raise RecordsError(f"{name}-{number} has {have[name, number]} of {count} records")
        used = commit(self.server, self.login, plan["groups"])
        if access := self.access():
            acls = {Acl(*one) for one in plan["acls"]}
            access.change_acls(acls - access.acls(), [])
            if plan["quotas"]:
                access.change_quotas(plan["quotas"])
        self.save({**plan, "written": True})
        for partition in counts:
            file_of(self.folder, partition).unlink(missing_ok=True)
        return used

    def make(self, topics: dict[str, Any]) -> None:
        """Make the topics that are lacking, with the settings that they had, and complete the others."""
        names = list(topics)
        found = self.admin.find(names, names)
        lacking = [
            {
                "name": name,
                "config": topic["own"],
                **{key: topic[key] for key in ("partitions", "replication_factor")},
            }
            for name, topic in topics.items()
            if name not in found
        ]
        if lacking:
            self.admin.create(lacking)
        grown = [
            (name, topics[name]["partitions"])
            for name in found
            if found[name]["partitions"] < topics[name]["partitions"]
        ]
        if grown:
            self.admin.grow(grown)
        settings = [
            (name, topics[name]["own"])
            for name in found
            if not topics[name]["own"].items() <= found[name]["own"].items()
        ]
        if settings:
            self.admin.configure(settings, found)
        self.admin.wait_for_leaders({name: topic["partitions"] for name, topic in topics.items()})

    def policies(self, names: list[str]) -> dict[str, dict[str, str]]:
        """Return what topics have of the settings by which records are compared, their own or the brokers'."""
        found: dict[str, dict[str, str]] = {name: {} for name in names}
        end = time.monotonic() + 30
        with Connection(self.server, self.login, 30) as connection:
            for key in ("cleanup.policy", "message.timestamp.type"):
                while len(told := connection.settings(names, key)) < len(names):
                    if time.monotonic() > end:
                        raise RecordsError(f"no {key} of {', '.join(found.keys() - told.keys())}")
                    time.sleep(0.2)  # until the broker has heard of them; the time-out above raises
                for name, value in told.items():
                    found[name][key] = value
        return found

    def skip_numbers(self, first: int) -> None:
        """Let no producer have a number that one of the other cluster has, since Kafka would take it for that one."""
        with Connection(self.server, self.login, 30) as connection:
            brokers = connection.layout()["brokers"]
        for address, _ in brokers.values():
            with Connection(address, self.login, 30) as connection:
                while next_producer(connection) < first:
                    pass


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        {
            "bootstrap_servers": {"type": "str", "required": True},
            "config": {"type": "path", "default": ""},
            "folder": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["read", "write"], "required": True},
            "whole": {"type": "bool", "default": False},
            "users": {"type": "list", "elements": "str", "default": []},
            "leave_users": {"type": "bool", "default": False},
            "minimum_mb": {"type": "int", "default": 1024},
        },
        supports_check_mode=True,
    )
    changed, used, what = True, [], module.params["state"]
    try:
        from confluent_kafka import KafkaException

        move = Move(module.params)
        if what == "read":
            plan = move.look() if module.check_mode else move.read()
        else:
            plan = move.load()
            changed = not plan.get("written")
            if changed and not module.check_mode:
                used = move.write(plan)
    except Refused as error:
        module.fail_json(msg=str(error))
    except (RecordsError, OSError, struct.error, KafkaException) as error:
        module.fail_json(
            msg=f"The records could not be {'read from' if what == 'read' else 'written to'} "
            f"{module.params['bootstrap_servers']}: {error}. Run this again, or go "
            "back with -e back=true (docs/kafka.md)."
        )
    module.exit_json(
        changed=changed,
        topics=len(plan["topics"]),
        records=sum(count for *_, count in plan.get("counts", [])),
        groups=sorted(plan.get("groups", {})),
        used=used,
    )


if __name__ == "__main__":
    main()
