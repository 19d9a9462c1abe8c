"""The digest: mailed when it is time, at most once, with a way out of it."""

import contextlib
import re
import socket
from datetime import timedelta
from smtplib import (
    SMTPDataError,
    SMTPNotSupportedError,
    SMTPRecipientsRefused,
    SMTPSenderRefused,
    SMTPServerDisconnected,
)
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.core import signing
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection
from django.db.models import F
from django.test import Client
from django.utils import timezone

from events import broadcasts, comments, digests, erasure, items, marks, notifications, preferences
from events.drafts import Draft
from events.models import Broadcast, Email, Event, Inbox, Notification
from project.settings import mail_server
from tests.events.support import events_on, types_on, until_someone_waits
from tests.inbox import react
from tests.mailbox import Mailbox
from workers import digest, tasks


@pytest.fixture
def mailbox(settings):
    """A mail server, and settings that name it."""
    with Mailbox() as server:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_URL = f"smtp://127.0.0.1:{server.port}"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
        settings.EMAIL_TIMEOUT = 10
        settings.PUBLIC_URL = "https://tickertape.example"
        yield server


@pytest.fixture
def alice(users):
    """Alice, who wants comments by digest, and has an item."""
    User.objects.filter(pk=users.alice.pk).update(email="alice@example.com")
    users.alice.refresh_from_db()
    preferences.change(users.alice, types={"comment": "digest"})
    return users.alice


@pytest.fixture
def item(alice):
    return items.create_item(alice, title="Tickets & <b>more</b>")


def say(user, item):
    comments.add_comment(user, item.pk, text="Hello")
    react()


def a_day_later():
    """Make all that waits, and the last mails, a day older."""
    a_day_ago = timezone.now() - timedelta(hours=24, seconds=1)
    Notification.objects.update(since=a_day_ago)
    Broadcast.objects.update(starts_at=a_day_ago)
    Inbox.objects.exclude(digested_at=None).update(digested_at=a_day_ago)


def an_hour_later():
    """Make the last mails, and tries of one, an hour older."""
    an_hour = timedelta(hours=1, seconds=1)
    Inbox.objects.exclude(digested_at=None).update(digested_at=F("digested_at") - an_hour)


def mailed():
    return digest.run(seconds=60)


def test_what_waited_for_a_day_is_mailed_as_text_and_html(users, alice, item, mailbox):
    say(users.bob, item)
    other = items.create_item(alice, title="Other")
    say(users.carol, other)
    a_day_later()

    assert mailed() == 1

    [mail] = mailbox.got
    assert mail["To"] == "alice@example.com"
    assert mail["Subject"] == "2 new notifications"
    assert mail["Auto-Submitted"] == "auto-generated"
    text = mail.get_body(["plain"]).get_content()
    html = mail.get_body(["html"]).get_content()
    assert text.index("carol commented on “Other”") < text.index("bob commented on “Tickets & <b>more</b>”")
    assert f"https://tickertape.example/items/{other.pk}" in text
    assert "“Tickets &amp; &lt;b&gt;more&lt;/b&gt;”" in html
    assert f'href="https://tickertape.example/items/{item.pk}"' in html
    [email] = Email.objects.all()
    assert email.sent_at is not None
    assert events_on(f"user:{alice.pk}")[-1] == (
        "EmailSent",
        {
            "user_id": str(alice.pk),
            "email_type": "digest",
            "sent_to": "alice@example.com",
            "correlation_id": str(email.pk),
        },
    )
    assert mail["X-Correlation-ID"] == str(email.pk)


def test_what_has_not_waited_long_enough_waits(users, alice, item, mailbox):
    say(users.bob, item)

    assert mailed() == 0
    assert not Email.objects.exists()


def test_a_busy_group_does_not_wait_for_ever(users, alice, item, mailbox):
    """Each comment is news again; the mail is due by the first of them."""
    say(users.bob, item)
    a_day_later()
    say(users.carol, item)

    assert mailed() == 1
    assert "carol and 1 other commented" in mailbox.got[0].get_body(["plain"]).get_content()


def test_it_is_mailed_once_and_what_is_new_the_next_day(users, alice, item, mailbox):
    say(users.bob, item)
    a_day_later()
    assert [mailed(), mailed()] == [1, 0]

    say(users.carol, items.create_item(alice, title="Next"))
    a_day_later()

    assert [mailed(), mailed()] == [1, 0]
    assert [mail["Subject"] for mail in mailbox.got] == ["1 new notification"] * 2
    assert "Next" in mailbox.got[1].get_body(["plain"]).get_content()
    assert "Tickets" not in mailbox.got[1].get_body(["plain"]).get_content()


def test_what_goes_on_about_an_item_is_mailed_once_a_day(users, alice, item, mailbox):
    """A group that was mailed and not read grows on; it is as old as its first."""
    say(users.bob, item)
    a_day_later()
    assert mailed() == 1

    say(users.carol, item)
    Notification.objects.update(since=timezone.now() - timedelta(hours=48))
    assert mailed() == 0

    a_day_later()
    assert mailed() == 1
    assert "carol and 1 other commented" in mailbox.got[1].get_body(["plain"]).get_content()


@pytest.fixture
def admin(users):
    """Carol, who may broadcast."""
    users.carol.user_permissions.add(Permission.objects.get(codename="can_broadcast"))
    return User.objects.get(pk=users.carol.pk)


def broadcast(admin, title, *, audience=("system",), severity="info"):
    said = Draft(title=title, message="Hear <this>", severity=severity, link="https://tickertape.example/why",
                 audience=audience, starts_at=timezone.now())  # fmt: skip
    return broadcasts.send(admin, said)


def test_broadcasts_are_mailed_to_who_wants_them_so(users, alice, admin, item, mailbox):
    User.objects.filter(pk=users.bob.pk).update(email="bob@example.com")  # who wants them live
    preferences.change(alice, types={"broadcast": "digest"})
    say(users.bob, item)
    broadcast(admin, "News")
    assert mailed() == 0
    a_day_later()

    assert [mailed(), mailed()] == [1, 0]

    [mail] = mailbox.got
    assert mail["To"] == "alice@example.com"
    assert mail["Subject"] == "2 new notifications"
    text, html = (mail.get_body([kind]).get_content().replace("\r", "") for kind in ("plain", "html"))
    assert text.index("News: Hear <this>\n  https://tickertape.example/why") < text.index("bob commented")
    assert '<a href="https://tickertape.example/why">News: Hear &lt;this&gt;</a>' in html

    broadcast(admin, "More")
    a_day_later()
    assert [mailed(), mailed()] == [1, 0]
    assert "More" in mailbox.got[1].get_body(["plain"]).get_content()
    assert "News" not in mailbox.got[1].get_body(["plain"]).get_content()


@pytest.mark.parametrize(
    "why", ["read", "dismissed", "recalled", "expired", "critical", "for others", "live"]
)
def test_broadcasts_that_are_not_for_the_digest_are_not_mailed(users, alice, admin, mailbox, why):
    preferences.change(alice, types={"broadcast": "live" if why == "live" else "digest"})
    audience = (f"user:{users.bob.pk}",) if why == "for others" else ("system",)
    said = broadcast(admin, "News", audience=audience, severity="critical" if why == "critical" else "info")
    match why:
        case "read":
            marks.mark_read(alice, said.pk)
        case "dismissed":
            marks.dismiss(alice, said.pk)
        case "recalled":
            broadcasts.recall(admin, said.pk)
        case "expired":
            Broadcast.objects.update(expires_at=timezone.now() - timedelta(hours=1))
    a_day_later()

    assert mailed() == 0
    assert not Email.objects.exists()
    assert alice.pk not in digests.due(timezone.now()), "nobody is looked at again and again"


@pytest.mark.parametrize("why", ["read", "archived", "live", "no address", "disabled", "lost access"])
def test_what_is_not_for_the_digest_is_not_mailed(users, alice, item, mailbox, why):
    secret = items.create_item(users.carol, title="Secret", visibility="members")
    items.add_member(users.carol, secret.pk, member_id=alice.pk)
    if why == "lost access":
        preferences.change(alice, types={"mention": "digest"})
        comments.add_comment(users.carol, secret.pk, text="@alice")
        react()
        items.remove_member(users.carol, secret.pk, member_id=alice.pk)
    else:
        if why == "live":
            preferences.change(alice, types={"comment": "live"})
        say(users.bob, item)
    [row] = Notification.objects.filter(user_id=alice.pk)
    match why:
        case "read":
            notifications.mark_read(alice, row.pk)
        case "archived":
            notifications.archive(alice, row.pk)
        case "no address":
            User.objects.filter(pk=alice.pk).update(email="")
        case "disabled":
            User.objects.filter(pk=alice.pk).update(is_active=False)
    a_day_later()

    assert mailed() == 0
    assert (mailbox.got, list(Email.objects.all())) == ([], [])


def test_quiet_hours_are_waited_for(users, alice, item, mailbox):
    say(users.bob, item)
    a_day_later()
    now = timezone.now()
    preferences.change(alice, quiet=(f"{now:%H:%M}", f"{now + timedelta(hours=2):%H:%M}"))
    assert mailed() == 0

    preferences.change(alice, quiet=None)

    assert mailed() == 1


def test_a_very_long_digest_says_how_many_more(users, alice, mailbox):
    for n in range(digests.SHOWN_MOST + 3):
        comments.add_comment(users.bob, items.create_item(alice, title=f"Item {n}.").pk, text="x")
    react()
    a_day_later()

    assert mailed() == 1
    text = mailbox.got[0].get_body(["plain"]).get_content()
    assert mailbox.got[0]["Subject"] == f"{digests.SHOWN_MOST + 3} new notifications"
    assert "and 3 more in your inbox" in text
    assert "Item 3." in text
    assert "Item 2." not in text


def test_many_who_are_due_are_all_mailed(users, item, mailbox, monkeypatch):
    monkeypatch.setattr(digests, "BATCH", 2)
    for n in range(5):
        reader = User.objects.create_user(f"reader{n}", email=f"reader{n}@example.com")
        preferences.change(reader, types={"comment": "digest"})
        say(users.bob, items.create_item(reader, title="x"))
    a_day_later()

    assert mailed() == 5
    assert {mail["To"] for mail in mailbox.got} == {f"reader{n}@example.com" for n in range(5)}


# --- What the server does not take now ------------------------------------------------------------


@pytest.fixture
def readers(users, alice):
    """Five who want comments by digest, and something for each that waited for a day."""
    made = []
    for n in range(5):
        reader = User.objects.create_user(f"reader{n}", email=f"reader{n}@example.com")
        preferences.change(reader, types={"comment": "digest"})
        say(users.bob, items.create_item(reader, title="x"))
        made.append(reader)
    a_day_later()
    return made


@pytest.mark.parametrize("full", ["421", "452", "cut"])
def test_a_server_that_takes_few_mails_of_a_connection_gets_them_all_by_several(mailbox, readers, full):
    mailbox.each, mailbox.full = 2, full

    assert mailed() == 5

    assert sorted(mail["To"] for mail in mailbox.got) == [f"reader{n}@example.com" for n in range(5)]
    assert mailbox.connections >= 3
    assert Email.objects.filter(sent_at=None).count() == 0
    assert Email.objects.count() == 5
    assert mailed() == 0


def test_a_server_that_hung_up_is_called_again_before_anything_is_claimed(mailbox, readers, monkeypatch):
    """It does so with who says nothing for too long; nothing is seen of that until one asks."""
    claim, sent, hung_up = digests.claim, digests.sent, []

    def hang_up(digest):
        sent(digest)
        mailbox.hang_up()
        hung_up.append(digest)

    def there(*given):
        assert mailbox.connections == len(hung_up) + 1
        return claim(*given)

    monkeypatch.setattr(digests, "sent", hang_up)
    monkeypatch.setattr(digests, "claim", there)

    assert mailed() == 5
    assert len(mailbox.got) == 5
    assert Email.objects.count() == 5


@pytest.mark.parametrize("fail", ["MAIL 451", "RCPT 450", "DATA 451", "MAIL cut", "RCPT cut"])
def test_what_was_certainly_not_taken_for_a_reason_that_passes_is_mailed_later(
    users, alice, item, mailbox, fail
):
    say(users.bob, item)
    preferences.change(alice, types={"broadcast": "digest"})
    a_day_later()
    before = Inbox.objects.get(pk=alice.pk)
    mailbox.fail = fail
    assert [mailed(), mailed()] == [0, 0]
    assert mailbox.got == []
    assert not Email.objects.exists(), "it waits, as if it had not been claimed"
    row = Inbox.objects.get(pk=alice.pk)
    assert (row.digested_to, row.broadcasts_to) == (before.digested_to, before.broadcasts_to)
    mailbox.fail = ""
    assert mailed() == 0
    an_hour_later()

    assert [mailed(), mailed()] == [1, 0]

    assert [mail["Subject"] for mail in mailbox.got] == ["1 new notification"]
    assert types_on(f"user:{alice.pk}").count("EmailSent") == 1


@pytest.mark.parametrize(
    ("error", "handed", "passes"),
    [
        (SMTPServerDisconnected("gone"), False, True),
        (SMTPServerDisconnected("gone"), True, False),
        (TimeoutError(), False, True),
        (TimeoutError(), True, False),
        (SMTPSenderRefused(421, b"enough", "us@example.com"), False, True),
        (SMTPSenderRefused(550, b"who?", "us@example.com"), False, False),
        (SMTPDataError(451, b"later"), True, True),
        (SMTPDataError(554, b"never"), True, False),
        (SMTPRecipientsRefused({"a": (450, b"later"), "b": (550, b"never")}), False, False),
        (SMTPNotSupportedError("SMTPUTF8"), False, False),
        (ValueError("no address"), False, False),
    ],
)
def test_only_what_was_certainly_not_taken_and_may_be_later_passes(error, handed, passes):
    assert digest._passes(error, handed) is passes


def test_those_whose_mails_are_put_off_are_not_tried_each_time(mailbox, readers, monkeypatch):
    """A run has time for some only, and begins with the same ones: they would keep the others from theirs."""
    claim, tried = digests.claim, []

    def noted(user_id, at):
        tried.append(user_id)
        return claim(user_id, at)

    monkeypatch.setattr(digests, "claim", noted)
    mailbox.fail = "RCPT 450"

    assert [mailed(), mailed()] == [0, 0]

    assert tried == [reader.pk for reader in readers]
    an_hour_later()
    mailbox.fail = ""
    assert mailed() == 5


@pytest.mark.parametrize("fail", ["", "RCPT", "RCPT 450"])
def test_a_database_that_is_gone_for_a_moment_after_a_mail_loses_nothing(
    users, alice, item, mailbox, monkeypatch, fail
):
    say(users.bob, item)
    a_day_later()
    mailbox.fail = fail
    send = digest.Line.send

    def then_lose_the_database(*given):
        try:
            send(*given)
        finally:
            with contextlib.suppress(OperationalError), connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(digest.Line, "send", then_lose_the_database)

    assert mailed() == (not fail)
    found = [(email.sent_at is not None, email.error) for email in Email.objects.all()]
    assert found == {"": [(True, "")], "RCPT": [(False, "SMTPRecipientsRefused")], "RCPT 450": []}[fail]
    assert types_on(f"user:{alice.pk}").count("EmailSent") == (not fail)


def test_what_is_said_twice_to_be_sent_was_sent_once(users, alice, item):
    """As where the database committed it, and the answer was lost."""
    say(users.bob, item)
    a_day_later()
    claimed = digests.claim(alice.pk, timezone.now())
    digests.sent(claimed)
    at = Email.objects.get().sent_at

    digests.sent(claimed)

    assert Email.objects.get().sent_at == at
    assert types_on(f"user:{alice.pk}").count("EmailSent") == 1


def test_a_claim_that_is_given_back_late_leaves_a_later_one_alone(users, alice, item):
    say(users.bob, item)
    a_day_later()
    first = digests.claim(alice.pk, timezone.now())
    say(users.carol, item)
    a_day_later()
    second = digests.claim(alice.pk, timezone.now())

    digests.give_back(first)

    assert second is not None
    assert Inbox.objects.get(pk=alice.pk).digested_at == second.claimed_at
    assert [email.pk for email in Email.objects.all()] == [second.correlation_id]


# --- At most once ------------------------------------------------------------------------------


def test_while_the_server_is_away_nothing_is_claimed(users, alice, item, mailbox, settings):
    say(users.bob, item)
    a_day_later()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]  # free again: nothing listens there
    settings.EMAIL_PORT = port
    assert mailed() == 0
    assert not Email.objects.exists()

    settings.EMAIL_PORT = mailbox.port

    assert mailed() == 1


@pytest.mark.parametrize(
    ("fail", "error"), [("DATA", "SMTPServerDisconnected"), ("RCPT", "SMTPRecipientsRefused")]
)
def test_what_may_have_been_sent_is_not_sent_again_and_stays_to_be_seen(
    users, alice, item, mailbox, fail, error
):
    mailbox.fail = fail
    say(users.bob, item)
    a_day_later()
    assert mailed() == 0
    mailbox.fail = ""

    assert mailed() == 0

    [email] = Email.objects.all()
    assert (email.sent_at, email.error) == (None, error)
    assert mailbox.taken == (fail == "DATA")
    assert "EmailSent" not in types_on(f"user:{alice.pk}")
    page = Client()
    page.force_login(users.admin)
    listed = page.get("/admin/events/email/?sent_at__isempty=1").content.decode()
    assert str(email.pk) in listed
    assert error in listed


@pytest.mark.parametrize("address", ["alice\nBcc: all@example.com", "alice@" + "ä" * 300 + ".example", "@"])
def test_what_is_no_address_is_seen_and_stops_nobody(users, alice, item, mailbox, address):
    User.objects.filter(pk=alice.pk).update(email=address[:254])
    User.objects.filter(pk=users.bob.pk).update(email="bob@example.com")
    preferences.change(users.bob, types={"comment": "digest"})
    say(users.carol, item)
    say(users.carol, items.create_item(users.bob, title="Bob's"))
    a_day_later()
    mailed()

    assert mailbox.got[-1]["To"] == "bob@example.com"
    assert not any("Bcc" in mail for mail in mailbox.got)


def test_one_that_fails_does_not_keep_the_next_from_theirs(users, alice, item, mailbox, monkeypatch):
    User.objects.filter(pk=users.bob.pk).update(email="bob@example.com")
    preferences.change(users.bob, types={"comment": "digest"})
    say(users.carol, item)
    say(users.carol, items.create_item(users.bob, title="Bob's"))
    a_day_later()
    mailbox.fail = "DATA"
    failed = digests.failed

    def then_heal(*given):
        failed(*given)
        mailbox.fail = ""

    monkeypatch.setattr(digests, "failed", then_heal)

    assert mailed() == 1
    assert [mail["To"] for mail in mailbox.got] == ["bob@example.com"]


def test_a_worker_that_dies_after_the_claim_leaves_it_unsent(users, alice, item, mailbox):
    say(users.bob, item)
    a_day_later()
    assert digests.claim(alice.pk, timezone.now()) is not None  # and then nothing

    assert mailed() == 0
    assert mailbox.got == []
    assert Email.objects.get().sent_at is None


def test_two_workers_at_once_mail_it_once(users, alice, item, mailbox, held, background):
    say(users.bob, item)
    a_day_later()
    claimed = []
    with held(lambda: claimed.append(digests.claim(alice.pk, timezone.now()))):
        second = background(lambda: digests.claim(alice.pk, timezone.now()))
        until_someone_waits()

    assert second.result(20) is None
    assert claimed != [None]
    assert Email.objects.count() == 1


def test_without_a_server_nothing_is_claimed(users, alice, item, settings):
    say(users.bob, item)
    a_day_later()
    assert settings.EMAIL_URL == ""

    tasks.mail_digests()

    assert not Email.objects.exists()
    assert Inbox.objects.get(pk=alice.pk).digested_to == 0


def test_beat_asks_for_it(settings):
    assert settings.CELERY_BEAT_SCHEDULE["digest"]["task"] == tasks.mail_digests.name


# --- The way out ----------------------------------------------------------------------------------


@pytest.fixture
def link(users, alice, item, mailbox):
    """The path that a mail's header leads to."""
    say(users.bob, item)
    a_day_later()
    assert mailed() == 1
    [mail] = mailbox.got
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    found = re.fullmatch(
        r"<https://tickertape\.example(/unsubscribe/[^<>\s]+)>", mail["List-Unsubscribe"].strip()
    )
    for kind in ("plain", "html"):
        assert found[1] in mail.get_body([kind]).get_content()
    return found[1]


def test_following_the_link_asks_and_changes_nothing(users, alice, link):
    for method in ("get", "head"):
        answer = getattr(Client(), method)(link)
        assert answer.status_code == 200
        assert answer["Content-Security-Policy"]

    assert b'<form method="post">' in Client().get(link).content
    assert preferences.of([alice.pk])[alice.pk].way("comment") == "digest"


def test_one_click_stops_the_mails_without_login_cookie_or_token(users, alice, item, link, mailbox):
    answer = Client(enforce_csrf_checks=True).post(link, {"List-Unsubscribe": "One-Click"})

    assert answer.status_code == 200
    assert preferences.of([alice.pk])[alice.pk].way("comment") == "live"
    assert types_on(f"user:{alice.pk}")[-1] == "PreferencesChanged"
    say(users.carol, items.create_item(alice, title="More"))
    a_day_later()
    assert mailed() == 0
    again = Client(enforce_csrf_checks=True).post(link)
    assert again.status_code == 200
    assert types_on(f"user:{alice.pk}").count("PreferencesChanged") == 2


@pytest.mark.parametrize("what", ["forged", "cut", "of another purpose", "of nobody", "of a closed account"])
def test_a_link_that_is_not_ours_does_nothing(users, alice, link, what):
    match what:
        case "forged":
            link = link[:-1] + ("A" if link[-1] != "A" else "B")
        case "cut":
            link = link[:-5]
        case "of another purpose":
            link = f"/unsubscribe/{signing.dumps(alice.pk, salt='another')}"
        case "of nobody":
            link = f"/unsubscribe/{signing.dumps(999_999, salt=digests._SALT)}"
        case _:
            User.objects.filter(pk=alice.pk).update(is_active=False)
    for method in ("get", "post"):
        assert getattr(Client(), method)(link).status_code == 404

    assert preferences.of([alice.pk])[alice.pk].way("comment") == "digest"


# --- What is kept of it ----------------------------------------------------------------------------


def test_erasure_takes_the_address(users, alice, link):
    erasure.erase_user(alice, by="test")

    assert not Event.objects.filter(data__contains="alice@example.com").exists()


def test_claims_go_after_a_while(users):
    for days in (89, 91):
        Email.objects.create(
            correlation_id=uuid4(),
            user_id=1,
            email_type="digest",
            claimed_at=timezone.now() - timedelta(days=days),
        )
    tasks.keep()

    assert [timezone.now() - email.claimed_at < digests.KEPT for email in Email.objects.all()] == [True]


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://mail", ("mail", 25, "", "", False, False)),
        ("smtp+tls://me:p%40ss@mail", ("mail", 587, "me", "p@ss", True, False)),
        ("smtps://me:x@mail:2465", ("mail", 2465, "me", "x", False, True)),
    ],
)
def test_a_mail_server_is_a_url(url, server):
    assert mail_server(url) == server


@pytest.mark.parametrize("url", ["mail", "http://mail", "smtp://", "smtp://u:secret@mail:port"])
def test_a_url_that_is_no_mail_server_is_refused_without_its_password(url):
    with pytest.raises(ImproperlyConfigured) as refused:
        mail_server(url)

    assert "EMAIL_URL" in str(refused.value)
    assert "secret" not in str(refused.value)
