"""The changes that other people are told of: each in one transaction with its notifications."""

from typing import Any

from django.db import transaction

from graphs.models import Graph, Group, Share
from notifications.notify import notify
from notifications.topics import Kind


@transaction.atomic
def share(graph: Graph, group: Group, actor: Any) -> bool:
    """Let a group see a graph. Returns whether that is new."""
    _share, is_new = Share.objects.get_or_create(graph=graph, group=group)
    if is_new:
        notify(
            kind=Kind.GROUP,
            action="graph_shared",
            recipients=group.members.all(),
            actor=actor,
            resource=graph,
            message=f"{actor} shared the graph “{graph}” with the group “{group}”",
        )
    return is_new


@transaction.atomic
def unshare(graph: Graph, group: Group, actor: Any) -> bool:
    """Let a group no longer see a graph. Returns whether it could before."""
    gone, _by_model = Share.objects.filter(graph=graph, group=group).delete()
    if gone:
        # The link goes to the group: whoever is told can no longer open the graph.
        notify(
            kind=Kind.GROUP,
            action="graph_unshared",
            recipients=group.members.all(),
            actor=actor,
            resource=group,
            message=f"{actor} no longer shares the graph “{graph}” with the group “{group}”",
        )
    return bool(gone)


@transaction.atomic
def add_member(group: Group, person: Any, actor: Any) -> bool:
    """Take a person into a group. Returns whether that is new."""
    if group.members.filter(pk=person.pk).exists():
        return False
    group.members.add(person)
    notify(
        kind=Kind.GROUP,
        action="member_added",
        recipients=group.members.all(),
        actor=actor,
        resource=group,
        message=f"{actor} added {person} to the group “{group}”",
    )
    return True


@transaction.atomic
def remove_member(group: Group, person: Any, actor: Any) -> bool:
    """Put a person out of a group, its owner excepted. Returns whether that changed anything."""
    if person.pk == group.owner_id or not group.members.filter(pk=person.pk).exists():
        return False
    told = list(group.members.all())  # the one who leaves included
    group.members.remove(person)
    notify(
        kind=Kind.GROUP,
        action="member_removed",
        recipients=told,
        actor=actor,
        resource=group,
        message=f"{actor} removed {person} from the group “{group}”",
    )
    return True
