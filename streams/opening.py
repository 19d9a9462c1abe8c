"""What comes before every stream, whichever way it goes: authorise, and find the hub at work."""

import asyncio
import logging
import time
from collections.abc import Sequence

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest

from events.channels import Channel, own_channels, parse
from events.errors import BadRequest, ChannelForbidden, FieldError, TooManyChannels
from events.peer import address
from streams import switchboard
from streams.hub import Hub
from streams.permission import let_in
from streams.reader import Choose
from streams.subscriber import Subscriber

logger = logging.getLogger(__name__)

ME = "me"  # named like a channel: the user's own, their groups' and `system`
START_SECONDS = 3.0  # a hub that has not read the log by then answers "database"


class NotNow(Exception):
    """A fault that will pass is in the way; the text is the reason, as `stream.end` gives it."""


async def subscriber(request: HttpRequest, choose: Choose) -> tuple[Hub, Subscriber]:
    """Return the hub and the request's subscriber, not joined yet; raise NotNow or why it is refused."""
    hub = await switchboard.hub()
    if not await _running(hub) or not hub.database_up:
        raise NotNow("database")
    try:
        since = hub.cursor  # before the check: what changes access after it ends the stream
        reader, channels = await let_in(hub, request, choose)
    except (OperationalError, InterfaceError) as error:
        logger.warning("A stream could not be authorised.", extra={"error": type(error).__name__})
        raise NotNow("database") from None
    if hub.draining:
        raise NotNow("drain")
    return hub, Subscriber(hub, channels, reader, since=since, address=address(request))


def named(request: HttpRequest) -> Choose:
    """Return a choice of the channels that the query names, which raises what is wrong with them."""

    def choose(user: AbstractBaseUser | None) -> Sequence[Channel]:
        if not (channels := also_named(request, user)):
            error = FieldError("channel", "name at least one, as in ?channel=item:42")
            raise BadRequest("No channel was named.", errors=(error,))
        return channels

    return choose


def own(user: AbstractBaseUser | None) -> Sequence[Channel]:
    """Return what `me` is short for; raise ChannelForbidden for a user of another issuer's."""
    if user is None:
        raise ChannelForbidden("Users of another issuer have no channels of their own here: name them.")
    return own_channels(user)


def also_named(request: HttpRequest, user: AbstractBaseUser | None) -> Sequence[Channel]:
    """Return the channels that the query names, if any; raise TooManyChannels, ChannelMalformed."""
    names = request.GET.getlist("channel")
    _check_number(len(names))
    found: dict[Channel, None] = {}
    for name in dict.fromkeys(names):
        found |= dict.fromkeys(own(user) if name == ME else [parse(name)])
    if {*names} != {ME}:  # nobody is shut out of their own, however many groups they are in
        _check_number(len(found))
    return [*found]


def _check_number(channels: int) -> None:
    """Raise TooManyChannels, before each of them costs a query."""
    if channels > settings.STREAMS_MAX_CHANNELS:
        raise TooManyChannels(f"{channels} channels; {settings.STREAMS_MAX_CHANNELS} is the most.")


def place_of(request: HttpRequest) -> str | None:
    """Return the client's place: the header beats the query, and an empty one counts as none."""
    asked = (request.GET.get(name) for name in ("last_event_id", "lastEventId", "after"))
    return request.headers.get("Last-Event-ID") or next(filter(None, asked), None)


async def _running(hub: Hub) -> bool:
    if hub.running.is_set():
        return True
    try:
        # From its start on, not from now: who waits keeps others from being asked in.
        async with asyncio.timeout(max(0.0, hub.started_at + START_SECONDS - time.monotonic())):
            await hub.running.wait()
    except TimeoutError:
        return False
    return True
