"""`manage.py seed`."""

import pytest
from django.contrib.auth import authenticate, get_user_model
from django.core.management import CommandError, call_command

from graphs.models import Graph, Group, Share

pytestmark = pytest.mark.django_db


def counts():
    return [model.objects.count() for model in (get_user_model(), Group, Graph, Share)]


def test_it_makes_people_who_can_sign_in(monkeypatch):
    monkeypatch.setenv("SEED_PASSWORD", "engine-no-2")
    call_command("seed")
    assert counts() == [3, 2, 3, 2]
    assert authenticate(username="linus", password="engine-no-2")


def test_again_it_changes_nothing(seeded, capsys):
    before = list(get_user_model().objects.values_list("username", "password"))
    capsys.readouterr()
    call_command("seed", password="another-one")
    call_command("seed")  # nobody is missing: no password is needed
    assert capsys.readouterr().out == "seed: nothing to do\n" * 2
    assert counts() == [3, 2, 3, 2]
    assert list(get_user_model().objects.values_list("username", "password")) == before


def test_it_brings_back_what_is_missing_and_leaves_the_rest(seeded, everybody):
    everybody.members.clear()
    Graph.objects.first().delete()
    call_command("seed")
    assert Graph.objects.count() == 3
    assert not everybody.members.exists()


def test_without_a_password_it_makes_nobody():
    with pytest.raises(CommandError, match="SEED_PASSWORD is empty"):
        call_command("seed")
    assert counts() == [0, 0, 0, 0]
