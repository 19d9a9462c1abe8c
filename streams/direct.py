"""Who reads, and whether they may, asked in the event loop: no thread, no ORM, a question or two.

What `permission.admit` says counts, and this says yes where that would, or it says nothing (None): then
that is asked. So whatever is refused, unusual or only known to a rule of an app's is decided, and put into
words, in one place. Each question is one statement, so of one moment, on a connection of the hub's.
"""

import logging
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.module_loading import import_string

from events import standing
from events.channels import Channel
from events.errors import TickertapeError
from streams import tokens
from streams.behind import DATABASE_AWAY
from streams.reader import Admitted, Choose, Grant, Reader

if TYPE_CHECKING:
    from streams.hub import Hub

logger = logging.getLogger(__name__)

SESSION_SQL = (
    "SELECT session_data, expire_date FROM django_session WHERE session_key = %s AND expire_date > %s"
)

Check = Callable[[Sequence[Channel]], None]


async def admit(hub: "Hub", request: HttpRequest, choose: Choose) -> Admitted | None:
    """Return the request's reader and channels; None is no refusal. Raises OperationalError."""
    token = tokens.given(request)
    if token is None:
        if request.session.session_key is not None or SESSION_KEY in request.session:
            found = await by_session(hub, request.session, choose)
            if found is None:  # the session is asked for again, and may be gone by then
                request.session.__dict__.pop("_session_cache", None)
            return found
        token = tokens.kept(request)
    try:
        grant = None if token is None else tokens.read_ours(token)
    except TickertapeError:
        return None
    return None if grant is None else await by_grant(hub, grant, choose)


async def by_session(hub: "Hub", session: SessionBase, choose: Choose) -> Admitted | None:
    """Do so by a session, which has been looked into then."""
    key = session.session_key
    if key is None or not _is_djangos(session):
        return None
    rows = await _ask(hub, SESSION_SQL, (key, timezone.now()))
    if not rows:
        return None
    [(data, expire_date)] = rows
    session._session_cache = session.decode(data)  # type: ignore[attr-defined]  # as its `load` would
    if not _is_plain(session.get(BACKEND_SESSION_KEY)):
        return None
    found = await _ask_of(hub, session.get(SESSION_KEY), choose)
    if found is None:
        return None
    who, channels = found
    mark = session.get(HASH_SESSION_KEY)
    # An older secret key's is moved to the present one, which is a change: not here.
    if not mark or not constant_time_compare(mark, who.user.get_session_auth_hash()):
        return None
    reader = Reader.of_session(who.user, key, expire_date.timestamp(), hidden=_is_hidden(who))
    return reader, frozenset(channels)


async def by_grant(hub: "Hub", grant: Grant, choose: Choose) -> Admitted | None:
    """Do so by what a token grants. Its scope comes before anything is asked about a channel."""
    if grant.issuer:  # whose keys are in a file
        return None
    found = await _ask_of(
        hub,
        grant.user_id,
        choose,
        session=grant.session,
        check=lambda asked: tokens.check_scope(grant, asked),
    )
    if found is None:
        return None
    who, channels = found
    if who.session_ended or not tokens.is_of(grant, who.user):
        return None
    return Reader.of_grant(grant, who.user, hidden=_is_hidden(who)), frozenset(channels)


async def _ask_of(
    hub: "Hub", user_id: Any, choose: Choose, *, session: str = "", check: Check = lambda asked: None
) -> tuple[standing.Standing, Sequence[Channel]] | None:
    """Return how a user stands who may read all that they choose; None where that is not so, or not sure."""
    if (
        settings.DATABASE_ROUTERS
        or get_user_model() is not User
        or not isinstance(user_id, str)
        or not standing.ID.fullmatch(user_id)
    ):
        return None
    user: Any = SimpleNamespace(pk=int(user_id), group_names=[])  # until they are known
    try:
        # Whom `me` is, in which groups, is asked with the rest; for a group the question is put again.
        for _ in range(2):
            asked = choose(user)
            check(asked)
            rows = await _ask(hub, *standing.question(user_id, asked, session=session))
            if not rows:
                return None
            found = standing.read(rows[0])
            if not found.user.is_active or not found.may_read_all:
                return None
            user = found.user
            if {*choose(user)} <= {*asked}:
                return found, asked
    except TickertapeError:
        pass
    return None


async def _ask(hub: "Hub", sql: str, parameters: Any) -> list[tuple[Any, ...]]:
    try:
        async with hub.replay.turns:
            return await hub.fetch(sql, parameters)
    except DATABASE_AWAY as error:
        raise OperationalError(str(error)) from error
    except (psycopg.Error, ValueError) as error:  # a key that is no text to PostgreSQL; a rule that is no SQL
        logger.warning(
            "A question was not understood; it is put again.", extra={"error": type(error).__name__}
        )
        return []


def _is_hidden(who: standing.Standing) -> bool:
    return bool(settings.STREAMS_PRESENCE) and who.hidden


def _is_djangos(session: SessionBase) -> bool:
    """Tell whether a session is a row of Django's own table, and nothing else."""
    kind = type(session)
    return (
        issubclass(kind, SessionStore)
        and kind.load is SessionStore.load
        and kind.get_model_class() is Session
        and not settings.DATABASE_ROUTERS
    )


def _is_plain(backend: Any) -> bool:
    """Tell whether the backend that logged somebody in counts, and knows its users as Django's own does."""
    if backend not in settings.AUTHENTICATION_BACKENDS:
        return False
    kind = import_string(backend)
    return (
        issubclass(kind, ModelBackend)
        and kind.get_user is ModelBackend.get_user
        and kind.user_can_authenticate is ModelBackend.user_can_authenticate
    )
