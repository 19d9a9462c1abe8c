"""The log over HTTP, for staff: the questions of `manage.py events`, page by page."""

import json
from datetime import datetime
from typing import Annotated, Any

from django.conf import settings
from django.http import HttpRequest
from ninja import Query, Router
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from events import log, search
from events.channels import Channel, is_name
from events.errors import Forbidden
from events.log import EventId
from events.patience import SOONER
from events.rest import Page, Paging, Problem, next_token, user_of
from events.search import Found, Question

MAY_LOOK = "events.view_event"  # beside being staff: the log holds what was told to everybody

router = Router(tags=["events"])  # of `/events`, which is appended to in `events.ingest`


class LogForbidden(Forbidden):
    """Only staff who may view events look into the log."""

    code = "log_forbidden"


def _name(value: str) -> str:
    if not is_name(value):
        raise ValueError("is not the name of a channel")
    return value


Name = Annotated[str, AfterValidator(_name)]
Type = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]{0,63}$")]


class Looking(Paging):
    """What to look for; what is not given may be anything."""

    channel: list[Name] = Field([], max_length=100, description="On any of them")
    type: list[Type] = Field([], max_length=100, description="Of any of them")
    since: AwareDatetime | None = Field(None, description="Appended then or later")
    until: AwareDatetime | None = Field(None, description="Appended before then")
    actor_id: Annotated[int, Field(ge=1, lt=2**63)] | None = Field(None, description="Who did it, by id")
    family_of: Annotated[int, Field(ge=1, lt=2**63)] | None = Field(
        None, description="An event's id: it, what it was caused by, and all that followed of that"
    )


class EventOut(BaseModel):
    """One event, as the log has it, in its type's shape of today."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "position": "28",
                    "id": "31",
                    "type": "ItemRenamed",
                    "version": 1,
                    "channels": ["item:5"],
                    "actor_id": "1",
                    "caused_by": None,
                    "created_at": "2026-11-21T19:21:08Z",
                    "data": {"item_id": "5", "title": "A first item"},
                }
            ]
        }
    )

    position: str = Field(description="Its place in the log")
    id: str
    type: str
    version: int
    channels: list[str]
    actor_id: str | None = Field(description="Who did it; null for the service itself, or another program")
    caused_by: str | None = Field(description="The event that it follows from, by id")
    created_at: datetime = Field(description="When the transaction began that appended it")
    data: dict[str, Any]


@router.get("/events", response={200: Page[EventOut], frozenset({401, 403, 422, 429, 503}): Problem})
def look(request: HttpRequest, what: Query[Looking]) -> Page[EventOut]:
    """Return events of the log, the latest first, to staff who may view events.

    A page that would be too large is shorter than its limit; `next` says where it goes on.
    """
    user = user_of(request)
    if not (user.is_staff and user.has_perm(MAY_LOOK)):  # type: ignore[attr-defined]
        raise LogForbidden
    head = log.head()
    positions = search.search(
        Question(
            channels=[Channel(name) for name in what.channel],
            types=what.type,
            since=what.since,
            until=what.until,
            actor_id=what.actor_id,
            family=None if what.family_of is None else EventId(what.family_of),
            before=min(what.after_id() or head.position + 1, head.position + 1),
            limit=what.limit + 1,
        ),
        # A request gives up its connection soon after, and would say that the database is away.
        seconds=settings.DATABASE_ANSWER_SECONDS * SOONER,
    )[::-1]
    found = search.whole(positions[: what.limit])
    more = bool(found) and found[-1].position != positions[-1]
    return Page[EventOut](
        results=[_out(each) for each in found],
        next=next_token(found[-1].position if more else None),
        cursor=str(head),
    )


def _out(found: Found) -> EventOut:
    return EventOut(
        position=str(found.position),
        id=str(found.id),
        type=found.type,
        version=found.version,
        channels=list(found.channels),
        actor_id=None if found.actor_id is None else str(found.actor_id),
        caused_by=None if found.caused_by is None else str(found.caused_by),
        created_at=found.created_at,
        data=json.loads(found.data),
    )
