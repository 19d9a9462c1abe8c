"""Comments: their events, the verbs that make them, and the rows folded from them.

A verb locks the item, decides, appends one event and folds that event into the rows with
the function that a rebuild folds the whole log with: so what is stored is what the log says.
Because the item's row is locked first, an edit and a delete that race take turns; the later
one finds what the earlier one left.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from time import time
from typing import Any, ClassVar
from uuid import UUID, uuid4

from django.contrib.auth.models import AbstractBaseUser
from django.db import DEFAULT_DB_ALIAS, connection, transaction

from events import arrays, erasure, readmodels
from events.channels import item_channel
from events.erasure import ERASED
from events.errors import FieldError, Forbidden, Invalid, NotFound
from events.fields import check_text
from events.items import ItemDeleted, ItemForbidden, lock, lock_readable, may_read
from events.log import EventId, append, append_with
from events.models import Comment, Item
from events.readmodels import ReadModel
from events.registry import ACTOR, EventType

TEXT_MOST = 20_000  # characters; with four bytes each still well within one event


class CommentUnknown(NotFound):
    """There is no such comment."""

    code = "comment_unknown"


class NotTheAuthor(Forbidden):
    """Only the comment's author may do this."""

    code = "not_the_author"


class CommentAdded(EventType):
    """Someone commented on an item, or replied to a comment on it. `timestamp` is in Unix seconds."""

    personal: ClassVar = {"author_name": "author_id", "text": "author_id"}
    sent_on: ClassVar = ("item",)

    comment_id: str
    item_id: str
    author_id: str
    author_name: str
    text: str
    timestamp: int
    reply_to: str | None = None


class CommentUpdated(EventType):
    """A comment's author changed its text. `edited_at` is in Unix seconds."""

    personal: ClassVar = {"new_text": ACTOR}
    sent_on: ClassVar = ("item",)

    comment_id: str
    item_id: str
    new_text: str
    edited_at: int


class CommentDeleted(EventType):
    """A comment is gone."""

    sent_on: ClassVar = ("item",)

    comment_id: str
    item_id: str


# --- Verbs ----------------------------------------------------------------------------


def add_comment(user: AbstractBaseUser, item_id: int, *, text: str, reply_to: UUID | None = None) -> Comment:
    """Say something about an item that one may read; `reply_to` is a comment on the same item."""
    check_text(text, field="text", most=TEXT_MOST)
    event = CommentAdded(
        comment_id=str(uuid4()),
        item_id=str(item_id),
        author_id=str(user.pk),
        author_name=user.get_username(),
        text=text,
        timestamp=int(time()),
        reply_to=None if reply_to is None else str(reply_to),
    )
    # Most need no more than this: one statement, so that many who comment on one item hardly wait.
    if reply_to is None and not connection.in_atomic_block and (comment := _add(user, event)):
        return comment
    with transaction.atomic():
        item = lock(item_id)
        if not may_read(user, item):
            raise ItemForbidden
        if reply_to is not None and not Comment.objects.filter(pk=reply_to, item_id=item.pk).exists():
            raise Invalid(errors=(FieldError("reply_to", "is not a comment on this item"),))
        comment = _add(user, event, known=True)
        assert comment is not None  # noqa: S101 (the item is locked)
        return comment


def _add(user: AbstractBaseUser, event: CommentAdded, *, known: bool = False) -> Comment | None:
    """Record that a comment was added to an item, if `items.lock_readable` finds it."""
    row = _row(event)
    item_id = row["item_id"]
    event_id = append_with(
        event,
        subject=lock_readable(user, item_id, known=known),
        row=(_ADD_SQL, list(row.values())),
        channels=[item_channel(item_id)],
        actor_id=user.pk,
    )
    if event_id is None:
        return None
    # In the order of the model's fields.
    return Comment.from_db(DEFAULT_DB_ALIAS, _FIELDS, [{**row, "event_id": event_id}[n] for n in _FIELDS])


def authors(comment_ids: Iterable[str]) -> dict[str, int]:
    """Return who wrote those of some comments that there are, by the comments' ids."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id::text, author_id FROM events_comment WHERE id = ANY (%s::uuid[])",
            [arrays.texts(comment_ids)],
        )
        return dict(cursor.fetchall())


@transaction.atomic
def edit_comment(user: AbstractBaseUser, comment_id: UUID, *, text: str) -> Comment:
    """Change the text of one's own comment; nothing is recorded where it is the same."""
    check_text(text, field="text", most=TEXT_MOST)
    item, comment = _lock_comment(user, comment_id)
    if comment.author_id != user.pk:
        raise NotTheAuthor
    if comment.text == text:
        return comment
    event = CommentUpdated(
        comment_id=str(comment.pk), item_id=str(item.pk), new_text=text, edited_at=int(time())
    )
    _fold(event, append(event, channels=[item_channel(item.pk)], actor_id=user.pk))
    comment.text, comment.edited_at = event.new_text, _moment(event.edited_at)
    return comment


@transaction.atomic
def delete_comment(user: AbstractBaseUser, comment_id: UUID) -> None:
    """Remove a comment: its author may, and the item's owner."""
    item, comment = _lock_comment(user, comment_id)
    if user.pk not in (comment.author_id, item.owner_id):
        raise NotTheAuthor("Only the comment's author or the item's owner may delete it.")
    event = CommentDeleted(comment_id=str(comment.pk), item_id=str(item.pk))
    _fold(event, append(event, channels=[item_channel(item.pk)], actor_id=user.pk))


def _lock_comment(user: AbstractBaseUser, comment_id: UUID) -> tuple[Item, Comment]:
    """Return a comment and its item, locked, to someone who may read it; raise CommentUnknown."""
    item_id = Comment.objects.filter(pk=comment_id).values_list("item_id", flat=True).first()
    if item_id is None:
        raise CommentUnknown
    item = lock(item_id)
    if not may_read(user, item):
        raise ItemForbidden
    # Only now: while this waited for the lock, another may have edited or deleted it.
    comment = Comment.objects.filter(pk=comment_id).first()
    if comment is None:
        raise CommentUnknown
    return item, comment


# --- The fold: from events to rows -------------------------------------------------------


def _fold(event: EventType, event_id: EventId) -> None:
    """Change the rows as an event says. Of an event that finds no row, nothing comes."""
    match event:
        case CommentAdded():
            with connection.cursor() as cursor:
                cursor.execute(_FOLD_SQL, [event_id, *_row(event).values()])
        case CommentUpdated():
            Comment.objects.filter(pk=event.comment_id).update(
                text=event.new_text, edited_at=_moment(event.edited_at)
            )
        case CommentDeleted():
            Comment.objects.filter(pk=event.comment_id).delete()
        case ItemDeleted():
            Comment.objects.filter(item_id=int(event.item_id)).delete()


_FIELDS = [field.attname for field in Comment._meta.concrete_fields]


def _row(event: CommentAdded) -> dict[str, Any]:
    """Return a comment's columns but for its event's id."""
    return {
        "id": UUID(event.comment_id),
        "item_id": int(event.item_id),
        "author_id": int(event.author_id),
        "author_name": event.author_name,
        "text": event.text,
        "reply_to": None if event.reply_to is None else UUID(event.reply_to),
        "created_at": _moment(event.timestamp),
        "edited_at": None,
    }


# Together with its event, as it is born, or for an event that there is.
_ADD_SQL = """
INSERT INTO events_comment (
    event_id, id, item_id, author_id, author_name, text, reply_to, created_at, edited_at
) SELECT recorded.id, %s, %s, %s, %s, %s, %s, %s, %s FROM recorded
"""
_FOLD_SQL = f"WITH recorded (id) AS (VALUES (%s::bigint)) {_ADD_SQL}"


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# --- What is kept, and what of a person ---------------------------------------------------


def _erase(user_id: int) -> int:
    """Overwrite what somebody wrote, as erasure overwrites the events it was folded from."""
    theirs = Comment.objects.filter(author_id=user_id)
    return theirs.exclude(author_name=ERASED, text=ERASED).update(author_name=ERASED, text=ERASED)


readmodels.register(
    ReadModel(
        "comments",
        table=Comment,
        born_of="event_id",
        types=(CommentAdded, CommentUpdated, CommentDeleted, ItemDeleted),
        fold=_fold,
    )
)
erasure.register("comments", _erase)
