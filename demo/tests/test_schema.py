"""Records: what one end writes the other end reads, and nothing else."""

import dataclasses
import json

import pytest

from notifications.schema import MAX_BYTES, Event, SchemaError, decode, encode, frame, is_local

EVENT = Event(
    event="6f1f4b1e-9d0a-4c7e-8f43-0c2f6a0e8f11",
    recipient=3,
    sequence=7,
    kind="group",
    action="graph_shared",
    actor="ada",
    resource="graph",
    resource_id=2,
    message="ada shared “Tea” ☕",
    url="/graphs/2/",
    time="2026-01-31T12:00:00+00:00",
)
RECORD = {"version": 2, "type": "notification", **dataclasses.asdict(EVENT)}


def test_a_record_comes_back_as_it_went():
    assert decode(encode(EVENT)) == EVENT


def test_the_frame_does_not_name_the_recipient():
    assert frame(EVENT, 4).keys() == RECORD.keys() - {"recipient"} | {"count"}


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"[" * 5000,
        b" " * (MAX_BYTES + 1),
        *(
            json.dumps({**RECORD, **change}).encode()
            for change in [
                {"version": 1},
                {"version": 3},
                {"version": True},
                {"version": "1"},
                {"extra": 1},
                {"type": "rumour"},
                {"type": ["notification"]},
                {"type": "read"},
                {"sequence": "7"},
                {"sequence": True},
                {"sequence": 0},
                {"sequence": 2**63},
                {"recipient": None},
                {"kind": "rumour"},
                {"event": "7"},
                {"time": "yesterday"},
                {"time": "2026-01-31T12:00:00"},
                {"url": "//elsewhere.example/"},
                {"url": "javascript:alert(1)"},
            ]
        ),
        json.dumps({name: RECORD[name] for name in RECORD if name != "actor"}).encode(),
    ],
)
def test_what_is_no_record_is_refused(value):
    with pytest.raises(SchemaError):
        decode(value)


def test_what_could_not_be_read_is_not_written():
    with pytest.raises(SchemaError):
        encode(dataclasses.replace(EVENT, kind="rumour"))


def test_a_link_stays_on_the_site():
    assert is_local("/graphs/2/")
    assert not is_local("//elsewhere.example/")
    assert not is_local("/\\elsewhere.example/")
    assert not is_local("https://elsewhere.example/")
