"""Settings of the GraphSpace demonstration site, all read from the environment.

No broker and no database is needed to import this module. README.md lists the variables.
"""

import os
import re
from pathlib import Path

import dj_database_url
from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent


def _text(name: str, default: str = "") -> str:
    return os.environ.get(name, default).strip()


def _flag(name: str) -> bool:
    value = _text(name, "0").lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"", "0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name} is {value!r}: it is neither 0 nor 1. Set one of them.")


def _number(name: str, default: int) -> int:
    value = _text(name, str(default))
    if not value.isascii() or not value.isdigit():
        raise ImproperlyConfigured(f"{name} is {value!r}: it is no whole number. Set one.")
    return int(value)


def _names(name: str) -> list[str]:
    return [item.strip() for item in _text(name).split(",") if item.strip()]


DEBUG = _flag("DJANGO_DEBUG")
TLS = _flag("DJANGO_TLS")

SECRET_KEY = _text("DJANGO_SECRET_KEY")
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured(
            "DJANGO_SECRET_KEY is empty: sessions cannot be signed. "
            "Set it to 50 random characters or more, the same for every process of the site."
        )
    SECRET_KEY = get_random_secret_key()
SECRET_KEY_FALLBACKS = _names("DJANGO_SECRET_KEY_FALLBACKS")

ALLOWED_HOSTS = _names("DJANGO_ALLOWED_HOSTS")
CSRF_TRUSTED_ORIGINS = _names("DJANGO_CSRF_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "graphs",
    "notifications",
]

MIDDLEWARE = [
    "graphspace.middleware.AnsweredBy",
    "django.middleware.security.SecurityMiddleware",
    "graphspace.middleware.ContentSecurityPolicy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "graphspace.urls"
WSGI_APPLICATION = "graphspace.wsgi.application"
ASGI_APPLICATION = "graphspace.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASE_URL = _text("DATABASE_URL")
SQLITE = Path(_text("DJANGO_DATABASE") or BASE_DIR / "graphspace.sqlite3")
if DATABASE_URL:
    # One pool for the threads of each process; a connection is asked whether it still works before
    # it is used, so that a restart of the server costs no page.
    DATABASES = {"default": dj_database_url.parse(DATABASE_URL, conn_health_checks=True)}
    DATABASES["default"]["OPTIONS"]["pool"] = {
        "min_size": 1,
        "max_size": _number("DJANGO_DATABASE_POOL", 10),
        "timeout": 5,  # seconds that a thread waits for a connection
    }
else:
    # Web and WebSocket processes share one file. WAL lets readers go on while one process writes. An
    # immediate transaction takes the write lock when it begins, where SQLite honours the time-out; a
    # deferred one that turns into a writer half-way is refused at once instead.
    DATABASES = {
        "default": {
            "ENGINE": "graphspace.sqlite",
            "NAME": SQLITE,
            # The last connection that closes copies the whole log back: a thread keeps its own.
            "CONN_MAX_AGE": 600,  # seconds
            "OPTIONS": {
                "timeout": 20,  # seconds
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL",
            },
        }
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "graphs:index"
LOGOUT_REDIRECT_URL = "login"

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = _text("DJANGO_STATIC_ROOT") or BASE_DIR / "static-collected"
if not DEBUG:
    # A file's name carries its hash, so that no browser pairs a new page with old style or script.
    STORAGES = {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {
            "BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage",
        },
    }

SESSION_ENGINE = "django.contrib.sessions.backends.db"
SESSION_COOKIE_SECURE = TLS
CSRF_COOKIE_SECURE = TLS
SECURE_SSL_REDIRECT = TLS
SECURE_HSTS_SECONDS = _number("DJANGO_HSTS_SECONDS", 3600) if TLS else 0
# TLS on: whether the parent domain's other hosts and the browsers' preload list are included is
# for whoever owns that domain to say, not for one site on it.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"] if TLS else []

# Read by the notifications app. No servers: rows are written and listed, nothing is pushed.
NOTIFICATIONS_KAFKA_SERVERS = _text("KAFKA_BOOTSTRAP_SERVERS")
NOTIFICATIONS_TOPIC_PREFIX = _text("KAFKA_TOPIC_PREFIX")
if not re.fullmatch(r"[A-Za-z0-9._-]{0,100}", NOTIFICATIONS_TOPIC_PREFIX):
    raise ImproperlyConfigured(
        f"KAFKA_TOPIC_PREFIX is {NOTIFICATIONS_TOPIC_PREFIX!r}: Kafka refuses such a topic. "
        "Use letters, digits, dots, dashes and underscores, 100 at most."
    )

# How to log in to the brokers, in librdkafka's own words; nothing where they ask nobody.
NOTIFICATIONS_KAFKA_LOGIN = {
    key: value
    for key, value in {
        "security.protocol": _text("KAFKA_SECURITY_PROTOCOL"),
        "sasl.mechanism": _text("KAFKA_SASL_MECHANISM"),
        "sasl.username": _text("KAFKA_SASL_USERNAME"),
        "sasl.password": _text("KAFKA_SASL_PASSWORD"),
        "ssl.ca.location": _text("KAFKA_SSL_CA_LOCATION"),
    }.items()
    if value
}

NOTIFICATIONS_SOCKETS_PER_PERSON = _number("NOTIFICATIONS_SOCKETS_PER_PERSON", 20)
# Where the site's processes count, one small file each: where all of them write.
NOTIFICATIONS_METRICS_DIR = _text("NOTIFICATIONS_METRICS_DIR") or SQLITE.parent / "metrics"
# Links in e-mails. The first name that the site answers to, unless that is a pattern.
NOTIFICATIONS_SITE_URL = _text("DJANGO_SITE_URL")
if not NOTIFICATIONS_SITE_URL and ALLOWED_HOSTS and re.fullmatch(r"[\w.-]+", ALLOWED_HOSTS[0]):
    NOTIFICATIONS_SITE_URL = f"{'https' if TLS else 'http'}://{ALLOWED_HOSTS[0]}"

# E-mail: without a server none is sent, and `manage.py digest` says so.
EMAIL_HOST = _text("DJANGO_EMAIL_HOST")
EMAIL_PORT = _number("DJANGO_EMAIL_PORT", 25)
EMAIL_HOST_USER = _text("DJANGO_EMAIL_USER")
EMAIL_HOST_PASSWORD = _text("DJANGO_EMAIL_PASSWORD")
EMAIL_USE_TLS = _flag("DJANGO_EMAIL_STARTTLS")
EMAIL_TIMEOUT = 20  # seconds
EMAIL_FILE_PATH = _text("DJANGO_EMAIL_FILE_PATH") or None  # for the backend that writes files
DEFAULT_FROM_EMAIL = _text("DJANGO_EMAIL_FROM") or "notifications@localhost"
EMAIL_SUBJECT_PREFIX = "[GraphSpace] "
EMAIL_BACKEND = _text("DJANGO_EMAIL_BACKEND") or (
    f"django.core.mail.backends.{'smtp' if EMAIL_HOST else 'dummy'}.EmailBackend"
)

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(levelname)s %(name)s[%(process)d]: %(message)s"},
    },
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "line"},
    },
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "django": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        # librdkafka repeats every refused connection; the app reports each change of state itself.
        "notifications.librdkafka": {"level": "CRITICAL"},
    },
}
