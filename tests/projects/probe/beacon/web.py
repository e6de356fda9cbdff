"""WSGI entry point of the probe project."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "beacon.config")
application = get_wsgi_application()
