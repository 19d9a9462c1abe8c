"""Notifications: what people are told, and what they did about it.

All of it are events on the user's own channel, so every tab and device folds the same inbox from
them as the rows here are folded. A verb locks the inbox, decides, appends one event and folds it;
where nothing would change, nothing is recorded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID, uuid4

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from events import erasure, inbox, items, kinds, log, marks, preferences, readmodels
from events.broadcasts import BroadcastUnknown
from events.channels import user_channel
from events.erasure import ERASED
from events.errors import NotFound
from events.groups import Group, open_groups, store
from events.log import EventId, append
from events.models import Notification
from events.preferences import Delivery
from events.readmodels import ReadModel
from events.registry import EventType

AT_ONCE = 2_000  # raised by one statement: about a megabyte
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
    actors: tuple[str, ...] = ()
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


@dataclass(frozen=True, slots=True)
class News:
    """A comment, for whom it is news, and the event that it came with; the strongest reason is first."""

    about: Comment
    reasons: Mapping[int, Sequence[str]]
    caused_by: EventId


def raise_comment(about: Comment, reasons: Mapping[int, Sequence[str]], *, caused_by: EventId) -> None:
    """Tell people of a comment; else as `raise_comments`."""
    raise_comments([News(about, reasons, caused_by)])


def raise_comments(some: Sequence[News]) -> None:
    """Tell people of comments, each for the first of their reasons that they want to hear of.

    In a transaction. The author is not told, and nobody twice for one cause. Until somebody looks, what
    is raised for the same reason on the same item is one notification. However many there are, it takes
    the same few statements.
    """
    wanted = [
        (news.caused_by, {user: whys for user, whys in news.reasons.items() if user != news.about.author_id})
        for news in some
    ]
    told = list(zip(some, _wanting(wanted), strict=True))
    groups = open_groups((news.about.item_id, user_id) for news, chosen in told for user_id, _, _ in chosen)
    events = []
    for news, chosen in told:
        about = news.about
        for user_id, kind, delivery in chosen:
            place = (about.item_id, user_id, kind)
            group = groups.get(place)
            if group is None:
                group = groups[place] = Group(str(uuid4()), about.timestamp)
            group.add(about.author_id, keep=ACTORS_MOST)
            event = NotificationRaised(
                notification_id=group.id,
                user_id=str(user_id),
                kind=kind,
                delivery=delivery,
                message=kinds.words(kind, actor=about.author_name, people=group.people, title=about.title),
                item_id=str(about.item_id),
                comment_id=about.id,
                actor_id=str(about.author_id),
                owner_id=str(about.owner_id),
                actors=tuple(map(str, group.actors)),
                people=group.people,
                count=group.count,
                since=group.since,
                timestamp=about.timestamp,
            )
            events.append((event, news.caused_by))
    _raise(events)


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
        for chosen in _wanting([(caused_by, {user_id: ("job",)})])
        for _, kind, delivery in chosen
    ]
    _raise([(event, caused_by) for event in events])


def _wanting(
    causes: Sequence[tuple[EventId, Mapping[int, Sequence[str]]]],
) -> Sequence[Sequence[tuple[int, str, Delivery]]]:
    """Lock the inboxes; return for each cause who is to be told, for which of their reasons, and how."""
    everybody = {user_id for _, reasons in causes for user_id in reasons}
    if not everybody:
        return [()] * len(causes)
    inbox.lock(everybody)
    # Only now: while this waited for the locks, another may have told them.
    done = log.used(_key(cause, user_id) for cause, reasons in causes for user_id in reasons)
    choices = preferences.of(everybody)
    now = timezone.now()
    found = []
    for cause, reasons in causes:
        chosen = []
        for user_id, whys in reasons.items():
            if _key(cause, user_id) in done:
                continue
            for kind in whys:
                if delivery := choices[user_id].delivery(kind, now):
                    chosen.append((user_id, kind, delivery))
                    break
        found.append(chosen)
    return found


def _raise(events: Sequence[tuple[NotificationRaised, EventId]]) -> None:
    """Append what is raised, each with its cause, and fold it; an item may have very many watchers."""
    for start in range(0, len(events), AT_ONCE):
        some = events[start : start + AT_ONCE]
        news = [
            log.new(
                event,
                channels=[user_channel(event.user_id)],
                caused_by=caused_by,
                unique_key=_key(caused_by, int(event.user_id)),
            )
            for event, caused_by in some
        ]
        ids = log.append_all(news)
        # Of each the last: a row is written anew from one event alone.
        last = {event.notification_id: place for place, (event, _) in enumerate(some)}
        store([(ids[place], news[place].data) for place in last.values()])


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
            store([(event_id, event.model_dump_json())])
        case NotificationsRead():
            _seen(event).filter(read=False).update(read=True)
        case NotificationUnread():
            Notification.objects.filter(pk=event.notification_id).update(read=False, archived=False)
        case NotificationArchived():
            Notification.objects.filter(pk=event.notification_id).update(read=True, archived=True)


def _seen(event: NotificationsRead) -> QuerySet[Notification]:
    theirs = Notification.objects.filter(user_id=int(event.user_id))
    if event.notification_ids is not None:
        return theirs.filter(pk__in=event.notification_ids)
    return theirs if event.item_id is None else theirs.filter(item_id=int(event.item_id))


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
