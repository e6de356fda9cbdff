"""Marking as read, and the rows of the list: equal ones within an hour are one group."""

import dataclasses
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from notifications import producer
from notifications.models import Notification
from notifications.schema import MAX_MARKED, Read

TOGETHER = timedelta(hours=1)


@transaction.atomic
def mark(person: Any, *, up_to: int = 0, sequences: Iterable[int] = ()) -> int:
    """Mark a person's notifications as read, here and in all their tabs; return how many were unread.

    `up_to`: every one up to this sequence. `sequences`: and these, the first `MAX_MARKED` of them.
    """
    listed = sorted(set(sequences))[:MAX_MARKED]
    unread = Notification.objects.filter(recipient=person, read_at__isnull=True)
    now = timezone.now()
    number = unread.filter(sequence__lte=up_to).update(read_at=now) if up_to else 0
    if listed:
        number += unread.filter(sequence__in=listed).update(read_at=now)
    if number:
        record = Read(recipient=person.pk, up_to=up_to, sequences=listed)
        transaction.on_commit(lambda: producer.send([record]), robust=True)
    return number


@dataclasses.dataclass
class Group:
    """Equal notifications within an hour of the first, newest at the head."""

    rows: list[Notification]

    @property
    def newest(self) -> Notification:
        """Return the one that the list shows."""
        return self.rows[0]

    @property
    def oldest(self) -> Notification:
        """Return the one that the hour began with."""
        return self.rows[-1]

    @property
    def key(self) -> str:
        """Return what makes two notifications equal, as the script on the page writes it too."""
        return key(self.newest)

    @property
    def unread(self) -> list[Notification]:
        """Return those that are unread."""
        return [row for row in self.rows if row.read_at is None]


def key(row: Notification) -> str:
    """Return what makes two notifications equal: who did the same to the same sort of thing."""
    return "|".join([row.kind, row.action, row.resource, row.actor])


def groups(rows: Iterable[Notification]) -> list[Group]:
    """Gather a list that goes from new to old; what is between two equal ones does not part them."""
    found: list[Group] = []
    open_groups: dict[str, Group] = {}
    for row in rows:
        group = open_groups.get(key(row))
        if group is not None and group.newest.created_at - row.created_at <= TOGETHER:
            group.rows.append(row)
        else:
            group = open_groups[key(row)] = Group([row])
            found.append(group)
    return found
