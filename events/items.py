"""Items: what people look at and comment on; who may read one and who may change it.

Any logged-in user reads a public item; one for members is read by its owner, its members
and staff. The owner and staff change it. Every verb is one transaction that locks the
item's row first, so the order of an item's events is the order in which they changed it.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, ClassVar

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.db import DEFAULT_DB_ALIAS, connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from events import arrays, erasure
from events.access import access_changed
from events.channels import item_channel, register, user_channel
from events.erasure import ERASED
from events.errors import ChannelForbidden, ChannelUnknown, FieldError, Forbidden, Invalid, NotFound
from events.fields import check_text
from events.log import append
from events.models import Item, ItemMember
from events.registry import EventType

TITLE_MOST = 200  # characters: a heading, not a text

Visibility = Item.Visibility


class ItemUnknown(NotFound):
    """There is no such item."""

    code = "item_unknown"


class ItemForbidden(Forbidden):
    """You may not read this item."""

    code = "item_forbidden"


class NotTheOwner(Forbidden):
    """Only the item's owner may do this."""

    code = "not_the_owner"


class UserUnknown(NotFound):
    """There is no such user."""

    code = "user_unknown"


class ItemCreated(EventType):
    """An item came to be. Its title is its owner's."""

    personal: ClassVar = {"title": "owner_id"}
    sent_on: ClassVar = ("item",)

    item_id: str
    title: str
    owner_id: str
    visibility: str
    timestamp: int


class ItemChanged(EventType):
    """An item has other properties; all of them are given. Its title is its owner's."""

    personal: ClassVar = {"title": "owner_id"}
    sent_on: ClassVar = ("item",)

    item_id: str
    title: str
    owner_id: str
    visibility: str


class ItemDeleted(EventType):
    """An item is gone, and its comments with it."""

    sent_on: ClassVar = ("item",)

    item_id: str


class MemberAdded(EventType):
    """Someone may read an item that is for members. Also on that user's own channel."""

    sent_on: ClassVar = ("item", "user")

    item_id: str
    user_id: str


class MemberRemoved(EventType):
    """Someone is no longer a member of an item. Also on that user's own channel."""

    sent_on: ClassVar = ("item", "user")

    item_id: str
    user_id: str


# --- Rules ---------------------------------------------------------------------------


def may_change(user: AbstractBaseUser, item: Item) -> bool:
    """Tell whether a user may change the item, delete it and choose its members."""
    return item.owner_id == user.pk or _is_staff(user)


def may_read(user: AbstractBaseUser, item: Item) -> bool:
    """Tell whether a user may read the item; asks the database only about members."""
    if item.visibility == Visibility.PUBLIC or may_change(user, item):
        return True
    return ItemMember.objects.filter(item_id=item.pk, user_id=user.pk).exists()


def readable_by(user: AbstractBaseUser) -> QuerySet[Item]:
    """Return the items that a user may read."""
    if _is_staff(user):
        return Item.objects.all()
    membership = ItemMember.objects.filter(item_id=OuterRef("pk"), user_id=user.pk)
    return Item.objects.filter(Q(visibility=Visibility.PUBLIC) | Q(owner_id=user.pk) | Exists(membership))


def _active_sql() -> str:
    # By an array, as below: each id as a parameter would cost more than what is asked about it.
    user = get_user_model()._meta
    return (
        f"SELECT {user.pk.column}, is_staff FROM {user.db_table}"  # noqa: S608
        f" WHERE is_active AND {user.pk.column} = ANY (%s)"
    )


def readers(item: Item, user_ids: Iterable[int]) -> set[int]:
    """Return those of some users who may read the item now; none of them who may not log in."""
    return readers_of([(item, set(user_ids))])[item.pk]


def readers_of(wanted: Collection[tuple[Item, Collection[int]]]) -> dict[int, set[int]]:
    """Return of some items, by id, who of some users each may read it now; none who may not log in."""
    everybody = {user_id for _, user_ids in wanted for user_id in user_ids}
    with connection.cursor() as cursor:
        cursor.execute(_active_sql(), [arrays.ids(everybody)])
        active = dict(cursor.fetchall())
    closed = [item.pk for item, _ in wanted if item.visibility != Visibility.PUBLIC]
    members: set[tuple[int, int]] = set()
    if closed:
        found = ItemMember.objects.filter(item_id__in=closed, user_id__in=active)
        members.update(found.values_list("item_id", "user_id"))
    # As `may_read` has it, of users of whom no more is read than whether they are staff.
    may: dict[int, set[int]] = {item.pk: set() for item, _ in wanted}
    for item, user_ids in wanted:
        public = item.visibility == Visibility.PUBLIC
        may[item.pk].update(
            pk
            for pk in active.keys() & user_ids
            if public or (item.pk, pk) in members or item.owner_id == pk or active[pk]
        )
    return may


def get_item(user: AbstractBaseUser, item_id: int) -> Item:
    """Return an item to someone who may read it; raise ItemUnknown or ItemForbidden."""
    item = Item.objects.filter(pk=item_id).first()
    if item is None:
        raise ItemUnknown
    if not may_read(user, item):
        raise ItemForbidden
    return item


_FIELDS = [field.attname for field in Item._meta.concrete_fields]
# By hand: every change of an item or of its comments begins so, and the ORM would take most of the time.
_READ_SQL = f"SELECT {', '.join(_FIELDS)} FROM events_item"  # noqa: S608
_LOCK_SQL = f"{_READ_SQL} WHERE id = %s FOR NO KEY UPDATE"
_LOCK_READABLE_SQL = """
SELECT id FROM events_item WHERE id = %s AND (%s OR visibility = 'public' OR owner_id = %s) FOR NO KEY UPDATE
"""
_SOME_SQL = f"{_READ_SQL} WHERE id = ANY (%s)"


def some(item_ids: Iterable[int]) -> dict[int, Item]:
    """Return those of some items that there are, by id, whoever may read them."""
    with connection.cursor() as cursor:
        cursor.execute(_SOME_SQL, [arrays.ids(item_ids)])
        return {item.pk: item for row in cursor.fetchall() for item in [_item(row)]}


def lock(item_id: int) -> Item:
    """Return an item with its row locked until the transaction's end; raise ItemUnknown.

    Changes of one item take turns here; rows that only refer to the item do not wait. Ask about
    permission after this, in a query of its own: the one that waited here sees what was before.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_SQL, [item_id])
        row = cursor.fetchone()
    if row is None:
        raise ItemUnknown
    return _item(row)


def lock_readable(user: AbstractBaseUser, item_id: int, *, known: bool = False) -> tuple[str, list[Any]]:
    """Return SQL that locks an item, and its parameters, for a statement that does more with it.

    It finds the item if it is `known` that the user may read it, or if the row alone says so, as it is
    once it is locked. Members it does not find: who waited would see the members of before.
    """
    return _LOCK_READABLE_SQL, [item_id, known or _is_staff(user), user.pk]


def _item(row: Sequence[Any]) -> Item:
    return Item.from_db(DEFAULT_DB_ALIAS, _FIELDS, row)


def _lock_to_change(user: AbstractBaseUser, item_id: int) -> Item:
    item = lock(item_id)
    if not may_change(user, item):
        raise NotTheOwner if may_read(user, item) else ItemForbidden
    return item


def _is_staff(user: AbstractBaseUser) -> bool:
    return bool(getattr(user, "is_staff", False))


# --- Verbs ----------------------------------------------------------------------------


@transaction.atomic
def create_item(user: AbstractBaseUser, *, title: str, visibility: str = Visibility.PUBLIC) -> Item:
    """Make an item that the user owns."""
    item = Item(title=_title(title), owner_id=user.pk, visibility=_visibility(visibility))
    item.save(force_insert=True)
    event = ItemCreated(
        item_id=str(item.pk),
        title=item.title,
        owner_id=str(item.owner_id),
        visibility=item.visibility,
        timestamp=int(item.created_at.timestamp()),
    )
    append(event, channels=[item_channel(item.pk)], actor_id=user.pk)
    return item


@transaction.atomic
def change_item(
    user: AbstractBaseUser,
    item_id: int,
    *,
    title: str | None = None,
    visibility: str | None = None,
    owner_id: int | None = None,
) -> Item:
    """Change what is given; nothing is recorded where nothing differs."""
    item = _lock_to_change(user, item_id)
    before = (item.title, item.visibility, item.owner_id)
    if title is not None:
        item.title = _title(title)
    if visibility is not None:
        item.visibility = _visibility(visibility)
    if owner_id is not None and owner_id != item.owner_id:
        item.owner_id = _owner(owner_id)
    if (item.title, item.visibility, item.owner_id) == before:
        return item
    item.save(update_fields=["title", "visibility", "owner_id"])
    # Before the change itself: who may no longer read it does not hear of it.
    _end_access(item, was=before[1], owner_was=before[2])
    event = ItemChanged(
        item_id=str(item.pk), title=item.title, owner_id=str(item.owner_id), visibility=item.visibility
    )
    append(event, channels=[item_channel(item.pk)], actor_id=user.pk)
    return item


@transaction.atomic
def delete_item(user: AbstractBaseUser, item_id: int) -> None:
    """Remove an item, its members and its comments; who looks at it is sent away."""
    item = _lock_to_change(user, item_id)
    channel = item_channel(item.pk)
    append(ItemDeleted(item_id=str(item.pk)), channels=[channel], actor_id=user.pk)
    access_changed("item_deleted", channel=channel)
    item.delete()


@transaction.atomic
def add_member(user: AbstractBaseUser, item_id: int, *, member_id: int) -> None:
    """Let someone read the item while it is for members; nothing happens where they may already."""
    item = _lock_to_change(user, item_id)
    if not _is_active(member_id):
        raise UserUnknown
    _, added = ItemMember.objects.get_or_create(item_id=item.pk, user_id=member_id)
    if added:
        event = MemberAdded(item_id=str(item.pk), user_id=str(member_id))
        append(event, channels=[item_channel(item.pk), user_channel(member_id)], actor_id=user.pk)


@transaction.atomic
def remove_member(user: AbstractBaseUser, item_id: int, *, member_id: int) -> None:
    """Take a membership back and end the member's live streams of the item."""
    item = _lock_to_change(user, item_id)
    removed, _ = ItemMember.objects.filter(item_id=item.pk, user_id=member_id).delete()
    if removed:
        if item.visibility != Visibility.PUBLIC:
            access_changed("member_removed", user_id=member_id, channel=item_channel(item.pk))
        event = MemberRemoved(item_id=str(item.pk), user_id=str(member_id))
        append(event, channels=[item_channel(item.pk), user_channel(member_id)], actor_id=user.pk)


def _end_access(item: Item, *, was: str, owner_was: int) -> None:
    channel = item_channel(item.pk)
    if item.visibility == Visibility.PUBLIC:
        return
    if was == Visibility.PUBLIC:
        access_changed("visibility_changed", channel=channel)
    elif item.owner_id != owner_was:
        access_changed("owner_changed", user_id=owner_was, channel=channel)


def _title(title: str) -> str:
    return check_text(title, field="title", most=TITLE_MOST)


def _visibility(visibility: str) -> str:
    if visibility not in Visibility.values:
        raise Invalid(errors=(FieldError("visibility", "must be public or members"),))
    return Visibility(visibility).value


def _owner(owner_id: int) -> int:
    if not _is_active(owner_id):
        raise Invalid(errors=(FieldError("owner", "is not the id of an active user"),))
    return owner_id


def _is_active(user_id: int) -> bool:
    """Tell whether there is such a user, who then cannot be deleted before this transaction ends."""
    users = get_user_model()._default_manager.filter(pk=user_id, is_active=True)
    return users.select_for_update(no_key=True).first() is not None


# --- The channel's rule ------------------------------------------------------------------


def _may_read_channel(user: AbstractBaseUser, key: str) -> None:
    try:
        get_item(user, int(key))
    except ItemUnknown:
        raise ChannelUnknown(f"There is no item {key}.") from None
    except ItemForbidden:
        raise ChannelForbidden(f"You may not read item {key}.") from None


register(
    "item",
    may_read=_may_read_channel,
    allows="""EXISTS (
        SELECT FROM events_item AS item
        WHERE item.id = asked.key::bigint AND (
            item.visibility = 'public' OR item.owner_id = reader.id OR reader.is_staff OR EXISTS (
                SELECT FROM events_itemmember AS member
                WHERE member.item_id = item.id AND member.user_id = reader.id)))""",
    about="An item and its comments. Who may read it hears it.",
)


# --- What of a person is here ----------------------------------------------------------------


def owned_by(user_id: int) -> list[int]:
    """Return the ids of somebody's items."""
    return list(Item.objects.filter(owner_id=user_id).order_by("pk").values_list("pk", flat=True))


def _erase(user_id: int) -> int:
    """Overwrite the titles of somebody's items; others' comments on them stay."""
    return Item.objects.filter(owner_id=user_id).exclude(title=ERASED).update(title=ERASED)


erasure.register("items", _erase)
