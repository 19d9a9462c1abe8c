"""Who reads: what a change of access is matched against, and what to ask again whether they still may."""

from dataclasses import dataclass, field


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

    @property
    def is_user(self) -> bool:
        """Tell whether it is a user of ours: an issuer's users have no row here, and no name."""
        return self.grant is None or not self.grant.issuer
