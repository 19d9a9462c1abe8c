"""How a user stands: who they are, and which of some channels they may read, by one statement.

For the live edge, which has no ORM. What decides is what the rules of `events.channels` are given there as
SQL; where a kind of channel has only a rule, nothing is said of it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User

from events.channels import Channel, kinds

ID = re.compile(r"[1-9][0-9]{0,17}")  # of a user, where it surely fits into the database's integers

_SQL = """
SELECT reader.id, reader.username, reader.password, reader.is_active, reader.is_staff, reader.is_superuser,
    ARRAY(
        SELECT auth_group.name FROM auth_user_groups JOIN auth_group ON auth_group.id = group_id
        WHERE user_id = reader.id),
    EXISTS (SELECT FROM events_preferences WHERE user_id = reader.id AND presence = 'hidden'),
    EXISTS (
        SELECT FROM events_endedsession WHERE digest = %(session)s AND ended_at <= statement_timestamp()),
    COALESCE((
        SELECT bool_and(COALESCE({allowed}, false))
        FROM (
            SELECT split_part(name, ':', 1), split_part(name, ':', 2)
            FROM unnest(string_to_array(%(channels)s, ' ')) AS name) AS asked(kind, key)), true)
FROM auth_user AS reader WHERE reader.id = %(user)s
"""
_FIELDS = "id", "username", "password", "is_active", "is_staff", "is_superuser"


@dataclass(frozen=True, slots=True)
class Standing:
    """Who somebody is at one moment, and what they may."""

    user: User  # with `group_names`; its other fields are not there
    hidden: bool  # others are not to be shown what they have open
    session_ended: bool  # the one that was asked about, before its time
    may_read_all: bool  # surely; False may be said of what only a rule knows


def question(user_id: str, channels: Sequence[Channel], *, session: str = "") -> tuple[str, dict[str, Any]]:
    """Return the statement, and what it is asked with: of a user, some channels and a session's digest."""
    # As one text, which no name has a blank in: an array would cost more than all else here.
    return _statement(), {"user": int(user_id), "session": session, "channels": " ".join(channels)}


def read(row: tuple[Any, ...]) -> Standing:
    """Return what a row of the answer says."""
    *fields, groups, hidden, session_ended, may_read_all = row
    user = User(**dict(zip(_FIELDS, fields, strict=True)))
    user.group_names = groups  # type: ignore[attr-defined]
    return Standing(user, hidden, session_ended, may_read_all)


def _statement() -> str:
    allowing = " ".join(
        f"WHEN '{kind.name}' THEN {kind.allows}" for kind in kinds().values() if kind.allows is not None
    )
    return _SQL.format(allowed=f"CASE asked.kind {allowing} END")
