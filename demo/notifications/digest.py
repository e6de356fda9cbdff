"""The nightly e-mail: what a person has not read yet and no earlier digest has told them of."""

import logging
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.mail import EmailMessage, get_connection
from django.template.loader import render_to_string
from django.urls import reverse

from notifications import reading
from notifications.models import Delivery, Inbox, Notification, Preference
from notifications.topics import Kind

log = logging.getLogger(__name__)

MOST = 50  # groups that one e-mail shows


def site_url() -> str:
    """Return where the site is, `https://host` without a slash at the end; empty where unknown."""
    return getattr(settings, "NOTIFICATIONS_SITE_URL", "").rstrip("/")


def send() -> tuple[int, int]:
    """Send each person's digest. Return how many were sent and how many could not be.

    Nobody gets the same twice, two runs at the same time included: a run notes how far it goes
    before it sends, and takes that back where the mail server does not want the e-mail.
    """
    sent = failed = 0
    with get_connection() as mail:
        for inbox in _due():
            newest = _newest(inbox.person_id)
            taken = Inbox.objects.filter(pk=inbox.pk, mailed_sequence=inbox.mailed_sequence)
            if newest <= inbox.mailed_sequence or not taken.update(mailed_sequence=newest):
                continue
            message = _message(inbox.person, inbox.mailed_sequence, newest)
            if message is None:
                continue
            try:
                message.connection = mail
                message.send()
                sent += 1
            except Exception as error:
                failed += 1
                log.error("Person %s got no digest: %s", inbox.pk, error)
                Inbox.objects.filter(pk=inbox.pk, mailed_sequence=newest).update(
                    mailed_sequence=inbox.mailed_sequence
                )
                mail.close()  # the server may have: the next one opens it anew
    return sent, failed


def _due() -> Iterable[Inbox]:
    """Return the inboxes of people who have an address and something newer than their last digest."""
    users = get_user_model()
    field = users.get_email_field_name()
    people = users._default_manager.filter(is_active=True).exclude(**{field: ""})
    unread = Notification.objects.filter(read_at__isnull=True).values("recipient")
    # A list: the loop writes to the table that it is read from.
    return list(
        Inbox.objects.select_related("person")
        .filter(person__in=people, pk__in=unread)
        .order_by("pk")
    )


def _newest(person: int) -> int:
    rows = Notification.objects.filter(recipient=person).order_by("-sequence")
    return rows.values_list("sequence", flat=True).first() or 0


def _message(person: Any, after: int, newest: int) -> EmailMessage | None:
    """Return the e-mail; None where the person wants none of it."""
    chosen = dict(Preference.objects.filter(person=person).values_list("kind", "delivery"))
    kinds = [kind for kind in Kind.values if chosen.get(kind, Preference.DEFAULT) == Delivery.MAIL]
    rows = Notification.objects.filter(
        recipient=person,
        kind__in=kinds,
        read_at__isnull=True,
        sequence__gt=after,
        sequence__lte=newest,
    ).order_by("-sequence")
    number = rows.count()
    if not number:
        return None
    groups = reading.groups(rows[: MOST * 20])
    context = {
        "person": person,
        "number": number,
        "groups": groups[:MOST],
        "more": len(groups) > MOST or number > MOST * 20,
        "site": site_url(),
        "list": site_url() + reverse("notifications:index"),
        "preferences": site_url() + reverse("notifications:preferences"),
    }
    return EmailMessage(
        subject=f"{number} unread notification{'' if number == 1 else 's'}",
        body=render_to_string("notifications/digest.txt", context),
        to=[getattr(person, type(person).get_email_field_name())],
        headers={
            "List-Unsubscribe": f"<{context['preferences']}>",
            "Auto-Submitted": "auto-generated",  # RFC 3834: no automatic answers
        }
        if site_url()
        else {"Auto-Submitted": "auto-generated"},
    )
