"""Who reads: what a change of access is matched against, and what to ask again whether they still may."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

from django.contrib.auth.models import AbstractBaseUser

from events.access import session_digest
from events.channels import Channel


@dataclass(frozen=True, slots=True)
class Grant:
    """What a stream token says: who may read what, until when, and by what it may end sooner."""

    user_id: str
    channels: frozenset[str]  # and patterns, as in `streams.scope`
    expires_at: int  # Unix seconds
    session: str  # the digest of the session that asked for it
    password: str  # a mark of the user's password
    issuer: str = ""  # who signed it, where that was not us: then there is no session, and no user of ours
    key: str = ""  # the mark of the issuer's key by which it was signed


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads."""

    user_id: str
    session: str | None = None  # the session's digest, as AccessChanged names it
    session_key: str | None = field(default=None, repr=False)  # a secret: for rechecks only
    expires_at: float | None = None  # Unix seconds
    username: str = field(default="", repr=False)
    grant: Grant | None = None  # in place of a session
    hidden: bool = False  # others are not to be shown what they have open

    @classmethod
    def of_session(
        cls, user: AbstractBaseUser, key: str | None, expires_at: float | None, *, hidden: bool
    ) -> Self:
        """Return the user of a session."""
        return cls(
            user_id=str(user.pk),
            session=session_digest(key) if key else None,
            session_key=key,
            expires_at=expires_at,
            username=user.get_username(),
            hidden=hidden,
        )

    @classmethod
    def of_grant(cls, grant: Grant, user: AbstractBaseUser | None, *, hidden: bool) -> Self:
        """Return whom a grant stands for; None is a user of an issuer's."""
        return cls(
            user_id=grant.user_id,
            session=grant.session or None,
            expires_at=float(grant.expires_at),
            username="" if user is None else user.get_username(),
            grant=grant,
            hidden=hidden,
        )

    @property
    def is_user(self) -> bool:
        """Tell whether it is a user of ours: an issuer's users have no row here, and no name."""
        return self.grant is None or not self.grant.issuer


Choose = Callable[[AbstractBaseUser | None], Sequence[Channel]]  # None is a user of an issuer's
Admitted = tuple[Reader, frozenset[Channel]]
