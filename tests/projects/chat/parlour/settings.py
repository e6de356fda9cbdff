"""Settings of the chat project, all from environment variables."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = os.environ["CHAT_SECRET"]
DEBUG = False
ALLOWED_HOSTS = os.environ.get("CHAT_HOSTS", "").split(",")

INSTALLED_APPS = ["channels", "parlour"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "parlour.pages"
WSGI_APPLICATION = "parlour.wsgi.application"
ASGI_APPLICATION = "parlour.asgi.application"
USE_TZ = True

DATA_DIR = Path(os.environ.get("CHAT_DATA", BASE_DIR))
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA_DIR / "chat.sqlite3"}}

# One Valkey for all three, each in a database of its own.
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [os.environ.get("CHAT_LAYER", "")]},
    }
}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": os.environ.get("CHAT_CACHE", ""),
    }
}
CELERY_BROKER_URL = os.environ.get("CHAT_BROKER", "")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
