"""Notifications: what people are told, and what they did about it.

All of it are events on the user's own channel, so every tab and device folds the same inbox from
them as the rows here are folded. A verb locks the inbox, decides, appends one event and folds it;
where nothing would change, nothing is recorded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar
from uuid import UUID, uuid4

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from events import erasure, inbox, items, kinds, marks, preferences, readmodels
from events.broadcasts import BroadcastUnknown
from events.channels import user_channel
from events.erasure import ERASED
from events.errors import NotFound
from events.log import EventId, append
from events.models import Event, Notification
from events.preferences import Delivery
from events.readmodels import ReadModel
from events.registry import EventType

ACTORS_MOST = 20  # ids in an event; with more people, who comes back after twenty others counts again


class NotificationUnknown(NotFound):
    """There is no such notification in your inbox."""

    code = "notification_unknown"


class NotificationRaised(EventType):
    """Somebody is told something; with a `notification_id` that there is, it takes that one's place.

    `actors` are the ids of those whose doing it is, the latest first, and `people` how many they
    are; `count` is how many times they did it. `delivery` says whether to show it at once (`live`)
    or to leave it in the inbox (`quiet`, `digest`). In Unix seconds, `since` is when the first of it
    happened, and `timestamp` when the latest did.
    """

    personal: ClassVar = {"message": ("user_id", "actor_id", "owner_id")}
    sent_on: ClassVar = ("user",)
    example: ClassVar = {"job_id": None}

    notification_id: str
    user_id: str
    kind: str
    delivery: Delivery
    message: str
    item_id: str | None = None
    comment_id: str | None = None
    job_id: str | None = None
    actor_id: str | None = None
    owner_id: str | None = None
    actors: Sequence[str] = ()
    people: int = 0
    count: int = 1
    since: int
    timestamp: int


class NotificationsRead(EventType):
    """Somebody saw these notifications; or all of an item; or, where neither is given, all there are."""

    sent_on: ClassVar = ("user",)
    example: ClassVar = {"item_id": None}

    user_id: str
    notification_ids: list[str] | None = None
    item_id: str | None = None


class NotificationUnread(EventType):
    """Somebody wants to come back to a notification; it is no longer archived either."""

    sent_on: ClassVar = ("user",)

    user_id: str
    notification_id: str


class NotificationArchived(EventType):
    """Somebody put a notification away; it is read, too."""

    sent_on: ClassVar = ("user",)

    user_id: str
    notification_id: str


# --- Raising ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment that people may have to be told of. `title` is the item's, and so its owner's."""

    id: str
    item_id: int
    owner_id: int
    title: str
    author_id: int
    author_name: str
    timestamp: int


@dataclass(frozen=True, slots=True)
class Job:
    """A job that ended, and what to say of it."""

    id: str
    message: str
    timestamp: int


def raise_comment(about: Comment, reasons: Mapping[int, Sequence[str]], *, caused_by: EventId) -> None:
    """Tell people of a comment, each for the first of their reasons that they want to hear of.

    In a transaction. The author is not told, and nobody twice for one cause. Until somebody looks, what
    is raised for the same reason on the same item is one notification.
    """
    wanted = {user_id: whys for user_id, whys in reasons.items() if user_id != about.author_id}
    told = _wanting(wanted, caused_by)
    open_groups = {
        (row.user_id, row.kind): row
        for row in Notification.objects.filter(
            item_id=about.item_id, user_id__in=[user_id for user_id, _, _ in told], read=False
        ).order_by("event_id")
    }
    events = []
    for user_id, kind, delivery in told:
        group = open_groups.get((user_id, kind))
        earlier = group.actors if group else []
        actors = [about.author_id, *(actor for actor in earlier if actor != about.author_id)]
        people = (group.people if group else 0) + (about.author_id not in earlier)
        event = NotificationRaised(
            notification_id=str(group.pk if group else uuid4()),
            user_id=str(user_id),
            kind=kind,
            delivery=delivery,
            message=kinds.words(kind, actor=about.author_name, people=people, title=about.title),
            item_id=str(about.item_id),
            comment_id=about.id,
            actor_id=str(about.author_id),
            owner_id=str(about.owner_id),
            actors=[str(actor) for actor in actors[:ACTORS_MOST]],
            people=people,
            count=(group.count if group else 0) + 1,
            since=int(group.since.timestamp()) if group else about.timestamp,
            timestamp=about.timestamp,
        )
        events.append(event)
    _raise(events, caused_by)


def raise_job(about: Job, user_id: int, *, caused_by: EventId) -> None:
    """Tell somebody that their job ended. In a transaction."""
    events = [
        NotificationRaised(
            notification_id=str(uuid4()),
            user_id=str(user_id),
            kind=kind,
            delivery=delivery,
            message=about.message,
            job_id=about.id,
            since=about.timestamp,
            timestamp=about.timestamp,
        )
        for _, kind, delivery in _wanting({user_id: ("job",)}, caused_by)
    ]
    _raise(events, caused_by)


def _wanting(reasons: Mapping[int, Sequence[str]], caused_by: EventId) -> Sequence[tuple[int, str, Delivery]]:
    """Lock the inboxes; return who is to be told, for which of their reasons, and how."""
    if not reasons:
        return ()
    inbox.lock(reasons)
    # Only now: while this waited for the locks, another may have told them.
    keys = {_key(caused_by, user_id): user_id for user_id in reasons}
    done = set(Event.objects.filter(unique_key__in=keys).values_list("unique_key", flat=True))
    choices = preferences.of(user_id for key, user_id in keys.items() if key not in done)
    now = timezone.now()
    found = []
    for user_id, choice in choices.items():
        for kind in reasons[user_id]:
            if delivery := choice.delivery(kind, now):
                found.append((user_id, kind, delivery))
                break
    return found


def _raise(events: Sequence[NotificationRaised], caused_by: EventId) -> None:
    """Append what is raised by one cause, and fold it at once: an item may have very many watchers."""
    ids = [
        append(
            event,
            channels=[user_channel(event.user_id)],
            caused_by=caused_by,
            unique_key=_key(caused_by, int(event.user_id)),
        )
        for event in events
    ]
    _store(events, ids)


def _key(caused_by: EventId, user_id: int) -> str:
    """Return what makes it one notification a person and cause, whichever its kind."""
    return f"{caused_by}:NotificationRaised:{user_id}"


# --- What people do about them -------------------------------------------------------------------


@transaction.atomic
def mark_read(user: AbstractBaseUser, notification_id: UUID) -> None:
    """Count a notification as seen."""
    row = _lock(user, notification_id)
    if row is None:
        _of_broadcast(marks.mark_read, user, notification_id)
    elif not row.read:
        _record(NotificationsRead(user_id=str(user.pk), notification_ids=[str(notification_id)]))


@transaction.atomic
def mark_unread(user: AbstractBaseUser, notification_id: UUID) -> None:
    """Count a notification as not seen, and take it out of the archive."""
    row = _lock(user, notification_id)
    if row is None:
        _of_broadcast(marks.mark_unread, user, notification_id)
    elif row.read:
        _record(NotificationUnread(user_id=str(user.pk), notification_id=str(notification_id)))


@transaction.atomic
def archive(user: AbstractBaseUser, notification_id: UUID) -> None:
    """Put a notification away."""
    row = _lock(user, notification_id)
    if row is None:
        _of_broadcast(marks.dismiss, user, notification_id)
    elif not row.archived:
        _record(NotificationArchived(user_id=str(user.pk), notification_id=str(notification_id)))


@transaction.atomic
def read_all(user: AbstractBaseUser) -> None:
    """Count all that there is as seen."""
    inbox.lock([user.pk])
    if Notification.objects.filter(user_id=user.pk, read=False).exists():
        _record(NotificationsRead(user_id=str(user.pk)))
    marks.read_all(user)


@transaction.atomic
def see_item(user: AbstractBaseUser, item_id: int) -> None:
    """Count all that was told of an item as seen: the user has it before them."""
    items.get_item(user, item_id)
    unread = Notification.objects.filter(user_id=user.pk, item_id=item_id, read=False)
    if not unread.exists():
        return  # nearly always: nobody need wait for that
    inbox.lock([user.pk])
    if unread.exists():
        _record(NotificationsRead(user_id=str(user.pk), item_id=str(item_id)))


def _lock(user: AbstractBaseUser, notification_id: UUID) -> Notification | None:
    """Lock an inbox; return a notification that is in it, or None where that may be a broadcast."""
    inbox.lock([user.pk])
    return Notification.objects.filter(pk=notification_id, user_id=user.pk).first()


def _of_broadcast(
    do: Callable[[AbstractBaseUser, UUID], None], user: AbstractBaseUser, broadcast_id: UUID
) -> None:
    """Do something about a broadcast that stands in an inbox; raise NotificationUnknown."""
    try:
        do(user, broadcast_id)
    except BroadcastUnknown:
        raise NotificationUnknown from None


def _record(event: NotificationsRead | NotificationUnread | NotificationArchived) -> None:
    channels = [user_channel(event.user_id)]
    _fold(event, append(event, channels=channels, actor_id=int(event.user_id)))


# --- The fold: from events to rows -------------------------------------------------------


def _fold(event: EventType, event_id: EventId) -> None:
    match event:
        case NotificationRaised():
            _store([event], [event_id])
        case NotificationsRead():
            _seen(event).filter(read=False).update(read=True)
        case NotificationUnread():
            Notification.objects.filter(pk=event.notification_id).update(read=False, archived=False)
        case NotificationArchived():
            Notification.objects.filter(pk=event.notification_id).update(read=True, archived=True)


def _store(events: Sequence[NotificationRaised], ids: Sequence[EventId]) -> None:
    """Write each row anew from its event alone, whatever of it there was."""
    others = [field.name for field in Notification._meta.concrete_fields if not field.primary_key]
    Notification.objects.bulk_create(
        map(_row, events, ids), update_conflicts=True, unique_fields=["id"], update_fields=others
    )


def _row(event: NotificationRaised, event_id: EventId) -> Notification:
    return Notification(
        id=UUID(event.notification_id),
        event_id=event_id,
        user_id=int(event.user_id),
        kind=event.kind,
        delivery=event.delivery,
        message=event.message,
        item_id=_number(event.item_id),
        comment_id=event.comment_id and UUID(event.comment_id),
        job_id=event.job_id,
        actor_id=_number(event.actor_id),
        owner_id=_number(event.owner_id),
        actors=[int(actor) for actor in event.actors],
        people=event.people,
        count=event.count,
        since=datetime.fromtimestamp(event.since, UTC),
        created_at=datetime.fromtimestamp(event.timestamp, UTC),
    )


def _seen(event: NotificationsRead) -> QuerySet[Notification]:
    theirs = Notification.objects.filter(user_id=int(event.user_id))
    if event.notification_ids is not None:
        return theirs.filter(pk__in=event.notification_ids)
    return theirs if event.item_id is None else theirs.filter(item_id=int(event.item_id))


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


# --- What is kept, and what of a person ---------------------------------------------------


def _erase(user_id: int) -> int:
    """Overwrite what was said to somebody, of them or with their title, as in the events."""
    whose = Q(user_id=user_id) | Q(actor_id=user_id) | Q(owner_id=user_id)
    return Notification.objects.filter(whose).exclude(message=ERASED).update(message=ERASED)


readmodels.register(
    ReadModel(
        "notifications",
        table=Notification,
        born_of="event_id",
        types=(NotificationRaised, NotificationsRead, NotificationUnread, NotificationArchived),
        fold=_fold,
    )
)
erasure.register("notifications", _erase)
