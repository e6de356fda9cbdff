"""What a Kafka record and a WebSocket frame hold: one schema, versioned, checked on both ends.

A record is a JSON object in UTF-8: `"version": 2`, `"type"`, and exactly the fields of the class
that `RECORDS` names for the type. Another version is for whoever reads it to skip, never to guess.
"""

import dataclasses
import json
import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from notifications.models import Notification
from notifications.topics import PERSONAL, Kind, topic

VERSION = 2
MAX_BYTES = 16 * 1024
MAX_SEQUENCE = 2**63 - 1
MAX_MARKED = 500  # sequences in one read mark


class SchemaError(ValueError):
    """A record that this version of the app cannot read; the text says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One notification on its way to one person."""

    event: str  # UUID, the same wherever the notification appears
    recipient: int  # user id
    sequence: int  # the recipient's own count, from 1
    kind: str
    action: str
    actor: str
    resource: str
    resource_id: int
    message: str
    url: str  # a path on this site, or empty
    time: str  # ISO 8601 with an offset

    @classmethod
    def of(cls, row: Notification) -> "Event":
        """Return the event that a stored row stands for."""
        return cls(
            event=str(row.event_id),
            recipient=row.recipient_id,
            sequence=row.sequence,
            kind=row.kind,
            action=row.action,
            actor=row.actor,
            resource=row.resource,
            resource_id=row.resource_id,
            message=row.message,
            url=row.url,
            time=row.created_at.isoformat(),
        )

    def public(self) -> dict[str, object]:
        """Return the fields that the recipient's browser gets."""
        fields = _fields(self)
        del fields["recipient"]
        return fields

    def check(self) -> None:
        """Raise SchemaError where a value makes no sense."""
        if not 1 <= self.sequence <= MAX_SEQUENCE:
            raise SchemaError("its sequence is no count")
        if self.kind not in Kind.values:
            raise SchemaError("its kind is unknown")
        if self.url and not is_local(self.url):
            raise SchemaError("its url leaves the site")
        try:
            uuid.UUID(self.event)
            aware = datetime.fromisoformat(self.time).tzinfo is not None
        except ValueError as error:
            raise SchemaError("event is no UUID or time is not ISO 8601") from error
        if not aware:
            raise SchemaError("time has no offset")


@dataclasses.dataclass(frozen=True, slots=True)
class Read:
    """A person read notifications in one of their tabs; the others follow."""

    recipient: int
    up_to: int  # every one up to this sequence; 0: none but the listed
    sequences: list  # and these

    def check(self) -> None:
        """Raise SchemaError where a value makes no sense."""
        if len(self.sequences) > MAX_MARKED:
            raise SchemaError(f"it marks more than {MAX_MARKED}")
        for number in [self.up_to, *self.sequences]:
            if type(number) is not int or not 0 <= number <= MAX_SEQUENCE:
                raise SchemaError("it marks what is no sequence")


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """A session was signed out (`session` is its digest), or all of a person's must be looked at."""

    recipient: int
    session: str

    def check(self) -> None:
        """Accept any digest: one that nobody holds closes nothing."""


Record = Event | Read | Ended
RECORDS: dict[str, type[Record]] = {"notification": Event, "read": Read, "ended": Ended}
_NAMES = {kind: name for name, kind in RECORDS.items()}
_TYPES = {
    kind: {field.name: field.type for field in dataclasses.fields(kind)}
    for kind in RECORDS.values()
}


def _fields(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _TYPES[type(record)]}


def encode(record: Record) -> bytes:
    """Return the Kafka record's value.

    Raises:
        SchemaError: the record would be refused at the other end.
    """
    fields = {"version": VERSION, "type": _NAMES[type(record)], **_fields(record)}
    try:
        value = json.dumps(fields).encode()
    except (TypeError, ValueError) as error:
        raise SchemaError(f"it cannot be written as JSON ({error})") from error
    decode(value)
    return value


def decode(value: bytes | None) -> Record:
    """Return what a Kafka record's value says.

    Raises:
        SchemaError: too long, no JSON object, another version, a field missing, unknown or wrong.
    """
    if not value or len(value) > MAX_BYTES:
        raise SchemaError(f"it has {len(value or b'')} bytes, not 1 to {MAX_BYTES}")
    try:
        fields = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise SchemaError("it is not JSON") from error
    if not isinstance(fields, dict):
        raise SchemaError("it is not a JSON object")
    version = fields.pop("version", None)
    if type(version) is not int or version != VERSION:
        raise SchemaError(f"its version is {str(version)[:20]!r}, not {VERSION}")
    name = fields.pop("type", None)
    kind = RECORDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise SchemaError(f"its type is {str(name)[:20]!r}, which nobody knows")
    wanted = _TYPES[kind]
    if fields.keys() != wanted.keys():
        odd = sorted(str(name)[:40] for name in fields.keys() ^ wanted.keys())
        raise SchemaError(f"missing or unknown fields: {', '.join(odd[:5])}")
    for name, cls in wanted.items():
        if type(fields[name]) is not cls:
            raise SchemaError(f"{name} is not of type {cls.__name__}")
    record = kind(**fields)
    record.check()
    return record


def topic_of(record: Record) -> str:
    """Return the topic that a record travels on."""
    return topic(record.kind if isinstance(record, Event) else PERSONAL)


def is_local(url: str) -> bool:
    """Say whether a link stays on this site: an absolute path, and no `//host` in disguise."""
    return url.startswith("/") and not url.startswith(("//", "/\\"))


def frame(event: Event, count: int | None) -> dict[str, object]:
    """Return the WebSocket frame for one event; the count is None where it could not be had."""
    return {"type": "notification", "version": VERSION, **event.public(), "count": count}


def unread_frame(count: int, sequence: int, missed: Iterable[Event]) -> dict[str, object]:
    """Return the frame that brings a browser up to `sequence`; `missed` goes from old to new."""
    return {
        "type": "unread",
        "version": VERSION,
        "count": count,
        "sequence": sequence,
        "missed": [event.public() for event in missed],
    }


def read_frame(read: Read, count: int | None) -> dict[str, object]:
    """Return the frame that tells a browser what was read elsewhere."""
    return {
        "type": "read",
        "version": VERSION,
        "count": count,
        "up_to": read.up_to,
        "sequences": read.sequences,
    }
