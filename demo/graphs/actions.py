"""The changes that people are told of: each in one transaction with its notifications.

An owner hears of what happens to their own things whoever did it, as a record of it; the members of
a group and those who watch a graph hear of what others did.
"""

from collections.abc import Iterable
from typing import Any

from django.db import transaction

from graphs.models import Graph, Group, Layout, Share, Watch
from notifications.notify import notify
from notifications.topics import Kind


def _tell_owner(thing: Any, action: str, actor: Any, done: str, link: str | None = None) -> None:
    notify(
        kind=Kind.OWNER,
        action=action,
        recipients=[thing.owner],
        actor=actor,
        resource=thing,
        message=f"{actor} {done} your {thing._meta.verbose_name} “{thing}”",
        tell_actor=True,
        link=link,
    )


def _tell_watchers(
    graph: Graph,
    watchers: Iterable[Any],
    action: str,
    actor: Any,
    done: str,
    link: str | None = None,
) -> None:
    notify(
        kind=Kind.WATCHING,
        action=action,
        recipients=watchers,
        actor=actor,
        resource=graph,
        message=f"{actor} {done} the graph “{graph}”, which you watch",
        link=link,
    )


# -- graphs ----------------------------------------------------------------------------------------


@transaction.atomic
def save_graph(graph: Graph, actor: Any, *, uploaded: bool = False) -> Graph:
    """Store a graph that is new or was changed."""
    is_new = graph.pk is None
    graph.save()
    if is_new:
        verb = "uploaded" if uploaded else "created"
        _tell_owner(graph, f"graph_{verb}", actor, verb)
    else:
        _tell_owner(graph, "graph_updated", actor, "updated")
        _tell_watchers(graph, graph.watchers(), "graph_updated", actor, "updated")
    return graph


@transaction.atomic
def delete_graph(graph: Graph, actor: Any) -> None:
    """Delete a graph, with its layouts."""
    watchers = list(graph.watchers())
    _tell_owner(graph, "graph_deleted", actor, "deleted", link="")
    _tell_watchers(graph, watchers, "graph_deleted", actor, "deleted", link="")
    graph.delete()


@transaction.atomic
def share(graph: Graph, group: Group, actor: Any) -> bool:
    """Let a group see a graph. Returns whether that is new."""
    watchers = list(graph.watchers())
    _share, is_new = Share.objects.get_or_create(graph=graph, group=group)
    if is_new:
        members = list(group.members.all())
        notify(
            kind=Kind.GROUP,
            action="graph_shared",
            recipients=members,
            actor=actor,
            resource=graph,
            message=f"{actor} shared the graph “{graph}” with the group “{group}”",
        )
        # The name of a group that one does not belong to is none of one's business.
        others = [person for person in watchers if person not in members]
        _tell_watchers(graph, others, "graph_shared", actor, "shared")
    return is_new


@transaction.atomic
def unshare(graph: Graph, group: Group, actor: Any) -> bool:
    """Let a group no longer see a graph. Returns whether it could before."""
    gone, _by_model = Share.objects.filter(graph=graph, group=group).delete()
    if gone:
        Watch.objects.filter(graph=graph).exclude(person__in=graph.watchers()).delete()
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


def watch(graph: Graph, person: Any) -> bool:
    """Tell a person of what others do to a graph from now on. Returns whether that is new."""
    return Watch.objects.get_or_create(graph=graph, person=person)[1]


def unwatch(graph: Graph, person: Any) -> bool:
    """Tell a person no more. Returns whether they were told before."""
    return bool(Watch.objects.filter(graph=graph, person=person).delete()[0])


# -- layouts ---------------------------------------------------------------------------------------


@transaction.atomic
def save_layout(layout: Layout, actor: Any) -> Layout:
    """Store a layout that is new or was changed."""
    verb = "created" if layout.pk is None else "updated"
    layout.save()
    _tell_owner(layout, f"layout_{verb}", actor, verb)
    return layout


@transaction.atomic
def delete_layout(layout: Layout, actor: Any) -> None:
    """Delete a layout."""
    link = layout.graph.get_absolute_url()
    _tell_owner(layout, "layout_deleted", actor, "deleted", link=link)
    layout.delete()


# -- groups ----------------------------------------------------------------------------------------


@transaction.atomic
def save_group(group: Group, actor: Any) -> Group:
    """Store a group that is new, whose owner is its first member, or was changed."""
    is_new = group.pk is None
    group.save()
    if is_new:
        group.members.add(group.owner)
    verb = "created" if is_new else "updated"
    _tell_owner(group, f"group_{verb}", actor, verb)
    return group


@transaction.atomic
def delete_group(group: Group, actor: Any) -> None:
    """Delete a group; what was shared with it is seen by its owner again, and by other groups."""
    members = group.members.exclude(pk=group.owner_id)
    _tell_owner(group, "group_deleted", actor, "deleted", link="")
    notify(
        kind=Kind.GROUP,
        action="group_deleted",
        recipients=members,
        actor=actor,
        resource=group,
        message=f"{actor} deleted the group “{group}”, which you belonged to",
        link="",
    )
    group.delete()


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
