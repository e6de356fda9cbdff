"""Writers of one process wait in line for SQLite."""

import sqlite3
import threading
import time

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction

from graphs.models import Group
from graphspace.sqlite import base
from notifications.models import Inbox

pytestmark = pytest.mark.django_db(transaction=True)


def free():
    return not any(turn.locked() for turn in base._turns.values())


def test_threads_that_write_all_have_their_turn(people):
    waits = []

    def write():
        try:
            for _ in range(5):
                begun = time.monotonic()
                with transaction.atomic():
                    inbox, _new = Inbox.objects.get_or_create(person=people["ada"])
                    inbox.last_sequence += 1
                    time.sleep(0.005)
                    inbox.save()
                waits.append(time.monotonic() - begun)
        finally:
            connection.close()

    threads = [threading.Thread(target=write) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(waits) == 60
    assert Inbox.objects.get(person=people["ada"]).last_sequence == 60
    assert free()


def test_a_turn_is_given_back_whatever_happens(people):
    def fail(error):
        with transaction.atomic():
            raise error

    for error in (RuntimeError, IntegrityError):
        with pytest.raises(error):
            fail(error)
        assert free()
    with transaction.atomic():
        with pytest.raises(IntegrityError), transaction.atomic():
            Group.objects.create(name="Everybody", owner=people["ada"])
        assert not free()
        connection.close()
    assert free()


def test_it_is_given_back_before_what_follows_the_commit(people):
    seen = []
    with transaction.atomic():
        transaction.on_commit(lambda: seen.append(free()))
    assert seen == [True]


def test_another_process_is_followed_at_once(people):
    """SQLite itself would ask ten times a second, and seldom find it free: here, twenty of a hundred times."""
    other = sqlite3.connect(
        connection.settings_dict["NAME"], isolation_level=None, check_same_thread=False
    )
    stop = threading.Event()

    def hold():
        while not stop.wait(0.005):
            other.execute("BEGIN IMMEDIATE")
            time.sleep(0.020)  # as long as a slow disk takes to commit
            other.execute("ROLLBACK")

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        waits = []
        for _ in range(30):
            begun = time.monotonic()
            with transaction.atomic():
                waits.append(time.monotonic() - begun)
            time.sleep(0.007)  # not in step with the other process
    finally:
        stop.set()
        holder.join()
        other.close()
        connection.close()
    assert max(waits) < 0.25  # seconds; measured: 0.02, and 1.3 where SQLite waits by itself


def test_another_process_is_waited_for_as_ever(people, monkeypatch):
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "timeout", 0.2)
    connection.close()
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OperationalError, match="locked"), transaction.atomic():
        pass
    assert free()
    other.execute("ROLLBACK")
    with transaction.atomic():
        pass
    other.close()
    connection.close()
