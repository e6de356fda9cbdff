"""The app's pages; include them under any path."""

from django.urls import path

from notifications import views

app_name = "notifications"

urlpatterns = [
    path("", views.index, name="index"),
    path("after/", views.after, name="after"),
    path("read/", views.read_all, name="read_all"),
    path("read/some/", views.read_some, name="read_some"),
    path("preferences/", views.preferences, name="preferences"),
]
