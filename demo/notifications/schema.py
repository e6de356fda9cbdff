"""What a Kafka record and a WebSocket frame hold: one schema, versioned, checked on both ends.

A record is a JSON object in UTF-8 with exactly the fields of `Event` and `"version": 1`. A frame is
the same without `recipient`, with `"type"` and the person's unread `"count"`.
"""

import dataclasses
import json
import uuid
from datetime import datetime

from notifications.models import Notification
from notifications.topics import Kind

VERSION = 1
MAX_BYTES = 16 * 1024


class SchemaError(ValueError):
    """A record that this version of the app cannot read; the text says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One notification on its way to one person."""

    id: int  # the row's
    event: str  # UUID, the same wherever the notification appears
    recipient: int  # user id
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
            id=row.pk,
            event=str(row.event_id),
            recipient=row.recipient_id,
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
        fields = dataclasses.asdict(self)
        del fields["recipient"]
        return fields


_TYPES = {field.name: field.type for field in dataclasses.fields(Event)}


def encode(event: Event) -> bytes:
    """Return the Kafka record's value.

    Raises:
        SchemaError: the event would be refused at the other end.
    """
    value = json.dumps({"version": VERSION, **dataclasses.asdict(event)}).encode()
    decode(value)
    return value


def decode(value: bytes | None) -> Event:
    """Return the event in a Kafka record's value.

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
    if fields.keys() != _TYPES.keys():
        odd = sorted(str(name)[:40] for name in fields.keys() ^ _TYPES.keys())
        raise SchemaError(f"missing or unknown fields: {', '.join(odd[:5])}")
    for name, wanted in _TYPES.items():
        if type(fields[name]) is not wanted:
            raise SchemaError(f"{name} is not of type {wanted.__name__}")
    if fields["kind"] not in Kind.values:
        raise SchemaError("its kind is unknown")
    if fields["url"] and not is_local(fields["url"]):
        raise SchemaError("its url leaves the site")
    try:
        uuid.UUID(fields["event"])
        aware = datetime.fromisoformat(fields["time"]).tzinfo is not None
    except ValueError as error:
        raise SchemaError("event is no UUID or time is not ISO 8601") from error
    if not aware:
        raise SchemaError("time has no offset")
    return Event(**fields)


def is_local(url: str) -> bool:
    """Say whether a link stays on this site: an absolute path, and no `//host` in disguise."""
    return url.startswith("/") and not url.startswith(("//", "/\\"))


def frame(event: Event, count: int | None) -> dict[str, object]:
    """Return the WebSocket frame for one event; the count is None where it could not be had."""
    return {"type": "notification", "version": VERSION, **event.public(), "count": count}


def unread_frame(count: int, missed: list[Event]) -> dict[str, object]:
    """Return the frame that brings a socket up to date; `missed` goes from old to new."""
    return {
        "type": "unread",
        "version": VERSION,
        "count": count,
        "missed": [event.public() for event in missed],
    }
