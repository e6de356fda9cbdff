"""The WebSockets: who gets one, and what comes through it."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.db import DatabaseError

from graphs import actions
from graphspace.asgi import sockets
from notifications import store
from notifications.models import Notification
from notifications.schema import Event

pytestmark = pytest.mark.django_db(transaction=True)
ORIGIN = b"http://testserver"
PATH = "/ws/notifications/"


@pytest.fixture
def sign_in(sign_in, people):
    """Sign everybody in before the event loop runs."""
    clients = {name: sign_in(name) for name in people}
    return clients.__getitem__


def socket(client=None, path=PATH, origin=ORIGIN):
    headers = [(b"host", b"testserver")]
    if origin:
        headers.append((b"origin", origin))
    if client:
        headers.append((b"cookie", f"sessionid={client.cookies['sessionid'].value}".encode()))
    return WebsocketCommunicator(sockets, path, headers)


async def opened(client, path=PATH):
    made = socket(client, path)
    connected, _protocol = await made.connect()
    assert connected
    return made


async def share(graph, group):
    """Share, and return the events as Kafka would bring them, by recipient's name."""
    await sync_to_async(actions.share)(graph, group, graph.owner)
    rows = await sync_to_async(list)(Notification.objects.select_related("recipient"))
    return {row.recipient.username: Event.of(row) for row in rows}


async def test_nobody_without_a_session_gets_a_socket(hub):
    assert (await socket().connect())[0] is False
    assert not hub._sockets


@pytest.mark.parametrize("origin", [None, b"http://elsewhere.example", b"null"])
async def test_another_origin_gets_no_socket(sign_in, hub, origin):
    assert (await socket(sign_in("ada"), origin=origin).connect())[0] is False


@pytest.mark.parametrize(
    "path", ["/ws/", "/ws/nothing", "/ws/notifications", "/ws/notifications/x", "/ws/%0A", "/"]
)
async def test_an_unknown_path_is_refused_and_no_error(sign_in, path):
    assert (await socket(sign_in("ada"), path=path).connect())[0] is False


async def test_a_disabled_person_gets_no_socket(sign_in, people, hub):
    client = sign_in("ada")
    people["ada"].is_active = False
    await sync_to_async(people["ada"].save)()
    assert (await socket(client).connect())[0] is False


async def test_the_first_frame_brings_the_count_alone(sign_in, graph, everybody, hub):
    await share(graph, everybody)
    grace = await opened(sign_in("grace"))
    assert await grace.receive_json_from() == {
        "type": "unread",
        "version": 2,
        "count": 1,
        "sequence": 1,
        "missed": [],
    }
    await grace.disconnect()
    assert not hub._sockets


async def test_an_event_reaches_every_socket_of_its_person_and_no_other(
    sign_in, graph, everybody, hub
):
    held = {
        name: [await opened(sign_in(name)) for _ in range(2)] for name in ("ada", "grace", "linus")
    }
    for pair in held.values():
        for one in pair:
            assert (await one.receive_json_from())["count"] == 0
    events = await share(graph, everybody)
    hub.publish(events["grace"])
    for one in held["grace"]:
        got = await one.receive_json_from()
        assert (got["type"], got["count"]) == ("notification", 1)
        assert got["event"] == events["grace"].event
        assert "recipient" not in got
    for one in held["ada"] + held["linus"]:
        assert await one.receive_nothing()
    for pair in held.values():
        for one in pair:
            await one.disconnect()


async def test_a_new_assignment_brings_what_was_missed_once(sign_in, graph, everybody, hub):
    grace, linus = await opened(sign_in("grace")), await opened(sign_in("linus"))
    for one in (grace, linus):
        assert (await one.receive_json_from())["missed"] == []
    events = await share(graph, everybody)  # and Kafka did not bring it
    hub.catch_up()
    hub.publish(events["grace"])  # or only now
    got = await grace.receive_json_from()
    assert (got["count"], [row["event"] for row in got["missed"]]) == (1, [events["grace"].event])
    got = await linus.receive_json_from()
    assert [row["event"] for row in got["missed"]] == [events["linus"].event]
    assert await grace.receive_nothing()
    hub.catch_up()
    assert (await grace.receive_json_from())["missed"] == []
    await grace.disconnect()
    await linus.disconnect()


async def test_a_browser_that_returns_names_what_it_has(sign_in, people, graph, everybody, hub):
    first = (await share(graph, everybody))["grace"]
    await sync_to_async(actions.unshare)(graph, everybody, graph.owner)
    newest = await Notification.objects.filter(recipient=people["grace"]).afirst()
    client = sign_in("grace")
    for after, missed in [
        ("0", [str(first.event), str(newest.event_id)]),
        (str(first.sequence), [str(newest.event_id)]),
        (str(newest.sequence), []),
        ("99999999999999999999", []),
        ("9223372036854775807", []),
        ("-1", []),
        ("x", []),
        ("%F0%28", []),
    ]:
        one = await opened(client, f"{PATH}?after={after}")
        got = await one.receive_json_from()
        assert (got["count"], [row["event"] for row in got["missed"]]) == (2, missed)
        await one.disconnect()


async def test_catching_up_goes_on_until_it_is_complete(sign_in, people, hub, monkeypatch):
    monkeypatch.setattr(store, "PAGE", 3)
    made = [
        Notification(
            recipient=people["ada"],
            sequence=number + 1,
            kind="group",
            action="a",
            resource_id=1,
            message=f"{number}",
        )
        for number in range(7)
    ]
    await Notification.objects.abulk_create(made)
    one = await opened(sign_in("ada"), f"{PATH}?after=0")
    got = [await one.receive_json_from() for _ in range(3)]
    assert [[row["message"] for row in frame["missed"]] for frame in got] == [
        ["0", "1", "2"],
        ["3", "4", "5"],
        ["6"],
    ]
    assert [frame["sequence"] for frame in got] == [3, 6, 7]
    assert await one.receive_nothing()
    await one.disconnect()


async def test_what_the_browser_sends_is_ignored_and_bounded(sign_in, hub):
    one = await opened(sign_in("ada"))
    await one.receive_json_from()
    for text in ("{", '{"type": "notification", "recipient": 1}', "x" * 1024):
        await one.send_to(text_data=text)
    await one.send_to(bytes_data=b"\x00")
    assert await one.receive_nothing()
    await one.send_to(text_data="x" * 1025)
    assert await one.receive_output() == {"type": "websocket.close", "code": 1009}
    await one.wait()


async def test_without_the_database_the_event_comes_and_the_count_follows(
    sign_in, graph, everybody, hub, monkeypatch
):
    monkeypatch.setattr("notifications.hub.RETRY", 0.05)
    grace = await opened(sign_in("grace"))
    await grace.receive_json_from()
    events = await share(graph, everybody)
    working = store.unread_counts

    def fail(people):
        raise DatabaseError("disk I/O error")

    monkeypatch.setattr(store, "unread_counts", fail)
    hub.publish(events["grace"])
    assert (await grace.receive_json_from())["count"] is None
    hub.catch_up()
    assert await grace.receive_nothing(timeout=0.2)
    monkeypatch.setattr(store, "unread_counts", working)
    assert (await grace.receive_json_from())["count"] == 1
    await grace.disconnect()


async def test_one_broken_socket_does_not_keep_the_others_waiting(sign_in, graph, everybody, hub):
    class Broken:
        session = store.Session(graph.owner_id, "key", "hash")
        last = 0

        async def push(self, content):
            raise ConnectionError

    ada, broken = await opened(sign_in("ada")), Broken()
    await ada.receive_json_from()
    hub.register(broken)
    await asyncio.sleep(0.1)
    assert not hub._holds(broken)
    hub.catch_up()
    assert (await ada.receive_json_from())["type"] == "unread"
    await ada.disconnect()
