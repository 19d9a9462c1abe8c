"""Retention: what is older than its time goes, in bounded batches, beside the running service.

Of the log only the oldest go, so that what is left stays dense; live streams do not notice, and a
client whose place is gone is told by `stream.reset`. Upper layers say here what they still have to
read (`hold`) and what they keep that dies of age too (`leftover`).
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.sessions.models import Session
from django.db import connection
from django.db.models import Model
from django.utils import timezone

from events import limits, log
from events.errors import FieldError, Invalid
from events.idempotency import KEPT
from events.models import IdempotencyKey

LONGEST = timedelta(days=100 * 365)  # PostgreSQL's calendar ends, and so does everyone's interest
LEFTOVER_BATCH = 1_000

_AGE = re.compile(r"([0-9]{1,9}) ?([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}  # in seconds

_holds: list[Callable[[], int | None]] = []
_leftovers: dict[str, Callable[[], int]] = {}


@dataclass(frozen=True, slots=True)
class Horizon:
    """Where the log is to end: all at or below `upto` may go; `oldest` is the first there is."""

    oldest: int
    upto: int
    held: bool  # some of what is old enough has yet to be read by the workers

    @property
    def count(self) -> int:
        """Return how many events may go."""
        return max(self.upto - self.oldest + 1, 0)


def hold(reads_on: Callable[[], int | None]) -> None:
    """Keep all above the position that a server-side reader names, however old; None holds nothing."""
    _holds.append(reads_on)


def leftover(name: str, remove: Callable[[], int]) -> None:
    """Have a function called that removes what is too old to be of use, and returns how much it was."""
    _leftovers[name] = remove


def parse_age(text: str) -> timedelta:
    """Read an age such as 30d, 12h, 45m, 90s or 2w; raise Invalid."""
    match = _AGE.fullmatch(text.strip())
    seconds = int(match[1]) * _UNITS[match[2]] if match else None
    if seconds is None or seconds > LONGEST.total_seconds():
        message = f"must be an age such as 30d, 12h, 45m, 90s or 2w, and at most {LONGEST.days}d"
        raise Invalid(errors=(FieldError("older-than", message),))
    return timedelta(seconds=seconds)


def horizon(age: timedelta) -> Horizon:
    """Return where the log would end if nothing older than an age were kept.

    Positions are given in the order of commits, times at the beginning of transactions: nothing
    younger than the age goes, so what is older may stay behind it for as long as a transaction took.
    """
    with connection.cursor() as cursor:
        # Walks the positions from the oldest on: it reads what is about to go, and one more.
        cursor.execute(
            "SELECT l.oldest, coalesce(("
            " SELECT e.position FROM events_event e"
            " WHERE e.position >= l.oldest AND e.created_at >= clock_timestamp() - make_interval(secs => %s)"
            " ORDER BY e.position LIMIT 1) - 1, l.head) FROM events_logstate l",
            [age.total_seconds()],
        )
        oldest, upto = cursor.fetchone()
    read_to = min((read for reads_on in _holds if (read := reads_on()) is not None), default=upto)
    return Horizon(oldest, min(upto, read_to), held=read_to < upto)


def prune(upto: int, *, batch: int = 1_000) -> Iterator[log.Pruned]:
    """Remove the events at or below a position; yield after each batch.

    Rests as long as each batch took, so that placing and vacuuming have their turn.
    """
    while True:
        began = time.monotonic()
        pruned = log.prune_batch(upto, batch=batch)
        took = time.monotonic() - began
        yield pruned
        if pruned.done:
            return
        time.sleep(took)


def sweep() -> Iterator[tuple[str, int]]:
    """Remove what else died of age; yield what it was and how much."""
    now = timezone.now()
    yield "idempotency keys", remove_older(IdempotencyKey, "created_at", now - KEPT)
    yield "sessions", remove_older(Session, "expire_date", now)
    yield "allowances", limits.sweep()
    for name, remove in _leftovers.items():
        yield name, remove()


def remove_older(model: type[Model], column: str, bound: datetime | int) -> int:
    """Delete the rows whose column is below a bound."""
    return remove(model, f"{column} < %s", [bound])


def remove(model: type[Model], condition: str, parameters: Sequence[Any]) -> int:
    """Delete the rows that a condition of SQL is true of, in batches; those that somebody holds are left."""
    table = connection.ops.quote_name(model._meta.db_table)
    removed = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(
                f"DELETE FROM {table} WHERE ctid = ANY (ARRAY("  # noqa: S608 (a model's own names)
                f"SELECT ctid FROM {table} WHERE {condition} LIMIT %s FOR UPDATE SKIP LOCKED))",
                [*parameters, LEFTOVER_BATCH],
            )
            if not cursor.rowcount:
                return removed
            removed += cursor.rowcount


def keep(age: timedelta | None, *, seconds: float) -> int:
    """Prune what is older than an age (None: nothing), for about so long, and sweep; return how many went."""
    deadline = time.monotonic() + seconds
    removed = 0
    if age is not None and (end := horizon(age)).count:
        for pruned in prune(end.upto):
            removed += pruned.removed
            if time.monotonic() > deadline:
                break
    for _ in sweep():
        pass
    return removed
