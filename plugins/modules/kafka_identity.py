#!/usr/bin/python
"""Refuse a Kafka data folder that belongs to another cluster than ZooKeeper knows."""

from __future__ import annotations

import json
import os
import socket
import struct

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: kafka_identity
short_description: Refuse a Kafka data folder of another cluster
description:
  - Kafka keeps the id of its cluster twice, in C(meta.properties) of its data folder and in C(/cluster/id)
    of ZooKeeper, and ends at once when they differ. This module compares them before anything is changed,
    and changes nothing.
  - Without a data folder, and where no ZooKeeper answers, there is nothing to compare.
options:
  data_dir:
    description: Kafka's data folder. It need not exist yet.
    type: path
    required: true
  zookeeper_connect:
    description: The ZooKeeper servers as Kafka's C(zookeeper.connect) has them.
    type: str
    required: true
  timeout:
    description: Seconds for one ZooKeeper server to answer.
    type: float
    default: 3
author:
  - The Switchboard authors
"""

EXAMPLES = r"""
- name: Refuse records of another cluster
  kafka_identity:
    data_dir: /var/lib/kafka/data
    zookeeper_connect: 127.0.0.1:2181
"""

RETURN = r"""
disk: {description: The cluster's id on the disk; empty without one., type: str, returned: success}
zookeeper:
  description: The one that ZooKeeper knows; empty without one, null where none answers.
  type: str
  returned: success
"""

NO_NODE = -101  # KeeperException.Code.NONODE
GET_DATA, CLOSE = 4, -11  # ZooDefs.OpCode


def on_disk(data_dir: str) -> str:
    """Return the id in a data folder's meta.properties, or an empty text."""
    try:
        with open(os.path.join(data_dir, "meta.properties"), encoding="utf-8") as source:
            lines = [line.partition("=") for line in source]
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return next((value.strip() for key, _, value in lines if key.strip() == "cluster.id"), "")


def packet(*parts: bytes) -> bytes:
    """Return a packet of ZooKeeper's protocol: its length in 4 bytes, and its content."""
    content = b"".join(parts)
    return struct.pack(">i", len(content)) + content


def answer(connection: socket.socket) -> bytes:
    """Read the content of one packet; OSError where the connection ends before."""
    data = b""
    while len(data) < 4 or len(data) < 4 + struct.unpack_from(">i", data)[0]:
        piece = connection.recv(4096)
        if not piece:
            raise OSError("ZooKeeper closed the connection")
        data += piece
    return data[4:]


def in_zookeeper(connect: str, timeout: float) -> str | None:
    """Return the id in /cluster/id, an empty text without one, or None where no server answers.

    Args:
        connect: host:port, more of them after commas, and perhaps a path at the end below which Kafka's nodes are.
        timeout: seconds for one server.
    """
    servers, slash, root = connect.partition("/")
    path = f"{slash}{root}".rstrip("/") + "/cluster/id"
    for server in servers.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout) as connection:
                # version, last zxid, session time-out in ms, session, password
                hello = struct.pack(">iqiqi16s", 0, 0, 4000, 0, 16, b"")
                connection.sendall(packet(hello))
                answer(connection)
                name = path.encode()
                ask = struct.pack(">iii", 1, GET_DATA, len(name)) + name + b"\0"
                connection.sendall(packet(ask))
                told = answer(connection)
                connection.sendall(packet(struct.pack(">ii", 2, CLOSE)))
        except OSError:
            continue
        _, _, error = struct.unpack_from(">iqi", told)
        if error == NO_NODE:
            return ""
        if error == 0:
            (length,) = struct.unpack_from(">i", told, 16)
            return str(json.loads(told[20 : 20 + length])["id"])
    return None


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "data_dir": {"type": "path", "required": True},
            "zookeeper_connect": {"type": "str", "required": True},
            "timeout": {"type": "float", "default": 3},
        },
        supports_check_mode=True,
    )
    folder, connect = module.params["data_dir"], module.params["zookeeper_connect"]
    disk = on_disk(folder)
    known = in_zookeeper(connect, module.params["timeout"]) if disk else None
    if disk and known not in (None, disk):
        told = f"the cluster {known}" if known else "no cluster of Kafka's"
        module.fail_json(
            msg=f"kafka_data_dir is {folder}: its records are those of the cluster {disk}, and ZooKeeper at "
            f"{connect} knows {told}, so Kafka would end at once. If ZooKeeper lost its data folder, restore that; if "
            f"the records are to be given up, move {folder} away; if it is the wrong ZooKeeper, correct "
            "kafka_zookeeper_connect."
        )
    module.exit_json(changed=False, disk=disk, zookeeper=known)


if __name__ == "__main__":
    main()
