"""The one call that a view makes."""

from collections.abc import Iterable
from typing import Any

from django.db import transaction

from notifications import producer
from notifications.models import Notification
from notifications.schema import Event
from notifications.topics import Kind


def notify(
    *,
    kind: Kind,
    action: str,
    recipients: Iterable[Any],
    actor: Any,
    resource: Any,
    message: str,
) -> list[Notification]:
    """Store one notification for each recipient, and send them once the change is committed.

    Call it inside the transaction that makes the change. `recipients` are users; whoever acts is
    left out, and nobody gets two. `resource` is a saved model instance; where it has
    `get_absolute_url`, the notification links to it.

    Raises:
        transaction.TransactionManagementError: there is no transaction to belong to.
    """
    if not transaction.get_connection().in_atomic_block:
        raise transaction.TransactionManagementError("notify() belongs inside transaction.atomic()")
    field = Notification._meta.get_field("message")
    url = resource.get_absolute_url() if hasattr(resource, "get_absolute_url") else ""
    people = {person.pk for person in recipients} - {actor.pk}
    rows = Notification.objects.bulk_create(
        Notification(
            recipient_id=person,
            kind=kind,
            action=action,
            actor=actor.get_username(),
            resource=resource._meta.model_name,
            resource_id=resource.pk,
            message=message[: field.max_length],
            url=url,
        )
        for person in sorted(people)
    )
    if rows:
        events = [Event.of(row) for row in rows]

        def send() -> None:
            producer.send(events)

        # robust: the change is already made; what goes wrong from here on is logged, not shown.
        transaction.on_commit(send, robust=True)
    return rows
