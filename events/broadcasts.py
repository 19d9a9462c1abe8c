"""Broadcasts: what an admin says to many, now or later, until it is recalled or expires.

A broadcast to everyone is one event on `system`, however many they are; who comes later asks for
what is active, so nothing is kept for each user but a dismissal, once there is one. What only admins
may know, a plan and its audience, is an event of its own on the trace channel.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal
from uuid import UUID, uuid4

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from pydantic import BaseModel, Field

from events import audiences, readmodels
from events.audiences import CHANNELS_MOST
from events.channels import TRACE, user_channel
from events.drafts import Draft, Severity, check
from events.errors import Conflict, FieldError, Forbidden, Invalid, NotFound
from events.log import EventId, append
from events.models import Broadcast, BroadcastDismissal
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


class SystemAlertDismissed(EventType):
    """Somebody wants to see a broadcast no more, on any device. On their own channel only."""

    sent_on: ClassVar = ("user",)

    broadcast_id: str
    user_id: str


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
    return "live" if broadcast.begun else "scheduled"


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


def dismissed(broadcast: Broadcast) -> int:
    """Count who dismissed a broadcast."""
    return BroadcastDismissal.objects.filter(broadcast_id=broadcast.pk).count()


def meant_for(user: AbstractBaseUser) -> QuerySet[Broadcast]:
    """Return the live broadcasts in whose audience a user is now, the newest first."""
    now = timezone.now()
    live = Broadcast.objects.filter(Q(expires_at=None) | Q(expires_at__gt=now), begun=True, recalled_at=None)
    addresses = audiences.addresses(user, live.values_list("audience", flat=True))
    return live.filter(audience__overlap=addresses).order_by("-event_id")


def active(user: AbstractBaseUser) -> QuerySet[Broadcast]:
    """Return those of them that the user did not dismiss."""
    dismissed = BroadcastDismissal.objects.filter(user_id=user.pk)
    return meant_for(user).exclude(pk__in=dismissed.values("broadcast_id"))


# --- Verbs -----------------------------------------------------------------------------------


@transaction.atomic
def send(user: AbstractBaseUser, draft: Draft) -> Broadcast:
    """Say something to an audience, at once or when it starts; raise MayNotBroadcast, Invalid."""
    _check_sender(user)
    check(draft)
    return _plan(user, uuid4(), draft)


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
    if draft == before:
        return broadcast
    check(draft, before)
    if not broadcast.begun:
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


@transaction.atomic
def dismiss(user: AbstractBaseUser, broadcast_id: UUID) -> None:
    """See a broadcast no more, on any device; twice is once. Raises BroadcastUnknown."""
    broadcast = meant_for(user).filter(pk=broadcast_id).first()
    if broadcast is None:
        raise BroadcastUnknown
    event = SystemAlertDismissed(broadcast_id=str(broadcast.pk), user_id=str(user.pk))
    key = f"dismissed:{broadcast.pk}:{user.pk}"
    _fold(event, append(event, channels=[user_channel(user.pk)], actor_id=user.pk, unique_key=key))


def begin_due() -> int:
    """Begin the broadcasts whose time has come, each in a transaction; return how many."""
    begun = 0
    while True:
        with transaction.atomic():
            now = timezone.now()
            due = Broadcast.objects.filter(begun=False, recalled_at=None, starts_at__lte=now)
            broadcast = (
                due.exclude(expires_at__lte=now)  # nobody worked while it was to be seen
                .select_for_update(skip_locked=True)
                .order_by("starts_at")
                .first()
            )
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
    _fold(event, append(event, channels=[TRACE], actor_id=user.pk))
    broadcast = Broadcast.objects.get(pk=broadcast_id)
    if broadcast.starts_at <= timezone.now():
        _begin(broadcast)
        broadcast.refresh_from_db()
    return broadcast


def _begin(broadcast: Broadcast) -> None:
    _tell(broadcast, SystemAlert(**_said(broadcast.pk, draft_of(broadcast))), actor_id=broadcast.author_id)


def _tell(broadcast: Broadcast, event: EventType, *, actor_id: int) -> None:
    """Append an event for a broadcast's audience: one, but for very many users; a plan has none yet."""
    told = isinstance(event, SystemAlert) or broadcast.begun
    everyone = audiences.channels(broadcast.audience) if told else []
    for first in range(0, len(everyone) or 1, CHANNELS_MOST):
        some = everyone[first : first + CHANNELS_MOST] or [TRACE]
        event_id = append(event, channels=some, actor_id=actor_id)
    _fold(event, event_id)


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
            _rows(event.broadcast_id).update(begun=True)
        case SystemAlertUpdated():
            _rows(event.broadcast_id).update(**_words(event))
        case SystemAlertRecalled():
            _rows(event.broadcast_id).update(recalled_at=_moment(event.recalled_at))
        case SystemAlertDismissed():
            BroadcastDismissal.objects.get_or_create(
                broadcast_id=UUID(event.broadcast_id),
                user_id=int(event.user_id),
                defaults={"event_id": event_id},
            )


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
readmodels.register(
    ReadModel(
        "dismissals",
        table=BroadcastDismissal,
        born_of="event_id",
        types=(SystemAlertDismissed,),
        fold=_fold,
    )
)
