"""What the hub asks of the database, for many people at a time."""

from collections.abc import Iterable
from itertools import islice

from django.db.models import Count, Max

from notifications.models import Notification
from notifications.schema import Event

CHUNK = 500  # people in one query; SQLite's older limit is 999 parameters
MISSED = 50  # rows that a catch-up sends at most; the list page has them all


def _chunks(people: Iterable[int]) -> Iterable[list[int]]:
    rest = iter(sorted(set(people)))
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


def missed(
    wanted: Iterable[tuple[int, int | None]],
) -> dict[tuple[int, int | None], tuple[list[Event], int]]:
    """Return, for each (person, last row known), the unread rows after it and the newest row's id.

    The rows go from old to new, the newest `MISSED` at most. A last row of None means that nothing
    was missed.
    """
    wanted = set(wanted)
    latest: dict[int, int] = {}
    for chunk in _chunks(person for person, _last in wanted):
        latest.update(
            Notification.objects.filter(recipient__in=chunk)
            .order_by()
            .values_list("recipient")
            .annotate(Max("pk"))
        )
    found = {}
    for person, last in wanted:
        newest = latest.get(person, 0)
        rows: list[Event] = []
        if last is not None and newest > last:
            query = Notification.objects.filter(
                recipient=person, pk__gt=last, pk__lte=newest, read_at__isnull=True
            )
            rows = [Event.of(row) for row in reversed(query.order_by("-pk")[:MISSED])]
        found[person, last] = (rows, max(newest, last or 0))
    return found
