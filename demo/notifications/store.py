"""What the hub asks of the database, for many people at a time."""

import dataclasses
import hashlib
from collections.abc import Iterable
from importlib import import_module
from itertools import islice

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db.models import Count
from django.utils import timezone

from notifications.models import Inbox, Notification
from notifications.schema import Event

CHUNK = 500  # people in one query; SQLite's older limit is 999 parameters
PAGE = 100  # rows that one frame of a catch-up brings at most; the next frame goes on


@dataclasses.dataclass(frozen=True, slots=True)
class Missed:
    """One step of a catch-up: the unread rows, and the sequence up to which they are complete."""

    events: list[Event]
    sequence: int
    complete: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """What a socket was opened with; the socket lives as long as all of it holds."""

    person: int
    key: str
    password: str  # `get_session_auth_hash()`: it changes with the password

    @property
    def digest(self) -> str:
        """Return what names the session to others without giving it away."""
        return digest(self.key)


def digest(key: str) -> str:
    """Return a session key's digest, SHA-256 in hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()


def _chunks(values: Iterable[object]) -> Iterable[list]:
    rest = iter(sorted(set(values)))
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def unread_counts(people: Iterable[int]) -> dict[int, int]:
    """Return each person's number of unread notifications."""
    counts = dict.fromkeys(people, 0)
    for chunk in _chunks(counts):
        rows = (
            Notification.objects.filter(recipient__in=chunk, read_at__isnull=True)
            .order_by()
            .values_list("recipient")
            .annotate(Count("pk"))
        )
        counts.update(rows)
    return counts


def latest(people: Iterable[int]) -> dict[int, int]:
    """Return the newest sequence that each person was given; nobody's is missing but a newcomer's."""
    found: dict[int, int] = {}
    for chunk in _chunks(people):
        found.update(Inbox.objects.filter(pk__in=chunk).values_list("pk", "last_sequence"))
    return found


def missed(wanted: Iterable[tuple[int, int | None]]) -> dict[tuple[int, int | None], Missed]:
    """Return, for each (person, last sequence known), the unread rows after it, from old to new.

    One `PAGE` at most; `complete` says whether that was all. A last sequence of None means that
    nothing was missed.
    """
    wanted = set(wanted)
    given = latest(person for person, _last in wanted)
    found = {}
    for person, last in wanted:
        newest = given.get(person, 0)
        # A number from beyond the newest is no number of ours: a database that was set back, say.
        known = newest if last is None else min(last, newest)
        rows: list[Notification] = []
        if newest > known:
            query = Notification.objects.filter(
                recipient=person, sequence__gt=known, sequence__lte=newest, read_at__isnull=True
            )
            rows = list(query.order_by("sequence")[: PAGE + 1])
        complete = len(rows) <= PAGE
        rows = rows[:PAGE]
        found[person, last] = Missed(
            [Event.of(row) for row in rows], newest if complete else rows[-1].sequence, complete
        )
    return found


def ended(sessions: Iterable[Session]) -> set[Session]:
    """Return those sessions that are signed out, expired, or whose person may not sign in any more."""
    sessions = set(sessions)
    users = get_user_model()
    passwords: dict[int, str] = {}
    for chunk in _chunks(session.person for session in sessions):
        for user in users._default_manager.filter(pk__in=chunk, is_active=True):
            passwords[user.pk] = user.get_session_auth_hash()
    alive = _alive(session.key for session in sessions)
    return {
        session
        for session in sessions
        if passwords.get(session.person) != session.password
        or (session.key and session.key not in alive)
    }


def _alive(keys: Iterable[str]) -> set[str]:
    """Return those session keys that are still there. Signed cookies cannot be asked: all are."""
    keys = {key for key in keys if key}
    engine = import_module(settings.SESSION_ENGINE)
    if settings.SESSION_ENGINE.endswith(".signed_cookies"):
        return keys
    if not hasattr(engine.SessionStore, "get_model_class"):
        return {key for key in keys if engine.SessionStore().exists(key)}
    model = engine.SessionStore.get_model_class()
    alive: set[str] = set()
    for chunk in _chunks(keys):
        alive.update(
            model.objects.filter(pk__in=chunk, expire_date__gt=timezone.now()).values_list(
                "pk", flat=True
            )
        )
    return alive
