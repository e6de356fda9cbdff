"""Two pages."""

from django.urls import path
from entries.views import alive, index

urlpatterns = [path("", index), path("alive", alive)]
