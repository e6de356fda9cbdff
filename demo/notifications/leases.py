"""How many sockets one person may hold on the site, counted in the database over all processes.

A process notes its sockets as it opens and closes them, and that it is still there every few
seconds while it holds any (`hub.CHECK`). What a process that died had noted counts no longer once
it was not seen for `LEASE`, or at once where it ran on this machine.
"""

import os
import re
import uuid
from collections.abc import Mapping
from datetime import timedelta
from functools import cache

from django.conf import settings
from django.db import transaction
from django.db.models import F, Sum
from django.utils import timezone

from notifications.models import Held, Holder, Inbox

LEASE = timedelta(seconds=12)


def limit() -> int:
    """Return how many sockets a person may hold on the site."""
    return getattr(settings, "NOTIFICATIONS_SOCKETS_PER_PERSON", 20)


@cache
def _name(pid: int) -> str:
    return f"{os.uname().nodename[:40]}-{pid}-{uuid.uuid4()}"


def name() -> str:
    """Return this process's name among the holders; no process of any time has the same."""
    return _name(os.getpid())


def _died(holder: str) -> bool:
    """Say whether a holder was a process of this machine that is there no more."""
    found = re.fullmatch(r"(.*)-(\d+)-[0-9a-f-]{36}", holder)
    if not found or found[1] != os.uname().nodename[:40]:
        return False
    try:
        os.kill(int(found[2]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # its number is another user's process by now
        return True
    return False


@transaction.atomic
def acquire(person: int) -> bool:
    """Note one more socket of this person here; return False where the site holds enough."""
    Inbox.objects.get_or_create(pk=person)
    # Two handshakes of one person wait for each other here. SQLite: the transaction itself does it.
    Inbox.objects.select_for_update().get(pk=person)
    now = timezone.now()
    # This process's own, too: one that was silent for so long held nothing.
    Holder.objects.filter(seen_at__lt=now - LEASE).delete()
    Holder.objects.update_or_create(pk=name(), defaults={"seen_at": now})
    if _held(person) >= limit():
        holders = Holder.objects.filter(held__person=person).values_list("pk", flat=True)
        Holder.objects.filter(pk__in=[one for one in holders if _died(one)]).delete()
        if _held(person) >= limit():
            return False
    mine, _new = Held.objects.get_or_create(holder_id=name(), person_id=person)
    Held.objects.filter(pk=mine.pk).update(sockets=F("sockets") + 1)
    return True


def _held(person: int) -> int:
    """Return how many sockets of a person are noted."""
    return Held.objects.filter(person=person).aggregate(total=Sum("sockets"))["total"] or 0


@transaction.atomic
def release(person: int) -> None:
    """Note one socket of this person less."""
    mine = Held.objects.filter(holder=name(), person=person)
    mine.filter(sockets__lte=1).delete()
    mine.update(sockets=F("sockets") - 1)


@transaction.atomic
def beat(held: Mapping[int, int]) -> None:
    """Note that this process is there, and put right what is noted of it.

    `held` says how many sockets of which person it holds. A handshake that broke off half-way may
    have left a number that is wrong; one that is under way has it wrong for a moment. So only what
    was equally wrong the last time is put right.
    """
    global _wrong
    now = timezone.now()
    if not Holder.objects.filter(pk=name()).update(seen_at=now):
        Holder.objects.create(pk=name(), seen_at=now)
    noted = dict(Held.objects.filter(holder=name()).values_list("person", "sockets"))
    wrong = {
        person: (noted.get(person, 0), held.get(person, 0))
        for person in noted.keys() | held.keys()
        if noted.get(person, 0) != held.get(person, 0)
    }
    for person in [person for person, numbers in wrong.items() if _wrong.get(person) == numbers]:
        mine = Held.objects.filter(holder=name(), person=person)
        if held.get(person):
            mine.update_or_create(
                holder_id=name(), person_id=person, defaults={"sockets": held[person]}
            )
        else:
            mine.delete()
    _wrong = wrong


_wrong: dict[int, tuple[int, int]] = {}
