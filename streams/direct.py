"""Who reads, and whether they may, asked in the event loop: no thread, no ORM, a question or two.

What `permission.admit` says counts, and this says yes where that would, or it says nothing (None): then
that is asked. So whatever is refused, unusual or only known to a rule of an app's is decided, and put into
words, in one place. Each question is one statement, so of one moment, on a connection of the hub's; those
of a crowd are put as one.
"""

import logging
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
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
from streams import issuers, tokens
from streams.behind import DATABASE_AWAY
from streams.reader import Admitted, Choose, Grant, Reader
from streams.together import Answer, Question, Together

if TYPE_CHECKING:
    from streams.hub import Hub

logger = logging.getLogger(__name__)

SESSIONS_SQL = (
    "SELECT session_key, session_data, expire_date FROM django_session"
    " WHERE session_key = ANY(string_to_array(%s, ' ')) AND expire_date > %s"
)
KEY = re.compile(r"[0-9a-z]{8,40}")  # of a session, as Django makes them

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
        grant = None if token is None else tokens.read_at_hand(token)
    except TickertapeError:
        return None
    return None if grant is None else await by_grant(hub, grant, choose)


async def by_session(hub: "Hub", session: SessionBase, choose: Choose) -> Admitted | None:
    """Do so by a session, which has been looked into then."""
    key = session.session_key
    if key is None or not KEY.fullmatch(key) or not _is_djangos(session):
        return None
    found = await _ask(hub.desk.sessions, key)
    if found is None:
        return None
    data, expire_date = found
    session._session_cache = session.decode(data)  # type: ignore[attr-defined]  # as its `load` would
    if not _is_plain(session.get(BACKEND_SESSION_KEY)):
        return None
    standing_of = await _ask_of(hub, session.get(SESSION_KEY), choose)
    if standing_of is None:
        return None
    who, channels = standing_of
    mark = session.get(HASH_SESSION_KEY)
    # An older secret key's is moved to the present one, which is a change: not here.
    if not mark or not constant_time_compare(mark, who.user.get_session_auth_hash()):
        return None
    reader = Reader.of_session(who.user, key, expire_date.timestamp(), hidden=_is_hidden(who))
    return reader, frozenset(channels)


async def by_grant(hub: "Hub", grant: Grant, choose: Choose) -> Admitted | None:
    """Do so by what a token grants. Its scope comes before anything is asked about a channel."""
    if grant.issuer:
        return _by_issuer(grant, choose) if issuers.is_at_hand(grant.issuer) else None
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


def _by_issuer(grant: Grant, choose: Choose) -> Admitted | None:
    """Do so for a user of an issuer's, of whom the database knows nothing."""
    try:
        user = tokens.user_of(grant)
        asked = choose(user)
        tokens.check_scope(grant, asked)
    except TickertapeError:
        return None
    return Reader.of_grant(grant, user, hidden=False), frozenset(asked)


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
            found = await _ask(hub.desk.standings, standing.Asked(user_id, asked, session))
            if found is None or not found.user.is_active or not found.may_read_all:
                return None
            user = found.user
            if {*choose(user)} <= {*asked}:
                return found, asked
    except TickertapeError:
        pass
    return None


class Desk:
    """Where a hub's questions are put, of which a crowd asks the same at about the same moment."""

    def __init__(self, hub: "Hub") -> None:
        self.sessions = Together(partial(_sessions, hub))
        self.standings = Together(partial(_standings, hub))


async def _sessions(hub: "Hub", keys: list[str]) -> list[tuple[str, datetime] | None]:
    async with hub.replay.turns:
        rows = await hub.fetch(SESSIONS_SQL, (" ".join(keys), timezone.now()))
    found = {key: (data, expire_date) for key, data, expire_date in rows}
    return [found.get(key) for key in keys]


async def _standings(hub: "Hub", asked: list[standing.Asked]) -> list[standing.Standing | None]:
    async with hub.replay.turns:
        rows = await hub.fetch(*standing.question(asked))
    return standing.read(rows, len(asked))


async def _ask(desk: Together[Question, Answer | None], question: Question) -> Answer | None:
    try:
        return await desk.ask(question)
    except DATABASE_AWAY as error:
        raise OperationalError(str(error)) from error
    except (psycopg.Error, ValueError) as error:  # a rule that is no SQL
        logger.warning(
            "A question was not understood; it is put again.", extra={"error": type(error).__name__}
        )
        return None


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
