"""The app's entry in INSTALLED_APPS."""

from django.apps import AppConfig


class GraphsConfig(AppConfig):
    """Graphs, groups, and who may see what."""

    name = "graphs"
    default_auto_field = "django.db.models.BigAutoField"
