"""Graphs, groups of people, and the sharing of the one with the other."""

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import models
from django.urls import reverse

Person = AbstractBaseUser | AnonymousUser


class Group(models.Model):
    """People who share graphs. Its owner is a member and says who else is."""

    name = models.CharField(max_length=80, unique=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="owned_groups"
    )
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, related_name="graph_groups")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Return the path of the group's page."""
        return reverse("graphs:group", args=[self.pk])


def empty_graph() -> dict[str, Any]:
    """Return what a graph without nodes stores."""
    return {"nodes": [], "edges": []}


class GraphQuerySet(models.QuerySet["Graph"]):
    """Graphs by who may see them."""

    def shared_with(self, person: Any) -> "GraphQuerySet":
        """Return other people's graphs that are shared with a group of this person's."""
        groups = Share.objects.filter(group__members=person)
        return self.filter(pk__in=groups.values("graph")).exclude(owner=person)

    def visible_to(self, person: Any) -> "GraphQuerySet":
        """Return the graphs that this person may open."""
        groups = Share.objects.filter(group__members=person)
        return self.filter(models.Q(owner=person) | models.Q(pk__in=groups.values("graph")))


class Graph(models.Model):
    """A network with a name. `data` is `{"nodes": [name, …], "edges": [[name, name], …]}`."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="graphs"
    )
    name = models.CharField(max_length=120)
    description = models.TextField(max_length=2000, blank=True)
    data = models.JSONField(default=empty_graph)
    groups = models.ManyToManyField(Group, through="Share", related_name="graphs")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = GraphQuerySet.as_manager()

    class Meta:
        ordering = ["-updated_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "name"], name="graph_name_once_per_owner")
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Return the path of the graph's page."""
        return reverse("graphs:graph", args=[self.pk])

    def watchers(self) -> models.QuerySet:
        """Return the people who watch this graph and may still see it."""
        members = Share.objects.filter(graph=self).values("group__members")
        seers = models.Q(pk__in=members) | models.Q(pk=self.owner_id)
        return get_user_model().objects.filter(seers, watches__graph=self)


class Share(models.Model):
    """A graph that a group may see."""

    graph = models.ForeignKey(Graph, on_delete=models.CASCADE, related_name="shares")
    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="shares")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["graph", "group"], name="graph_shared_once_per_group")
        ]

    def __str__(self) -> str:
        return f"{self.graph} with {self.group}"


class Watch(models.Model):
    """A person who wants to hear what others do to a graph."""

    graph = models.ForeignKey(Graph, on_delete=models.CASCADE, related_name="watches")
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="watches"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["graph", "person"], name="graph_watched_once")
        ]

    def __str__(self) -> str:
        return f"{self.person}: {self.graph}"


class Arrangement(models.TextChoices):
    """How the nodes of a drawing are placed."""

    SPRINGS = "springs", "Springs"
    CIRCLE = "circle", "Circle"
    GRID = "grid", "Grid"


class Layout(models.Model):
    """A way to draw a graph, under a name, for all who may see the graph."""

    graph = models.ForeignKey(Graph, on_delete=models.CASCADE, related_name="layouts")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="layouts"
    )
    name = models.CharField(max_length=80)
    arrangement = models.CharField(max_length=10, choices=Arrangement, default=Arrangement.CIRCLE)

    class Meta:
        ordering = ["name", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["graph", "name"], name="layout_name_once_per_graph")
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Return the path of the graph's page, drawn like this."""
        return f"{self.graph.get_absolute_url()}?layout={self.pk}"
