"""Marks: what somebody did about a broadcast, and so what of broadcasts stands in their inbox.

A broadcast stands there by itself, for as long as it is live and its reader in its audience
(fan-out on read): a row is kept only of who did something about it. What they do are events on their
own channel. A preference of `off` keeps it out, but not one of severity `critical`. Long after a broadcast's
end its marks go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import BooleanField, Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from events import broadcasts, inbox, preferences, readmodels, retention
from events.broadcasts import BroadcastUnknown
from events.channels import user_channel
from events.log import EventId, append
from events.models import Broadcast, BroadcastMark
from events.preferences import Choice, Delivery
from events.readmodels import ReadModel
from events.registry import EventType

KIND = "broadcast"
KEPT = timedelta(days=90)  # after a broadcast's end: as long as it is known to how many it was delivered


class SystemAlertsRead(EventType):
    """Somebody saw these broadcasts in their inbox; they stay on the screen. On their own channel only."""

    sent_on: ClassVar = ("user",)

    user_id: str
    broadcast_ids: list[str]


class SystemAlertUnread(EventType):
    """Somebody wants to come back to a broadcast; it is dismissed no more either."""

    sent_on: ClassVar = ("user",)

    user_id: str
    broadcast_id: str


class SystemAlertDismissed(EventType):
    """Somebody wants to see a broadcast no more, on any device; in the inbox it is read and archived."""

    sent_on: ClassVar = ("user",)

    broadcast_id: str
    user_id: str


@dataclass(frozen=True, slots=True)
class Standing:
    """A broadcast as it stands in somebody's inbox."""

    broadcast: Broadcast
    delivery: Delivery
    read: bool
    archived: bool

    @property
    def event_id(self) -> int:
        """Return what orders it among notifications: the event that told its audience."""
        return self.broadcast.alert_id or 0

    @property
    def message(self) -> str:
        """Return what it says, on one line."""
        said = ": ".join(filter(None, (self.broadcast.title, self.broadcast.message)))
        return " ".join(said.split())

    @property
    def link(self) -> str | None:
        """Return where it leads."""
        return self.broadcast.link


# --- What stands in an inbox -----------------------------------------------------------------


def page(
    user: AbstractBaseUser, *, limit: int, before: int | None, unread: bool, archived: bool
) -> list[Standing]:
    """Return at most `limit` of the broadcasts in a user's inbox, the latest first, below an event."""
    choice = _choice(user)
    found = _standing(user, choice).filter(dismissed=archived)
    if unread:
        found = found.filter(read=False)
    if before is not None:
        found = found.filter(alert_id__lt=before)
    return [Standing(row, _delivery(row, choice), row.read, row.dismissed) for row in found[:limit]]


def unread(user: AbstractBaseUser) -> int:
    """Count the broadcasts in a user's inbox that are unread."""
    return _standing(user, _choice(user)).filter(read=False).count()


def active(user: AbstractBaseUser) -> list[Broadcast]:
    """Return what a user should have before their eyes now, the newest first.

    Not what they dismissed, and not what, by their preferences, only goes into the inbox.
    """
    choice = _choice(user)
    rows = _standing(user, choice).filter(dismissed=False)
    return [row for row in rows if _delivery(row, choice) == "live"]


def for_digest(user: AbstractBaseUser, *, after: int) -> list[Standing]:
    """Return the unread broadcasts that a user wants by mail, of those told after an event."""
    choice = _choice(user)
    if choice.way(KIND) != "digest":
        return []
    rows = _standing(user, choice).filter(read=False, alert_id__gt=after)
    return [Standing(row, "digest", row.read, row.dismissed) for row in rows.exclude(severity="critical")]


def dismissals(some: Sequence[UUID]) -> Mapping[UUID, int]:
    """Count for each of some broadcasts who dismissed it."""
    marks = BroadcastMark.objects.filter(broadcast_id__in=some, dismissed=True)
    counted = dict(marks.values_list("broadcast_id").annotate(Count("user_id")))
    return {broadcast_id: counted.get(broadcast_id, 0) for broadcast_id in some}


def _standing(user: AbstractBaseUser, choice: Choice) -> QuerySet[Any]:
    """Return the broadcasts in a user's inbox, each with the user's marks, `read` and `dismissed`."""
    mine = BroadcastMark.objects.filter(user_id=user.pk, broadcast_id=OuterRef("pk"))
    found = broadcasts.meant_for(user)
    if choice.way(KIND) == "off":
        found = found.filter(severity="critical")
    return found.annotate(
        **{
            mark: Coalesce(Subquery(mine.values(mark)[:1]), False, output_field=BooleanField())
            for mark in ("read", "dismissed")
        }
    )


def _delivery(row: Broadcast, choice: Choice) -> Delivery:
    critical = row.severity == "critical"
    return choice.delivery(KIND, row.starts_at, critical=critical) or "quiet"


def _choice(user: AbstractBaseUser) -> Choice:
    return preferences.of([user.pk])[user.pk]


# --- What people do about them ---------------------------------------------------------------


@transaction.atomic
def mark_read(user: AbstractBaseUser, broadcast_id: UUID) -> None:
    """Count a broadcast as seen. Raises BroadcastUnknown, as all of these."""
    mark = _lock(user, broadcast_id)
    if mark is None or not mark.read:
        _record(SystemAlertsRead(user_id=str(user.pk), broadcast_ids=[str(broadcast_id)]))


@transaction.atomic
def mark_unread(user: AbstractBaseUser, broadcast_id: UUID) -> None:
    """Count a broadcast as not seen, and show it again where it was dismissed."""
    mark = _lock(user, broadcast_id)
    if mark is not None and mark.read:
        _record(SystemAlertUnread(user_id=str(user.pk), broadcast_id=str(broadcast_id)))


@transaction.atomic
def dismiss(user: AbstractBaseUser, broadcast_id: UUID) -> None:
    """See a broadcast no more, on any device; twice is once."""
    mark = _lock(user, broadcast_id)
    if mark is None or not mark.dismissed:
        _record(SystemAlertDismissed(broadcast_id=str(broadcast_id), user_id=str(user.pk)))


@transaction.atomic
def read_all(user: AbstractBaseUser) -> None:
    """Count all broadcasts that there are for a user as seen."""
    inbox.lock([user.pk])
    # Named one by one: of one that is told at this moment, nobody could say later whether it was meant.
    seen = _standing(user, _choice(user)).filter(read=False).values_list("pk", flat=True)
    if ids := [str(pk) for pk in seen]:
        _record(SystemAlertsRead(user_id=str(user.pk), broadcast_ids=ids))


def _lock(user: AbstractBaseUser, broadcast_id: UUID) -> BroadcastMark | None:
    inbox.lock([user.pk])
    if not broadcasts.meant_for(user).filter(pk=broadcast_id).exists():
        raise BroadcastUnknown
    return BroadcastMark.objects.filter(user_id=user.pk, broadcast_id=broadcast_id).first()


def _record(event: SystemAlertsRead | SystemAlertUnread | SystemAlertDismissed) -> None:
    channels = [user_channel(event.user_id)]
    _fold(event, append(event, channels=channels, actor_id=int(event.user_id)))


# --- The fold: from events to rows -------------------------------------------------------


def _fold(event: EventType, event_id: EventId) -> None:
    match event:
        case SystemAlertsRead():
            _mark(event.user_id, event.broadcast_ids, event_id, read=True)
        case SystemAlertUnread():
            _mark(event.user_id, [event.broadcast_id], event_id, read=False, dismissed=False)
        case SystemAlertDismissed():
            _mark(event.user_id, [event.broadcast_id], event_id, read=True, dismissed=True)


def _mark(user_id: str, broadcast_ids: Sequence[str], event_id: EventId, **marks: bool) -> None:
    """Mark some broadcasts, by one statement; each row keeps the event that it was born of."""
    named = map(UUID, dict.fromkeys(broadcast_ids))
    BroadcastMark.objects.bulk_create(
        [BroadcastMark(user_id=int(user_id), broadcast_id=pk, event_id=event_id, **marks) for pk in named],
        update_conflicts=True,
        unique_fields=["user_id", "broadcast_id"],
        update_fields=list(marks),
    )


def _prune() -> int:
    """Remove what was done about broadcasts that are over for long; return how much it was."""
    over = (
        "broadcast_id IN (SELECT id FROM events_broadcast"
        " WHERE coalesce(recalled_at, expires_at) < now() - make_interval(secs => %s))"
    )
    return retention.remove(BroadcastMark, over, [KEPT.total_seconds()])


readmodels.register(
    ReadModel(
        "marks",
        table=BroadcastMark,
        born_of="event_id",
        types=(SystemAlertsRead, SystemAlertUnread, SystemAlertDismissed),
        fold=_fold,
        prune=_prune,
    )
)
retention.leftover("marks of broadcasts", _prune)
