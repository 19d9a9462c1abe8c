"""How users stand: who they are, and which of some channels they may read, by one statement for some of them.

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
SELECT asked_of.number,
    reader.id, reader.username, reader.password, reader.is_active, reader.is_staff, reader.is_superuser,
    ARRAY(
        SELECT auth_group.name FROM auth_user_groups JOIN auth_group ON auth_group.id = group_id
        WHERE user_id = reader.id),
    EXISTS (SELECT FROM events_preferences WHERE user_id = reader.id AND presence = 'hidden'),
    EXISTS (
        SELECT FROM events_endedsession
        WHERE digest = asked_of.session AND ended_at <= statement_timestamp()),
    COALESCE((
        SELECT bool_and(COALESCE({allowed}, false))
        FROM (
            SELECT split_part(name, ':', 1), split_part(name, ':', 2)
            FROM unnest(string_to_array(asked_of.channels, ' ')) AS name) AS asked(kind, key)), true)
FROM unnest(
        string_to_array(%(users)s, ' ')::bigint[],
        string_to_array(%(sessions)s, ' '),
        string_to_array(%(channels)s, E'\\n'))
    WITH ORDINALITY AS asked_of(user_id, session, channels, number)
    JOIN auth_user AS reader ON reader.id = asked_of.user_id
"""
_FIELDS = "id", "username", "password", "is_active", "is_staff", "is_superuser"


@dataclass(frozen=True, slots=True)
class Asked:
    """Of whom, and of which channels, it is asked."""

    user_id: str  # as in ID
    channels: Sequence[Channel]
    session: str = ""  # the digest of one that may have ended before its time


@dataclass(frozen=True, slots=True)
class Standing:
    """Who somebody is at one moment, and what they may."""

    user: User  # with `group_names`; its other fields are not there
    hidden: bool  # others are not to be shown what they have open
    session_ended: bool  # the one that was asked about, before its time
    may_read_all: bool  # surely; False may be said of what only a rule knows


def question(asked: Sequence[Asked]) -> tuple[str, dict[str, Any]]:
    """Return the statement for some users, and what it is asked with; raise ValueError, of no names."""
    # As texts, of what no name, id or digest has in it: arrays would cost more than all else here.
    return _statement(), {
        "users": _joined(" ", [each.user_id for each in asked]),
        "sessions": _joined(" ", [each.session for each in asked]),
        "channels": _joined("\n", [_joined(" ", each.channels) for each in asked]),
    }


def _joined(by: str, texts: Sequence[str]) -> str:
    """Join texts; raise ValueError where one has in it what they are joined by: all after it would shift."""
    joined = by.join(texts)
    if joined.count(by) != max(0, len(texts) - 1):
        raise ValueError("a name that is none")
    return joined


def read(rows: Sequence[tuple[Any, ...]], number: int) -> list[Standing | None]:
    """Return what the rows of an answer say of so many users; None of one that there is not."""
    found: list[Standing | None] = [None] * number
    for place, *fields, groups, hidden, session_ended, may_read_all in rows:
        user = User(**dict(zip(_FIELDS, fields, strict=True)))
        user.group_names = groups  # type: ignore[attr-defined]
        found[place - 1] = Standing(user, hidden, session_ended, may_read_all)
    return found


def _statement() -> str:
    allowing = " ".join(
        f"WHEN '{kind.name}' THEN {kind.allows}" for kind in kinds().values() if kind.allows is not None
    )
    return _SQL.format(allowed=f"CASE asked.kind {allowing} END")
