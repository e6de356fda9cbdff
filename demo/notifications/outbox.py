"""The outbox: which notifications Kafka has yet to get. The rows are the notifications themselves.

    pending ──(a delivery report says so)──► sent
       │ └────(no record can be made)──────► refused
       └─ claimed again, attempts + 1, whenever `due_at` has passed

A row is written `pending` in the transaction of the change, leased for `LEASE` to the process that
wrote it, whose producer sends it after the commit. Whatever that process could not deliver, or died
with, is due when the lease ends, and the relay claims it. So a record may be sent twice, and its
event id says so; it is never sent less than once. `sent` and `refused` are final.
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from itertools import islice

from django.db import connections, router, transaction
from django.db.models import Count, F, Min
from django.utils import timezone

from notifications.models import Notification, State

LEASE = timedelta(seconds=15)  # more than a producer's message.timeout.ms
BACK_OFF = timedelta(seconds=5)  # after an attempt of the relay that Kafka did not take
CHUNK = 500  # rows in one query; SQLite's older limit is 999 parameters


def _chunks(events: Iterable[str]) -> Iterable[list[str]]:
    rest = iter(sorted(set(events)))
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def claim(limit: int = CHUNK, now: datetime | None = None) -> list[Notification]:
    """Lease the oldest rows that are due, and return them in the order they were written.

    Two claims at the same time get different rows.
    """
    now = now or timezone.now()
    using = router.db_for_write(Notification)
    with transaction.atomic(using=using):
        due = Notification.objects.using(using).filter(state=State.PENDING, due_at__lte=now)
        skip = connections[using].features.has_select_for_update_skip_locked
        rows = list(due.select_for_update(skip_locked=skip).order_by("pk")[:limit])
        Notification.objects.using(using).filter(pk__in=[row.pk for row in rows]).update(
            due_at=now + LEASE, attempts=F("attempts") + 1
        )
    return rows


def mark_sent(events: Collection[str]) -> int:
    """Note that Kafka has these events; return how many rows that moved."""
    return _move(events, {"state": State.SENT})


def refuse(events: Collection[str]) -> int:
    """Give up rows that no record can be made of; return how many."""
    return _move(events, {"state": State.REFUSED})


def release(events: Collection[str], now: datetime | None = None) -> int:
    """Give back what could not be delivered; return how many rows that were.

    The relay may take it at once; what the relay itself could not deliver, after `BACK_OFF`.
    """
    now = now or timezone.now()
    return _move(events, attempts=0, change={"due_at": now}) + _move(
        events, attempts__gt=0, change={"due_at": now + BACK_OFF}
    )


def _move(events: Collection[str], change: dict[str, object], **which: object) -> int:
    if not events:
        return 0
    pending = Notification.objects.filter(state=State.PENDING, **which)
    with transaction.atomic(using=router.db_for_write(Notification)):
        return sum(pending.filter(event_id__in=chunk).update(**change) for chunk in _chunks(events))


def due(now: datetime | None = None) -> bool:
    """Say whether there is anything to claim."""
    now = now or timezone.now()
    return Notification.objects.filter(state=State.PENDING, due_at__lte=now).exists()


def waiting(now: datetime | None = None) -> tuple[int, float]:
    """Return how many rows wait for Kafka, and the age of the oldest in seconds."""
    now = now or timezone.now()
    found = Notification.objects.filter(state=State.PENDING).aggregate(
        number=Count("pk"), oldest=Min("created_at")
    )
    oldest = found["oldest"]
    return found["number"], max(0.0, (now - oldest).total_seconds()) if oldest else 0.0
