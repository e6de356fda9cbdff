"""The pages: who may open them, and what they refuse."""

import re

import pytest
from django.test import Client, RequestFactory

from graphs.models import Graph, Group
from graphspace.middleware import AnsweredBy
from tests.conftest import PASSWORD

PAGES = ["/", "/graphs/new/", "/graphs/1/", "/groups/", "/groups/1/", "/notifications/"]


def test_sign_in_and_out(seeded):
    client = Client(enforce_csrf_checks=True)
    page = client.get("/sign-in/").content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
    form = {"username": "ada", "password": PASSWORD, "csrfmiddlewaretoken": token}
    assert client.post("/sign-in/", {**form, "password": "wrong"}).status_code == 200
    assert client.post("/sign-in/", form).headers["Location"] == "/"
    page = client.get("/").content.decode()
    assert "p53 and its neighbours" in page
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
    assert client.post("/sign-out/", {"csrfmiddlewaretoken": token}).status_code == 302
    assert client.get("/").status_code == 302


@pytest.mark.parametrize("path", PAGES)
def test_a_page_asks_to_sign_in(db, path):
    answer = Client().get(path)
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/sign-in/?next={path}")


@pytest.mark.parametrize("path", ["/sign-in/", *PAGES])
def test_a_page_keeps_to_its_own_content_policy(sign_in, graph, everybody, path):
    path = path.replace("graphs/1", f"graphs/{graph.pk}")
    path = path.replace("groups/1", f"groups/{everybody.pk}")
    client = Client() if path == "/sign-in/" else sign_in("ada")
    answer = client.get(path)
    page = answer.content.decode()
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|javascript:", page)
    assert not re.search(r'(src|href|action)="(https?:)?//', page)


def test_healthz_asks_no_database(django_assert_num_queries, db):
    with django_assert_num_queries(0):
        answer = Client().get("/healthz")
    assert (answer.status_code, answer.content) == (200, b"ok")


def test_healthz_refuses_an_unknown_host(db):
    assert Client().get("/healthz", headers={"host": "other.example"}).status_code == 400


def test_the_answering_server_is_named():
    from django.core.handlers.asgi import ASGIRequest
    from django.http import HttpResponse

    answered = AnsweredBy(lambda _request: HttpResponse())
    under_apache = RequestFactory().get("/", **{"mod_wsgi.version": (5, 0, 0)})
    under_daphne = ASGIRequest({"type": "http", "method": "GET", "path": "/", "headers": []}, None)
    assert answered(under_apache).headers["X-Answered-By"] == "mod_wsgi"
    assert answered(under_daphne).headers["X-Answered-By"] == "daphne"
    assert "X-Answered-By" not in answered(RequestFactory().get("/")).headers


def test_a_graph_is_seen_by_its_owner_and_the_groups_it_is_shared_with(sign_in, graph):
    path = f"/graphs/{graph.pk}/"
    assert sign_in("ada").get(path).status_code == 200
    assert sign_in("grace").get(path).status_code == 200
    assert sign_in("linus").get(path).status_code == 404
    listed = {name: graph.name in sign_in(name).get("/").content.decode() for name in ("grace",)}
    assert listed == {"grace": True}
    assert graph.name not in sign_in("linus").get("/").content.decode()


def test_only_the_owner_changes_or_shares_a_graph(sign_in, graph, everybody):
    grace = sign_in("grace")
    assert grace.get(f"/graphs/{graph.pk}/edit/").status_code == 404
    form = {"group": everybody.pk}
    assert grace.post(f"/graphs/{graph.pk}/share/", form).status_code == 404
    assert grace.post(f"/graphs/{graph.pk}/unshare/", form).status_code == 404


def test_a_graph_is_shared_only_with_a_group_of_ones_own(sign_in, people):
    biology = Group.objects.get(name="Cell biology")
    graph = Graph.objects.get(owner=people["linus"])
    linus = sign_in("linus")
    assert linus.post(f"/graphs/{graph.pk}/share/", {"group": biology.pk}).status_code == 404
    assert linus.post(f"/graphs/{graph.pk}/share/", {"group": "x"}).status_code == 404
    assert not graph.groups.exists()


def test_a_graph_is_made_drawn_and_changed(sign_in, people):
    ada = sign_in("ada")
    form = {"name": "<b>Tea</b>", "nodes": "leaf\nwater\ncup", "edges": "leaf - water\nwater - cup"}
    answer = ada.post("/graphs/new/", form)
    made = Graph.objects.get(name="<b>Tea</b>")
    assert answer.headers["Location"] == made.get_absolute_url()
    assert made.data == {
        "nodes": ["leaf", "water", "cup"],
        "edges": [["leaf", "water"], ["water", "cup"]],
    }
    page = ada.get(made.get_absolute_url()).content.decode()
    assert page.count("<circle") == 3
    assert page.count("<line ") == 2
    assert "<b>" not in page
    assert "leaf - water" in ada.get(f"/graphs/{made.pk}/edit/").content.decode()
    ada.post(f"/graphs/{made.pk}/edit/", {"name": "Tea", "nodes": "leaf", "edges": ""})
    made.refresh_from_db()
    assert (made.name, made.data) == ("Tea", {"nodes": ["leaf"], "edges": []})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "p53 and its neighbours"),
        ("name", "x" * 121),
        ("nodes", ""),
        ("nodes", "x" * 41),
        ("nodes", "\n".join(f"n{number}" for number in range(151))),
        ("nodes", "a - b"),
        ("edges", "a"),
        ("edges", "a - c"),
        ("edges", "a - b - a"),
    ],
)
def test_a_graph_that_makes_no_sense_is_refused(sign_in, field, value):
    form = {"name": "New", "nodes": "a\nb", "edges": "a - b", field: value}
    answer = sign_in("ada").post("/graphs/new/", form)
    assert answer.status_code == 200
    assert answer.context["form"].errors.keys() == {field}


def test_a_group_is_made_and_its_owner_says_who_belongs_to_it(sign_in, people):
    ada, linus = sign_in("ada"), sign_in("linus")
    group_path = ada.post("/groups/", {"name": "Weavers"}).headers["Location"]
    group = Group.objects.get(name="Weavers")
    assert list(group.members.all()) == [people["ada"]]
    assert linus.get(group_path).status_code == 404
    assert "Nobody here" in ada.post(group_path, {"name": "nobody"}).content.decode()
    ada.post(group_path, {"name": "linus"})
    assert linus.get(group_path).status_code == 200
    linus.post(group_path, {"name": "grace"})
    assert linus.post(f"{group_path}remove/", {"person": people["ada"].pk}).status_code == 404
    assert {person.username for person in group.members.all()} == {"ada", "linus"}
    ada.post(f"{group_path}remove/", {"person": people["linus"].pk})
    ada.post(f"{group_path}remove/", {"person": people["ada"].pk})  # the owner stays
    assert list(group.members.all()) == [people["ada"]]
