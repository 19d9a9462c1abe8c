"""The HTTP API of the inbox: notifications, who watches what, preferences; no rule of its own."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router, Status
from pydantic import BaseModel, ConfigDict, Field

from events import entries, log, marks, notifications, preferences, watching
from events.channels import item_channel, user_channel
from events.drafts import Severity
from events.idempotency import DESCRIBED, once_done
from events.kinds import KINDS
from events.marks import Standing
from events.models import Notification
from events.preferences import Choice, Delivery, Presence, Way
from events.rest import Body, Page, Paging, Problem, next_token, split, user_of

_ERRORS = frozenset({400, 401, 403, 404, 413, 415, 422, 503})
_CURSOR = "Stream from here: nothing is missed, nothing comes twice"
_CURSOR_EXAMPLE = "2438c2e6ea-42"

router = Router()


# --- Notifications ------------------------------------------------------------------------

_NOTIFICATION: dict[str, Any] = {
    "id": "5f0c7b1e-3f0e-4c46-9e0a-0a4f3a4c8d11",
    "kind": "comment",
    "message": "bob and 4 others commented on “Autumn menu”",
    "item_id": "7",
    "comment_id": "9a2d3c55-8b1f-4f6e-8a53-2f0f7a2f6a10",
    "job_id": None,
    "actors": ["2", "3", "5", "8", "13"],
    "people": 5,
    "count": 6,
    "delivery": "live",
    "muted": False,
    "read": False,
    "archived": False,
    "created_at": "2026-11-21T09:30:00Z",
    "broadcast": None,
}


class Which(Paging):
    """Which notifications."""

    unread: bool = Field(False, description="Only those that are unread")
    archived: bool = Field(False, description="Those that were put away, instead of those that were not")


class BroadcastShown(BaseModel):
    """What an admin said to many, besides the message."""

    title: str
    severity: Severity
    link: str | None
    expires_at: datetime | None = Field(description="When it leaves the inbox by itself")


class NotificationOut(BaseModel):
    """What somebody is told. Until it is read, more of the same about an item changes it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_NOTIFICATION]})

    id: str
    kind: str = Field(description="; ".join(f"`{name}`: {kind.about}" for name, kind in KINDS.items()))
    message: str
    item_id: str | None
    comment_id: str | None = Field(description="The latest comment that it is about")
    job_id: str | None
    actors: list[str] = Field(description="Whose doing it is, by id, the latest first; at most 20")
    people: int = Field(description="How many they are")
    count: int = Field(description="How many times they did it")
    delivery: Delivery = Field(
        description="`live` was to be shown at once; `quiet` (quiet hours) and `digest` were not"
    )
    muted: bool = Field(description="One muted its item, so that nothing more is told of that")
    read: bool
    archived: bool
    created_at: datetime = Field(description="When the latest of it happened")
    broadcast: BroadcastShown | None = Field(
        description="Of a `broadcast` the rest of it, whose id this is: archived is dismissed"
    )


class CountOut(BaseModel):
    """How many notifications are unread."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"unread": 3, "cursor": _CURSOR_EXAMPLE}]})

    unread: int
    cursor: str = Field(description=_CURSOR)


@router.get("/notifications", response={200: Page[NotificationOut], _ERRORS: Problem}, tags=["inbox"])
def list_notifications(request: HttpRequest, which: Query[Which]) -> Page[NotificationOut]:
    """Return one's notifications and broadcasts, the latest first; `/streams/me/` from `cursor` keeps up."""
    found, cursor = entries.page(
        user_of(request),
        limit=which.limit + 1,
        before=which.after_id(),
        unread=which.unread,
        archived=which.archived,
    )
    shown, more = split(found.rows, which)
    return Page[NotificationOut](
        results=[
            _broadcast(row) if isinstance(row, Standing) else _notification(row, row.item_id in found.muted)
            for row in shown
        ],
        next=next_token(shown[-1].event_id if more else None),
        cursor=str(cursor),
    )


@router.get("/notifications/count", response={200: CountOut, _ERRORS: Problem}, tags=["inbox"])
def count_notifications(request: HttpRequest) -> CountOut:
    """Return how many of one's notifications are unread."""
    unread, cursor = entries.unread_count(user_of(request))
    return CountOut(unread=unread, cursor=str(cursor))


@router.post(
    "/notifications/read-all",
    response={204: None, _ERRORS: Problem},
    tags=["inbox"],
    openapi_extra=DESCRIBED,
)
def read_all(request: HttpRequest) -> Status[None]:
    """Count all notifications as seen."""
    return once_done(request, lambda: notifications.read_all(user_of(request)))


@router.post(
    "/notifications/{uuid:notification_id}/read",
    response={204: None, _ERRORS: Problem},
    tags=["inbox"],
    openapi_extra=DESCRIBED,
)
def mark_read(request: HttpRequest, notification_id: UUID) -> Status[None]:
    """Count a notification as seen."""
    return once_done(request, lambda: notifications.mark_read(user_of(request), notification_id))


@router.post(
    "/notifications/{uuid:notification_id}/unread",
    response={204: None, _ERRORS: Problem},
    tags=["inbox"],
    openapi_extra=DESCRIBED,
)
def mark_unread(request: HttpRequest, notification_id: UUID) -> Status[None]:
    """Count a notification as not seen; takes it out of the archive."""
    return once_done(request, lambda: notifications.mark_unread(user_of(request), notification_id))


@router.post(
    "/notifications/{uuid:notification_id}/archive",
    response={204: None, _ERRORS: Problem},
    tags=["inbox"],
    openapi_extra=DESCRIBED,
)
def archive(request: HttpRequest, notification_id: UUID) -> Status[None]:
    """Put a notification away; it is read, too."""
    return once_done(request, lambda: notifications.archive(user_of(request), notification_id))


@router.post(
    "/items/{id:item_id}/seen",
    response={204: None, _ERRORS: Problem},
    tags=["inbox"],
    openapi_extra=DESCRIBED,
)
def see_item(request: HttpRequest, item_id: int) -> Status[None]:
    """Count all that was told of an item as seen. For clients to say that a person has it before them."""
    return once_done(request, lambda: notifications.see_item(user_of(request), item_id))


def _notification(row: Notification, muted: bool) -> NotificationOut:
    return NotificationOut.model_validate(
        {
            "id": str(row.pk),
            "kind": row.kind,
            "message": row.message,
            "item_id": _text(row.item_id),
            "comment_id": _text(row.comment_id),
            "job_id": row.job_id,
            "actors": [str(actor) for actor in row.actors],
            "people": row.people,
            "count": row.count,
            "delivery": row.delivery,
            "muted": muted,
            "read": row.read,
            "archived": row.archived,
            "created_at": row.created_at,
            "broadcast": None,
        }
    )


def _broadcast(row: Standing) -> NotificationOut:
    said = row.broadcast
    return NotificationOut.model_validate(
        {
            "id": str(said.pk),
            "kind": marks.KIND,
            "message": said.message,
            **dict.fromkeys(("item_id", "comment_id", "job_id")),
            "actors": [],
            "people": 0,
            "count": 1,
            "delivery": row.delivery,
            "muted": False,
            "read": row.read,
            "archived": row.archived,
            "created_at": said.starts_at,
            "broadcast": {name: getattr(said, name) for name in BroadcastShown.model_fields},
        }
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


# --- Watching ---------------------------------------------------------------------------------


class AttentionOut(BaseModel):
    """How one follows an item. Muted beats watching."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"watching": True, "muted": False, "cursor": _CURSOR_EXAMPLE}]}
    )

    watching: bool = Field(description="By default one's own items, and those that one commented on")
    muted: bool
    cursor: str = Field(description=_CURSOR)


@router.get("/items/{id:item_id}/watch", response={200: AttentionOut, _ERRORS: Problem}, tags=["inbox"])
def get_attention(request: HttpRequest, item_id: int) -> AttentionOut:
    """Return whether one watches an item, or muted it."""
    user = user_of(request)
    found, cursor = log.snapshot(
        [user_channel(user.pk), item_channel(item_id)], lambda: watching.attention(user, item_id)
    )
    return AttentionOut(watching=found.watching, muted=found.muted, cursor=str(cursor))


@router.put("/items/{id:item_id}/watch", response={204: None, _ERRORS: Problem}, tags=["inbox"])
def watch(request: HttpRequest, item_id: int) -> Status[None]:
    """Be told of an item's comments."""
    watching.watch(user_of(request), item_id)
    return Status(204, None)


@router.delete("/items/{id:item_id}/watch", response={204: None, _ERRORS: Problem}, tags=["inbox"])
def unwatch(request: HttpRequest, item_id: int) -> Status[None]:
    """Be told no more of an item's comments, unless they mention or answer oneself."""
    watching.unwatch(user_of(request), item_id)
    return Status(204, None)


@router.put("/items/{id:item_id}/mute", response={204: None, _ERRORS: Problem}, tags=["inbox"])
def mute(request: HttpRequest, item_id: int) -> Status[None]:
    """Be told of nothing about an item, not even of what is meant for oneself."""
    watching.mute(user_of(request), item_id)
    return Status(204, None)


@router.delete("/items/{id:item_id}/mute", response={204: None, _ERRORS: Problem}, tags=["inbox"])
def unmute(request: HttpRequest, item_id: int) -> Status[None]:
    """Be told of an item again, as before it was muted."""
    watching.unmute(user_of(request), item_id)
    return Status(204, None)


# --- Preferences ---------------------------------------------------------------------------------

_WAYS: dict[str, Any] = {**dict.fromkeys(KINDS, "live"), "watch": "digest"}
_QUIET: dict[str, Any] = {"start": "22:00", "end": "07:00"}
_PRESENCE = "`hidden`: others are not shown, nor told by number, that one has an item open"
_TIME = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"


class QuietHours(Body):
    """When not to be disturbed, in one's own time zone; they may span midnight."""

    start: str = Field(pattern=_TIME, description="HH:MM")
    end: str = Field(pattern=_TIME, description="HH:MM")


class NewPreferences(Body):
    """What to choose: any of these. Kinds that are left out stay as they are."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "types": {"watch": "digest"},
                    "quiet_hours": _QUIET,
                    "time_zone": "Europe/Berlin",
                    "presence": "hidden",
                }
            ]
        }
    )

    types: dict[str, Way] = Field(default_factory=dict)
    quiet_hours: QuietHours | None = None
    time_zone: str = Field("UTC", max_length=100, description="Such as Europe/Berlin")
    presence: Presence = Field("shown", description=_PRESENCE)


class PreferencesOut(BaseModel):
    """How one wants to be told."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "types": _WAYS,
                    "quiet_hours": _QUIET,
                    "time_zone": "Europe/Berlin",
                    "presence": "shown",
                    "cursor": _CURSOR_EXAMPLE,
                }
            ]
        }
    )

    types: dict[str, Literal["live", "off", "digest"]] = Field(
        description="`live`: shown at once; `digest`: in the inbox, and mailed once a day; `off`: not at all"
    )
    quiet_hours: QuietHours | None
    time_zone: str
    presence: Presence = Field(description=_PRESENCE)
    cursor: str = Field(description=_CURSOR)


@router.get("/preferences", response={200: PreferencesOut, _ERRORS: Problem}, tags=["inbox"])
def get_preferences(request: HttpRequest) -> PreferencesOut:
    """Return how one wants to be told."""
    user = user_of(request)
    choice, cursor = log.snapshot([user_channel(user.pk)], lambda: preferences.of([user.pk])[user.pk])
    return PreferencesOut(
        types={kind: choice.way(kind) for kind in KINDS},
        quiet_hours=_quiet_hours(choice),
        time_zone=choice.time_zone,
        presence=choice.presence,
        cursor=str(cursor),
    )


@router.put("/preferences", response={204: None, _ERRORS: Problem}, tags=["inbox"])
def change_preferences(request: HttpRequest, body: NewPreferences) -> Status[None]:
    """Choose how one wants to be told. Broadcasts of severity `critical` override it."""
    given: dict[str, Any] = {}
    if "types" in body.model_fields_set:
        given["types"] = body.types
    if "quiet_hours" in body.model_fields_set:
        given["quiet"] = body.quiet_hours and (body.quiet_hours.start, body.quiet_hours.end)
    given |= {
        name: getattr(body, name) for name in ("time_zone", "presence") if name in body.model_fields_set
    }
    preferences.change(user_of(request), **given)
    return Status(204, None)


def _quiet_hours(choice: Choice) -> QuietHours | None:
    return None if choice.quiet is None else QuietHours(start=choice.quiet[0], end=choice.quiet[1])
