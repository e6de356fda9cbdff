"""The outbox and the relay: what was committed reaches Kafka, whatever happened in between."""

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from graphs import actions
from notifications import outbox, producer
from notifications.models import Inbox, Notification, Preference, State
from notifications.notify import next_sequences
from notifications.relay import Relay
from notifications.topics import Kind

pytestmark = pytest.mark.django_db


def states():
    return dict(Notification.objects.order_by("pk").values_list("pk", "state"))


def later(seconds=16):
    """Let all leases end."""
    Notification.objects.update(due_at=timezone.now() - timedelta(seconds=1))


@pytest.fixture
def shared(graph, everybody):
    """Return the two rows of one change, which nothing has sent yet."""
    actions.share(graph, everybody, graph.owner)
    return list(Notification.objects.order_by("pk"))


def test_each_person_counts_for_themselves(people, graph, everybody):
    for _ in range(2):
        actions.share(graph, everybody, graph.owner)
        actions.unshare(graph, everybody, graph.owner)
    for name in ("grace", "linus"):
        rows = Notification.objects.filter(recipient=people[name]).order_by("pk")
        assert [row.sequence for row in rows] == [1, 2, 3, 4]
        assert Inbox.objects.get(person=people[name]).last_sequence == 4


@pytest.mark.parametrize("upsert", [True, False])
def test_a_thousand_people_at_once_get_a_number_each(django_user_model, monkeypatch, upsert):
    monkeypatch.setattr("notifications.notify._can_upsert", lambda: upsert)
    made = django_user_model.objects.bulk_create(
        django_user_model(username=f"person-{number}") for number in range(1100)
    )
    keys = sorted(person.pk for person in made)
    assert next_sequences(keys) == [(key, 1) for key in keys]
    assert next_sequences(keys[:3]) == [(key, 2) for key in keys[:3]]


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_gives_its_number_back(people, graph, everybody):
    from django.db import transaction

    def change_half():
        with transaction.atomic():
            actions.share(graph, everybody, graph.owner)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        change_half()
    actions.share(graph, everybody, graph.owner)
    assert set(Notification.objects.values_list("sequence", flat=True)) == {1}


def test_what_was_just_written_is_left_to_who_wrote_it(shared, kafka):
    assert Relay().drain() == 0
    assert not kafka.events
    assert {row.state for row in shared} == {State.PENDING}


def test_the_relay_sends_what_is_due_once_a_lease(shared, kafka):
    later()
    assert Relay().drain() == 2
    assert [event.event for event in kafka.events] == [str(row.event_id) for row in shared]
    assert Relay().drain() == 0
    assert set(Notification.objects.values_list("attempts", flat=True)) == {1}
    later()  # no delivery report came
    assert Relay().drain() == 2
    outbox.mark_sent([event.event for event in kafka.events])
    later()
    assert Relay().drain() == 0


def test_while_kafka_is_away_nothing_is_claimed(shared, kafka, caplog):
    later()
    kafka.kafka = False
    relay = Relay()
    for _ in range(3):
        assert relay.drain() == 0
    assert set(Notification.objects.values_list("attempts", flat=True)) == {0}
    assert [record.message for record in caplog.records if "outbox" in record.message] == [
        caplog.records[0].message
    ]
    kafka.kafka = True
    assert relay.drain() == 2


def test_a_row_that_no_record_can_be_made_of_is_given_up(shared, kafka, monkeypatch, caplog):
    Notification.objects.filter(pk=shared[0].pk).update(kind="rumour")
    later()
    real = kafka.send

    def send(record):
        from notifications.schema import encode

        encode(record)
        real(record)

    monkeypatch.setattr(kafka, "send", send)
    assert Relay().drain() == 1
    assert states() == {shared[0].pk: State.REFUSED, shared[1].pk: State.PENDING}
    assert "was given up" in caplog.text


def test_two_claims_never_share_a_row(shared):
    now = timezone.now() + outbox.LEASE + timedelta(seconds=1)
    first, second = outbox.claim(1, now), outbox.claim(10, now)
    assert {row.pk for row in first}.isdisjoint(row.pk for row in second)
    assert len(first + second) == 2
    assert outbox.claim(10, now) == []


def test_the_command(shared, kafka, settings, capsys):
    later()
    call_command("relay", once=True)
    assert capsys.readouterr().out == "relay: 2 sent\n"
    with pytest.raises(CommandError, match="keep the database busy"):
        call_command("relay", interval=0.01)
    with pytest.raises(CommandError, match="others can reach that address"):
        call_command("relay", metrics="0.0.0.0:0")
    settings.NOTIFICATIONS_KAFKA_SERVERS = ""
    with pytest.raises(CommandError, match="there is no Kafka"):
        call_command("relay", once=True)


def test_a_delivery_report_marks_the_row_and_a_failure_gives_it_back(
    shared, real_producer, monkeypatch
):
    from tests.test_producer import Client

    monkeypatch.setattr("confluent_kafka.Producer", Client)
    monkeypatch.setattr(producer.Sender, "_poll", lambda self: None)
    sender = producer.current()
    from notifications.schema import Event

    for row in shared:
        sender.send(Event.of(row))
    good, bad = sender._producer.reports

    class Trouble:
        def str(self):
            return "timed out"

        def topic(self):
            return "test.group"

        def code(self):
            return -192

    good(None, Trouble())
    bad(Trouble(), Trouble())
    sender.note()
    assert states() == {shared[0].pk: State.SENT, shared[1].pk: State.PENDING}
    assert [row.pk for row in outbox.claim()] == [shared[1].pk]
    bad(Trouble(), Trouble())  # now the relay's attempt: not again at once
    sender.note()
    assert outbox.claim() == []


def test_who_switched_a_kind_off_gets_no_row(people, graph, everybody):
    Preference.objects.create(person=people["grace"], kind=Kind.GROUP, delivery="off")
    rows = actions.share(graph, everybody, graph.owner)
    assert rows
    assert [row.recipient for row in Notification.objects.all()] == [people["linus"]]


class Outbox(RuleBasedStateMachine):
    """Any order of writing, claiming, reporting and waiting, against a model in plain Python."""

    rows = Bundle("rows")

    def __init__(self):
        super().__init__()
        from django.contrib.auth import get_user_model

        Notification.objects.all().delete()
        Inbox.objects.all().delete()
        users = get_user_model().objects
        self.people = [users.get_or_create(username=f"machine-{n}")[0] for n in range(2)]
        self.now = timezone.now()
        self.model = {}  # event: [state, attempts, due]
        self.handed = {}  # event: how often it was handed to Kafka

    @rule(target=rows, person=st.integers(0, 1))
    def write(self, person):
        [(key, sequence)] = next_sequences([self.people[person].pk])
        row = Notification.objects.create(
            recipient_id=key,
            sequence=sequence,
            kind="group",
            action="a",
            resource_id=1,
            due_at=self.now + outbox.LEASE,
        )
        event = str(row.event_id)
        self.model[event] = [State.PENDING, 0, row.due_at]
        self.handed[event] = 0
        return event

    @rule(limit=st.integers(1, 4))
    def claim(self, limit):
        got = [str(row.event_id) for row in outbox.claim(limit, self.now)]
        due = [
            event
            for event, (state, _attempts, due_at) in self.model.items()
            if state == State.PENDING and due_at <= self.now
        ]
        assert got == due[:limit]
        for event in got:
            self.model[event][1] += 1
            self.model[event][2] = self.now + outbox.LEASE
            self.handed[event] += 1

    @rule(event=rows)
    def delivered(self, event):
        moved = outbox.mark_sent([event])
        assert moved == (self.model[event][0] == State.PENDING)
        if moved:
            self.model[event][0] = State.SENT

    @rule(event=rows)
    def not_delivered(self, event):
        outbox.release([event], self.now)
        if self.model[event][0] == State.PENDING:
            wait = outbox.BACK_OFF if self.model[event][1] else timedelta(0)
            self.model[event][2] = self.now + wait

    @rule(event=rows)
    def refused(self, event):
        if outbox.refuse([event]):
            assert self.model[event][0] == State.PENDING
            self.model[event][0] = State.REFUSED

    @rule(seconds=st.integers(1, 20))
    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)

    @invariant()
    def the_table_is_as_the_model_says(self):
        table = {
            str(row.event_id): [row.state, row.attempts, row.due_at]
            for row in Notification.objects.all()
        }
        assert table == self.model
        assert outbox.waiting(self.now)[0] == sum(
            state == State.PENDING for state, _attempts, _due in self.model.values()
        )

    @invariant()
    def each_person_counts_without_a_gap(self):
        for person in self.people:
            rows = Notification.objects.filter(recipient=person).order_by("pk")
            numbers = list(rows.values_list("sequence", flat=True))
            assert numbers == list(range(1, len(numbers) + 1))

    def teardown(self):
        # Whatever happened: what is not final is claimed once all leases have ended.
        end = self.now + outbox.LEASE + outbox.BACK_OFF
        left = {event for event, (state, *_rest) in self.model.items() if state == State.PENDING}
        assert {str(row.event_id) for row in outbox.claim(500, end)} == left


def test_the_state_machine():
    run_state_machine_as_test(
        Outbox,
        settings=hypothesis_settings(max_examples=30, stateful_step_count=25, deadline=None),
    )
