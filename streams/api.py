"""The HTTP API of the live edge: tokens for who cannot send a cookie, and who has an item open."""

import time
from datetime import UTC, datetime
from typing import Annotated

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from ninja import Router, Status
from pydantic import BaseModel, Field

from events import items
from events.access import session_digest
from events.channels import item_channel
from events.errors import FieldError, Invalid
from events.rest import Body, Problem, user_of
from streams import tokens
from streams.permission import authorise_each, expires_at, named
from streams.presence import SHOWN_MOST, Person, present
from streams.reader import Grant
from streams.scope import check_pattern

_ERRORS = frozenset({400, 401, 403, 404, 413, 415, 422, 429, 503})
_READ_ERRORS = frozenset({400, 401, 403, 404, 503})

router = Router()


class NewToken(Body):
    """What a token is to be for."""

    channels: Annotated[list[str], Field(min_length=1, description="As in ?channel=item:42; item:* for all")]
    ttl: int = Field(
        tokens.USUAL_SECONDS,
        ge=tokens.LEAST_SECONDS,
        le=tokens.MOST_SECONDS,
        description="Seconds; less where the session ends sooner",
    )


class TokenOut(BaseModel):
    """A JWT: as bearer, `?token=` or cookie `tickertape_token` it opens streams, polls and WebSockets."""

    token: str
    expires_at: datetime


@router.post("/tokens", response={201: TokenOut, _ERRORS: Problem}, tags=["streams"])
def make_token(request: HttpRequest, body: NewToken, response: HttpResponse) -> Status[TokenOut]:
    """Make a stream token for channels that one may read now. It ends with the session that asked for it.

    Whether the channels may still be read is asked at each opening, and all the while a stream is open; of
    what `item:*` and the like are for, only then.
    """
    user = user_of(request)
    if len(body.channels) > settings.STREAMS_MAX_CHANNELS:
        error = FieldError(
            "channels", f"are {len(body.channels)}; {settings.STREAMS_MAX_CHANNELS} is the most"
        )
        raise Invalid(errors=(error,))
    channels = named(body.channels, field="channels", read=check_pattern)
    authorise_each(user, channels, field="channels")
    key = request.session.session_key or ""
    tokens.live_on(key)
    ends = int(min(time.time() + body.ttl, expires_at(key) or 0))
    grant = Grant(str(user.pk), frozenset(channels), ends, session_digest(key), tokens.mark_of(user))
    response["Cache-Control"] = "no-store"
    return Status(201, TokenOut(token=tokens.sign(grant), expires_at=datetime.fromtimestamp(ends, UTC)))


class PresenceOut(BaseModel):
    """Who has an item open, on however many tabs and devices each."""

    users: list[Person] = Field(description=f"{SHOWN_MOST} of them at the most")
    total: int | None = Field(description="How many they are; null while nobody knows, as without Redis")


@router.get(
    "/items/{id:item_id}/presence", response={200: PresenceOut, _READ_ERRORS: Problem}, tags=["items"]
)
def list_present(request: HttpRequest, item_id: int) -> PresenceOut:
    """Return who has the item open, oneself included. The item's stream says `PresenceChanged` after that."""
    found = present(item_channel(items.get_item(user_of(request), item_id).pk))
    if found is None:
        return PresenceOut(users=[], total=None)
    return PresenceOut(users=list(found.users), total=found.total)
