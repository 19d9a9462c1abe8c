"""Stream tokens: signed, short-lived leave to open streams of some channels, and for nothing else.

A token stands in for its user's session: it ends with that session, with the user's password and at
its own hour, whichever is first. Whether the user may read a channel it does not say; that is asked
each time, as of a session. It is signed and not encrypted: nothing in it is a secret of ours.
"""

import time
from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.contrib.sessions.models import Session
from django.core import signing
from django.db import transaction
from django.db.models import Exists, Value
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils import timezone

from events import retention
from events.access import session_digest
from events.errors import ChannelForbidden, FieldError, NotLoggedIn
from events.models import EndedSession
from streams.reader import Grant

SALT = "tickertape.streams.token"  # so that nothing else that we sign is one
LEAST_SECONDS, MOST_SECONDS, USUAL_SECONDS = 60, 24 * 3600, 3600
_MARK_LENGTH = (
    16  # hexadecimal digits of the password's hash, which has a random salt: enough to tell two apart
)
_LONGEST = 20_000  # characters: more than the most channels take


class TokenInvalid(NotLoggedIn):
    """The token is not valid, or not any more: ask for another."""

    code = "token_invalid"
    challenge = 'Bearer error="invalid_token"'


class TokenExpired(TokenInvalid):
    """The token has expired: ask for another."""

    code = "token_expired"


def sign(grant: Grant) -> str:
    """Return the token of a grant."""
    said = [grant.user_id, sorted(grant.channels), grant.expires_at, grant.session, grant.password]
    return signing.dumps(said, salt=SALT, compress=True)


def read(token: str) -> Grant:
    """Return what a token grants, whoever uses it; raise TokenInvalid or TokenExpired."""
    if len(token) > _LONGEST:
        raise TokenInvalid
    try:
        # By any of SECRET_KEY and SECRET_KEY_FALLBACKS; nothing is unpacked before the signature is right.
        user_id, channels, expires_at, session, password = signing.loads(token, salt=SALT)
    except (signing.BadSignature, ValueError):
        raise TokenInvalid from None
    if time.time() >= expires_at:
        raise TokenExpired
    return Grant(user_id, frozenset(channels), expires_at, session, password)


def given(request: HttpRequest) -> str | None:
    """Return the token that a request brings: the header beats the query. It also beats a session."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return request.GET.get("token")


def user_of(grant: Grant) -> AbstractBaseUser:
    """Return the user whom a grant stands for, by one question; raise TokenInvalid where that is over."""
    users = get_user_model()._default_manager.filter(pk=grant.user_id, is_active=True)
    ended = Exists(EndedSession.objects.filter(digest=Value(grant.session), ended_at__lte=Now()))
    user = users.filter(~ended).first()
    if user is None or mark_of(user) != grant.password:
        raise TokenInvalid
    return user


def live_on(session_key: str) -> None:
    """Let a session's tokens count as long as the session, which may have been cut short and then prolonged.

    The database notes an end by itself, but not that it is put off.
    """
    ended = EndedSession.objects.filter(digest=session_digest(session_key))
    if not ended.exists():
        return
    with transaction.atomic():  # locked: an end of now must come after this, or be seen
        session = Session.objects.select_for_update().filter(session_key=session_key).first()
        if session is not None:
            ended.filter(ended_at__lt=session.expire_date).update(ended_at=session.expire_date)


def check_scope(grant: Grant, channels: Sequence[str]) -> None:
    """Raise ChannelForbidden unless the grant is for all the channels."""
    for channel in channels:
        if channel not in grant.channels:
            error = FieldError("channel", f"{channel} is not among the token's channels")
            raise ChannelForbidden("The token is not for this channel.", errors=(error,))


def mark_of(user: AbstractBaseUser) -> str:
    """Return what changes with the user's password, whatever becomes of SECRET_KEY."""
    return sha256(user.password.encode()).hexdigest()[:_MARK_LENGTH]


def _forget() -> int:
    """Remove the sessions whose tokens have all expired."""
    return retention.remove_older(EndedSession, "ended_at", timezone.now() - timedelta(seconds=MOST_SECONDS))


retention.leftover("ended sessions", _forget)
