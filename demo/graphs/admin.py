"""Graphs and groups in Django's admin site. What staff change there, the owners are told of."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest

from graphs import actions
from graphs.models import Graph, Group, Layout


class Told(admin.ModelAdmin):
    """An admin page that makes its changes through actions.py."""

    save: Any
    delete: Any

    def save_model(self, request: HttpRequest, obj: Any, form: ModelForm, change: bool) -> None:
        """Store, and tell."""
        type(self).save(obj, request.user)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete, and tell."""
        type(self).delete(obj, request.user)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet) -> None:
        """Delete each, and tell."""
        for obj in queryset:
            self.delete_model(request, obj)


@admin.register(Group)
class GroupAdmin(Told):
    """Groups and their members."""

    save, delete = staticmethod(actions.save_group), staticmethod(actions.delete_group)
    list_display = ["name", "owner"]
    filter_horizontal = ["members"]


@admin.register(Graph)
class GraphAdmin(Told):
    """Graphs."""

    save, delete = staticmethod(actions.save_graph), staticmethod(actions.delete_graph)
    list_display = ["name", "owner", "updated_at"]
    raw_id_fields = ["owner"]


@admin.register(Layout)
class LayoutAdmin(Told):
    """Layouts."""

    save, delete = staticmethod(actions.save_layout), staticmethod(actions.delete_layout)
    list_display = ["name", "graph", "owner"]
    raw_id_fields = ["graph", "owner"]
