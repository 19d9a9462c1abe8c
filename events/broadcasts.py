"""Broadcasts: what an admin says to many, now or later, until it is recalled or expires.

A broadcast to everyone is one event on `system`, however many they are; who comes later asks for
what is live, so nothing is kept for each user but what they do about it (`events.marks`). All of its
events are on a channel of its own too, which nobody reads: its history. What only admins may know, a
plan and its audience, is there alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal
from uuid import UUID, uuid4

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Max, Q, QuerySet
from django.utils import timezone
from pydantic import BaseModel, Field

from events import audiences, inbox, readmodels
from events.audiences import CHANNELS_MOST, Estimate
from events.channels import TRACE, Channel
from events.drafts import Draft, Severity, check
from events.errors import Conflict, FieldError, Forbidden, Invalid, NotFound
from events.log import Entry, EventId, append, snapshot
from events.log import read as log_read
from events.models import Broadcast, ChannelPosition, Event
from events.readmodels import ReadModel
from events.registry import EventType

PERMISSION = "events.can_broadcast"
State = Literal["scheduled", "live", "expired", "recalled"]


class BroadcastUnknown(NotFound):
    """There is no such broadcast."""

    code = "broadcast_unknown"


class MayNotBroadcast(Forbidden):
    """You may not broadcast."""

    code = "may_not_broadcast"


class BroadcastSaid(Conflict):
    """This form was sent before, with other words: change that broadcast, or compose a new one."""

    code = "broadcast_said"


class BroadcastOver(Conflict):
    """This broadcast is over."""

    code = "broadcast_over"


class Said(BaseModel):
    """What a broadcast says. Times are in Unix seconds; without `expires_at` it stays until recalled."""

    broadcast_id: str
    title: str = Field(examples=["Maintenance"])
    message: str = Field(examples=["Tickertape is away from 12:00 to 12:10."])
    severity: Severity
    link: str | None
    starts_at: int
    expires_at: int | None


class BroadcastPlanned(Said, EventType):
    """An admin composed a broadcast, or changed one that has not begun. For the record, not for readers.

    `audience` holds the addresses it is for: channels, where an item's stands for its watchers.
    """

    sent_on: ClassVar = ("internal",)

    audience: tuple[str, ...]
    author_id: str


class SystemAlert(Said, EventType):
    """An admin speaks. Show it until `expires_at`, or until it is recalled or dismissed."""

    sent_on: ClassVar = ("system", "group", "user")


class SystemAlertUpdated(Said, EventType):
    """A broadcast says something else; all of it is given. Who dismissed it need not see it again."""

    sent_on: ClassVar = ("system", "group", "user")


class SystemAlertRecalled(EventType):
    """A broadcast was taken back: show it no more."""

    sent_on: ClassVar = ("system", "group", "user")

    broadcast_id: str
    recalled_at: int


# --- Who, and when ---------------------------------------------------------------------------


def may_broadcast(user: AbstractBaseUser) -> bool:
    """Tell whether a user may send, change, list and recall broadcasts."""
    return bool(user.has_perm(PERMISSION))  # type: ignore[attr-defined]


def state(broadcast: Broadcast, now: datetime | None = None) -> State:
    """Return where a broadcast is in its life."""
    now = now or timezone.now()
    if broadcast.recalled_at is not None:
        return "recalled"
    if broadcast.expires_at is not None and broadcast.expires_at <= now:
        return "expired"
    return "scheduled" if broadcast.alert_id is None else "live"


def listed(user: AbstractBaseUser) -> QuerySet[Broadcast]:
    """Return all broadcasts, the newest first, to someone who may broadcast; raise MayNotBroadcast."""
    _check_sender(user)
    return Broadcast.objects.order_by("-event_id")


def get(user: AbstractBaseUser, broadcast_id: UUID) -> Broadcast:
    """Return a broadcast to someone who may broadcast; raise MayNotBroadcast, BroadcastUnknown."""
    broadcast = listed(user).filter(pk=broadcast_id).first()
    if broadcast is None:
        raise BroadcastUnknown
    return broadcast


def estimate(user: AbstractBaseUser, audience: Sequence[str]) -> Estimate:
    """Return how many an audience has, to someone who may broadcast; raise MayNotBroadcast, Invalid."""
    _check_sender(user)
    if faults := tuple(audiences.faults(audience)):
        raise Invalid(errors=faults)
    return audiences.estimate(audience)


def meant_for(user: AbstractBaseUser) -> QuerySet[Broadcast]:
    """Return the live broadcasts in whose audience a user is now, the newest first."""
    live = unfinished().filter(alert_id__isnull=False)
    addresses = audiences.addresses(user, live.filter(audience__0__startswith="item:"))
    return live.filter(audience__overlap=addresses).order_by("-alert_id")


def last_told() -> int:
    """Return the event that told its audience of the last broadcast that began; 0 where none did."""
    return int(Broadcast.objects.aggregate(last=Max("alert_id"))["last"] or 0)


def unfinished() -> QuerySet[Broadcast]:
    """Return those that are neither recalled nor expired: live or scheduled."""
    return Broadcast.objects.filter(Q(expires_at=None) | Q(expires_at__gt=timezone.now()), recalled_at=None)


def history(broadcast: Broadcast) -> Sequence[Entry]:
    """Return the events of a broadcast, the first of them first; not in a transaction."""
    channel = own_channel(broadcast.pk)
    entries: list[Entry] = []
    page, _ = snapshot([channel], lambda: log_read(0, channels=[channel]))
    while page.entries:
        entries += page.entries
        page = log_read(page.covered_to, channels=[channel])
    return entries


# --- Verbs -----------------------------------------------------------------------------------


def own_channel(broadcast_id: UUID) -> Channel:
    """Return the channel that holds a broadcast's whole history, and that nobody may read."""
    return Channel(f"broadcast:{broadcast_id}")


@transaction.atomic
def send(user: AbstractBaseUser, draft: Draft, *, broadcast_id: UUID | None = None) -> Broadcast:
    """Say something to an audience, at once or when it starts; raise MayNotBroadcast, Invalid.

    With the id of a broadcast that there is, nothing is said: so a form that is sent twice says it once.
    Raises BroadcastSaid where it said something else.
    """
    _check_sender(user)
    if broadcast_id is not None:
        inbox.lock([user.pk])  # whoever sends it twice at once takes turns here
        if there := Broadcast.objects.filter(pk=broadcast_id).first():
            if there.author_id != user.pk or not _same(draft_of(there), draft):
                raise BroadcastSaid
            return there
    check(draft)
    return _plan(user, broadcast_id or uuid4(), draft)


@transaction.atomic
def change(user: AbstractBaseUser, broadcast_id: UUID, **changes: Any) -> Broadcast:
    """Change fields of a broadcast's draft; its audience and its start only before that.

    Nothing is recorded where nothing differs. Raises MayNotBroadcast, BroadcastUnknown,
    BroadcastOver, Invalid.
    """
    _check_sender(user)
    broadcast = _lock_open(broadcast_id)
    before = draft_of(broadcast)
    draft = replace(before, **changes)
    if set(draft.audience) == set(before.audience):
        draft = replace(draft, audience=before.audience)
    if draft == before:
        return broadcast
    check(draft, before)
    if broadcast.alert_id is None:
        return _plan(user, broadcast.pk, draft)
    late = [field for field in ("audience", "starts_at") if getattr(draft, field) != getattr(before, field)]
    if late:
        raise Invalid(errors=tuple(FieldError(field, "cannot change once it has begun") for field in late))
    _tell(broadcast, SystemAlertUpdated(**_said(broadcast.pk, draft)), actor_id=user.pk)
    broadcast.refresh_from_db()
    return broadcast


@transaction.atomic
def recall(user: AbstractBaseUser, broadcast_id: UUID) -> None:
    """Take a broadcast back, off every screen; nothing happens where it is over."""
    _check_sender(user)
    try:
        broadcast = _lock_open(broadcast_id)
    except BroadcastOver:
        return
    event = SystemAlertRecalled(broadcast_id=str(broadcast.pk), recalled_at=_seconds(timezone.now()))
    _tell(broadcast, event, actor_id=user.pk)


def begin_due() -> int:
    """Begin the broadcasts whose time has come, each in a transaction; return how many."""
    begun = 0
    while True:
        with transaction.atomic():
            # One that expired while nobody worked is not begun any more.
            due = unfinished().filter(alert_id=None, starts_at__lte=timezone.now())
            broadcast = due.select_for_update(skip_locked=True).order_by("starts_at").first()
            if broadcast is None:
                return begun
            _begin(broadcast)
            begun += 1


def draft_of(broadcast: Broadcast) -> Draft:
    """Return what a broadcast was composed as."""
    return Draft(
        message=broadcast.message,
        audience=tuple(broadcast.audience),
        severity=broadcast.severity,
        title=broadcast.title,
        link=broadcast.link,
        starts_at=broadcast.starts_at,
        expires_at=broadcast.expires_at,
    )


def _plan(user: AbstractBaseUser, broadcast_id: UUID, draft: Draft) -> Broadcast:
    """Record a plan, and begin it if its time has come."""
    event = BroadcastPlanned(
        **_said(broadcast_id, draft), audience=tuple(sorted(set(draft.audience))), author_id=str(user.pk)
    )
    _fold(event, append(event, channels=[TRACE, own_channel(broadcast_id)], actor_id=user.pk))
    broadcast = Broadcast.objects.get(pk=broadcast_id)
    if broadcast.starts_at <= timezone.now():
        _begin(broadcast)
        broadcast.refresh_from_db()
    return broadcast


def _begin(broadcast: Broadcast) -> None:
    _tell(broadcast, SystemAlert(**_said(broadcast.pk, draft_of(broadcast))), actor_id=broadcast.author_id)


def _tell(broadcast: Broadcast, event: EventType, *, actor_id: int) -> None:
    """Append an event for a broadcast's audience: one, but for very many users; a plan has none yet."""
    told = isinstance(event, SystemAlert) or broadcast.alert_id is not None
    everyone = audiences.channels(broadcast.audience) if told else [TRACE]
    if told and not isinstance(event, SystemAlert) and broadcast.audience[0].startswith("item:"):
        everyone = sorted({*everyone, *_told(broadcast)})  # who watches it no more has it on their screen
    for first in range(0, len(everyone) or 1, CHANNELS_MOST):
        some = [own_channel(broadcast.pk), *everyone[first : first + CHANNELS_MOST]]
        event_id = append(event, channels=some, actor_id=actor_id)
    _fold(event, event_id)


def _told(broadcast: Broadcast) -> set[Channel]:
    """Return the channels that a broadcast was told on so far."""
    own = own_channel(broadcast.pk)
    placed = ChannelPosition.objects.filter(channel=own).values("position")
    unplaced = Q(position=None, channels__contains=[own])
    told = Event.objects.filter(Q(position__in=placed) | unplaced, type=SystemAlert.name())
    return {Channel(name) for names in told.values_list("channels", flat=True) for name in names} - {own}


def _same(there: Draft, draft: Draft) -> bool:
    """Tell whether two drafts say the same to the same; what is to begin at once begins when it did."""
    again = replace(draft, starts_at=draft.starts_at or there.starts_at)
    said = [_said(UUID(int=0), each) for each in (there, again)]
    return said[0] == said[1] and set(there.audience) == set(draft.audience)


def _lock_open(broadcast_id: UUID) -> Broadcast:
    """Return a broadcast that is not over, locked; raise BroadcastUnknown, BroadcastOver."""
    broadcast = Broadcast.objects.select_for_update().filter(pk=broadcast_id).first()
    if broadcast is None:
        raise BroadcastUnknown
    if state(broadcast) in ("expired", "recalled"):
        raise BroadcastOver
    return broadcast


# --- What is refused --------------------------------------------------------------------------


def _check_sender(user: AbstractBaseUser) -> None:
    if not may_broadcast(user):
        raise MayNotBroadcast


# --- The fold: from events to rows --------------------------------------------------------------


def _fold(event: EventType, event_id: EventId) -> None:
    """Change the broadcasts' rows as an event says. Of an event that finds no row, nothing comes."""
    match event:
        case BroadcastPlanned():
            _fold_plan(event, event_id)
        case SystemAlert():
            _rows(event.broadcast_id).update(alert_id=event_id)
        case SystemAlertUpdated():
            _rows(event.broadcast_id).update(**_words(event))
        case SystemAlertRecalled():
            _rows(event.broadcast_id).update(recalled_at=_moment(event.recalled_at))


def _fold_plan(event: BroadcastPlanned, event_id: EventId) -> None:
    planned = {**_words(event), "audience": list(event.audience)}
    if not _rows(event.broadcast_id).update(**planned):
        Broadcast.objects.create(
            id=UUID(event.broadcast_id), event_id=event_id, author_id=int(event.author_id), **planned
        )


def _rows(broadcast_id: str) -> QuerySet[Broadcast]:
    return Broadcast.objects.filter(pk=UUID(broadcast_id))


def _words(said: Said) -> dict[str, Any]:
    """Return the columns that hold what a broadcast says."""
    times = {"starts_at": _moment(said.starts_at), "expires_at": said.expires_at and _moment(said.expires_at)}
    return {**said.model_dump(include={"title", "message", "severity", "link"}), **times}


def _said(broadcast_id: UUID, draft: Draft) -> dict[str, Any]:
    """Return what a draft says as the fields of an event."""
    return {
        "broadcast_id": str(broadcast_id),
        "title": draft.title,
        "message": draft.message,
        "severity": draft.severity,
        "link": draft.link,
        "starts_at": _seconds(draft.starts_at or timezone.now()),
        "expires_at": None if draft.expires_at is None else _seconds(draft.expires_at),
    }


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


readmodels.register(
    ReadModel(
        "broadcasts",
        table=Broadcast,
        born_of="event_id",
        types=(BroadcastPlanned, SystemAlert, SystemAlertUpdated, SystemAlertRecalled),
        fold=_fold,
    )
)
