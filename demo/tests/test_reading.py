"""The list, marking as read, and what one wants to hear of."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from graphs import actions
from notifications import reading
from notifications.models import Notification, Preference
from notifications.schema import Read

pytestmark = pytest.mark.django_db


def marks(kafka):
    return [record for record in kafka.records if isinstance(record, Read)]


@pytest.fixture
def told(graph, everybody):
    """Let grace and linus have three notifications each."""
    actions.share(graph, everybody, graph.owner)
    actions.unshare(graph, everybody, graph.owner)
    actions.share(graph, everybody, graph.owner)


def unread(person):
    rows = Notification.objects.filter(recipient=person, read_at__isnull=True)
    return sorted(rows.values_list("sequence", flat=True))


def test_one_is_marked_and_the_persons_other_tabs_are_told(
    told, sign_in, people, kafka, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        sign_in("grace").post("/notifications/read/some/", {"sequence": ["2", "x", "-1"]})
    assert unread(people["grace"]) == [1, 3]
    assert unread(people["linus"]) == [1, 2, 3]
    assert marks(kafka) == [Read(recipient=people["grace"].pk, up_to=0, sequences=[2])]


def test_all_are_marked_and_what_changes_nothing_tells_nobody(
    told, sign_in, people, kafka, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        for newest in ("3", "3", "", "x"):
            sign_in("grace").post("/notifications/read/", {"newest": newest})
    assert unread(people["grace"]) == []
    assert marks(kafka) == [Read(recipient=people["grace"].pk, up_to=3, sequences=[])]


def test_equal_ones_within_an_hour_are_one_row(told, sign_in, people, graph, everybody):
    page = sign_in("grace").get("/notifications/")
    groups = page.context["groups"]
    assert [[row.sequence for row in group.rows] for group in groups] == [[3, 1], [2]]
    assert "and 1 more like it" in page.content.decode()
    Notification.objects.filter(sequence=1).update(
        created_at=timezone.now() - timedelta(hours=1, seconds=1)
    )
    groups = sign_in("grace").get("/notifications/").context["groups"]
    assert [[row.sequence for row in group.rows] for group in groups] == [[3], [2], [1]]


def test_a_group_is_marked_as_one(told, sign_in, people):
    page = sign_in("grace").get("/notifications/").content.decode()
    assert page.count("Mark as read<") == 3  # two rows, and the script's own
    sign_in("grace").post("/notifications/read/some/", {"sequence": ["3", "1"]})
    assert unread(people["grace"]) == [2]
    page = sign_in("grace").get("/notifications/").content.decode()
    assert page.count("Mark as read<") == 2


def test_what_came_after_a_number_is_answered_as_the_socket_would(told, sign_in):
    grace = sign_in("grace")
    got = json.loads(grace.get("/notifications/after/", {"after": "1"}).content)
    assert (got["type"], got["version"], got["count"], got["sequence"]) == ("unread", 2, 3, 3)
    assert [row["sequence"] for row in got["missed"]] == [2, 3]
    for after in ("3", "9", "x"):
        assert (
            json.loads(grace.get("/notifications/after/", {"after": after}).content)["missed"] == []
        )
    assert json.loads(sign_in("ada").get("/notifications/after/?after=0").content)["missed"] == []


def test_preferences_are_kept_and_one_of_no_sense_is_refused(sign_in, people, graph, everybody):
    grace = sign_in("grace")
    page = grace.get("/notifications/preferences/").content.decode()
    assert page.count("<fieldset") == 3
    assert page.count("checked") == 3
    chosen = {"owner": "site", "group": "off", "watching": "mail"}
    assert grace.post("/notifications/preferences/", chosen).status_code == 302
    answer = grace.post("/notifications/preferences/", {**chosen, "group": "always"})
    assert answer.status_code == 200
    stored = Preference.objects.filter(person=people["grace"])
    assert dict(stored.values_list("kind", "delivery")) == chosen
    actions.share(graph, everybody, graph.owner)
    assert not Notification.objects.filter(recipient=people["grace"]).exists()
    assert Notification.objects.filter(recipient=people["linus"]).exists()


def test_a_mark_of_too_many_is_cut(people):
    assert reading.mark(people["ada"], sequences=range(1, 1000)) == 0
