"""What playbooks/leave_zookeeper.yml is to do, and what it refuses, of what is on the disks of the brokers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HOW = {
    "kraft": "Write `kafka_mode: kraft` in group_vars/all/kafka.yml, take the hosts out of the group zookeeper "
    "(hosts.yml), and run this again.",
    "zookeeper": "To go back, write `kafka_mode: zookeeper` in group_vars/all/kafka.yml, put the hosts into the group "
    "zookeeper again (hosts.yml), and run this again.",
}
STARTED = (
    "a broker was started with an empty folder beside it. Look at both, and move the empty one away"
)


def kafka_leave(
    hosts: Mapping[str, Mapping[str, Any]], told: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what is to be done, and why it can't be.

    Args:
        hosts: what the module kafka_folders has seen on each broker's host that is in the run; the first one has the
            records that are on their way.
        told: what the module kafka_state says of the brokers; nothing where they are not asked.
        settings: mode (kafka_mode), version (kafka_version), folder (kafka_data_dir), minimum_mb
            (kafka_disk_minimum_mb), brokers (how many there are), and the flags held (clients were not let in again),
            back and finish.

    Returns:
        ``do``: ``begin``, ``go on`` where an interrupted run has the records whole, ``again`` where only the sites'
        processes and the port are left, ``back`` or ``finish``; ``fault``: a sentence, or an empty text.
    """
    mode, folder = str(settings["mode"]), settings["folder"]
    modes = {host: seen["mode"] for host, seen in hosts.items()}
    aside = [host for host, seen in hosts.items() if seen["aside"]]
    records = next(iter(hosts.values()))["records"]
    wanted = "zookeeper" if settings["back"] else "kraft"

    def refused(variable: str, value: object, why: str) -> dict[str, Any]:
        return {"do": "", "fault": f"{variable} is {value}: {why}"}

    if settings["back"] and settings["finish"]:
        return refused("finish", "true", "back is true too. Name one of them.")
    if mode != wanted:
        return refused("kafka_mode", mode, HOW[wanted])
    if len(hosts) != settings["brokers"]:
        return refused(
            "kafka_brokers",
            ", ".join(hosts),
            f"these are {len(hosts)} of {settings['brokers']} brokers. Run it without --limit, with all of them "
            "reachable.",
        )
    if settings["back"]:
        if not aside and set(modes.values()) != {"zookeeper"}:  # where it was closed alone
            return refused(
                "back",
                "true",
                f"there is no {folder}.zookeeper to go back to on {', '.join(hosts)}.",
            )
        return {"do": "back", "fault": ""}
    for host in aside:
        if modes[host] == "zookeeper":
            return refused(
                "kafka_data_dir", folder, f"{host} has {folder}.zookeeper too: {STARTED}."
            )
    if settings["finish"]:
        if settings["held"]:
            return refused(
                "finish",
                "true",
                "the move is not at its end. Run this without it first, then again.",
            )
        if records["written"] and set(modes.values()) == {"kraft"}:
            return {"do": "finish", "fault": ""}
        return refused(
            "finish", "true", "nothing waits for it: Kafka was not moved here, or not to the end."
        )
    if not aside and set(modes.values()) == {"kraft"}:
        return refused("kafka_mode", mode, "and so it is on the disk. There is nothing to move.")
    if not aside and set(modes.values()) == {""}:
        return refused(
            "kafka_mode",
            mode,
            f"{folder} is empty. There is nothing to move; site.yml sets Kafka up.",
        )
    if records["written"] and set(modes.values()) == {"kraft"}:
        # a broker that a reboot has stopped does not start alone while it is held
        return {"do": "go on" if settings["held"] else "again", "fault": ""}
    if aside:
        if records["whole"]:
            return {"do": "go on", "fault": ""}
        return refused(
            "kafka_data_dir",
            folder,
            f"{', '.join(aside)} has {folder}.zookeeper, and {next(iter(hosts))} lacks the records in "
            f"{folder}.records. Go back with -e back=true.",
        )
    return _begin(hosts, told, settings)


def _begin(
    hosts: Mapping[str, Mapping[str, Any]], told: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the same where nothing is moved yet."""
    folder, version = settings["folder"], str(settings["version"])

    def refused(variable: str, value: object, why: str) -> dict[str, Any]:
        return {"do": "", "fault": f"{variable} is {value}: {why}"}

    if not version.startswith("3.9."):
        return refused(
            "kafka_version",
            version,
            "there would be no way back from it. Set it to 3.9.2 for the move, and upgrade after -e finish=true.",
        )
    for number, (host, seen) in enumerate(hosts.items()):
        if seen["mode"] != "zookeeper":
            return refused(
                "kafka_data_dir", folder, f"{host} has none of ZooKeeper's there, and others have."
            )
        if seen["mounted"]:
            return refused(
                "kafka_data_dir",
                folder,
                f"on {host} it is a file system of its own, which can't be put aside. Mount that one level higher.",
            )
        # the new records, and on the first host those that are on their way
        needed = seen["size_mb"] * (1 if number else 2) + int(settings["minimum_mb"])
        if seen["free_mb"] < needed:
            return refused(
                "kafka_data_dir",
                folder,
                f"{host} has {seen['free_mb']} MiB free there, and the records of {seen['size_mb']} MiB, which are "
                f"kept, take {needed} MiB more. Make room, or let Kafka remove records (retention.ms of a topic).",
            )
    lacking = (
        [f"broker {number} is not there" for number in told["lacking"]] if not told["said"] else []
    )
    lacking += [f"replicas are behind in {', '.join(told['behind'])}"] if told["behind"] else []
    if told["said"] or lacking:
        return refused(
            "kafka_brokers",
            ", ".join(hosts),
            f"the cluster is not whole ({told['said'] or '; '.join(lacking)}), and its records are to be read. Look at "
            "`journalctl -u kafka` there, and run this again.",
        )
    return {"do": "begin", "fault": ""}


class FilterModule:
    """The filter of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map the filter's name to its function."""
        return {"kafka_leave": kafka_leave}
