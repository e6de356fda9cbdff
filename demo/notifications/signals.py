"""What ends a session is told to the processes that hold its sockets.

They look for themselves every few seconds too (hub.CHECK): this only makes it quicker.
"""

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.db.models.signals import post_save

from notifications import producer
from notifications.schema import Ended
from notifications.store import digest


def connect() -> None:
    """Listen. Called once, when the apps are ready."""
    user_logged_out.connect(_signed_out, dispatch_uid="notifications")
    post_save.connect(_saved, sender=get_user_model(), dispatch_uid="notifications")


def _signed_out(request: Any = None, user: Any = None, **_rest: Any) -> None:
    key = getattr(getattr(request, "session", None), "session_key", None)
    if user is not None and user.pk and key:
        _tell(Ended(recipient=user.pk, session=digest(key)))


def _saved(instance: Any, created: bool, update_fields: Any = None, **_rest: Any) -> None:
    if created or (update_fields and not {"is_active", "password"} & set(update_fields)):
        return
    _tell(Ended(recipient=instance.pk, session=""))


def _tell(record: Ended) -> None:
    transaction.on_commit(lambda: producer.send([record]), robust=True)
