"""What the database keeps: the notifications, which are their own outbox, and who wants which."""

import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone

from notifications.topics import Kind


class State(models.TextChoices):
    """Where a row of the outbox stands. outbox.py alone moves it on."""

    PENDING = "pending", "waits for Kafka"
    SENT = "sent", "Kafka has it"
    REFUSED = "refused", "no record can be made of it"


class Delivery(models.TextChoices):
    """How a person hears of one kind."""

    OFF = "off", "Not at all"
    SITE = "site", "On this site"
    MAIL = "mail", "On this site, and in a nightly e-mail while unread"


class Notification(models.Model):
    """One thing that one person should know, and the state of its way to Kafka."""

    event_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    recipient = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="notifications",
        db_index=False,  # the unique constraint begins with it
    )
    # 1, 2, 3, … for each recipient. Given out under a lock that is held to the end of the
    # transaction, so whoever sees number n can see all that come before it.
    sequence = models.BigIntegerField(editable=False)
    kind = models.CharField(max_length=16, choices=Kind)
    action = models.CharField(max_length=32)
    actor = models.CharField(max_length=150)
    resource = models.CharField(max_length=32)
    resource_id = models.BigIntegerField()
    message = models.CharField(max_length=500)
    url = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    read_at = models.DateTimeField(null=True, blank=True)

    state = models.CharField(max_length=8, choices=State, default=State.PENDING, editable=False)
    attempts = models.PositiveIntegerField(default=0, editable=False)
    # Whoever tries to send the row has it until then; afterwards the relay may take it.
    due_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["recipient", "sequence"], name="notification_sequence")
        ]
        indexes = [
            models.Index(
                fields=["recipient", "sequence"],
                condition=models.Q(read_at__isnull=True),
                name="notification_unread_after",
            ),
            models.Index(
                fields=["due_at"],
                condition=models.Q(state=State.PENDING),
                name="notification_pending",
            ),
        ]

    def __str__(self) -> str:
        return self.message


class Inbox(models.Model):
    """What is counted for each person. Its row is the lock under which sequences are given out."""

    person = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="+"
    )
    last_sequence = models.BigIntegerField(default=0)
    mailed_sequence = models.BigIntegerField(default=0)  # the newest that a digest has dealt with

    def __str__(self) -> str:
        return f"{self.person}: {self.last_sequence}"


class Preference(models.Model):
    """How a person wants to hear of one kind; no row: as `DEFAULT` says."""

    DEFAULT = Delivery.MAIL

    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=16, choices=Kind)
    delivery = models.CharField(max_length=8, choices=Delivery, default=DEFAULT)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["person", "kind"], name="preference_once_per_kind")
        ]

    def __str__(self) -> str:
        return f"{self.person}, {self.kind}: {self.delivery}"


class Holder(models.Model):
    """A process that holds sockets. One that was not seen for a while holds none any more."""

    name = models.CharField(max_length=100, primary_key=True)
    seen_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.name


class Held(models.Model):
    """How many sockets of one person one process holds."""

    holder = models.ForeignKey(Holder, on_delete=models.CASCADE, related_name="held")
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    sockets = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["holder", "person"], name="held_once_per_person")
        ]

    def __str__(self) -> str:
        return f"{self.person} at {self.holder}: {self.sockets}"
