"""Digests: who is due one, what was claimed for it, and what became of it; and the way out of them.

A mail cannot be sent exactly once. It is sent at most once: what is in it is claimed first, in a
transaction of its own, and claimed again only where it certainly was not sent. A claim of which nobody
knows that stays to be seen.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.core import signing
from django.db import connection, transaction
from django.utils import timezone

from events import broadcasts, inbox, items, marks, preferences, retention
from events.channels import user_channel
from events.entries import Entry
from events.errors import NotFound
from events.log import append
from events.models import Email, Inbox, Notification
from events.registry import EventType

EMAIL_TYPE = "digest"
AGAIN = timedelta(hours=1)  # after a mail that was not taken, for a reason that passes
SHOWN_MOST = 50  # notifications in one mail; of more it says how many
BATCH = 200  # users of one look for who is due
KEPT = timedelta(days=90)  # of claims: long enough to look into what somebody says they never got
_SALT = "events.digests.unsubscribe"


class EmailSent(EventType):
    """A mail was handed to the mail server."""

    personal: ClassVar = {"sent_to": "user_id"}
    sent_on: ClassVar = ("user",)

    user_id: str
    email_type: str
    sent_to: str
    correlation_id: str


class UnsubscribeLinkInvalid(NotFound):
    """This link is not one of ours, or its account is closed."""

    code = "unsubscribe_link_invalid"


@dataclass(frozen=True, slots=True)
class Digest:
    """What is to be mailed to whom: the latest first, and how many more there are."""

    correlation_id: UUID
    user: AbstractBaseUser
    address: str
    shown: Sequence[Entry]
    more: int
    before: Mapping[str, Any]  # of its row of `Inbox`: how far the digests had come
    claimed_at: datetime


# The index holds what is for a digest and unread only; a user is passed over once they were found.
# Whether a broadcast is meant for somebody is seen when theirs is claimed.
_DUE_SQL = """
SELECT n.user_id FROM events_notification n LEFT JOIN events_inbox i USING (user_id)
WHERE n.delivery = 'digest' AND NOT n.read AND n.user_id > %(last)s AND n.since <= %(before)s
  AND n.event_id > coalesce(i.digested_to, 0) AND coalesce(i.digested_at <= %(before)s, true)
UNION
SELECT p.user_id FROM events_preferences p LEFT JOIN events_inbox i USING (user_id)
WHERE p.types->>'broadcast' = 'digest' AND p.user_id > %(last)s
  AND coalesce(i.digested_at <= %(before)s, true) AND coalesce(i.broadcasts_to, 0) < (
    SELECT max(alert_id) FROM events_broadcast WHERE recalled_at IS NULL AND starts_at <= %(before)s
      AND (expires_at IS NULL OR expires_at > %(at)s))
ORDER BY user_id LIMIT %(limit)s
"""


def due(at: datetime) -> Iterator[int]:
    """Yield who has had something for a digest waiting for long enough."""
    last = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(_DUE_SQL, {"last": last, "at": at, "before": _long_before(at), "limit": BATCH})
            found = [user_id for (user_id,) in cursor.fetchall()]
        yield from found
        if len(found) < BATCH:
            return
        last = found[-1]


@transaction.atomic
def claim(user_id: int, at: datetime) -> Digest | None:
    """Claim all that waits for a user's digest; None where there is nothing to mail, or nobody to mail it to.

    In their quiet hours it goes on waiting. What they may no longer read is left out.
    """
    inbox.lock([user_id])
    row = Inbox.objects.get(pk=user_id)
    waiting = Notification.objects.filter(
        user_id=user_id, delivery="digest", read=False, event_id__gt=row.digested_to
    )
    mailed_today = row.digested_at is not None and row.digested_at > _long_before(at)
    if mailed_today or preferences.of([user_id])[user_id].is_quiet(at):
        return None
    user = get_user_model()._default_manager.filter(pk=user_id).first()
    raised = list(waiting)
    said = marks.for_digest(user, after=row.broadcasts_to) if user else []
    before = {name: getattr(row, name) for name in ("digested_to", "broadcasts_to")}
    row.digested_to = max([row.digested_to, *(each.event_id for each in raised)])
    row.broadcasts_to = max(row.broadcasts_to, broadcasts.last_told())
    row.save(update_fields=["digested_to", "broadcasts_to"])
    pending: list[Entry] = [*raised, *said]
    pending.sort(key=lambda each: each.event_id, reverse=True)
    address = str(getattr(user, user.get_email_field_name(), "")) if user and user.is_active else ""
    told = _readable(user, pending) if user and address else []
    if user is None or not told:
        return None
    row.digested_at = at
    row.save(update_fields=["digested_at"])
    email = Email.objects.create(correlation_id=uuid4(), user_id=user_id, email_type=EMAIL_TYPE)
    shown, more = told[:SHOWN_MOST], len(told[SHOWN_MOST:])
    return Digest(email.correlation_id, user, address, shown, more, before, at)


@transaction.atomic
def sent(digest: Digest) -> None:
    """Say that the mail server took it; twice is once."""
    if not Email.objects.filter(pk=digest.correlation_id, sent_at=None).update(sent_at=timezone.now()):
        return
    event = EmailSent(
        user_id=str(digest.user.pk),
        email_type=EMAIL_TYPE,
        sent_to=digest.address,
        correlation_id=str(digest.correlation_id),
    )
    append(event, channels=[user_channel(digest.user.pk)])


@transaction.atomic
def give_back(digest: Digest, *, at_once: bool = False) -> None:
    """Have what was claimed wait as before, for a while at least: it was certainly not sent.

    Else whoever comes first would be tried each time, and keep the others from theirs. A later claim
    keeps its own.
    """
    inbox.lock([digest.user.pk])
    Email.objects.filter(pk=digest.correlation_id).delete()
    wait = timedelta(0) if at_once else min(AGAIN, timedelta(hours=settings.WORKERS_DIGEST_HOURS))
    due_then = _long_before(digest.claimed_at) + wait
    theirs = Inbox.objects.filter(pk=digest.user.pk, digested_at=digest.claimed_at)
    theirs.update(digested_at=due_then, **digest.before)


def failed(digest: Digest, error: Exception) -> None:
    """Say that it was not sent, or nobody knows; it is not tried again."""
    Email.objects.filter(pk=digest.correlation_id).update(error=type(error).__name__)


def _long_before(at: datetime) -> datetime:
    """Return since when something has waited for long enough."""
    return at - timedelta(hours=settings.WORKERS_DIGEST_HOURS)


def _readable(user: AbstractBaseUser, pending: Sequence[Entry]) -> Sequence[Entry]:
    items_of = {row.event_id: row.item_id for row in pending if isinstance(row, Notification)}
    about = {item_id for item_id in items_of.values() if item_id is not None}
    readable = {None, *items.readable_by(user).filter(pk__in=about).values_list("pk", flat=True)}
    return [row for row in pending if items_of.get(row.event_id) in readable]


retention.leftover(
    "claims of mails", lambda: retention.remove_older(Email, "claimed_at", timezone.now() - KEPT)
)


# --- The way out --------------------------------------------------------------------------------


def unsubscribe_token(user: AbstractBaseUser) -> str:
    """Return what a link has to hold to let whoever has it stop a user's digests, and nothing else."""
    return signing.dumps(user.pk, salt=_SALT)


def subscriber(token: str) -> AbstractBaseUser:
    """Return the user that a token is for; raise UnsubscribeLinkInvalid."""
    try:
        user_id = signing.loads(token, salt=_SALT)  # no age: mails are kept for years
    except signing.BadSignature:
        raise UnsubscribeLinkInvalid from None
    user = get_user_model()._default_manager.filter(pk=user_id, is_active=True).first()
    if user is None:
        raise UnsubscribeLinkInvalid
    return user


def unsubscribe(user: AbstractBaseUser) -> None:
    """Have a user mailed no more: what was for the digest is live, so that nothing is missed."""
    chosen = preferences.of([user.pk])[user.pk].types
    preferences.change(user, types={kind: "live" for kind, way in chosen.items() if way == "digest"})
