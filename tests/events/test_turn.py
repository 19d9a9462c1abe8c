"""A turn of placing: cheap to ask for, guarded as ever, and the same to workers of the release before."""

import os
from collections.abc import Iterator

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from events import log
from events.models import Event
from tests.commands import manage
from tests.events.test_log import append

# Statements of other sessions, by the name that psycopg gives the first of each.
OTHERS = [" AS SELECT 1", "(text) AS SELECT $1", "(int2, int2, int2) AS SELECT $1, $2, $3"]
NOTED = "INSERT INTO events_event (type, version, data, channels) VALUES ('Noted', 1, %s, %s)"
VALUES = {
    "id": "id + 1",
    "type": "'Other'",
    "version": "2",
    "data": "'[]'",
    "channels": "'{item:2}'",
    "actor_id": "7",
    "caused_by": "7",
    "unique_key": "'other'",
    "created_at": "now()",
}


@pytest.fixture
def start(database):
    """A log that was placed whole."""
    append()
    while log.place().count:
        pass
    return log.head()


@pytest.fixture
def other(start) -> Iterator[psycopg.Connection]:
    with psycopg.connect(settings.DATABASE_URL, autocommit=True) as connected:
        yield connected


def test_a_session_plans_the_placing_once(start):
    """What Django's own cursor sends is planned at each turn, which costs as much as placing three events."""
    for _ in range(3):
        append()
        log.place(read=True)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(generic_plans + custom_plans) FROM pg_prepared_statements"
            " WHERE statement LIKE '%%tickertape_place_and_read%%'"
        )
        assert cursor.fetchone()[0] >= 3


@pytest.mark.parametrize(
    "lost",
    [
        "DEALLOCATE ALL",
        "PREPARE _pg3_0 AS SELECT 1",
        *(f"DEALLOCATE ALL; PREPARE _pg3_0{each}" for each in OTHERS),
    ],
)
def test_a_pooler_that_changes_the_session_does_not_stop_the_placing(start, lost):
    """Behind one that keeps no plans, a statement is prepared in one session and asked for in another."""
    connection.close()
    connection.ensure_connection()
    link = connection.connection.pgconn
    if "DEALLOCATE" not in lost:
        link.exec_(lost.encode())  # so that psycopg does not hear of it
    for _ in range(3):
        append()
        assert log.place(read=True).count == 1
        if "DEALLOCATE" in lost:
            link.exec_(lost.encode())
    connection.close()


def test_no_part_of_a_turn_is_so_dear_that_a_postgresql_would_compile_it(start):
    """With scans of tables off, one costs 1e10 up to version 17; what this one has counts them instead."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT prosrc FROM pg_proc WHERE proname = 'tickertape_place_and_read'")
        assert "events_event_id_seq q" not in cursor.fetchone()[0]


def test_the_guards_are_replaced_while_somebody_reads_the_log(empty):
    """As a dump does for hours: who waits for it, all others would wait for."""
    environment = {**os.environ, "DATABASE_URL": empty}
    assert manage("migrate", "events", "0018", env=environment)[0] == 0
    with psycopg.connect(empty) as reader:
        reader.execute("SELECT count(*) FROM events_event")
        within = {**environment, "DATABASE_URL": f"{empty}?options=-c%20lock_timeout=5s"}
        status, _, errors = manage("migrate", "events", "0019", env=within)
        assert status == 0, errors


@pytest.mark.parametrize(
    "column", sorted({field.column for field in Event._meta.concrete_fields} - {"position", "parked"})
)
def test_who_places_may_change_nothing_else(start, other, column):
    with (
        pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.GeneratedAlways)),
        other.transaction(),
    ):
        other.execute("SET LOCAL tickertape.sequencing = 'on'")
        other.execute(NOTED, ["{}", ["item:1"]])
        other.execute(
            f"UPDATE events_event SET position = 1000000, {column} = {VALUES[column]} WHERE position IS NULL"
        )


def test_a_session_that_goes_on_notices_a_table_that_was_put_back(start, other):
    """As `pg_restore --clean` does: a session keeps where it is, but not which table it finds there."""
    assert log.place().epoch == start.epoch
    other.execute("UPDATE events_logstate SET home = split_part(home, '.', 1) || '.1'")
    assert log.place().epoch != start.epoch


@pytest.mark.parametrize(
    "change", ["system_identifier = 1", "timeline = 'X'", "home = '1.' || split_part(home, '.', 2)"]
)
def test_a_session_that_goes_on_notices_another_cluster_timeline_and_database(start, other, change):
    assert log.place().epoch == start.epoch
    other.execute(f"UPDATE events_logstate SET {change}")
    assert log.place().epoch != start.epoch


def test_migrated_and_migrated_back_the_same_session_goes_on_placing(empty):
    """A worker of before places by the functions of after, and the other way round."""

    def migrate(to: str) -> None:
        status, _, errors = manage("migrate", "events", to, env={**os.environ, "DATABASE_URL": empty})
        assert status == 0, errors

    migrate("0018")
    with psycopg.connect(empty, autocommit=True) as worker:

        def turn() -> None:
            worker.execute(NOTED, ["{}", ["item:1"]])
            worker.execute(NOTED, ["{}", ["item:1", "item:2"]])
            [first, second] = worker.execute(
                "SELECT placed, head, position, channels FROM tickertape_place_and_read(1000, 32, 8192)",
                prepare=True,
            ).fetchall()
            assert [*first, *second] == [2, second[1], second[1] - 1, ["item:1"], 2, second[1], second[1],
                                         ["item:1", "item:2"]]  # fmt: skip
            worker.execute(NOTED, ["{}", ["item:1"]])
            epoch, head, placed = worker.execute(
                "SELECT * FROM tickertape_place(1000)", prepare=True
            ).fetchone()
            assert (head, placed) == (second[1] + 1, 1)
            epochs.add(epoch)

        epochs: set[str] = set()
        turn()
        migrate("0019")
        turn()
        migrate("0018")
        turn()
        migrate("0019")
        turn()
        found = worker.execute("SELECT position FROM events_event ORDER BY id").fetchall()
        assert found == [(n,) for n in range(1, 13)]
        assert len(epochs) == 1
        addressed = worker.execute("SELECT count(*) FROM events_channelposition").fetchone()
        assert addressed == (16,)
