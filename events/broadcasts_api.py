"""The HTTP API of broadcasts: admins send, change, list and recall; anyone sees and dismisses their own."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router, Status
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from events import audiences, broadcasts, edge, log, marks
from events.broadcasts import State
from events.channels import SYSTEM, TRACE, item_channel, own_channels, user_channel
from events.drafts import Draft, Severity
from events.fields import Link
from events.idempotency import DESCRIBED, once, once_done
from events.models import Broadcast
from events.rest import Body, Id, Page, Paging, Problem, Word, next_token, split, user_of

_ERRORS = frozenset({400, 401, 403, 404, 409, 413, 415, 422, 429, 503})

router = Router(tags=["broadcasts"])


def _text_only(value: Any) -> Any:
    """Refuse numbers: what they count from, and in what, is anybody's guess."""
    if not isinstance(value, str):
        raise PydanticCustomError("moment", "must be ISO 8601 with an offset, as 2030-01-31T12:00:00Z")
    return value


Moment = Annotated[
    AwareDatetime,
    Field(strict=False),
    BeforeValidator(_text_only),
    AfterValidator(lambda moment: moment.replace(microsecond=0)),  # events count in seconds
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class Audience(Body):
    """Whom it is for: exactly one of these."""

    all: Literal[True] | None = Field(default=None, description="everyone, who comes later included")
    groups: list[Word] | None = Field(default=None, description="names of groups")
    users: list[Id] | None = Field(default=None, description="ids of users")
    item: Id | None = Field(default=None, description="whoever watches the item")

    def addresses(self) -> tuple[str, ...]:
        """Return the audience as addresses; those of more than one kind are refused later."""
        found: list[str] = [SYSTEM] if self.all else []
        found += [f"group:{name}" for name in self.groups or ()]
        found += [user_channel(user_id) for user_id in self.users or ()]
        found += [item_channel(self.item)] if self.item else []
        return tuple(found)


class NewBroadcast(Body):
    """A broadcast to send."""

    message: str = Field(description="1 to 5,000 characters")
    audience: Audience
    severity: Severity = "info"
    title: str = Field("", description="At most 200 characters")
    link: Link | None = None
    starts_at: Moment | None = Field(None, description="Null is at once")
    expires_at: Moment | None = Field(None, description="Null is when it is recalled")


class BroadcastChange(Body):
    """What to change of a broadcast: any of these; audience and start only before it begins."""

    message: str = Field(default_factory=str)
    audience: Audience = Field(default_factory=lambda: Audience(all=True))
    severity: Severity = Field(default_factory=lambda: "info")
    title: str = Field(default_factory=str)
    link: Link | None = None
    starts_at: Moment | None = None
    expires_at: Moment | None = None


class BroadcastOut(BaseModel):
    """A broadcast, as anybody in its audience may see it."""

    id: str
    title: str
    message: str
    severity: Severity
    link: str | None
    starts_at: datetime
    expires_at: datetime | None
    state: State


class BroadcastSent(BroadcastOut):
    """A broadcast, as those see it who may send them."""

    audience: dict[str, Any]
    author_id: str
    recalled_at: datetime | None
    delivered: int | None = Field(
        description="To how many connections it was handed, at least; null is unknown"
    )
    dismissed: int = Field(description="How many users dismissed it")


class Whom(Body):
    """Whom a broadcast would be for."""

    audience: Audience


class EstimateOut(BaseModel):
    """How many an audience has."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reach": 1200, "connected": 340}]})

    reach: int = Field(description="How many users it has now, each counted once")
    connected: int | None = Field(description="How many of them have a stream open now; null is unknown")


class BroadcastDetail(BroadcastSent):
    """A broadcast with what costs a look at all users."""

    reach: int = Field(description="How many users its audience has now, each counted once")


@router.get("/broadcasts", response={200: Page[BroadcastSent], _ERRORS: Problem})
def list_broadcasts(request: HttpRequest, paging: Query[Paging]) -> Page[BroadcastSent]:
    """Return all broadcasts, newest first, to those who may send them."""
    user, before = user_of(request), paging.after_id()

    def query() -> list[Broadcast]:
        found = broadcasts.listed(user)
        if before is not None:
            found = found.filter(event_id__lt=before)
        return list(found[: paging.limit + 1])

    rows, cursor = log.snapshot([TRACE], query)
    shown, more = split(rows, paging)
    return Page[BroadcastSent](
        results=_sent_all(shown),
        next=next_token(shown[-1].event_id if more else None),
        cursor=str(cursor),
    )


@router.post("/broadcasts", response={201: BroadcastSent, _ERRORS: Problem}, openapi_extra=DESCRIBED)
def send_broadcast(request: HttpRequest, body: NewBroadcast) -> Status[BroadcastSent]:
    """Send a broadcast, now or at `starts_at`."""
    draft = Draft(**{**dict(body), "audience": body.audience.addresses()})
    user = user_of(request)
    # Nobody can have it yet, so nobody is asked who has: with a key, this is within a transaction.
    return once(request, BroadcastSent, lambda: _figured(broadcasts.send(user, draft), 0, 0))


@router.post("/broadcasts/estimate", response={200: EstimateOut, _ERRORS: Problem})
def estimate_broadcast(request: HttpRequest, body: Whom) -> EstimateOut:
    """Return how many would get a broadcast to an audience, to those who may send one. Nothing is changed."""
    found = broadcasts.estimate(user_of(request), body.audience.addresses())
    return EstimateOut(reach=found.reach, connected=found.connected)


@router.get("/broadcasts/active", response={200: Page[BroadcastOut], _ERRORS: Problem})
def active_broadcasts(request: HttpRequest) -> Page[BroadcastOut]:
    """Return what one should see now, newest first; `/streams/me/` from `cursor` keeps up to date."""
    user = user_of(request)
    rows, cursor = log.snapshot(own_channels(user), lambda: marks.active(user))
    return Page[BroadcastOut](results=[_out(row) for row in rows], next=None, cursor=str(cursor))


@router.get("/broadcasts/{uuid:broadcast_id}", response={200: BroadcastDetail, _ERRORS: Problem})
def get_broadcast(request: HttpRequest, broadcast_id: UUID) -> BroadcastDetail:
    """Return a broadcast to those who may send them."""
    broadcast = broadcasts.get(user_of(request), broadcast_id)
    return BroadcastDetail(**dict(_sent(broadcast)), reach=audiences.reach(broadcast.audience))


@router.patch("/broadcasts/{uuid:broadcast_id}", response={200: BroadcastSent, _ERRORS: Problem})
def change_broadcast(request: HttpRequest, broadcast_id: UUID, body: BroadcastChange) -> BroadcastSent:
    """Change a broadcast that is not over; who has it on the screen sees the change."""
    changes = {field: getattr(body, field) for field in body.model_fields_set}
    if "audience" in changes:
        changes["audience"] = body.audience.addresses()
    return _sent(broadcasts.change(user_of(request), broadcast_id, **changes))


@router.delete("/broadcasts/{uuid:broadcast_id}", response={204: None, _ERRORS: Problem})
def recall_broadcast(request: HttpRequest, broadcast_id: UUID) -> Status[None]:
    """Take a broadcast back, off every screen."""
    broadcasts.recall(user_of(request), broadcast_id)
    return Status(204, None)


@router.post(
    "/broadcasts/{uuid:broadcast_id}/dismiss", response={204: None, _ERRORS: Problem}, openapi_extra=DESCRIBED
)
def dismiss_broadcast(request: HttpRequest, broadcast_id: UUID) -> Status[None]:
    """See a broadcast no more, on any device."""
    return once_done(request, lambda: marks.dismiss(user_of(request), broadcast_id))


def _out(broadcast: Broadcast) -> BroadcastOut:
    return BroadcastOut.model_validate(_shown(broadcast))


def _sent(broadcast: Broadcast) -> BroadcastSent:
    return _sent_all([broadcast])[0]


def _sent_all(some: Sequence[Broadcast]) -> list[BroadcastSent]:
    ids = [broadcast.pk for broadcast in some]
    delivered, dismissed = edge.delivered(ids), marks.dismissals(ids)
    handed = dict.fromkeys(ids) if delivered is None else delivered
    return [_figured(each, handed[each.pk], dismissed[each.pk]) for each in some]


def _figured(broadcast: Broadcast, delivered: int | None, dismissed: int) -> BroadcastSent:
    return BroadcastSent.model_validate(
        {
            **_shown(broadcast),
            "audience": audiences.described(broadcast.audience),
            "author_id": str(broadcast.author_id),
            "recalled_at": broadcast.recalled_at,
            "delivered": delivered,
            "dismissed": dismissed,
        }
    )


def _shown(broadcast: Broadcast) -> dict[str, Any]:
    fields = ("title", "message", "severity", "link", "starts_at", "expires_at")
    shown = {field: getattr(broadcast, field) for field in fields}
    return {"id": str(broadcast.pk), "state": broadcasts.state(broadcast), **shown}
