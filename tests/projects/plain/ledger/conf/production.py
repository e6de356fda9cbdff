"""Settings from the environment, under other names than the demonstration site's."""

import os
from pathlib import Path

SECRET_KEY = os.environ["LEDGER_KEY"]
ALLOWED_HOSTS = os.environ.get("LEDGER_HOSTS", "").split()  # separated by blanks
STATIC_ROOT = os.environ.get("LEDGER_STATIC", "")
STATIC_URL = "/assets/"
STATICFILES_DIRS = [Path(__file__).resolve().parent.parent / "assets"]
ROOT_URLCONF = "ledger.urls"
WSGI_APPLICATION = "ledger.entry.application"
INSTALLED_APPS = ["django.contrib.staticfiles", "entries"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("LEDGER_DB", "ledger.sqlite3"),
        "OPTIONS": {
            "timeout": 20,  # seconds
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
CSRF_COOKIE_SECURE = True
