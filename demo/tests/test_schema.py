"""Records: what one end writes the other end reads, and nothing else."""

import contextlib
import dataclasses
import json
from datetime import UTC, datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from notifications.schema import (
    MAX_BYTES,
    VERSION,
    Ended,
    Event,
    Read,
    SchemaError,
    decode,
    encode,
    frame,
    is_local,
)
from notifications.topics import Kind

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


TEXT = st.text(max_size=60)
EVENTS = st.builds(
    Event,
    event=st.uuids().map(str),
    recipient=st.integers(),
    sequence=st.integers(1, 2**63 - 1),
    kind=st.sampled_from(Kind.values),
    action=TEXT,
    actor=TEXT,
    resource=TEXT,
    resource_id=st.integers(),
    message=TEXT,
    url=TEXT.map(lambda text: f"/x{text}") | st.just(""),
    time=st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
)
RECORDS = (
    EVENTS
    | st.builds(
        Read,
        recipient=st.integers(),
        up_to=st.integers(0, 2**63 - 1),
        sequences=st.lists(st.integers(0, 2**63 - 1), max_size=20),
    )
    | st.builds(Ended, recipient=st.integers(), session=TEXT)
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)


@given(RECORDS)
def test_any_record_comes_back_as_it_went(record):
    assert decode(encode(record)) == record


@given(RECORDS, st.integers().filter(lambda version: version != VERSION) | JSON)
def test_any_other_version_is_refused(record, version):
    assume(version != VERSION or type(version) is not int)
    fields = {**json.loads(encode(record)), "version": version}
    with pytest.raises(SchemaError, match="version"):
        decode(json.dumps(fields).encode())


@given(RECORDS, st.data())
def test_a_field_less_or_more_or_of_another_type_is_refused(record, data):
    fields = json.loads(encode(record))
    name = data.draw(st.sampled_from(sorted(fields.keys() - {"version", "type"})))
    change = data.draw(st.sampled_from(["less", "more", "other"]))
    if change == "less":
        del fields[name]
    elif change == "more":
        extra = data.draw(TEXT.filter(lambda text: text not in fields))
        fields[extra] = 1
    else:
        other = data.draw(JSON)
        assume(type(other) is not type(fields[name]))
        fields[name] = other
    with pytest.raises(SchemaError):
        decode(json.dumps(fields).encode())


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_read_or_refused_and_never_a_crash(value):
    with contextlib.suppress(SchemaError):
        decode(value)


@given(EVENTS)
def test_no_frame_names_the_recipient_or_leaves_the_site(event):
    content = frame(event, 1)
    assert "recipient" not in content
    assert not content["url"] or is_local(content["url"])
