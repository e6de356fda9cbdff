#!/usr/bin/python
"""Say whether a Kafka cluster without ZooKeeper keeps to what an older version understands, or let it go on."""

from __future__ import annotations

import struct

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_client import (
    Answer,
    Connection,
    KafkaError,
    compact,
    compact_array,
    login_of,
)

DOCUMENTATION = r"""
---
module: kafka_features
short_description: Finish the upgrade of a Kafka cluster that works without ZooKeeper
description:
  - Compares the levels of features (KIP-584), of which C(metadata.version) is one, that a broker knows with those that
    the cluster has. Brokers of the version before can't run with higher ones, so nothing raises them by itself.
  - C(kraft.version) stays as it is. With 0 the controllers are those of C(controller.quorum.voters), by their numbers;
    with 1 they are those that the module M(kafka_quorum) has given a say, bound to their disks.
options:
  bootstrap_servers: {description: "The broker to ask, as C(host:port).", type: str, required: true}
  config:
    description: A file of client properties, by which to log in; without such a file nobody does.
    type: path
    default: ""
  finish: {description: Whether all features are raised to what the broker knows., type: bool, default: false}
  timeout: {description: Seconds that the brokers have for each answer., type: int, default: 60}
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Finish the upgrade
  kafka_features: {bootstrap_servers: 127.0.0.1:9092, config: /etc/kafka/admin.properties, finish: true}
"""

RETURN = r"""
levels: {description: The features and the levels that the cluster has., type: dict, returned: success}
behind: {description: The features that could have a higher level., type: list, elements: str, returned: success}
"""

API_VERSIONS, UPDATE_FEATURES = 18, 57  # API keys
SUPPORTED, FINALIZED = 0, 2  # tagged fields of ApiVersions
UPGRADE = 1  # FeatureUpdate.UpgradeType
KEPT = "kraft.version"


def levels(data: bytes, place: int) -> dict[str, int]:
    """Return one of the two numbers behind the name of each feature, out of a tagged field of ApiVersions."""
    answer = Answer(data, flexible=True)
    found = answer.array(lambda: (answer.text(), (answer.take(">h"), answer.take(">h"))))
    return {name: numbers[place] for name, numbers in found}


def features(connection: Connection) -> tuple[dict[str, int], dict[str, int]]:
    """Return up to which level a broker knows each feature, and at which the cluster has it."""
    body = compact(b"switchboard") + compact(b"1")
    answer = connection.ask(API_VERSIONS, 4, body, flexible=True)
    answer.position = (
        4  # behind the number of the request: the one header without tagged fields (KIP-511)
    )
    if code := answer.take(">h"):
        raise KafkaError("versions", code)
    answer.array(lambda: [answer.take(">h") for _ in range(3)])
    answer.take(">i")  # throttling
    fields = {SUPPORTED: b"\1", FINALIZED: b"\1"}  # empty lists
    for _ in range(answer.varint()):
        number = answer.varint()
        length = answer.varint()
        fields[number] = answer.data[answer.position : answer.position + length]
        answer.position += length
    # the least and the most that it knows; the most and the least that all may use
    return levels(fields[SUPPORTED], 1), levels(fields[FINALIZED], 0)


def raise_features(connection: Connection, wanted: dict[str, int], timeout: float) -> None:
    """Let the cluster have features at higher levels from now on."""
    some = [
        compact(name.encode()) + struct.pack(">hb", level, UPGRADE)
        for name, level in sorted(wanted.items())
    ]
    body = struct.pack(">i", int(timeout * 1000)) + compact_array(some) + struct.pack(">?", False)
    answer = connection.ask(UPDATE_FEATURES, 1, body, flexible=True)
    answer.take(">i")  # throttling
    if code := answer.take(">h"):
        raise KafkaError("features", code, answer.text())
    answer.text()

    def one() -> None:
        name, code, said = answer.text(), answer.take(">h"), answer.text()
        if code:
            raise KafkaError(name, code, said)

    answer.array(one)


def higher(known: dict[str, int], has: dict[str, int]) -> dict[str, int]:
    """Return the features that can be raised, each with the level that it gets.

    Args:
        known: up to which level a broker knows each feature.
        has: at which level the cluster has each; one that is not named is at 0.
    """
    return {
        name: level for name, level in known.items() if name != KEPT and has.get(name, 0) < level
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "bootstrap_servers": {"type": "str", "required": True},
            "config": {"type": "path", "default": ""},
            "finish": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    options = module.params
    login = login_of(options["config"]) if options["config"] else {}
    try:
        with Connection(options["bootstrap_servers"], login, options["timeout"]) as connection:
            known, has = features(connection)
            wanted = higher(known, has)
            if wanted and options["finish"] and not module.check_mode:
                raise_features(connection, wanted, options["timeout"])
    except (OSError, ValueError, struct.error) as error:
        if module.check_mode:  # of a broker that is to be made, or to be asked in another way
            module.exit_json(changed=False, levels={}, behind=[])
        module.fail_json(
            msg=f"kafka_finalize is {str(options['finish']).lower()}: the brokers' features could not be "
            f"{'raised' if options['finish'] else 'read'} through {options['bootstrap_servers']}: {error}. Look at the "
            "broker (systemctl status kafka; journalctl -u kafka), and run this again."
        )
    done = bool(wanted) and options["finish"]
    after = {**has, **wanted} if done else has

    def lines(some: dict[str, int]) -> str:
        return "".join(f"{name}: {some.get(name, 0)}\n" for name in sorted({*some, *wanted}))

    module.exit_json(
        changed=done,
        levels=after,
        behind=[] if done else sorted(wanted),
        diff={
            "before_header": "features of Kafka",
            "after_header": "features of Kafka",
            "before": lines(has) if done else "",
            "after": lines(after) if done else "",
        },
    )


if __name__ == "__main__":
    main()
