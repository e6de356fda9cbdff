"""The pages of graphs and groups."""

from django.urls import path

from graphs import views

app_name = "graphs"

urlpatterns = [
    path("", views.index, name="index"),
    path("graphs/new/", views.create, name="create"),
    path("graphs/<int:pk>/", views.graph, name="graph"),
    path("graphs/<int:pk>/edit/", views.edit, name="edit"),
    path("graphs/upload/", views.upload, name="upload"),
    path("graphs/<int:pk>/delete/", views.delete, name="delete"),
    path("graphs/<int:pk>/watch/", views.watch, name="watch"),
    path("graphs/<int:pk>/unwatch/", views.unwatch, name="unwatch"),
    path("graphs/<int:pk>/layouts/new/", views.create_layout, name="create_layout"),
    path("layouts/<int:pk>/edit/", views.edit_layout, name="edit_layout"),
    path("layouts/<int:pk>/delete/", views.delete_layout, name="delete_layout"),
    path("graphs/<int:pk>/share/", views.share, name="share"),
    path("graphs/<int:pk>/unshare/", views.unshare, name="unshare"),
    path("groups/", views.groups, name="groups"),
    path("groups/<int:pk>/", views.group, name="group"),
    path("groups/<int:pk>/rename/", views.rename_group, name="rename_group"),
    path("groups/<int:pk>/delete/", views.delete_group, name="delete_group"),
    path("groups/<int:pk>/remove/", views.remove_member, name="remove_member"),
]
