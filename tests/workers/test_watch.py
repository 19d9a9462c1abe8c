"""The watch: a transaction that stays open is named once, by whom it is, never by what it asks."""

import contextlib
import logging

import psycopg
import pytest
from django.conf import settings as django_settings
from django.db import connection

from tests.stack import eventually
from workers.watch import Watch

SECRET = "SELECT 'a secret', count(*) FROM events_event"


@pytest.fixture
def session(database, settings):
    """A session of somebody's, watched with little patience."""
    settings.WORKERS_LONG_TRANSACTION_SECONDS = 0.2
    with contextlib.closing(
        psycopg.connect(django_settings.DATABASE_URL, application_name="somebody")
    ) as session:
        yield session


@pytest.fixture
def looked(caplog):
    """Look once; return what was said."""
    watch = Watch()
    caplog.set_level(logging.INFO, logger="workers.watch")

    def look() -> list[logging.LogRecord]:
        caplog.clear()
        watch.look()
        return [record for record in caplog.records if record.name == "workers.watch"]

    return look


def hold_a_snapshot(session) -> None:
    session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    session.execute(SECRET)


def write(session) -> None:
    session.execute("SELECT pg_current_xact_id()")
    session.execute(SECRET)


@pytest.mark.parametrize(
    ("stay", "words"), [(hold_a_snapshot, "A snapshot is held"), (write, "A transaction that writes")]
)
def test_who_stays_in_a_transaction_is_named_once(session, looked, stay, words):
    assert looked() == []
    stay(session)

    [said] = eventually(looked)
    assert said.levelno == logging.WARNING
    assert said.getMessage().startswith(words)
    assert (said.pid, said.application) == (session.info.backend_pid, "somebody")
    assert "secret" not in str(vars(said))
    assert looked() == []

    session.rollback()
    [over] = looked()
    assert over.levelno == logging.INFO
    assert looked() == []


def test_a_session_that_is_idle_or_reads_without_a_snapshot_is_left_in_peace(session, looked):
    session.execute(SECRET)  # READ COMMITTED: each statement's snapshot ends with it
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0.4)")
    assert looked() == []
