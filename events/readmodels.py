"""Read models: tables folded from the log, each of which can be dropped and folded anew.

A topic registers its table with the function that its verbs fold each event with. A rebuild
folds the log into a table of its own, beside the running service; only for the last events, and
for putting right the rows that differ, do the verbs wait. Readers never do.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from django.db import OperationalError, connection, transaction
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
    the table, and no other, as an event says; of an event that finds no row, nothing comes. `prune`
    takes out what is not kept, however long the log is.
    """

    name: str
    table: type[Model]
    born_of: str
    types: Sequence[type[EventType]]
    fold: Callable[[EventType, EventId], None]
    prune: Callable[[], int] | None = None


LOCK_NOT_AVAILABLE = "55P03"
PAUSE_SECONDS = 0.2  # between two tries to keep who writes out

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
        cursor.execute("SELECT tickertape_take_turns()")
        tables = _Tables.of(model, cursor)
        if model.prune is not None:
            model.prune()  # what is due to go, and is not swept yet, is no difference
        tables.begin()
        history = Event.objects.filter(type__in=[kind.name() for kind in model.types])
        head = log.head().position
        _fold(model, history.filter(position__lte=head).order_by("position"))
        tables.compare()
        # Who writes waits from here on. What they said meanwhile may have no position yet; of the
        # events of one item, the order of the ids is the one in which they changed it.
        tables.lock()
        later = history.exclude(position__lte=head).order_by("id")
        _fold(model, later)
        return tables.finish(also=list(later.values_list("id", flat=True)))


def _fold(model: ReadModel, events: QuerySet[Event]) -> None:
    for event_id, name, version, data in events.values_list("id", "type", "version", "data").iterator():
        model.fold(registry.decode(name, version, data), EventId(event_id))
    if model.prune is not None:
        model.prune()


@dataclass(frozen=True, slots=True)
class _Tables:
    """The rows that are served and those made anew, with the statements that bring them together.

    The new rows' table is temporary and has the served one's name, which it hides in this session:
    so the verbs' own fold writes there.
    """

    cursor: CursorWrapper
    served: str
    anew: str
    born_of: str
    key: str

    @classmethod
    def of(cls, model: ReadModel, cursor: CursorWrapper) -> Self:
        """Name both tables, while the served one is still the one that its bare name means."""
        cursor.execute("SELECT current_schema()")
        quote = connection.ops.quote_name
        meta = model.table._meta
        table = quote(meta.db_table)
        served = f"{quote(cursor.fetchone()[0])}.{table}"
        key = ", ".join(quote(field.column or "") for field in meta.pk_fields)
        return cls(cursor, served, f"pg_temp.{table}", quote(model.born_of), key)

    def begin(self) -> None:
        """Make the new table, with the rows that the log says nothing of any more."""
        # No identity: a row's id has to come from its event, or it would be another one each time.
        self._do("CREATE TEMPORARY TABLE {anew} (LIKE {served} INCLUDING ALL EXCLUDING IDENTITY)")
        self._do(
            "INSERT INTO {anew} SELECT * FROM {served} r"
            " WHERE NOT EXISTS (SELECT FROM events_event e WHERE e.id = r.{born_of})"
        )

    def compare(self) -> None:
        """Note where the tables differ: all others change in both alike from now on."""
        self._do("ANALYZE {anew}")
        self._do(
            "CREATE TEMPORARY TABLE tickertape_differing AS"
            " SELECT r.{born_of} FROM {served} r"
            " WHERE NOT EXISTS (SELECT FROM {anew} n WHERE n.{born_of} = r.{born_of} AND n = r)"
            " UNION SELECT n.{born_of} FROM {anew} n"
            " WHERE NOT EXISTS (SELECT FROM {served} r WHERE n.{born_of} = r.{born_of} AND n = r)"
        )

    def lock(self) -> None:
        """Have who writes wait, and not who reads.

        Who comes while this waits has to wait behind it; so it waits for a moment, again and again: one who
        writes may be waiting for an item that somebody holds for long.
        """
        self._do("LOCK TABLE {served} IN SHARE UPDATE EXCLUSIVE MODE")  # to which an autovacuum gives way
        self._do("SET LOCAL lock_timeout = '100ms'")
        while not self._has_locked():
            time.sleep(PAUSE_SECONDS)
        self._do("SET LOCAL lock_timeout TO DEFAULT")

    def _has_locked(self) -> bool:
        try:
            with transaction.atomic():
                self._do("LOCK TABLE {served} IN SHARE ROW EXCLUSIVE MODE")
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            return False
        return True

    def finish(self, *, also: Sequence[int]) -> Rebuilt:
        """Put the served rows right where they differ, or are of some other events; drop the new table."""
        self._do("INSERT INTO tickertape_differing SELECT unnest(%s::bigint[])", list(also))
        # A row that one of them made, and that another event made in the table that is served.
        self._do(
            "INSERT INTO tickertape_differing SELECT r.{born_of} FROM {served} r JOIN {anew} n USING ({key})"
            " WHERE n.{born_of} <> r.{born_of} AND n.{born_of} IN (SELECT * FROM tickertape_differing)"
        )
        removed = self._do(
            "DELETE FROM {served} r WHERE r.{born_of} IN (SELECT * FROM tickertape_differing)"
            " AND NOT EXISTS (SELECT FROM {anew} n WHERE n.{born_of} = r.{born_of} AND n = r)"
        )
        added = self._do(
            "INSERT INTO {served} SELECT * FROM {anew} n"
            " WHERE n.{born_of} IN (SELECT * FROM tickertape_differing)"
            " AND NOT EXISTS (SELECT FROM {served} r WHERE n.{born_of} = r.{born_of} AND n = r)"
        )
        self._do("SELECT count(*) FROM {anew}")
        rows = self.cursor.fetchone()[0]
        # Now, not at the commit: who goes on in this transaction must see the served table.
        self._do("DROP TABLE {anew}, tickertape_differing")
        return Rebuilt(rows, removed, added)

    def _do(self, statement: str, *parameters: list[int]) -> int:
        """Execute a statement and return how many rows it was about."""
        names = {"served": self.served, "anew": self.anew, "born_of": self.born_of, "key": self.key}
        self.cursor.execute(statement.format(**names), parameters or None)
        return int(self.cursor.rowcount)
