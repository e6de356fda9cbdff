"""The nightly e-mail."""

import socketserver
import threading

import pytest
from django.core import mail
from django.core.management import CommandError, call_command

from graphs import actions
from notifications import digest, reading
from notifications.models import Inbox, Preference
from notifications.topics import Kind

pytestmark = pytest.mark.django_db


@pytest.fixture
def told(people, graph, everybody):
    """Let grace and linus have something unread; grace alone has an address."""
    people["grace"].email = "grace@example.org"
    people["grace"].save()
    actions.share(graph, everybody, graph.owner)
    return people


def test_who_has_an_address_gets_what_is_unread_once(told, graph, capsys):
    call_command("digest")
    [message] = mail.outbox
    assert message.to == ["grace@example.org"]
    assert message.subject == "1 unread notification"
    assert graph.name in message.body
    assert f"https://testserver/graphs/{graph.pk}/" in message.body
    assert "https://testserver/notifications/preferences/" in message.body
    assert message.extra_headers["List-Unsubscribe"].startswith("<https://testserver/")
    call_command("digest")
    assert len(mail.outbox) == 1
    assert capsys.readouterr().out == "digest: 1 sent, 0 failed\ndigest: 0 sent, 0 failed\n"


def test_what_was_read_or_is_not_wanted_is_not_mailed(told, graph, everybody):
    reading.mark(told["grace"], up_to=1)
    call_command("digest")
    assert not mail.outbox
    Preference.objects.create(person=told["grace"], kind=Kind.GROUP, delivery="site")
    actions.unshare(graph, everybody, graph.owner)
    call_command("digest")
    assert not mail.outbox


def test_equal_ones_are_one_line_and_a_message_is_text(told, graph, everybody):
    for _ in range(3):
        actions.unshare(graph, everybody, graph.owner)
        graph.name = "<b>Tea & cake</b>"
        actions.share(graph, everybody, graph.owner)
    call_command("digest")
    [message] = mail.outbox
    assert message.subject == "7 unread notifications"
    assert "shared the graph “<b>Tea & cake</b>”" in message.body
    assert "(and 3 more like it)" in message.body
    assert "(and 2 more like it)" in message.body


def test_a_disabled_person_gets_none(told):
    told["grace"].is_active = False
    told["grace"].save()
    call_command("digest")
    assert not mail.outbox


def test_what_the_mail_server_refuses_is_tried_again(told, monkeypatch):
    def fail(self, fail_silently=False):
        raise OSError("no route")

    with monkeypatch.context() as patch:
        patch.setattr("django.core.mail.EmailMessage.send", fail)
        with pytest.raises(CommandError, match="next run"):
            call_command("digest")
    call_command("digest")
    assert len(mail.outbox) == 1


class MailServer(socketserver.StreamRequestHandler):
    """Notes who is written to, and hangs up on grace (RFC 5321, 3.8)."""

    def handle(self):
        self.wfile.write(b"220 mail.test\r\n")
        while line := self.rfile.readline().decode():
            command = line[:4].upper()
            if command == "RCPT":
                self.server.asked.append(line.partition("<")[2].partition("@")[0])
                if self.server.asked[-1] == "grace":
                    self.wfile.write(b"421 mail.test closes\r\n")
                    return
            if command == "DATA":
                self.wfile.write(b"354 go on\r\n")
                while self.rfile.readline() not in (b".\r\n", b""):
                    pass
            self.wfile.write(b"250 done\r\n")


def test_who_comes_after_a_mail_that_the_server_hung_up_on_gets_theirs(told, settings):
    told["linus"].email = "linus@example.org"
    told["linus"].save()
    with socketserver.TCPServer(("127.0.0.1", 0), MailServer) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.server_address
        try:
            assert digest.send() == (1, 1)
        finally:
            server.shutdown()
    assert server.asked == ["grace", "linus"]


def test_two_runs_at_once_send_it_once(told, monkeypatch):
    real = digest._newest

    def meanwhile(person):
        newest = real(person)
        Inbox.objects.filter(pk=person).update(mailed_sequence=newest)  # the other run took it
        return newest

    monkeypatch.setattr(digest, "_newest", meanwhile)
    assert digest.send() == (0, 0)
    assert not mail.outbox


def test_without_a_mail_server_it_says_so_and_keeps_all(told, settings, capsys):
    settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
    call_command("digest")
    assert "nothing was sent" in capsys.readouterr().out
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    call_command("digest")
    assert len(mail.outbox) == 1
