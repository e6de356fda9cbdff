#!/usr/bin/python
"""Keep Kafka's topics as declared: create, grow, configure; never shrink, never delete by accident."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.kafka_admin import Cluster, Refused, Topic, as_text
from ansible.module_utils.kafka_client import Connection, login_of

DOCUMENTATION = r"""
---
module: kafka_topics
short_description: Keep Kafka's topics as declared
description:
  - Creates the topics that are declared and not there, adds partitions, and sets configuration. What is
    not declared is left alone, topics as well as single settings of a topic.
  - Kafka can't take partitions away, and this module does not move replicas. Both are refused, before
    anything is changed.
  - A topic is deleted only with C(state=absent) and C(allow_delete=true).
requirements:
  - python3-confluent-kafka
options:
  bootstrap_servers:
    description: Brokers to ask, as C(host:port), with commas between them.
    type: str
    required: true
  config:
    description: A file of client properties, by which to log in; without such a file nobody does.
    type: path
    default: ""
  topics:
    description: The topics.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: The topic's name., type: str, required: true}
      partitions: {description: How many partitions it has., type: int, default: 1}
      replication_factor:
        description: How many brokers hold each record; without it the broker's default, and not compared.
        type: int
      config:
        description: Settings of the topic; null gives one back to the broker's default.
        type: dict
        default: {}
      state: {description: Whether it exists., type: str, choices: [present, absent], default: present}
  allow_delete:
    description: Whether topics with C(state=absent) are deleted, with their records.
    type: bool
    default: false
  timeout:
    description: Seconds that the brokers have for each answer.
    type: int
    default: 30
  assume_empty:
    description: In check mode, take a cluster that does not answer (it is not installed yet) for an empty one.
    type: bool
    default: false
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Declare a topic
  kafka_topics:
    bootstrap_servers: 127.0.0.1:9092
    topics:
      - name: graphspace.group
        partitions: 3
        replication_factor: 1
        config: {retention.ms: 604800000}
"""

RETURN = r"""
created: {description: Names of the topics that were created., type: list, elements: str, returned: success}
changed_topics:
  description: Names of the topics that were grown or configured.
  type: list
  elements: str
  returned: success
deleted: {description: Names of the topics that were deleted., type: list, elements: str, returned: success}
"""


def check(declared: list[Topic]) -> None:
    """Refuse a list that contradicts itself."""
    seen = set()
    for topic in declared:
        if topic["name"] in seen:
            raise Refused(
                f"kafka_topics is a list with {topic['name']} twice: a topic is declared once. Take one entry away."
            )
        seen.add(topic["name"])
        if topic["partitions"] < 1:
            raise Refused(
                f"kafka_topics is a list with {topic['name']} of {topic['partitions']} partitions: a topic "
                "has at least one. Set its partitions to 1 or more."
            )


def plan(
    declared: list[Topic], found: dict[str, Topic], allow_delete: bool
) -> dict[str, list[Any]]:
    """Compare what is declared with what was found.

    Args:
        declared: the module's topics.
        found: ``{name: {"partitions": n, "replication_factor": n, "config": {key: value}, "own": {key: value}}}``,
            ``config`` with the effective settings and ``own`` with those that were made on the topic itself.
        allow_delete: the module's option.

    Returns:
        ``create`` (declared topics), ``grow`` ((name, partitions)), ``configure`` ((name, {key: value or None})) and
        ``delete`` (names).

    Raises:
        Refused: partitions would be taken away, replicas moved, or a topic deleted without permission.
    """
    result: dict[str, list[Any]] = {"create": [], "grow": [], "configure": [], "delete": []}
    for topic in declared:
        name = topic["name"]
        there = found.get(name)
        if topic["state"] == "absent":
            if there and not allow_delete:
                raise Refused(
                    f"kafka_topics is a list with {name} absent: it exists, and deleting it destroys its records. "
                    "Set kafka_topics_allow_delete to true for this one run, or take the entry away."
                )
            if there:
                result["delete"].append(name)
            continue
        if there is None:
            result["create"].append(topic)
            continue
        if topic["partitions"] < there["partitions"]:
            raise Refused(
                f"kafka_topics is a list with {name} of {topic['partitions']} partitions: it has "
                f"{there['partitions']}, and Kafka cannot take partitions away. Declare {there['partitions']}, or "
                "a new topic under another name."
            )
        if topic["replication_factor"] not in (None, there["replication_factor"]):
            raise Refused(
                f"kafka_topics is a list with {name} of the replication factor {topic['replication_factor']}: it has "
                f"{there['replication_factor']}, and this moves none. Declare {there['replication_factor']}, or give "
                "topics more first, by playbooks/rebalance.yml with -e kafka_move_replicas=3."
            )
        if topic["partitions"] > there["partitions"]:
            result["grow"].append((name, topic["partitions"]))
        settings = {}
        for key, value in topic["config"].items():
            text = as_text(value)
            if (text is None and key in there["own"]) or (
                text is not None and there["config"].get(key) != text
            ):
                settings[key] = text
        if settings:
            result["configure"].append((name, settings))
    return result


def states(
    declared: list[Topic], found: dict[str, Topic], changes: dict[str, list[Any]]
) -> tuple[dict[str, Topic], dict[str, Topic]]:
    """Return the declared topics before and after the changes, for a diff: only what is declared is shown."""
    before: dict[str, Topic] = {}
    after: dict[str, Topic] = {}
    grown, set_up = dict(changes["grow"]), dict(changes["configure"])
    for topic in declared:
        name, there = topic["name"], found.get(topic["name"])
        if there:
            before[name] = {
                "partitions": there["partitions"],
                "replication_factor": there["replication_factor"],
                "config": {key: there["config"].get(key) for key in sorted(topic["config"])},
            }
        if topic["state"] == "absent":
            continue
        if there:
            settings = dict(before[name]["config"])
            settings.update(
                {key: value or "(default)" for key, value in set_up.get(name, {}).items()}
            )
            after[name] = {
                **before[name],
                "partitions": grown.get(name, there["partitions"]),
                "config": settings,
            }
        else:
            after[name] = {
                "partitions": topic["partitions"],
                "replication_factor": topic["replication_factor"] or "(default)",
                "config": {
                    key: as_text(value)
                    for key, value in sorted(topic["config"].items())
                    if value is not None
                },
            }
    return before, after


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "bootstrap_servers": {"type": "str", "required": True},
            "config": {"type": "path", "default": ""},
            "topics": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "partitions": {"type": "int", "default": 1},
                    "replication_factor": {"type": "int"},
                    "config": {"type": "dict", "default": {}},
                    "state": {
                        "type": "str",
                        "choices": ["present", "absent"],
                        "default": "present",
                    },
                },
            },
            "allow_delete": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 30},
            "assume_empty": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    options = module.params
    declared = options["topics"]
    fresh = module.check_mode and options["assume_empty"]
    cluster: Cluster | None = None
    found: dict[str, Topic] = {}
    try:
        check(declared)
        if not fresh:
            try:
                login = login_of(options["config"]) if options["config"] else {}
                if login:  # librdkafka would send the password to whoever answers
                    Connection(
                        options["bootstrap_servers"], login, options["timeout"]
                    ).socket.close()
                cluster = Cluster(options["bootstrap_servers"], options["timeout"], login)
            except ImportError:
                module.fail_json(
                    msg=missing_required_lib("confluent_kafka (Debian: python3-confluent-kafka)")
                )
            assert cluster is not None  # fail_json above does not return
            found = cluster.find(
                [topic["name"] for topic in declared],
                [
                    topic["name"]
                    for topic in declared
                    if topic["config"] and topic["state"] == "present"
                ],
            )
        changes = plan(declared, found, options["allow_delete"])
        before, after = states(declared, found, changes)
        if cluster and not module.check_mode:
            if changes["create"]:
                cluster.create(changes["create"])
            if changes["grow"]:
                cluster.grow(changes["grow"])
            if changes["configure"]:
                cluster.configure(changes["configure"], found)
            if changes["delete"]:
                cluster.delete(changes["delete"])
            sizes = {topic["name"]: topic["partitions"] for topic in changes["create"]}
            sizes.update(dict(changes["grow"]))
            if sizes:
                cluster.wait_for_leaders(sizes)
    except Refused as error:
        module.fail_json(msg=str(error))
    except Exception as error:
        if type(error).__name__ not in ("KafkaException", "TimeoutError"):
            raise
        module.fail_json(
            msg=f"kafka_topics could not be applied through {options['bootstrap_servers']}: {error}. "
            "Look at the broker (systemctl status kafka; journalctl -u kafka)."
        )
    module.exit_json(
        changed=any(changes.values()),
        created=[topic["name"] for topic in changes["create"]],
        changed_topics=sorted({name for name, _ in changes["grow"] + changes["configure"]}),
        deleted=changes["delete"],
        diff={
            "before_header": "topics",
            "after_header": "topics",
            "before": render(before),
            "after": render(after),
        },
    )


def render(topics: dict[str, Topic]) -> str:
    """Return topics as lines, one a setting, so that a diff shows what changes."""
    lines = []
    for name in sorted(topics):
        lines.append(
            f"{name}: partitions {topics[name]['partitions']}, replication factor {topics[name]['replication_factor']}"
        )
        lines += [f"  {key}: {value}" for key, value in topics[name]["config"].items()]
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
