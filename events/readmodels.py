"""Read models: tables folded from the log, each of which can be dropped and folded anew.

A topic registers its table with the function that its verbs fold each event with. A rebuild
folds the log into a table of its own, beside the running service; only for the last events, and
for putting right the rows that differ, do the verbs wait. Readers never do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models import Model, QuerySet

from events import log, registry
from events.log import EventId
from events.models import Event
from events.registry import EventType


@dataclass(frozen=True, slots=True)
class ReadModel:
    """A table, and what it is folded from.

    `born_of` is the column that holds the id of the event which made the row. `fold` changes
    the table, and no other, as an event says; of an event that finds no row, nothing comes.
    """

    name: str
    table: type[Model]
    born_of: str
    types: Sequence[type[EventType]]
    fold: Callable[[EventType, EventId], None]


_models: dict[str, ReadModel] = {}


def register(model: ReadModel) -> None:
    """Make a read model one that can be rebuilt."""
    _models[model.name] = model


def registered() -> Mapping[str, ReadModel]:
    """Return every read model by its name."""
    return _models


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The rows after a rebuild, and what it did to those before: one that differed is removed and added."""

    rows: int
    removed: int
    added: int


@transaction.atomic
def rebuild(model: ReadModel) -> Rebuilt:
    """Make the rows anew from the log, in one transaction.

    Rows whose event was pruned cannot be made anew: they stay, changed by what the log still
    says of them. Waits for a pruning or an erasure under way, and they wait for this.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT tickertape_take_turns(), current_schema()")
        schema = connection.ops.quote_name(cursor.fetchone()[1])
        table = connection.ops.quote_name(model.table._meta.db_table)
        served, anew = f"{schema}.{table}", f"pg_temp.{table}"
        # The new rows' table has the served one's name and hides it in this session, so that the
        # verbs' own fold writes there. No identity: a row's id has to come from its event.
        cursor.execute(
            f"CREATE TEMPORARY TABLE {table} (LIKE {served} INCLUDING ALL EXCLUDING IDENTITY) ON COMMIT DROP"
        )
        cursor.execute(
            f"INSERT INTO {anew} SELECT * FROM {served} r"  # noqa: S608 (names, quoted)
            f" WHERE NOT EXISTS (SELECT FROM events_event e WHERE e.id = r.{model.born_of})"
        )
        history = Event.objects.filter(type__in=[kind.name() for kind in model.types])
        head = log.head().position
        _fold(model, history.filter(position__lte=head).order_by("position"))
        # Verbs wait from here on. What they said meanwhile may have no position yet; of the events of
        # one item, the order of the ids is the one in which they changed it.
        cursor.execute(f"LOCK TABLE {served} IN SHARE ROW EXCLUSIVE MODE")
        _fold(model, history.exclude(position__lte=head).order_by("id"))
        return _replace(cursor, served, anew)


def _fold(model: ReadModel, events: QuerySet[Event]) -> None:
    for event_id, name, version, data in events.values_list("id", "type", "version", "data").iterator():
        model.fold(registry.decode(name, version, data), EventId(event_id))


def _replace(cursor: CursorWrapper, served: str, anew: str) -> Rebuilt:
    """Put the served rows right where they differ from the new ones, and drop these."""
    cursor.execute(f"ANALYZE {anew}")
    counts = []
    for statement in (
        f"DELETE FROM {served} r WHERE NOT EXISTS (SELECT FROM {anew} n WHERE n = r)",  # noqa: S608
        f"INSERT INTO {served} SELECT * FROM {anew} n WHERE NOT EXISTS (SELECT FROM {served} r WHERE n = r)",  # noqa: S608
        f"SELECT FROM {anew}",
    ):
        cursor.execute(statement)
        counts.append(cursor.rowcount)
    # Now, not at the commit: who goes on in this transaction must see the served table.
    cursor.execute(f"DROP TABLE {anew}")
    removed, added, rows = counts
    return Rebuilt(rows, removed, added)
