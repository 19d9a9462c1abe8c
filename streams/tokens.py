"""Stream tokens: JWTs, short-lived leave to open streams of some channels, and for nothing else.

One of ours stands in for its user's session: it ends with that session, with the user's password and
at its own hour, whichever is first. Whether the user may read a channel it does not say; that is asked
each time, as of a session. One of an issuer's (`streams.issuers`) stands for a user of theirs, and is
all there is to ask. Tokens are signed and not encrypted: nothing in ours is a secret of ours.
"""

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from hashlib import sha256
from typing import Annotated

import jwt
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Exists, Value
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac
from jwt.utils import base64url_decode
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from events import retention
from events.access import session_digest
from events.errors import ChannelForbidden, ChannelMalformed, FieldError, Forbidden, NotLoggedIn
from events.models import EndedSession
from streams import issuers
from streams.issuers import OURS
from streams.reader import Grant
from streams.scope import check_pattern, covers

SALT = "tickertape.streams.token"  # so that nothing else that we sign is one
COOKIE = "tickertape_token"
LEAST_SECONDS, MOST_SECONDS, USUAL_SECONDS = 60, 24 * 3600, 3600
SKEW_SECONDS = 5  # that an issuer's clock may be ahead of ours
_MARK_LENGTH = (
    16  # hexadecimal digits of the password's hash, which has a random salt: enough to tell two apart
)
_LONGEST = 20_000  # characters: more than the most channels take
_SHOWN = 5  # channels of a token that a refusal names


class TokenInvalid(NotLoggedIn):
    """The token is not valid, or not any more: ask for another."""

    code = "token_invalid"
    challenge = 'Bearer error="invalid_token"'


class TokenExpired(TokenInvalid):
    """The token has expired: ask for another."""

    code = "token_expired"


class TokenTooWide(Forbidden):
    """The token is for channels that its issuer may not grant."""

    code = "token_scope"


class _Claims(BaseModel):
    """What a token says (RFC 7519), once its signature, issuer, audience and times are right."""

    model_config = ConfigDict(strict=True, extra="ignore")

    sub: Annotated[str, Field(min_length=1, max_length=200)]
    channels: Annotated[list[str], Field(min_length=1, max_length=1_000)]
    exp: Annotated[float, Field(allow_inf_nan=False)]


class _OurClaims(_Claims):
    """What one of ours says besides."""

    sid: str
    mark: str


def sign(grant: Grant) -> str:
    """Return the token of a grant of ours."""
    claims = {
        "iss": OURS,
        "aud": OURS,
        "sub": grant.user_id,
        "channels": sorted(grant.channels),
        "iat": int(time.time()),
        "exp": grant.expires_at,
        "sid": grant.session,
        "mark": grant.password,
    }
    [(name, key), *_] = _our_keys().items()
    return jwt.encode(claims, key.key, algorithm=key.algorithm_name, headers={"kid": name})


def read(token: str) -> Grant:
    """Return what a token grants, whoever uses it.

    Raises TokenInvalid, TokenExpired, TokenTooWide. What was wrong is said of a token that is truly
    signed, and of no other. May read a file of keys.
    """
    with _in_our_words(token):
        issuer, kid = _names(token)
        return _ours(token, kid) if issuer == OURS else _foreign(token, issuer, kid)


def read_at_hand(token: str) -> Grant | None:
    """Do so without reading a file; None for what names a key that may be in one, or none that we know."""
    with _in_our_words(token):
        header = json.loads(base64url_decode(token.partition(".")[0]))
        kid = header.get("kid") if isinstance(header, dict) else None
        if isinstance(kid, str) and kid in _our_keys():
            return _ours(token, kid)
        issuer, kid = _names(token)
        return _foreign(token, issuer, kid) if issuers.is_at_hand(issuer) else None


def _names(token: str) -> tuple[object, object]:
    """Return the issuer and the `kid` that a token names, of which nothing else is believed yet."""
    said = jwt.decode_complete(token, options={"verify_signature": False})
    return said["payload"].get("iss"), said["header"].get("kid")


@contextmanager
def _in_our_words(token: str) -> Iterator[None]:
    """Say what is wrong with a token, of one that is truly signed; of any other, that it is not valid."""
    if len(token) > _LONGEST:
        raise TokenInvalid
    try:
        yield
    except jwt.ExpiredSignatureError:
        raise TokenExpired from None
    except jwt.ImmatureSignatureError:
        raise TokenInvalid("The token is not valid yet.") from None
    except jwt.InvalidAudienceError:
        raise TokenInvalid("The token is for somebody else: its audience is another.") from None
    except jwt.MissingRequiredClaimError as error:
        raise TokenInvalid(f"The token does not say its `{error.claim}`.") from None
    except ValidationError as error:  # which only what was verified comes to
        [fault, *_] = error.errors(include_input=False)
        raise _wrong(".".join(map(str, fault["loc"])), fault["msg"]) from None
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise TokenInvalid from None


def _wrong(claim: str, why: str) -> TokenInvalid:
    return TokenInvalid(f"The token's `{claim}` is wrong: {why}.")


def _ours(token: str, kid: object) -> Grant:
    key = _our_keys().get(kid) if isinstance(kid, str) else None
    said = _OurClaims.model_validate(_verified(token, key, OURS, OURS))
    return Grant(said.sub, frozenset(said.channels), int(said.exp), said.sid, said.mark)


def _foreign(token: str, name: object, kid: object) -> Grant:
    issuer = issuers.find(name)
    if issuer is None:
        raise TokenInvalid
    key = issuer.key(kid)
    if key is None:
        raise TokenInvalid
    said = _Claims.model_validate(_verified(token, key.jwk, issuer.name, issuer.audience))
    for number, each in enumerate(said.channels):
        try:
            check_pattern(each)
        except ChannelMalformed as malformed:
            raise _wrong(f"channels.{number}", malformed.errors[0].message) from None
    channels = frozenset(said.channels)
    if not all(covers(issuer.channels, each) for each in channels):
        error = FieldError("token", f"its issuer may grant {_shown(issuer.channels)}, and nothing else")
        raise TokenTooWide(errors=(error,))
    # No user of ours has such an id.
    return Grant(f"{issuer.name}|{said.sub}", channels, int(said.exp), "", "", issuer.name, key.mark)


def _verified(token: str, key: jwt.PyJWK | None, issuer: str, audience: str) -> dict[str, object]:
    """Return the claims of a token that this key, which has one algorithm, signed; raise PyJWTError."""
    if key is None:
        raise TokenInvalid
    claims: dict[str, object] = jwt.decode(
        token,
        key,
        algorithms=[key.algorithm_name],
        issuer=issuer,
        audience=audience,
        leeway=SKEW_SECONDS,
        options={
            "require": ["iss", "aud", "sub", "exp"],
            "verify_sub": False,
        },  # `_Claims` says what is wrong
    )
    left = float(str(claims["exp"])) - time.time()
    if left <= 0:
        raise jwt.ExpiredSignatureError  # the leeway is for the beginning: at `exp` a stream ends
    if left > MOST_SECONDS + SKEW_SECONDS:  # of an issuer's nothing but its hour ends it
        raise TokenInvalid(f"The token expires too late: {MOST_SECONDS} seconds from now is the latest.")
    return claims


def _our_keys() -> dict[str, jwt.PyJWK]:
    """Return the keys by `kid`: the one to sign by, then earlier ones."""
    return dict(map(_our_key, [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]))


@cache
def _our_key(secret: str) -> tuple[str, jwt.PyJWK]:
    key = salted_hmac(SALT, b"key", secret=secret, algorithm="sha256").digest()
    kid = sha256(b"kid" + key).hexdigest()[:16]
    return kid, jwt.PyJWK({"kty": "oct", "alg": "HS256", "k": urlsafe_b64encode(key).decode().rstrip("=")})


def given(request: HttpRequest) -> str | None:
    """Return the token that a request brings by header or query, in this order. It beats a session."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return request.GET.get("token")


def kept(request: HttpRequest) -> str | None:
    """Return the token that a browser keeps in a cookie. A session beats it.

    A cookie comes with every request, whoever set it: an old one would lock a user out who is logged in, and
    one of a neighbouring subdomain's would have them read as somebody else.
    """
    return request.COOKIES.get(COOKIE) or None


def user_of(grant: Grant) -> AbstractBaseUser | None:
    """Return whom a grant stands for, by one question; None is a user of an issuer's. Raises TokenInvalid."""
    if grant.issuer:
        issuer = issuers.find(grant.issuer)
        if issuer is None or not issuer.has(grant.key):
            raise TokenInvalid
        return None
    users = get_user_model()._default_manager.filter(pk=grant.user_id, is_active=True)
    ended = Exists(EndedSession.objects.filter(digest=Value(grant.session), ended_at__lte=Now()))
    user = users.filter(~ended).first()
    if user is None or not is_of(grant, user):
        raise TokenInvalid
    return user


def is_of(grant: Grant, user: AbstractBaseUser) -> bool:
    """Tell whether a grant of ours was given to the user as they are: with another password, no more."""
    return constant_time_compare(mark_of(user), grant.password)


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


def check_scope(grant: Grant, channels: Sequence[str], *, field: str = "channel") -> None:
    """Raise ChannelForbidden unless the grant is for all the channels.

    What it says is of the token, and the same whatever was asked: whether a channel exists, or which groups
    the user is in, is no business of a holder of a token for others.
    """
    if not all(covers(grant.channels, channel) for channel in channels):
        error = FieldError(field, f"the token is for {_shown(sorted(grant.channels))}, and nothing else")
        raise ChannelForbidden("The token is not for this channel.", errors=(error,))


def _shown(channels: Sequence[str]) -> str:
    more = len(channels) - _SHOWN
    return ", ".join(channels[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def mark_of(user: AbstractBaseUser) -> str:
    """Return what changes with the user's password, whatever becomes of SECRET_KEY."""
    return sha256(user.password.encode()).hexdigest()[:_MARK_LENGTH]


def _forget() -> int:
    """Remove the sessions whose tokens have all expired."""
    return retention.remove_older(EndedSession, "ended_at", timezone.now() - timedelta(seconds=MOST_SECONDS))


retention.leftover("ended sessions", _forget)
