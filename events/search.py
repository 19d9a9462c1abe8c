"""The log as people look into it: what a few questions find, the newest of it, in order.

Only what is placed is found. A channel is looked up by its index; all else reads the log from its end
back, for a while and no longer. What is found are positions; the events are read a page at a time,
bounded by bytes as well, however many and large they are.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import OperationalError, connection, transaction

from events.channels import Channel
from events.errors import Unavailable
from events.log import EventId
from events.registry import current

LIMIT, MOST = 50, 10_000
SEARCH_SECONDS = 60.0
PAGE, PAGE_BYTES = 500, 1024 * 1024  # of events that are in memory at once: those of `log.read`
_CANCELLED = "57014"  # what PostgreSQL says of a statement that took too long


@dataclass(frozen=True, slots=True)
class Question:
    """What to look for; what is not given may be anything."""

    channels: Sequence[Channel] = ()  # on any of them
    types: Sequence[str] = ()
    since: datetime | None = None  # appended then or later: when its transaction began
    until: datetime | None = None  # before then
    actor_id: int | None = None
    family: EventId | None = None  # it, what it was caused by, and all that followed of that
    correlation_id: str | None = None  # as the payload says it, in capitals or not
    before: int | None = None  # a position: only what lies below it
    limit: int = LIMIT


@dataclass(frozen=True, slots=True)
class Found:
    """One placed event with all that the log keeps of it, in its type's shape of today."""

    position: int
    id: EventId
    type: str
    version: int
    data: str
    channels: tuple[str, ...]
    actor_id: int | None
    caused_by: int | None
    created_at: datetime


_COLUMNS = "position, id, type, version, data, channels, actor_id, caused_by, created_at"

# Who was caused by whom is in no index: each generation is one more look at what came after the first.
_FAMILY = """id IN (
    WITH RECURSIVE older AS (
        SELECT id, caused_by FROM events_event WHERE id = %s
        UNION SELECT e.id, e.caused_by FROM events_event e JOIN older ON e.id = older.caused_by
    ), every AS (
        SELECT id FROM older
        UNION SELECT e.id FROM events_event e JOIN every ON e.caused_by = every.id AND e.id > every.id
    ) SELECT id FROM every)"""

_WHOLE = f"""
WITH sized AS (
    SELECT {_COLUMNS}, place,
           sum(octet_length(data)) OVER (ORDER BY place) - octet_length(data) AS before
    FROM unnest(%s::bigint[]) WITH ORDINALITY AS wanted (at, place) JOIN events_event ON position = at
)
SELECT {_COLUMNS} FROM sized WHERE before < %s ORDER BY place
"""  # noqa: S608 (our columns)


def search(question: Question, *, seconds: float = SEARCH_SECONDS) -> list[int]:
    """Return the positions of what is found, rising: where there is more than the limit, the newest.

    Raises Unavailable where it takes too long. Not inside a transaction.
    """
    asked = dict(_conditions(question))
    where = " AND ".join(["position IS NOT NULL", *asked])
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{seconds:g}s"])
            cursor.execute(
                f"SELECT position FROM events_event WHERE {where}"  # noqa: S608 (conditions of ours)
                " ORDER BY position DESC LIMIT %s",
                [*asked.values(), question.limit],
            )
            return [position for (position,) in reversed(cursor.fetchall())]
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) != _CANCELLED:
            raise
        raise Unavailable(f"This takes more than {seconds:g} s: ask for a channel, or less.") from None


def pages(positions: Sequence[int]) -> Iterator[Found]:
    """Yield the events at these positions, in their order, reading on as they are taken.

    What was pruned meanwhile is left out.
    """
    for first in range(0, len(positions), PAGE):
        some = positions[first : first + PAGE]
        while found := whole(some):
            yield from found
            some = some[some.index(found[-1].position) + 1 :]


def whole(positions: Sequence[int]) -> list[Found]:
    """Return the first of the events at these positions, in their order: as many as PAGE_BYTES hold.

    A single one may exceed that. What was pruned meanwhile is left out.
    """
    if not positions:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_WHOLE, [list(positions), PAGE_BYTES])
        return [_found(row) for row in cursor.fetchall()]


def _conditions(question: Question) -> Iterable[tuple[str, Any]]:
    if question.channels:
        by_channel = "position IN (SELECT position FROM events_channelposition WHERE channel = ANY (%s))"
        yield by_channel, list(question.channels)
    if question.types:
        yield "type = ANY (%s)", list(question.types)
    if question.since is not None:
        yield "created_at >= %s", question.since
    if question.until is not None:
        yield "created_at < %s", question.until
    if question.actor_id is not None:
        yield "actor_id = %s", question.actor_id
    if question.before is not None:
        yield "position < %s", question.before
    if question.family is not None:
        yield _FAMILY, question.family
    if question.correlation_id is not None:
        # Some write a UUID in capitals. Lowering by "C" leaves what is not ASCII alone, and is fast.
        asked = f'"correlation_id":"{question.correlation_id.lower()}"'
        yield """strpos(lower(data COLLATE "C"), %s) > 0""", asked


def _found(row: Sequence[Any]) -> Found:
    position, event_id, type_, version, data, channels, *rest = row
    return Found(position, EventId(event_id), type_, *current(type_, version, data), tuple(channels), *rest)
