"""What happens to graphs, layouts and groups, and who hears of it."""

import json

import pytest
from django.contrib.auth import get_user_model
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from graphs import actions
from graphs.models import Graph, Group, Layout, Watch
from notifications.models import Notification

pytestmark = pytest.mark.django_db


def told():
    rows = Notification.objects.order_by("pk")
    found = sorted(rows.values_list("kind", "recipient__username", "action"))
    rows.delete()
    return found


FORM = {"name": "Tea", "nodes": "leaf\nwater", "edges": "leaf - water"}


def test_an_owner_has_a_record_of_their_graphs(sign_in):
    ada = sign_in("ada")
    path = ada.post("/graphs/new/", FORM).headers["Location"]
    ada.post(f"{path}edit/", {**FORM, "name": "Green tea"})
    ada.post(f"{path}delete/")
    rows = list(Notification.objects.order_by("pk").values_list("message", "url"))
    assert rows == [
        ("ada created your graph “Tea”", path),
        ("ada updated your graph “Green tea”", path),
        ("ada deleted your graph “Green tea”", ""),
    ]
    assert not Graph.objects.filter(name="Green tea").exists()


def test_a_file_is_uploaded(sign_in):
    ada = sign_in("ada")
    data = {"name": "Tea", "nodes": ["leaf", "water"], "edges": [["leaf", "water"]]}
    file = SimpleUploadedFile("tea.json", json.dumps(data).encode())
    answer = ada.post("/graphs/upload/", {"file": file})
    made = Graph.objects.get(name="Tea")
    assert answer.headers["Location"] == made.get_absolute_url()
    assert made.data == {"nodes": data["nodes"], "edges": data["edges"]}
    assert told() == [("owner", "ada", "graph_uploaded")]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "no graph in JSON"),
        (b"[]", "no graph in JSON"),
        (b'{"nodes": 1}', "no graph in JSON"),
        (b"\xff", "no graph in JSON"),
        (b"[" * 100_000, "no graph in JSON"),
        (b" " * (256 * 1024 + 1), "larger than 256 KiB"),
        (b'{"name": "Tea", "nodes": ["a"], "edges": [["a", "b"]]}', "is not among the nodes"),
        (b'{"nodes": ["a"]}', "This field is required"),
    ],
)
def test_a_file_that_is_no_graph_is_refused(sign_in, content, says):
    file = SimpleUploadedFile("tea.json", content)
    answer = sign_in("ada").post("/graphs/upload/", {"file": file})
    assert answer.status_code == 200
    assert says in answer.content.decode()
    assert not told()


def test_who_watches_hears_what_others_do(sign_in, graph, everybody):
    ada, grace = sign_in("ada"), sign_in("grace")
    assert "Stop watching" not in grace.get(graph.get_absolute_url()).content.decode()
    for _ in range(2):
        grace.post(f"/graphs/{graph.pk}/watch/")
    assert "Stop watching" in grace.get(graph.get_absolute_url()).content.decode()
    ada.post(f"/graphs/{graph.pk}/edit/", {**FORM, "name": "New"})
    assert told() == [("owner", "ada", "graph_updated"), ("watching", "grace", "graph_updated")]
    ada.post(f"/graphs/{graph.pk}/share/", {"group": everybody.pk})
    assert told() == [("group", "grace", "graph_shared"), ("group", "linus", "graph_shared")]
    ada.post(f"/graphs/{graph.pk}/delete/")
    assert told() == [("owner", "ada", "graph_deleted"), ("watching", "grace", "graph_deleted")]
    assert not Watch.objects.exists()


def test_a_share_with_a_group_that_is_not_theirs_is_told_without_its_name(sign_in, people, graph):
    actions.watch(graph, people["grace"])
    secret = actions.save_group(Group(name="Secret club", owner=people["ada"]), people["ada"])
    actions.add_member(secret, people["linus"], people["ada"])
    told()
    sign_in("ada").post(f"/graphs/{graph.pk}/share/", {"group": secret.pk})
    assert "Secret club" not in Notification.objects.get(kind="watching").message
    assert told() == [("group", "linus", "graph_shared"), ("watching", "grace", "graph_shared")]


def test_who_stops_watching_hears_no_more(sign_in, graph):
    grace = sign_in("grace")
    grace.post(f"/graphs/{graph.pk}/watch/")
    grace.post(f"/graphs/{graph.pk}/unwatch/")
    sign_in("ada").post(f"/graphs/{graph.pk}/edit/", FORM)
    assert told() == [("owner", "ada", "graph_updated")]


def test_who_may_no_longer_see_a_graph_hears_nothing_of_it(sign_in, people, graph):
    biology = Group.objects.get(name="Cell biology")
    actions.watch(graph, people["grace"])
    actions.remove_member(biology, people["grace"], people["ada"])
    told()
    actions.save_graph(graph, people["ada"])
    assert told() == [("owner", "ada", "graph_updated")]
    actions.add_member(biology, people["grace"], people["ada"])
    actions.unshare(graph, biology, people["ada"])
    assert not Watch.objects.exists()


def test_only_what_one_may_see_is_watched(sign_in, graph):
    assert sign_in("linus").post(f"/graphs/{graph.pk}/watch/").status_code == 404
    assert sign_in("grace").post(f"/graphs/{graph.pk}/delete/").status_code == 404
    assert Graph.objects.filter(pk=graph.pk).exists()


def test_a_layout_is_its_makers(sign_in, graph):
    ada, grace, linus = (sign_in(name) for name in ("ada", "grace", "linus"))
    form = {"name": "Round", "arrangement": "circle"}
    path = f"/graphs/{graph.pk}/layouts/new/"
    assert linus.post(path, form).status_code == 404
    drawn = grace.post(path, form).headers["Location"]
    made = Layout.objects.get()
    assert "layout “Round”" in ada.get(drawn).content.decode()
    assert ada.post(f"/layouts/{made.pk}/edit/", form).status_code == 404
    assert ada.post(f"/layouts/{made.pk}/delete/").status_code == 404
    assert "already" in ada.post(path, form).content.decode()
    grace.post(f"/layouts/{made.pk}/edit/", {"name": "Square", "arrangement": "grid"})
    assert grace.get(drawn).content.decode().count("<circle") == len(graph.data["nodes"])
    grace.post(f"/layouts/{made.pk}/delete/")
    assert told() == [
        ("owner", "grace", f"layout_{verb}") for verb in ("created", "deleted", "updated")
    ]


def test_a_group_is_renamed_and_deleted_by_its_owner(sign_in, everybody):
    ada, grace = sign_in("ada"), sign_in("grace")
    assert ada.post(f"/groups/{everybody.pk}/delete/").status_code == 404
    assert ada.post(f"/groups/{everybody.pk}/rename/", {"name": "Mine"}).status_code == 404
    grace.post(f"/groups/{everybody.pk}/rename/", {"name": "All of us"})
    grace.post(f"/groups/{everybody.pk}/delete/")
    assert told() == [
        ("group", "ada", "group_deleted"),
        ("group", "linus", "group_deleted"),
        ("owner", "grace", "group_deleted"),
        ("owner", "grace", "group_updated"),
    ]
    assert not Group.objects.filter(pk=everybody.pk).exists()


def test_what_staff_change_the_owner_is_told(people, graph):
    get_user_model().objects.create_superuser("root", password="engine-no-2")
    staff = Client()
    staff.login(username="root", password="engine-no-2")
    fields = {
        "owner": people["ada"].pk,
        "name": "Renamed",
        "description": "",
        "data": json.dumps(graph.data),
    }
    answer = staff.post(f"/admin/graphs/graph/{graph.pk}/change/", fields)
    assert answer.status_code == 302, answer.content
    assert Notification.objects.get().message == "root updated your graph “Renamed”"
    told()
    staff.post(
        "/admin/graphs/graph/",
        {"action": "delete_selected", "_selected_action": [graph.pk], "post": "yes"},
    )
    assert told() == [("owner", "ada", "graph_deleted")]
