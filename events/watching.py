"""Watching: who is told of an item's comments, and who is left in peace by it.

Who owns an item or commented on it watches it by default. Unwatching leaves what is meant for
oneself, replies and mentions; muting leaves nothing. Only what somebody decided is kept; what holds
by default is seen from the item and its comments, so it cannot drift from them.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import ClassVar

from django.contrib.auth.models import AbstractBaseUser
from django.db import connection, transaction
from django.db.models import Exists, OuterRef

from events import arrays, items, readmodels
from events.channels import user_channel
from events.items import ItemDeleted
from events.log import EventId, append
from events.models import Comment, Item, Watch
from events.readmodels import ReadModel
from events.registry import EventType


class ItemWatched(EventType):
    """Somebody wants to be told of an item's comments. On their own channel only."""

    sent_on: ClassVar = ("user",)

    item_id: str
    user_id: str


class ItemUnwatched(EventType):
    """Somebody does not want to be told of an item's comments, but of what is meant for them."""

    sent_on: ClassVar = ("user",)

    item_id: str
    user_id: str


class ItemMuted(EventType):
    """Somebody wants to be told of nothing about an item."""

    sent_on: ClassVar = ("user",)

    item_id: str
    user_id: str


class ItemUnmuted(EventType):
    """Somebody wants to be told of an item again, as before they muted it."""

    sent_on: ClassVar = ("user",)

    item_id: str
    user_id: str


@dataclass(frozen=True, slots=True)
class Attention:
    """How somebody follows an item."""

    watching: bool
    muted: bool


@dataclass(frozen=True, slots=True)
class Audience:
    """Who watches an item, by default or by decision; and who muted it, which beats watching."""

    watching: frozenset[int]
    muted: frozenset[int]


# Jumps from author to author in the index: an item of a hundred thousand comments has few.
_AUTHORS_SQL = """
WITH RECURSIVE author (item_id, id) AS (
    SELECT item_id, (SELECT min(c.author_id) FROM events_comment c WHERE c.item_id = wanted.item_id)
    FROM unnest(%s::bigint[]) AS wanted (item_id)
    UNION ALL
    SELECT a.item_id, (
        SELECT min(c.author_id) FROM events_comment c WHERE c.item_id = a.item_id AND c.author_id > a.id)
    FROM author a WHERE a.id IS NOT NULL
)
SELECT item_id, id FROM author WHERE id IS NOT NULL
"""


_DECIDED_SQL = "SELECT item_id, user_id, watching, muted FROM events_watch WHERE item_id = ANY (%s)"

# Looks no further than so far: what a crowd is costs no more to tell than what is not.
_FEW_SQL = """
SELECT wanted.id FROM unnest(%(items)s::bigint[]) AS wanted (id)
WHERE NOT EXISTS (SELECT FROM events_watch w WHERE w.item_id = wanted.id OFFSET %(most)s)
AND NOT EXISTS (
    WITH RECURSIVE author (id) AS (
        SELECT min(c.author_id) FROM events_comment c WHERE c.item_id = wanted.id
        UNION ALL
        SELECT (SELECT min(c.author_id) FROM events_comment c
            WHERE c.item_id = wanted.id AND c.author_id > a.id)
        FROM author a WHERE a.id IS NOT NULL
    )
    SELECT FROM author WHERE id IS NOT NULL OFFSET %(most)s
)
"""


def followed_by_few(item_ids: Collection[int], *, most: int) -> set[int]:
    """Return those of some items on which at most so many commented, and at most so many decided."""
    with connection.cursor() as cursor:
        cursor.execute(_FEW_SQL, {"items": arrays.ids(item_ids), "most": most})
        return {item_id for (item_id,) in cursor.fetchall()}


def audience(item: Item) -> Audience:
    """Return who follows an item; whether they may read it is another question."""
    return audiences([item])[item.pk]


def audiences(some: Collection[Item]) -> dict[int, Audience]:
    """Return who follows each of some items, by its id."""
    watching = {item.pk: {item.owner_id} for item in some}
    muted: dict[int, set[int]] = {item.pk: set() for item in some}
    with connection.cursor() as cursor:
        asked = [arrays.ids(watching)]
        cursor.execute(_AUTHORS_SQL, asked)
        for item_id, author_id in cursor.fetchall():
            watching[item_id].add(author_id)
        cursor.execute(_DECIDED_SQL, asked)
        decided = cursor.fetchall()
    for item_id, user_id, watches, mutes in decided:
        if watches:
            watching[item_id].add(user_id)
        elif watches is not None:
            watching[item_id].discard(user_id)
        if mutes:
            muted[item_id].add(user_id)
    return {pk: Audience(frozenset(watching[pk]), frozenset(muted[pk])) for pk in watching}


def watched_by(user: AbstractBaseUser, item_ids: Collection[int]) -> set[int]:
    """Return those of some items whose news a user is told: watched, not muted, and theirs to read."""
    mine = Comment.objects.filter(item_id=OuterRef("pk"), author_id=user.pk)
    found = items.readable_by(user).filter(pk__in=item_ids).annotate(wrote=Exists(mine))
    decided = {row.item_id: row for row in Watch.objects.filter(user_id=user.pk, item_id__in=item_ids)}
    watched = set()
    for item in found:
        row = decided.get(item.pk)
        by_default = item.owner_id == user.pk or item.wrote
        watches = by_default if row is None or row.watching is None else row.watching
        if watches and not (row and row.muted):
            watched.add(item.pk)
    return watched


def attention(user: AbstractBaseUser, item_id: int) -> Attention:
    """Return how a user follows an item that they may read."""
    found = audience(items.get_item(user, item_id))
    return Attention(user.pk in found.watching, user.pk in found.muted)


def muted_by(user: AbstractBaseUser, item_ids: Collection[int]) -> set[int]:
    """Return those of some items that a user muted."""
    if not item_ids:
        return set()
    theirs = Watch.objects.filter(user_id=user.pk, item_id__in=item_ids, muted=True)
    return set(theirs.values_list("item_id", flat=True))


def watch(user: AbstractBaseUser, item_id: int) -> None:
    """Be told of an item's comments; nothing is recorded where it was decided so before."""
    _decide(user, item_id, ItemWatched, lambda row: row is not None and row.watching is True)


def unwatch(user: AbstractBaseUser, item_id: int) -> None:
    """Be told no more of an item's comments, unless they mention or answer oneself."""
    _decide(user, item_id, ItemUnwatched, lambda row: row is not None and row.watching is False)


def mute(user: AbstractBaseUser, item_id: int) -> None:
    """Be told of nothing about an item."""
    _decide(user, item_id, ItemMuted, lambda row: row is not None and row.muted)


def unmute(user: AbstractBaseUser, item_id: int) -> None:
    """Be told of an item again, as before it was muted."""
    _decide(user, item_id, ItemUnmuted, lambda row: row is None or not row.muted)


@transaction.atomic
def _decide(
    user: AbstractBaseUser,
    item_id: int,
    kind: type[ItemWatched | ItemUnwatched | ItemMuted | ItemUnmuted],
    is_so: Callable[[Watch | None], bool],
) -> None:
    item = items.lock(item_id)
    if not items.may_read(user, item):
        raise items.ItemForbidden
    if is_so(Watch.objects.filter(item_id=item.pk, user_id=user.pk).first()):
        return
    event = kind(item_id=str(item.pk), user_id=str(user.pk))
    _fold(event, append(event, channels=[user_channel(user.pk)], actor_id=user.pk))


# --- The fold -----------------------------------------------------------------------------------


def _fold(event: EventType, event_id: EventId) -> None:
    match event:
        case ItemWatched() | ItemUnwatched():
            _store(event, event_id, watching=isinstance(event, ItemWatched))
        case ItemMuted() | ItemUnmuted():
            _store(event, event_id, muted=isinstance(event, ItemMuted))
        case ItemDeleted():
            Watch.objects.filter(item_id=int(event.item_id)).delete()


def _store(
    event: ItemWatched | ItemUnwatched | ItemMuted | ItemUnmuted, event_id: EventId, **decided: bool
) -> None:
    # The row keeps the event that it was born of: what was decided before this one is in it too.
    Watch.objects.update_or_create(
        item_id=int(event.item_id),
        user_id=int(event.user_id),
        defaults=decided,
        create_defaults={"event_id": event_id, **decided},
    )


readmodels.register(
    ReadModel(
        "watches",
        table=Watch,
        born_of="event_id",
        types=(ItemWatched, ItemUnwatched, ItemMuted, ItemUnmuted, ItemDeleted),
        fold=_fold,
    )
)
