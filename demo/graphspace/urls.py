"""The site's pages."""

import sys

from django.contrib import admin
from django.contrib.auth import views as auth
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views import defaults
from django.views.decorators.cache import never_cache

from notifications.ready import readyz


@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """Say that this process answers. Neither the database nor Kafka is asked."""
    return HttpResponse("ok", content_type="text/plain")


@never_cache
def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 503 where the database does not answer, so that who asks tries again; 500 for all else."""
    response: HttpResponse = defaults.server_error(request)
    if isinstance(sys.exception(), (OperationalError, InterfaceError)):
        response.status_code, response.headers["Retry-After"] = 503, "5"
    return response


handler500 = server_error

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("readyz/<str:name>", readyz, name="readyz_part"),
    path("sign-in/", auth.LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("sign-out/", auth.LogoutView.as_view(), name="logout"),
    path("notifications/", include("notifications.urls")),
    path("admin/", admin.site.urls),
    path("", include("graphs.urls")),
]
