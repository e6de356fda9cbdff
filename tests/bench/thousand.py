# Run by `manage.py shell` on a benchmark's host: makes people with sessions of their own, in one group of ada's, and
# prints their names and session keys as JSON. No password is hashed, for nobody signs in.
import json

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.db import transaction
from graphs.models import Group

NUMBER, NAME = 1000, "Thousand"

users = get_user_model().objects
with transaction.atomic():
    made = [users.model(username=f"person{number}", password="!") for number in range(NUMBER)]
    users.bulk_create(made)
    ada = users.get(username="ada")
    group = Group.objects.create(name=NAME, owner=ada)
    group.members.set([ada, *users.filter(username__startswith="person")])
    sessions = {}
    for person in users.filter(username__startswith="person"):
        session = SessionStore()
        session[SESSION_KEY] = str(person.pk)
        session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
        session[HASH_SESSION_KEY] = person.get_session_auth_hash()
        session.create()
        sessions[person.username] = session.session_key
print(json.dumps({"group": group.pk, "cookie": settings.SESSION_COOKIE_NAME, "sessions": sessions}))
