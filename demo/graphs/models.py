"""Graphs, groups of people, and the sharing of the one with the other."""

from typing import Any

from django.conf import settings
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
