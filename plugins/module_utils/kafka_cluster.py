"""Which cluster a Kafka data folder belongs to, and which one ZooKeeper knows.

Kafka keeps the id of its cluster twice, in ``meta.properties`` of its data folder and in ``/cluster/id`` of ZooKeeper,
and ends at once when they differ.
"""

from __future__ import annotations

import json
import os
import socket
import struct

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
        except (OSError, ValueError):  # of a port that is none
            continue
        _, _, error = struct.unpack_from(">iqi", told)
        if error == NO_NODE:
            return ""
        if error == 0:
            (length,) = struct.unpack_from(">i", told, 16)
            return str(json.loads(told[20 : 20 + length])["id"])
    return None


def cluster_faults(data_dir: str, zookeeper_connect: str, timeout: float = 3) -> list[str]:
    """Return a sentence where the folder is of another cluster than ZooKeeper knows.

    Without a folder, and where no ZooKeeper answers within ``timeout`` seconds, there is nothing to compare.
    """
    disk = on_disk(data_dir)
    known = in_zookeeper(zookeeper_connect, timeout) if disk else None
    if not disk or known in (None, disk):
        return []
    told = f"the cluster {known}" if known else "no cluster of Kafka's"
    return [
        f"kafka_data_dir is {data_dir}: its records are those of the cluster {disk}, and ZooKeeper at "
        f"{zookeeper_connect} knows {told}, so Kafka would end at once. If ZooKeeper lost its data folder, restore "
        f"that; if the records are to be given up, move {data_dir} away; if it is the wrong ZooKeeper, correct "
        "kafka_zookeeper_connect."
    ]
