"""The WebSockets: who gets one, and what comes through it."""

import asyncio
import os
import subprocess
import uuid
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.db import DatabaseError
from django.test import Client
from django.utils import timezone

from graphs import actions
from graphspace.asgi import sockets
from notifications import leases, store
from notifications.models import Held, Holder, Inbox, Notification
from notifications.schema import Ended, Event, Read

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
    await Inbox.objects.acreate(person=people["ada"], last_sequence=7)
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


# -- in whatever order, however often ----------------------------------------------------------------


async def made(person, number, first=1):
    """Store so many notifications for a person; return them as Kafka would bring them."""
    rows = [
        Notification(
            recipient=person,
            sequence=first + index,
            kind="owner",
            action="a",
            actor="ada",
            resource="graph",
            resource_id=1,
            message=f"{first + index}",
        )
        for index in range(number)
    ]
    await Notification.objects.abulk_create(rows)
    last = {"last_sequence": rows[-1].sequence}
    await Inbox.objects.aupdate_or_create(person=person, defaults=last)
    return [Event.of(row) for row in rows]


async def numbers(one, wanted):
    """Return the sequences that a socket was shown, until it has so many."""
    got = []
    while len(got) < wanted:
        frame = await one.receive_json_from()
        got += [row["sequence"] for row in frame.get("missed", [frame])]
    return got


@pytest.mark.parametrize(
    "order",
    [[4, 3, 2, 1, 0], [0, 0, 1, 1, 2, 3, 4, 4], [4], [1, 3, 4], [0, 2, 1, 4, 3], [3, 4, 0]],
    ids=str,
)
async def test_each_is_shown_once_and_in_order(sign_in, people, hub, order):
    one = await opened(sign_in("ada"))
    await one.receive_json_from()
    events = await made(people["ada"], 5)
    for index in order:
        hub.publish(events[index])
        await asyncio.sleep(0.02)
    assert await numbers(one, 5) == [1, 2, 3, 4, 5]
    assert await one.receive_nothing()
    await one.disconnect()


async def test_a_burst_that_comes_in_one_go_keeps_its_order(sign_in, people, hub):
    one = await opened(sign_in("ada"))
    await one.receive_json_from()
    for event in reversed(await made(people["ada"], 30)):
        hub.publish(event)
        hub.publish(event)
    assert await numbers(one, 30) == list(range(1, 31))
    assert await one.receive_nothing()
    await one.disconnect()


async def test_a_read_mark_reaches_the_persons_tabs_alone(sign_in, people, hub):
    tabs = [await opened(sign_in("ada")) for _ in range(2)]
    grace = await opened(sign_in("grace"))
    for one in (*tabs, grace):
        await one.receive_json_from()
    hub.publish(Read(recipient=people["ada"].pk, up_to=4, sequences=[7]))
    for one in tabs:
        assert await one.receive_json_from() == {
            "type": "read",
            "version": 2,
            "count": 0,
            "up_to": 4,
            "sequences": [7],
        }
    assert await grace.receive_nothing()
    for one in (*tabs, grace):
        await one.disconnect()


# -- only yours ----------------------------------------------------------------------------------------


OVER = {"type": "websocket.close", "code": 4401}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("notifications.hub.CHECK", 0.1)


async def over(one):
    while True:
        got = await one.receive_output(timeout=3)
        if got["type"] == "websocket.close":
            assert got == OVER
            await one.wait()
            return


async def test_the_page_of_somebody_else_is_over(sign_in, people, hub):
    """A tab is left open, and the next person signs in to the site in the same browser."""
    client = sign_in("grace")
    left = await opened(client, f"{PATH}?after=0&person={people['ada'].pk}")
    assert await left.receive_output() == OVER
    await left.wait()
    assert not hub._sockets
    assert await Held.objects.acount() == 0
    hers = await opened(client, f"{PATH}?after=0&person={people['grace'].pk}")
    assert (await hers.receive_json_from())["type"] == "unread"
    await hers.disconnect()


@pytest.mark.parametrize("how", ["sign out", "disable", "delete", "password", "expire"])
async def test_a_session_that_is_over_loses_its_socket_in_seconds(sign_in, people, hub, quick, how):
    client, other = sign_in("ada"), sign_in("grace")
    one, kept = await opened(client), await opened(other)
    users = get_user_model().objects.filter(username="ada")
    if how == "sign out":
        await sync_to_async(client.logout)()
    elif how == "disable":
        await users.aupdate(is_active=False)
    elif how == "delete":
        await users.adelete()
    elif how == "password":
        await users.aupdate(password="another")
    else:
        await Session.objects.filter(pk=client.session.session_key).aupdate(
            expire_date=timezone.now()
        )
    await over(one)
    assert not hub._sockets.get(people["ada"].pk)
    assert len(hub._sockets[people["grace"].pk]) == 1
    await kept.disconnect()


async def test_signing_out_is_told_to_every_process_and_ends_that_session_alone(
    people, seeded, hub, kafka
):
    clients = [Client(), Client()]
    for client in clients:
        await sync_to_async(client.force_login)(people["ada"])
    one, kept = [await opened(client) for client in clients]
    key = clients[0].cookies["sessionid"].value
    await sync_to_async(clients[0].post)("/sign-out/")
    [record] = [record for record in kafka.records if isinstance(record, Ended)]
    assert record.recipient == people["ada"].pk
    assert key not in record.session
    hub.publish(record)
    await over(one)
    assert len(hub._sockets[people["ada"].pk]) == 1
    await kept.disconnect()


async def test_disabling_in_the_admin_is_told_to_every_process(sign_in, people, hub, kafka):
    one = await opened(sign_in("ada"))
    people["ada"].is_active = False
    await sync_to_async(people["ada"].save)()
    [record] = [record for record in kafka.records if isinstance(record, Ended)]
    hub.publish(record)
    await over(one)


async def test_what_the_database_does_not_answer_ends_no_session(
    sign_in, hub, quick, monkeypatch, caplog
):
    def fail(sessions):
        raise DatabaseError("disk I/O error")

    one = await opened(sign_in("ada"))
    await one.receive_json_from()
    monkeypatch.setattr(store, "ended", fail)
    await asyncio.sleep(0.5)
    assert await one.receive_nothing()
    assert caplog.text.count("sockets stay open") == 1
    await one.disconnect()


async def test_a_person_holds_so_many_sockets_and_another_is_not_bothered(
    sign_in, people, hub, settings
):
    settings.NOTIFICATIONS_SOCKETS_PER_PERSON = 3
    ada = sign_in("ada")
    held = [await opened(ada) for _ in range(3)]
    assert (await socket(ada).connect())[0] is False
    grace = await opened(sign_in("grace"))
    await held.pop().disconnect()
    held.append(await opened(ada))
    assert (await socket(ada).connect())[0] is False
    for one in (*held, grace):
        await one.disconnect()
    assert not await Held.objects.aexists()


async def test_the_limit_counts_the_other_processes_while_they_live(sign_in, people, hub, settings):
    settings.NOTIFICATIONS_SOCKETS_PER_PERSON = 2
    other = await Holder.objects.acreate(name="other", seen_at=timezone.now())
    await Held.objects.acreate(holder=other, person=people["ada"], sockets=2)
    assert (await socket(sign_in("ada")).connect())[0] is False
    other.seen_at -= leases.LEASE + timedelta(seconds=1)  # it was killed
    await other.asave()
    one = await opened(sign_in("ada"))
    await one.disconnect()


async def test_a_process_of_this_machine_that_died_counts_no_longer(sign_in, people, hub, settings):
    settings.NOTIFICATIONS_SOCKETS_PER_PERSON = 2
    child = subprocess.Popen(["sleep", "60"])
    name = f"{os.uname().nodename[:40]}-{child.pid}-{uuid.uuid4()}"
    other = await Holder.objects.acreate(name=name, seen_at=timezone.now())
    await Held.objects.acreate(holder=other, person=people["ada"], sockets=2)
    try:
        assert (await socket(sign_in("ada")).connect())[0] is False
    finally:
        child.kill()
        child.wait()
    one = await opened(sign_in("ada"))
    await one.disconnect()


async def test_a_process_that_was_thought_dead_notes_its_sockets_anew(sign_in, people, hub, quick):
    one = await opened(sign_in("ada"))
    await Holder.objects.all().adelete()
    await asyncio.sleep(0.6)
    assert (await Held.objects.aget(person=people["ada"])).sockets == 1
    await Held.objects.aupdate(sockets=9)  # handshakes that broke off
    await asyncio.sleep(0.6)
    assert (await Held.objects.aget(person=people["ada"])).sockets == 1
    await one.disconnect()


async def test_a_process_that_was_silent_held_nothing(people, settings):
    settings.NOTIFICATIONS_SOCKETS_PER_PERSON = 1
    assert await sync_to_async(leases.acquire)(people["ada"].pk)
    assert not await sync_to_async(leases.acquire)(people["ada"].pk)
    await Holder.objects.aupdate(seen_at=timezone.now() - leases.LEASE - timedelta(seconds=1))
    assert await sync_to_async(leases.acquire)(people["ada"].pk)


async def test_without_kafka_it_is_shown_all_the_same_some_seconds_later(
    sign_in, people, hub, quick
):
    one, other = await opened(sign_in("ada")), await opened(sign_in("grace"))
    for each in (one, other):
        await each.receive_json_from()
    [event] = await made(people["ada"], 1)
    assert await numbers(one, 1) == [1]
    hub.publish(event)
    assert await one.receive_nothing()
    assert await other.receive_nothing()
    await one.disconnect()
    await other.disconnect()


async def test_a_browser_that_sends_without_end_loses_its_socket(sign_in, hub):
    one = await opened(sign_in("ada"))
    await one.receive_json_from()
    for _ in range(11):
        await one.send_to(text_data="x")
    assert await one.receive_output() == {"type": "websocket.close", "code": 1008}
    await one.wait()
