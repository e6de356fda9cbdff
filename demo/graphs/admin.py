"""Graphs and groups in Django's admin site."""

from django.contrib import admin

from graphs.models import Graph, Group


@admin.register(Group)
class GroupAdmin(admin.ModelAdmin):
    """Groups and their members."""

    list_display = ["name", "owner"]
    filter_horizontal = ["members"]


@admin.register(Graph)
class GraphAdmin(admin.ModelAdmin):
    """Graphs."""

    list_display = ["name", "owner", "updated_at"]
    raw_id_fields = ["owner"]
