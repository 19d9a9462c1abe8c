"""What one user or one address may ask for in a minute, counted in PostgreSQL.

So it holds across web processes, and whatever Redis does. A subject has a row that says when all of
its minute's allowance will be there again: each use moves that on (the generic cell rate algorithm,
ITU-T I.371). It is touched before the work, by a statement that is its own transaction, so no lock is
held while the work is done; the table is unlogged, so no disk is waited for. A crash of PostgreSQL
empties it, which costs a minute's counts.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.db import NotSupportedError, connection
from django.db.backends.utils import CursorWrapper

from events.errors import RateLimited, Unavailable

# A use may overlap a full minute by half of itself: rounding must not take away the last one.
_SPEND = """
INSERT INTO events_allowance AS a (subject, spent_until)
VALUES (%(subject)s, clock_timestamp() + make_interval(secs => %(use)s))
ON CONFLICT (subject) DO UPDATE
SET spent_until = greatest(a.spent_until, clock_timestamp()) + make_interval(secs => %(use)s)
WHERE a.spent_until <= clock_timestamp() + make_interval(secs => 60 - %(use)s / 2)
"""

_CHARGE = """
INSERT INTO events_allowance AS a (subject, spent_until)
SELECT s, clock_timestamp() + make_interval(secs => %(use)s) FROM unnest(%(subjects)s::text[]) AS s
ORDER BY s
ON CONFLICT (subject) DO UPDATE
SET spent_until = greatest(a.spent_until, clock_timestamp()) + make_interval(secs => %(use)s)
"""

_WAIT = """
SELECT coalesce(max(extract(epoch FROM spent_until - clock_timestamp())), 0)::float8 - (60 - %(use)s / 2)
FROM events_allowance WHERE subject = ANY (%(subjects)s::text[])
"""


# Without a wait: in another order than _CHARGE's, each could have what the other waits for.
_SWEEP = """
DELETE FROM events_allowance WHERE subject IN (
    SELECT subject FROM events_allowance WHERE spent_until < clock_timestamp() FOR UPDATE SKIP LOCKED
)
"""


def spend(subject: str, *, per_minute: int) -> None:
    """Use one of a subject's minute's allowance; raise RateLimited where none is left. 0 is no limit."""
    if not per_minute:
        return
    use = 60 / per_minute
    while not _touch(_SPEND, subject=subject, use=use):
        check([subject], per_minute=per_minute)  # passes where some came back in between


def check(subjects: Sequence[str], *, per_minute: int) -> None:
    """Raise RateLimited where one of the subjects has none left; use nothing."""
    if not per_minute:
        return
    with _cursor() as cursor:
        cursor.execute(_WAIT, {"subjects": list(subjects), "use": 60 / per_minute})
        (wait,) = cursor.fetchone()
    if wait > 0:
        raise RateLimited(retry_seconds=wait)


def charge(subjects: Sequence[str], *, per_minute: int) -> None:
    """Use one of each subject's, also where none is left."""
    if per_minute:
        _touch(_CHARGE, subjects=list(subjects), use=60 / per_minute)


def sweep() -> int:
    """Forget who has all of their allowance again; return how many that were."""
    return _touch(_SWEEP)


def _touch(statement: str, **parameters: str | float | list[str]) -> int:
    with _cursor() as cursor:
        cursor.execute(statement, parameters)
        return int(cursor.rowcount)


@contextmanager
def _cursor() -> Iterator[CursorWrapper]:
    try:
        with connection.cursor() as cursor:
            yield cursor
    except NotSupportedError as error:  # a standby has no unlogged tables, not even to read
        raise Unavailable("The database takes no writes just now; try again soon.") from error
