"""Who is told of a change: rows in the change's transaction, records after it."""

import time

import pytest
from django.db import transaction

from graphs import actions
from notifications import producer
from notifications.models import Notification
from notifications.notify import notify
from notifications.topics import Kind


def told():
    return sorted(Notification.objects.values_list("recipient__username", "action"))


def test_sharing_tells_the_members_but_not_who_shared(
    sign_in, graph, everybody, sent, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        answer = sign_in("ada").post(f"/graphs/{graph.pk}/share/", {"group": everybody.pk})
        assert not sent()  # the change is not committed yet
    assert answer.status_code == 302
    assert told() == [("grace", "graph_shared"), ("linus", "graph_shared")]
    rows = {str(row.event_id): row for row in Notification.objects.all()}
    assert {event.event for event in sent()} == rows.keys()
    for event in sent():
        row = rows[event.event]
        assert (event.sequence, event.recipient) == (row.sequence, row.recipient_id)
        assert (event.kind, event.actor, event.resource_id) == ("group", "ada", graph.pk)
        assert event.url == f"/graphs/{graph.pk}/"
        assert graph.name in event.message


def test_what_changes_nothing_tells_nobody(sign_in, graph, everybody):
    ada = sign_in("ada")
    for _ in range(2):
        ada.post(f"/graphs/{graph.pk}/share/", {"group": everybody.pk})
    assert Notification.objects.count() == 2
    assert actions.add_member(everybody, everybody.owner, everybody.owner) is False
    assert actions.remove_member(everybody, everybody.owner, everybody.owner) is False
    assert Notification.objects.count() == 2


def test_unsharing_links_to_what_its_reader_can_open(sign_in, graph, everybody):
    actions.share(graph, everybody, graph.owner)
    sign_in("ada").post(f"/graphs/{graph.pk}/unshare/", {"group": everybody.pk})
    row = Notification.objects.filter(action="graph_unshared").first()
    assert sign_in("linus").get(row.url).status_code == 200


def test_members_and_the_one_who_comes_or_goes_are_told(people, everybody):
    linus, grace = people["linus"], people["grace"]
    actions.remove_member(everybody, linus, grace)
    assert told() == [("ada", "member_removed"), ("linus", "member_removed")]
    Notification.objects.all().delete()
    actions.add_member(everybody, linus, grace)
    assert told() == [("ada", "member_added"), ("linus", "member_added")]


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_change_leaves_neither_row_nor_record(graph, everybody, sent):
    def change_half():
        with transaction.atomic():
            actions.share(graph, everybody, graph.owner)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        change_half()
    assert not sent()
    assert not Notification.objects.exists()
    actions.share(graph, everybody, graph.owner)
    assert len(sent()) == 2


@pytest.mark.django_db(transaction=True)
def test_outside_a_transaction_nobody_is_told(graph, everybody):
    with pytest.raises(transaction.TransactionManagementError):
        notify(
            kind=Kind.GROUP,
            action="graph_shared",
            recipients=everybody.members.all(),
            actor=graph.owner,
            resource=graph,
            message="",
        )


@pytest.mark.django_db(transaction=True)
def test_a_producer_that_fails_does_not_fail_the_page(monkeypatch, sign_in, graph, everybody):
    def fail(_servers):
        raise RuntimeError("no client library")

    monkeypatch.setattr(producer, "Sender", fail)
    answer = sign_in("ada").post(f"/graphs/{graph.pk}/share/", {"group": everybody.pk})
    assert answer.status_code == 302
    assert Notification.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_page_is_quick_while_kafka_is_away(real_producer, sign_in, graph, everybody):
    ada = sign_in("ada")
    begun = time.monotonic()
    for action in ("share", "unshare"):
        answer = ada.post(f"/graphs/{graph.pk}/{action}/", {"group": everybody.pk})
        assert answer.status_code == 302
    assert time.monotonic() - begun < 2
    assert Notification.objects.count() == 4


def test_the_list_shows_ones_own_and_marks_ones_own_as_read(sign_in, people, graph, everybody):
    actions.share(graph, everybody, graph.owner)
    grace = sign_in("grace")
    page = grace.get("/notifications/").content.decode()
    assert page.count("<li class=") == 1
    assert graph.name in page
    assert "data-bell-count>1<" in page
    newest = grace.get("/notifications/").context["page"].object_list[0].sequence
    actions.unshare(graph, everybody, graph.owner)  # came after the page was shown
    assert grace.post("/notifications/read/", {"newest": newest}).status_code == 302
    unread = Notification.objects.filter(read_at__isnull=True)
    assert unread.filter(recipient=people["grace"]).count() == 1
    assert unread.filter(recipient=people["linus"]).count() == 2
    assert "<li class=" not in sign_in("ada").get("/notifications/").content.decode()


def test_a_name_is_text_in_the_list(sign_in, people, everybody):
    people["grace"].graphs.update(name="<img src=x>")
    actions.share(people["grace"].graphs.first(), everybody, people["ada"])
    actions.unshare(people["grace"].graphs.first(), everybody, people["ada"])
    assert "<img src=x>" not in sign_in("grace").get("/notifications/").content.decode()
