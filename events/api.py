"""The HTTP API of sessions, items and comments: verbs in, JSON out; no rule of its own."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from django.contrib.auth import authenticate, login, logout
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.http import HttpRequest
from django.middleware.csrf import get_token
from ninja import Query, Router, Status
from pydantic import BaseModel, Field

from events import comments, items, log
from events.channels import item_channel
from events.errors import NotLoggedIn
from events.idempotency import DESCRIBED, once
from events.models import Comment, Item
from events.rest import Body, Id, Page, Paging, Problem, Session, Word, next_token, split, user_of

_ERRORS = frozenset({400, 401, 403, 404, 413, 415, 422, 429, 503})

router = Router()


class LoginFailed(NotLoggedIn):
    """The user name or the password is wrong."""

    code = "login_failed"


# --- Sessions ---------------------------------------------------------------------------


class Credentials(Body):
    """Who logs in."""

    username: Word
    password: Word


class UserOut(BaseModel):
    """A user."""

    id: str
    username: str


class SessionOut(BaseModel):
    """Who is logged in, and the token that changes need in `X-CSRFToken`."""

    user: UserOut
    csrf_token: str


@router.post("/session", auth=None, response={200: SessionOut, _ERRORS: Problem}, tags=["session"])
def log_in(request: HttpRequest, body: Credentials) -> SessionOut:
    """Log in. The answer sets the session's cookie; a session that there was ends."""
    user = authenticate(request, username=body.username, password=body.password)
    if user is None:
        raise LoginFailed
    with transaction.atomic():
        # Also for the same user: a stream opened under the old session must not outlive it.
        logout(request)
        login(request, user)
    return _session(request, user)


@router.get("/session", response={200: SessionOut, _ERRORS: Problem}, tags=["session"])
def who_am_i(request: HttpRequest) -> SessionOut:
    """Return who is logged in."""
    return _session(request, user_of(request))


@router.delete(
    "/session", auth=Session(counted=False), response={204: None, _ERRORS: Problem}, tags=["session"]
)
def log_out(request: HttpRequest) -> Status[None]:
    """Log out; the session's live streams end."""
    with transaction.atomic():
        logout(request)
    return Status(204, None)


def _session(request: HttpRequest, user: AbstractBaseUser) -> SessionOut:
    return SessionOut(
        user=UserOut(id=str(user.pk), username=user.get_username()), csrf_token=get_token(request)
    )


# --- Items ------------------------------------------------------------------------------

Visibility = Literal["public", "members"]


class NewItem(Body):
    """An item to make."""

    title: str = Field(description="1 to 200 characters")
    visibility: Visibility = "public"


class ItemChange(Body):
    """What to change of an item: any of these."""

    title: str = Field(default_factory=str, description="1 to 200 characters")
    visibility: Visibility = Field(default_factory=lambda: "public")
    owner: Id = Field(default_factory=str)


class ItemOut(BaseModel):
    """An item."""

    id: str
    title: str
    owner: str
    visibility: Visibility
    created_at: datetime


@router.get("/items", response={200: Page[ItemOut], _ERRORS: Problem}, tags=["items"])
def list_items(request: HttpRequest, paging: Query[Paging]) -> Page[ItemOut]:
    """Return the items that one may read, newest first."""
    user, before = user_of(request), paging.after_id()
    found = items.readable_by(user).order_by("-pk")
    if before is not None:
        found = found.filter(pk__lt=before)
    ids, more = split(list(found.values_list("pk", flat=True)[: paging.limit + 1]), paging)
    # Which items are chosen first, what they hold only then: so the cursor is true for them all.
    rows, cursor = log.snapshot(
        [item_channel(pk) for pk in ids],
        lambda: list(items.readable_by(user).filter(pk__in=ids).order_by("-pk")),
    )
    return Page[ItemOut](
        results=[_item(item) for item in rows],
        next=next_token(ids[-1] if more else None),
        cursor=str(cursor),
    )


@router.post("/items", response={201: ItemOut, _ERRORS: Problem}, tags=["items"], openapi_extra=DESCRIBED)
def create_item(request: HttpRequest, body: NewItem) -> Status[ItemOut]:
    """Make an item that one owns."""
    return once(
        request,
        ItemOut,
        lambda: _item(items.create_item(user_of(request), title=body.title, visibility=body.visibility)),
    )


@router.get("/items/{id:item_id}", response={200: ItemOut, _ERRORS: Problem}, tags=["items"])
def get_item(request: HttpRequest, item_id: int) -> ItemOut:
    """Return an item."""
    return _item(items.get_item(user_of(request), item_id))


@router.patch("/items/{id:item_id}", response={200: ItemOut, _ERRORS: Problem}, tags=["items"])
def change_item(request: HttpRequest, item_id: int, body: ItemChange) -> ItemOut:
    """Change an item: its owner and staff may."""
    given = body.model_dump(exclude_unset=True)
    if "owner" in given:
        given["owner_id"] = int(given.pop("owner"))
    return _item(items.change_item(user_of(request), item_id, **given))


@router.delete("/items/{id:item_id}", response={204: None, _ERRORS: Problem}, tags=["items"])
def delete_item(request: HttpRequest, item_id: int) -> Status[None]:
    """Remove an item and its comments: its owner and staff may."""
    items.delete_item(user_of(request), item_id)
    return Status(204, None)


@router.put(
    "/items/{id:item_id}/members/{id:user_id}", response={204: None, _ERRORS: Problem}, tags=["items"]
)
def add_member(request: HttpRequest, item_id: int, user_id: int) -> Status[None]:
    """Let a user read the item while it is for members."""
    items.add_member(user_of(request), item_id, member_id=user_id)
    return Status(204, None)


@router.delete(
    "/items/{id:item_id}/members/{id:user_id}", response={204: None, _ERRORS: Problem}, tags=["items"]
)
def remove_member(request: HttpRequest, item_id: int, user_id: int) -> Status[None]:
    """Take a membership back; the user's live streams of the item end."""
    items.remove_member(user_of(request), item_id, member_id=user_id)
    return Status(204, None)


def _item(item: Item) -> ItemOut:
    return ItemOut.model_validate(
        {
            "id": str(item.pk),
            "title": item.title,
            "owner": str(item.owner_id),
            "visibility": item.visibility,
            "created_at": item.created_at,
        }
    )


# --- Comments ---------------------------------------------------------------------------


class CommentIn(Body):
    """A comment's text."""

    text: str = Field(description="1 to 20,000 characters, kept exactly as sent")


class NewComment(CommentIn):
    """A comment to make."""

    # Strict, and yet a UUID: JSON has only strings for them.
    reply_to: UUID | None = Field(
        None, strict=False, description="The comment on the same item that it answers"
    )


class CommentOut(BaseModel):
    """A comment."""

    id: str
    item_id: str
    author_id: str
    author_name: str
    text: str
    reply_to: str | None
    created_at: datetime
    edited_at: datetime | None


@router.get(
    "/items/{id:item_id}/comments", response={200: Page[CommentOut], _ERRORS: Problem}, tags=["comments"]
)
def list_comments(request: HttpRequest, item_id: int, paging: Query[Paging]) -> Page[CommentOut]:
    """Return an item's comments, oldest first. Stream the item from `cursor` to stay up to date."""
    user, after = user_of(request), paging.after_id() or 0

    def query() -> list[Comment]:
        items.get_item(user, item_id)
        found = Comment.objects.filter(item_id=item_id, event_id__gt=after).order_by("event_id")
        return list(found[: paging.limit + 1])

    rows, cursor = log.snapshot([item_channel(item_id)], query)
    shown, more = split(rows, paging)
    return Page[CommentOut](
        results=[_comment(comment) for comment in shown],
        next=next_token(shown[-1].event_id if more else None),
        cursor=str(cursor),
    )


@router.post(
    "/items/{id:item_id}/comments",
    response={201: CommentOut, _ERRORS: Problem},
    tags=["comments"],
    openapi_extra=DESCRIBED,
)
def add_comment(request: HttpRequest, item_id: int, body: NewComment) -> Status[CommentOut]:
    """Comment on an item."""
    return once(
        request,
        CommentOut,
        lambda: _comment(
            comments.add_comment(user_of(request), item_id, text=body.text, reply_to=body.reply_to)
        ),
    )


@router.patch("/comments/{uuid:comment_id}", response={200: CommentOut, _ERRORS: Problem}, tags=["comments"])
def edit_comment(request: HttpRequest, comment_id: UUID, body: CommentIn) -> CommentOut:
    """Change the text of one's own comment."""
    return _comment(comments.edit_comment(user_of(request), comment_id, text=body.text))


@router.delete("/comments/{uuid:comment_id}", response={204: None, _ERRORS: Problem}, tags=["comments"])
def delete_comment(request: HttpRequest, comment_id: UUID) -> Status[None]:
    """Remove a comment: its author and the item's owner may."""
    comments.delete_comment(user_of(request), comment_id)
    return Status(204, None)


def _comment(comment: Comment) -> CommentOut:
    return CommentOut(
        id=str(comment.pk),
        item_id=str(comment.item_id),
        author_id=str(comment.author_id),
        author_name=comment.author_name,
        text=comment.text,
        reply_to=None if comment.reply_to is None else str(comment.reply_to),
        created_at=comment.created_at,
        edited_at=comment.edited_at,
    )
