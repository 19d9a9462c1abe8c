"""The log: append-only, read in order; with the triggers of access and erasure the only writer of its tables.

Order of position is order of placement: whoever has seen 41 will never find a new 40.
An append takes no lock. Its event has no position until `place` gives it one, after the
transaction that appended it has committed; so a slow transaction holds up nobody, and
what was rolled back was never seen.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from json import dumps
from typing import Any, ClassVar, TypeVar

import psycopg
from django.conf import settings
from django.db import connection, transaction
from django.dispatch import Signal

from events import arrays
from events.channels import Channel
from events.cursor import Cursor
from events.errors import Unavailable
from events.new import New as New
from events.new import new as new
from events.new import new_raw as new_raw
from events.pages import ALL_SQL as ALL_SQL
from events.pages import CHANNELS_SQL as CHANNELS_SQL
from events.pages import TYPES_SQL as TYPES_SQL
from events.pages import WINDOW as WINDOW
from events.pages import Entry as Entry
from events.pages import EventId as EventId
from events.pages import Page as Page
from events.pages import page_of as page_of
from events.registry import EventType

T = TypeVar("T")

# Events, and bytes of them, that a placing hands back: with the log's row locked, so no more than a kernel
# takes for a client that is frozen; a turn seldom places more.
READ_EVENTS, READ_BYTES = 100, 24 * 1024
_PLACE_SQL = "SELECT * FROM tickertape_place_and_read(%s, %s, %s)"
# A pooler changed the session, as some do after each transaction, and keeps no plans; or a newer release
# changed what the function returns.
_NO_PLAN = (
    psycopg.errors.InvalidSqlStatementName,
    psycopg.errors.DuplicatePreparedStatement,
    psycopg.errors.ProtocolViolation,
    psycopg.errors.FeatureNotSupported,
)
SNAPSHOT_TRIES = 50  # each places what the one before saw unplaced: more means that something is wrong

# Sent after a commit that appended: a hint that placing has work. The only arrow upwards.
appended = Signal()


class LogPruned(EventType):
    """The oldest events were removed; `oldest` is the first position that is kept."""

    sent_on: ClassVar = ("internal",)

    oldest: int


@dataclass(frozen=True, slots=True)
class Placed:
    """What one call of `place` did: events placed by it, and the log's head after it.

    `page` has the events, where it was asked for and they are few.
    """

    epoch: str
    head: int
    count: int
    page: Page | None = None


def append(
    event: EventType,
    *,
    channels: Sequence[Channel],
    actor_id: int | None = None,
    caused_by: EventId | None = None,
    unique_key: str | None = None,
) -> EventId:
    """Record one event.

    Call inside the transaction that makes the change the event records, with the
    subject's row locked; it is placed and published after that transaction commits. With a
    `unique_key` that was used before, nothing is recorded and the first event's id returned.
    Raises PayloadInvalid, PayloadTooLarge, ChannelMalformed.
    """
    made = new(event, channels=channels, actor_id=actor_id, caused_by=caused_by, unique_key=unique_key)
    return append_all([made])[0]


def append_with(
    event: EventType,
    *,
    subject: tuple[str, Sequence[Any]],
    row: tuple[str, Sequence[Any]],
    channels: Sequence[Channel],
    actor_id: int,
) -> EventId | None:
    """Record one event and the row that is folded from it by one statement; else as `append`.

    The `subject`, a SELECT with its parameters, locks the subject's row; where it finds none, nothing is
    recorded and None returned. `row` inserts by a SELECT from `recorded`, whose `id` is the event's. The
    statement is a transaction of its own, or part of the one that is open: alone it holds the subject's
    lock while the database works, and not while a busy process comes round to its next word.
    """
    made = new(event, channels=channels, actor_id=actor_id)
    (locks, subjects), (folds, columns) = subject, row
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH subject AS ({locks}), recorded AS ({_GIVEN_SQL}), folded AS ({folds})"  # noqa: S608
            " SELECT id FROM recorded",
            [*subjects, *_columns_of(made), *columns],
        )
        found = cursor.fetchone()
    if found is None:
        return None
    announce()
    return EventId(found[0])


def append_raw(name: str, payload: dict[str, Any], *, channels: Sequence[Channel], **more: Any) -> EventId:
    """Record an event whose type is known by name only; else as `append`."""
    return append_all([new_raw(name, payload, channels=channels, **more)])[0]


_COLUMNS = "type, version, data, channels, actor_id, caused_by, unique_key"
_INSERT = f"INSERT INTO events_event ({_COLUMNS})"
_ONCE = "ON CONFLICT (unique_key) DO NOTHING RETURNING id, unique_key"
_VALUES = "VALUES (%s, %s, %s, %s, %s, %s, %s)"
_ONE_SQL = f"{_INSERT} {_VALUES} {_ONCE}"
_GIVEN_SQL = f"{_INSERT} SELECT %s, %s, %s, %s, %s, %s, %s FROM subject RETURNING id"  # noqa: S608
# Of all ways to hand many rows over, a document of them costs both sides the least.
_MANY_SQL = f"""
{_INSERT} SELECT {_COLUMNS} FROM ROWS FROM (json_to_recordset(%s::json) AS (
    type text, version smallint, data text, channels text[],
    actor_id bigint, caused_by bigint, unique_key text
)) WITH ORDINALITY ORDER BY ordinality {_ONCE}
"""  # noqa: S608


def _columns_of(made: New) -> Sequence[Any]:
    """Return the values of `_COLUMNS`. To adapt the list of channels took a tenth of an INSERT's CPU."""
    kind, version, data, channels, *others = made
    return (kind, version, data, arrays.texts(channels), *others)


def append_all(news: Sequence[New]) -> list[EventId]:
    """Record events in their order, by one statement; return their ids. Else as `append`."""
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("append inside the transaction that makes the change")
    return _append_all(news)


def append_alone(news: Sequence[New]) -> list[EventId]:
    """Record events that no other change goes with, all or none; else as `append_all`.

    Without unique keys they are one statement, which is a transaction of its own.
    """
    if all(made.unique_key is None for made in news):
        return _append_all(news)
    with transaction.atomic():
        return _append_all(news)


def _append_all(news: Sequence[New]) -> list[EventId]:
    ids: dict[int, EventId] = {}  # by place
    with connection.cursor() as cursor:
        while left := [place for place in range(len(news)) if place not in ids]:
            if len(left) == 1:
                cursor.execute(_ONE_SQL, _columns_of(news[left[0]]))
            else:
                cursor.execute(_MANY_SQL, [dumps([news[place]._asdict() for place in left])])
            inserted = deque(cursor.fetchall())
            for place in left:
                if inserted and inserted[0][1] == news[place].unique_key:
                    ids[place] = EventId(inserted.popleft()[0])
            used = [place for place in left if place not in ids]
            if used:  # or else what has such a key is pruned before this
                cursor.execute(
                    "SELECT id, unique_key FROM events_event WHERE unique_key = ANY (%s::text[])",
                    [arrays.texts(key for place in used if (key := news[place].unique_key) is not None)],
                )
                known = {key: EventId(event_id) for event_id, key in cursor.fetchall()}
                ids |= {n: known[key] for n in used if (key := news[n].unique_key) in known}
    if ids:
        announce()
    return [ids[place] for place in range(len(news))]


def used(keys: Iterable[str]) -> set[str]:
    """Return those of some unique keys that events have."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT unique_key FROM events_event WHERE unique_key = ANY (%s::text[])", [arrays.texts(keys)]
        )
        return {key for (key,) in cursor.fetchall()}


def announce() -> None:
    """Hint, once this transaction commits, that placing has work."""
    transaction.on_commit(_announce, robust=True)


def _announce() -> None:
    appended.send_robust(sender=None)


def place(batch: int | None = None, *, read: bool = False) -> Placed:
    """Give positions to committed events that have none, at most `batch` of them, by id.

    One autocommitted call of a database function, so a caller that is frozen in the middle
    holds no lock. To `read`, too, spares whoever publishes a question. Raises
    TransactionManagementError inside a transaction.
    """
    if connection.in_atomic_block:
        raise transaction.TransactionManagementError(
            "placing holds the log's row: never inside a transaction"
        )
    most = (settings.WORKERS_PUBLISH_BATCH, settings.WORKERS_PUBLISH_BYTES) if read else (0, 0)
    asked = [batch or settings.WORKERS_PLACE_BATCH, min(READ_EVENTS, most[0]), min(READ_BYTES, most[1])]
    with connection.cursor() as wrapped, connection.wrap_database_errors:
        rows = _planned_once(wrapped.connection, _PLACE_SQL, asked)
    count, epoch, _, head = rows[0][:4]
    handed = rows[0][7] is not None  # the first one's position
    page = page_of([row[1:] for row in rows], after=head - count, limit=count + 1) if handed else None
    return Placed(epoch, head, count, page)


def _planned_once(link: psycopg.Connection[Any], sql: str, parameters: Sequence[Any]) -> list[Any]:
    """Return the rows of a statement that its session plans once: Django's own cursors have it planned anew.

    Of what a small placing costs PostgreSQL, that was a tenth.
    """
    cursor = psycopg.Cursor(link)
    if link.prepare_threshold is not None:
        with suppress(*_NO_PLAN):
            rows = cursor.execute(sql, parameters).fetchall()
            if cursor.pgresult is not None and cursor.pgresult.fname(0) == b"placed":  # `description` is dear
                return rows
        # Without, from now on: what was done by no plan of ours placed nothing.
        link.prepare_threshold = None
    return psycopg.Cursor(link).execute(sql, parameters).fetchall()


def head() -> Cursor:
    """Return the cursor of the last placed event."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT epoch, head FROM events_logstate")
        return Cursor(*cursor.fetchone())


def look(*, seen: Cursor | None = None, marks: Sequence[str] = ()) -> str:
    """Begin a new epoch where the log is not the one it was; return a mark of where it stands.

    It is another one where it lacks what was `seen` of it or what a mark, returned by an earlier
    look, was made of: whoever keeps one where a restore of the database does not reach notices it.
    """
    epoch, position = ("", 0) if seen is None else (seen.epoch, seen.position)
    with connection.cursor() as cursor:
        cursor.execute("SELECT mark FROM tickertape_look(%s, %s, %s)", [epoch, position, list(marks)])
        return str(cursor.fetchone()[0])


def read(
    after: int,
    *,
    channels: Sequence[Channel] | None = None,
    types: Collection[str] | None = None,
    limit: int = 500,
    max_bytes: int = 1024 * 1024,
) -> Page:
    """Return the page of entries above a position; a single entry may exceed `max_bytes`.

    That of some `types` covers WINDOW positions at most, however few of them are of these.
    """
    asked = {"after": after, "limit": limit, "bytes": max_bytes}
    with connection.cursor() as cursor:
        if types is not None:
            cursor.execute(TYPES_SQL, {**asked, "types": list(types), "window": WINDOW})
            return page_of(cursor.fetchall(), after=after, limit=limit, window=WINDOW)
        cursor.execute(
            ALL_SQL if channels is None else CHANNELS_SQL, {**asked, "channels": list(channels or ())}
        )
        return page_of(cursor.fetchall(), after=after, limit=limit)


def snapshot(channels: Sequence[Channel], query: Callable[[], T]) -> tuple[T, Cursor]:
    """Run `query` and return its result with the cursor at which it is true.

    Raises Unavailable where the channels are never without an unplaced event.

    Who renders the result and streams the channels from the cursor misses nothing and sees
    nothing twice: the query sees just the changes whose events are at or below the cursor.
    Not inside a transaction. `query` must fetch what it needs, lazy querysets included.
    """
    if connection.in_atomic_block:
        raise transaction.TransactionManagementError("a snapshot is a transaction of its own")
    for _ in range(SNAPSHOT_TRIES):
        with transaction.atomic(), closing(connection.cursor()) as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor.execute(
                "SELECT epoch, head, EXISTS (SELECT FROM events_event WHERE position IS NULL"
                " AND id > l.settled_to AND channels && %s::text[])"
                " FROM (SELECT * FROM events_logstate ORDER BY id DESC LIMIT 1) l",
                [list(channels)],
            )
            epoch, head_, unplaced = cursor.fetchone()
            result = None if unplaced else query()
        if not unplaced:
            return result, Cursor(epoch, head_)  # type: ignore[return-value]
        place()
    raise Unavailable("There is too much going on in these channels; try again soon.")


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one call of `prune_batch` did; `oldest` is the first position that is kept."""

    removed: int
    oldest: int
    done: bool


def prune_batch(upto: int, *, batch: int = 1_000) -> Pruned:
    """Remove at most `batch` of the events at or below a position, the oldest first.

    One autocommitted call of a database function, which leaves a `LogPruned`, by which hubs
    forget with the log. Waits for a rebuild that is under way.
    """
    if connection.in_atomic_block:
        raise transaction.TransactionManagementError(
            "pruning holds the log's row: never inside a transaction"
        )
    with connection.cursor() as cursor:
        cursor.execute("SELECT removed, oldest, done FROM tickertape_prune(%s, %s)", [upto, batch])
        pruned = Pruned(*cursor.fetchone())
    if pruned.removed:
        announce()
    return pruned


def prune(upto: int, *, batch: int = 1_000) -> int:
    """Remove the events at or below a position, in bounded batches; return how many.

    Cursors before what is left are answered with `stream.reset`.
    """
    removed = 0
    while True:
        pruned = prune_batch(upto, batch=batch)
        removed += pruned.removed
        if pruned.done:
            return removed


def new_epoch() -> str:
    """Begin a new epoch: every cursor given before is answered with `stream.reset`."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tickertape_new_epoch(NULL)")
        return str(cursor.fetchone()[0])
