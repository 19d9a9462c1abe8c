"""Who reads, and whether they may: a session's user or a token's.

`admit` says it, in a thread with the ORM. `streams.direct` lets in without either who plainly may be.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import AbstractBaseUser
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import close_old_connections
from django.http import HttpRequest

from events import preferences
from events.channels import Channel, authorise
from events.errors import (
    ChannelMalformed,
    FieldError,
    Forbidden,
    Invalid,
    NotFound,
    NotLoggedIn,
    TickertapeError,
)
from streams import direct, tokens
from streams.reader import Admitted, Choose, Grant, Reader
from streams.scope import is_open

if TYPE_CHECKING:
    from streams.hub import Hub

# A crowd that asks to read waits here, not for a thread each.
turns = asyncio.Semaphore(settings.DATABASE_POOL_SIZE)

Name = TypeVar("Name", bound=str)


async def let_in(hub: "Hub", request: HttpRequest, choose: Choose) -> Admitted:
    """Return what `admit` does, or raise as it does, from within an event loop."""
    admitted = await direct.admit(hub, request, choose) if settings.STREAMS_DIRECT else None
    return admitted or await _in_thread(lambda: admit(request, choose))


async def _in_thread(ask: Callable[[], Admitted]) -> Admitted:
    """Ask in one of the loop's few threads, not the request's: it may have none."""

    def work() -> Admitted:
        try:
            return ask()
        finally:
            close_old_connections()

    async with turns:
        return await sync_to_async(work, thread_sensitive=False)()


def admit(request: HttpRequest, choose: Choose) -> Admitted:
    """Return the request's reader and channels; raise NotLoggedIn, or why a channel is refused.

    Synchronous: one hop to a thread for all that a stream asks of the database.
    """
    token = tokens.given(request)
    if token is None:
        try:
            return by_session(request, choose)
        except NotLoggedIn:
            token = tokens.kept(request)
            if token is None:
                raise
    return by_grant(tokens.read(token), choose)


def by_session(request: HttpRequest, choose: Choose, *, field: str = "") -> Admitted:
    """Do so by the session alone; what is wrong with a channel is named by its place in `field`, if any."""
    user = get_user(request)
    if not isinstance(user, AbstractBaseUser):
        raise NotLoggedIn
    channels = choose(user)
    authorise_each(user, channels, field=field)
    key = request.session.session_key
    return Reader.of_session(user, key, expires_at(key), hidden=_is_hidden(user)), frozenset(channels)


def by_grant(grant: Grant, choose: Choose, *, field: str = "") -> Admitted:
    """Do so by what a token grants; no session is looked up.

    Its scope comes before anything else is asked about a channel: outside of it nothing is learnt.
    """
    user = tokens.user_of(grant)
    channels = choose(user)
    tokens.check_scope(grant, channels, field=field or "channel")
    if user is not None:
        authorise_each(user, channels, field=field)
    return Reader.of_grant(grant, user, hidden=_is_hidden(user)), frozenset(channels)


def _is_hidden(user: AbstractBaseUser | None) -> bool:
    return bool(settings.STREAMS_PRESENCE) and user is not None and preferences.is_hidden(user)


def named(names: Sequence[str], *, field: str, read: Callable[[str], Name]) -> list[Name]:
    """Return what `read` makes of the names; raise Invalid, naming a malformed one by its place."""
    found = []
    for number, name in enumerate(names):
        try:
            found.append(read(name))
        except ChannelMalformed as error:
            raise Invalid(errors=(FieldError(f"{field}.{number}", error.errors[0].message),)) from None
    return found


def authorise_each(user: AbstractBaseUser, channels: Sequence[str], *, field: str = "") -> None:
    """Raise why a channel may not be read, by its place in the field, if any; a pattern is asked nothing."""
    for number, channel in enumerate(channels):
        try:
            if not is_open(channel):
                authorise(user, [Channel(channel)])
        except (Forbidden, NotFound) as error:
            if not field:
                raise
            fault = FieldError(f"{field}.{number}", error.detail)
            raise type(error)(error.detail, errors=(fault,)) from None


def expires_at(session_key: str | None) -> float | None:
    """Return when a session ends, in Unix seconds."""
    # As stored: the session's own `get_expiry_date` counts from now, so an old one would live on.
    dates = Session.objects.filter(session_key=session_key).values_list("expire_date", flat=True)
    expire_date = dates.first()
    return None if expire_date is None else expire_date.timestamp()


class SessionAsItIs(SessionStore):
    """A session that is looked into where no answer could set a cookie.

    Django moves a session to another key, or ends it, when it finds it signed with an older secret key or
    a changed password: whoever holds the cookie would be logged out by a mere look.
    """

    key_salt = SessionStore().key_salt  # it is made of the class's name

    def cycle_key(self) -> None:
        """Keep the key: the next request over HTTP moves the session."""

    def flush(self) -> None:
        """Keep the row: likewise."""


async def admit_again(
    reader: Reader, choose: Choose, *, field: str = "", hub: "Hub | None" = None
) -> Admitted:
    """Ask anew what `admit` asked, for a reader whose request is long gone; raises as it does."""
    grant = reader.grant
    hub = hub if settings.STREAMS_DIRECT else None
    if grant is not None:
        admitted = None if hub is None else await direct.by_grant(hub, grant, choose)
        return admitted or await _in_thread(lambda: by_grant(grant, choose, field=field))
    session = SessionAsItIs(reader.session_key)
    admitted = None if hub is None else await direct.by_session(hub, session, choose)

    def ask() -> Admitted:
        request = HttpRequest()
        request.session = session
        return by_session(request, choose, field=field)

    return admitted or await _in_thread(ask)


async def still_permitted(
    reader: Reader, channels: frozenset[Channel], *, hub: "Hub | None" = None
) -> Reader | None:
    """Return who reads, as they are now; None where the session or token, or the permission, is gone."""
    try:
        again, _ = await admit_again(reader, lambda user: sorted(channels), hub=hub)
    except TickertapeError:
        return None
    return again if again.user_id == reader.user_id else None
