"""The one call that a view makes."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connections, router, transaction
from django.db.models import F
from django.utils import timezone

from notifications import outbox, producer
from notifications.models import Delivery, Inbox, Notification, Preference
from notifications.schema import Event, encode
from notifications.topics import Kind

CHUNK = 500  # people in one query; SQLite's older limit is 999 parameters


def notify(
    *,
    kind: Kind,
    action: str,
    recipients: Iterable[Any],
    actor: Any,
    resource: Any,
    message: str,
    tell_actor: bool = False,
    link: str | None = None,
) -> list[Notification]:
    """Store one notification for each recipient, and send them once the change is committed.

    Call it inside the transaction that makes the change. `recipients` are users; nobody gets two,
    whoever acts gets one only where `tell_actor` says so, and whoever switched the kind off gets
    none. `resource` is a model instance with a primary key; the notification links to `link`, or to
    its `get_absolute_url()` where it has one (`link=""`: to nothing, as after a deletion).

    Raises:
        transaction.TransactionManagementError: there is no transaction to belong to.
        SchemaError: no record can be made of it, such as a link that leaves the site.
    """
    if not transaction.get_connection().in_atomic_block:
        raise transaction.TransactionManagementError("notify() belongs inside transaction.atomic()")
    field = Notification._meta.get_field("message")
    if link is None:
        link = resource.get_absolute_url() if hasattr(resource, "get_absolute_url") else ""
    people = {person.pk for person in recipients}
    if not tell_actor:
        people.discard(actor.pk)
    people -= set(
        Preference.objects.filter(kind=kind, delivery=Delivery.OFF).values_list("person", flat=True)
    )
    now = timezone.now()
    rows = [
        Notification(
            recipient_id=person,
            sequence=sequence,
            kind=kind,
            action=action,
            actor=actor.get_username(),
            resource=resource._meta.model_name,
            resource_id=resource.pk,
            message=message[: field.max_length],
            url=link,
            created_at=now,
            due_at=now + outbox.LEASE,
        )
        for person, sequence in next_sequences(sorted(people))
    ]
    events = [Event.of(row) for row in rows]
    for event in events[:1]:
        encode(event)  # refused here, where the change can still be undone
    rows = Notification.objects.bulk_create(rows)
    if rows:

        def send() -> None:
            producer.send(events)

        # robust: the change is already made; what goes wrong from here on is logged, not shown.
        transaction.on_commit(send, robust=True)
    return rows


def next_sequences(people: Sequence[int]) -> list[tuple[int, int]]:
    """Give each person the next number of their own, held by a lock until the transaction ends.

    `people` are user ids in ascending order, so that two transactions never wait for each other.
    """
    given: list[tuple[int, int]] = []
    for start in range(0, len(people), CHUNK):
        chunk = people[start : start + CHUNK]
        given += _upsert(chunk) if _can_upsert() else _update(chunk)
    return given


def _can_upsert() -> bool:
    return connections[router.db_for_write(Inbox)].vendor in {"postgresql", "sqlite"}


def _upsert(people: Sequence[int]) -> list[tuple[int, int]]:
    """Count one on for each, in one statement: on SQLite everybody who writes waits for it."""
    connection = connections[router.db_for_write(Inbox)]
    name = connection.ops.quote_name
    table, key, last, mailed = (
        name(part)
        for part in (
            Inbox._meta.db_table,
            Inbox._meta.pk.column,
            Inbox._meta.get_field("last_sequence").column,
            Inbox._meta.get_field("mailed_sequence").column,
        )
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({key}, {last}, {mailed}) "  # noqa: S608 - names of our own
            f"VALUES {', '.join(['(%s, 1, 0)'] * len(people))} "
            f"ON CONFLICT ({key}) DO UPDATE SET {last} = {table}.{last} + 1 "
            f"RETURNING {key}, {last}",
            list(people),
        )
        return sorted(cursor.fetchall())


def _update(people: Sequence[int]) -> list[tuple[int, int]]:
    """The same where the database knows no such statement."""
    Inbox.objects.bulk_create((Inbox(person_id=key) for key in people), ignore_conflicts=True)
    inboxes = Inbox.objects.filter(pk__in=people).order_by("pk")
    list(inboxes.select_for_update().values_list("pk"))
    Inbox.objects.filter(pk__in=people).update(last_sequence=F("last_sequence") + 1)
    return list(inboxes.values_list("pk", "last_sequence"))
