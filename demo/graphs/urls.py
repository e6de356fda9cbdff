"""The pages of graphs and groups."""

from django.urls import path

from graphs import views

app_name = "graphs"

urlpatterns = [
    path("", views.index, name="index"),
    path("graphs/new/", views.create, name="create"),
    path("graphs/<int:pk>/", views.graph, name="graph"),
    path("graphs/<int:pk>/edit/", views.edit, name="edit"),
    path("graphs/<int:pk>/share/", views.share, name="share"),
    path("graphs/<int:pk>/unshare/", views.unshare, name="unshare"),
    path("groups/", views.groups, name="groups"),
    path("groups/<int:pk>/", views.group, name="group"),
    path("groups/<int:pk>/remove/", views.remove_member, name="remove_member"),
]
