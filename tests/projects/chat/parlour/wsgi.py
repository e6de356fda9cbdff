"""WSGI entry point of the chat project."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "parlour.settings")
application = get_wsgi_application()
