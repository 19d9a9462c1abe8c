"""What an event's row costs: no index and no condition that is not needed, and none that is missed."""

import os
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from django.conf import settings

from tests.commands import manage
from tests.stack import eventually

NOTED = "INSERT INTO events_event (type, version, data, channels) VALUES (%s, 1, %s, '{item:1}')"
INDEXED = {"id", '"position"', "unique_key", 'id) WHERE ("position" IS NULL'}


@pytest.fixture
def session(database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(settings.DATABASE_URL) as connected:
        yield connected
        connected.rollback()


def test_the_log_has_no_index_that_nothing_asks_for(session):
    rows = session.execute("SELECT indexdef FROM pg_indexes WHERE tablename = 'events_event'").fetchall()
    assert {definition.partition(" USING btree (")[2].removesuffix(")") for (definition,) in rows} == INDEXED
    assert len(rows) == len(INDEXED)


@pytest.mark.parametrize("name", ["A", "Noted", "CommentAdded2", "N" * 64])
def test_a_name_is_taken(session, name):
    session.execute(NOTED, [name, "{}"])


@pytest.mark.parametrize(
    "name", ["", "noted", "2Noted", "Not-ed", "Noted\n", "\nNoted", "Éa", "Aé", "N" * 65]
)
def test_what_is_no_name_is_not(session, name):
    with pytest.raises(psycopg.errors.CheckViolation, match="events_type_is_a_name"):
        session.execute(NOTED, [name, "{}"])


@pytest.mark.parametrize("data", ["\n", "\r", "{}\n", "\r{}", '{"a":\r\n1}'])
def test_data_of_several_lines_is_refused(session, data):
    with pytest.raises(psycopg.errors.CheckViolation, match="events_data_is_one_line"):
        session.execute(NOTED, ["Noted", data])


def test_conditions_hold_of_every_row_there_is(session):
    found = session.execute(
        "SELECT conname FROM pg_constraint WHERE conrelid = 'events_event'::regclass AND NOT convalidated"
    )
    assert found.fetchall() == []


@pytest.fixture
def before(empty) -> str:
    """The URL of a database as it was before."""
    migrate(empty, "0019")
    return empty


def migrate(url: str, to: str) -> None:
    status, _, errors = manage("migrate", "events", to, env={**os.environ, "DATABASE_URL": url})
    assert status == 0, errors


def test_it_waits_for_who_reads_the_log_and_holds_nobody_up(before):
    """A dump reads for hours: who waits for it holds up all who come later, so nobody waits long."""
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
    with (
        psycopg.connect(before) as dump,
        psycopg.connect(before, autocommit=True, options="-c lock_timeout=10s") as other,
    ):
        dump.execute("SELECT count(*) FROM events_event")
        migrating = threading.Thread(target=migrate, args=(before, "0020"))
        migrating.start()
        eventually(lambda: other.execute(waits).fetchone() == (1,), seconds=60)
        other.execute(NOTED, ["Noted", "{}"])  # behind it, until it gives up
        eventually(lambda: other.execute(waits).fetchone() == (1,), seconds=60)
        assert migrating.is_alive()
        dump.rollback()
        migrating.join(60)
        assert not migrating.is_alive()
        done = "SELECT count(*) FROM django_migrations WHERE app = 'events' AND name LIKE '0020%'"
        assert other.execute(done).fetchone() == (1,)


def test_an_autovacuum_gives_way(before):
    """Who asks for a lock has it cancelled, but only once `deadlock_timeout` is over."""
    busy = "SELECT count(*) FROM pg_stat_progress_vacuum WHERE relid = 'events_event'::regclass"
    with psycopg.connect(before, autocommit=True) as session:
        session.execute(
            "INSERT INTO events_event (type, version, data, channels)"
            " SELECT 'Noted', 1, repeat('x', 1000), '{item:1}' FROM generate_series(1, 20000)"
        )
        session.execute(
            "ALTER TABLE events_event SET (autovacuum_vacuum_insert_threshold = 1,"
            " autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_cost_delay = 100,"
            " autovacuum_vacuum_cost_limit = 1)"
        )
        session.execute("ALTER SYSTEM SET autovacuum_naptime = 1")
        try:
            session.execute("SELECT pg_reload_conf()")
            eventually(lambda: session.execute(busy).fetchone() == (1,), seconds=90)
            began = time.monotonic()
            migrate(before, "0020")
            assert time.monotonic() - began < 30
        finally:
            session.execute("ALTER SYSTEM RESET autovacuum_naptime")
            session.execute("SELECT pg_reload_conf()")


def test_broken_off_on_the_way_back_it_begins_again(before):
    """An index whose making is broken off stays, and is of no use."""
    migrate(before, "0020")
    with psycopg.connect(before, autocommit=True) as session:
        session.execute(NOTED, ["Noted", "{}"])
        with psycopg.connect(before) as writer, psycopg.connect(before, autocommit=True) as other:
            writer.execute(NOTED, ["Noted", "{}"])
            other.execute("SET statement_timeout = '200ms'")
            with pytest.raises(psycopg.errors.QueryCanceled):
                other.execute(
                    "CREATE INDEX CONCURRENTLY events_event_unique_key_8c15ee22_like"
                    " ON events_event (unique_key text_pattern_ops)"
                )
        broken = "SELECT count(*) FROM pg_index WHERE indrelid = 'events_event'::regclass AND NOT indisvalid"
        assert session.execute(broken).fetchone() == (1,)
        migrate(before, "0019")
        assert session.execute(broken).fetchone() == (0,)


def test_there_and_back_it_is_what_it_was(before):
    def shape() -> list[tuple[str]]:
        with psycopg.connect(before) as session:
            return session.execute(
                "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
                " WHERE conrelid = 'events_event'::regclass"
                " UNION SELECT indexdef FROM pg_indexes WHERE tablename = 'events_event' ORDER BY 1"
            ).fetchall()

    there = shape()
    migrate(before, "0020")
    assert shape() != there
    migrate(before, "0019")
    assert shape() == there
