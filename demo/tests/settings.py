"""The site's own settings, with what only a test may set."""

import os
import tempfile
from pathlib import Path

os.environ["DJANGO_SECRET_KEY"] = "a key that only the tests know, and 50 characters of it"
os.environ["DJANGO_ALLOWED_HOSTS"] = "testserver"
os.environ["KAFKA_BOOTSTRAP_SERVERS"] = "127.0.0.1:1"  # nobody listens there
os.environ["KAFKA_TOPIC_PREFIX"] = "test."
for unset in ("DJANGO_DEBUG", "DJANGO_TLS", "SEED_PASSWORD", "NOTIFICATIONS_SOCKETS_PER_PERSON"):
    os.environ.pop(unset, None)

from graphspace.settings import *  # noqa: E402, F403 - after the environment is set
from graphspace.settings import DATABASES, STORAGES  # noqa: E402 - after the environment is set

# A file, as on a server: threads that share a database in memory lock each other out.
DATABASES["default"]["TEST"] = {
    "NAME": Path(tempfile.gettempdir()) / f"graphspace-test-{os.getpid()}.sqlite3"
}
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
NOTIFICATIONS_METRICS_DIR = None  # each process for itself
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
NOTIFICATIONS_SITE_URL = "https://testserver"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # quick
