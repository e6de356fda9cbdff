"""Settings of the probe project, all from environment variables with names of its own."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = os.environ["BEACON_SECRET"]
DEBUG = False
ALLOWED_HOSTS = [host for host in os.environ.get("BEACON_HOSTS", "").split(",") if host]

INSTALLED_APPS = ["django.contrib.staticfiles", "beacon"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "beacon.pages"
WSGI_APPLICATION = "beacon.web.application"
ASGI_APPLICATION = "beacon.sockets.application"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("BEACON_DB", str(BASE_DIR / "beacon.sqlite3")),
    }
}

STATIC_URL = "/static/"
STATIC_ROOT = os.environ.get("BEACON_STATIC", str(BASE_DIR / "collected"))
MEDIA_URL = "/media/"
MEDIA_ROOT = os.environ.get("BEACON_MEDIA", str(BASE_DIR / "uploaded"))
USE_TZ = True
