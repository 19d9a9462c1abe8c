"""A connection with somebody waiting gives up a server that says nothing, and so does the server."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from django.conf import settings as django_settings
from django.db import OperationalError
from django.db.utils import DatabaseErrorWrapper

from events.http import translate
from events.patience import PatientAsyncConnection, PatientConnection, Unanswered
from tests.stack import eventually

# The session's own limit lifted, as of a server that is frozen.
MUTE = {"options": "-c statement_timeout=0"}


@pytest.fixture(autouse=True)
def _impatient(database, settings):
    settings.DATABASE_ANSWER_SECONDS = 1.0


def test_a_statement_that_is_not_answered_ends_with_its_connection():
    with PatientConnection.connect(django_settings.DATABASE_URL, **MUTE) as session:
        assert session.execute("SELECT 1").fetchone() == (1,)
        began = time.monotonic()
        with pytest.raises(Unanswered):
            session.execute("SELECT pg_sleep(20)")
        assert time.monotonic() - began < 5
        assert session.closed


async def test_so_does_one_of_an_event_loop():
    async with await PatientAsyncConnection.connect(django_settings.DATABASE_URL, **MUTE) as session:
        assert await (await session.execute("SELECT 1")).fetchone() == (1,)
        began = time.monotonic()
        with pytest.raises(Unanswered):
            await session.execute("SELECT pg_sleep(20)")
        assert time.monotonic() - began < 5
        assert session.closed


def test_the_time_is_one_statements_and_not_the_connections(settings):
    settings.DATABASE_ANSWER_SECONDS = 3.0
    with PatientConnection.connect(django_settings.DATABASE_URL) as session:
        for _ in range(4):
            session.execute("SELECT pg_sleep(0.8)")


def test_django_takes_it_for_a_database_that_is_away():
    from django.db import connection

    with pytest.raises(OperationalError), DatabaseErrorWrapper(connection):
        raise Unanswered("the database does not answer")


# --- The server's side ---------------------------------------------------------------------------

WAIT = "SELECT pg_advisory_lock(99)"


@pytest.fixture
def held(database):
    """Hold what WAIT waits for, as somebody idle in a transaction holds a row."""
    with contextlib.closing(psycopg.connect(django_settings.DATABASE_URL, autocommit=True)) as holder:
        holder.execute(WAIT)
        yield holder


def test_a_wait_for_a_lock_ends_at_the_server_and_the_connection_is_kept(held, settings):
    with PatientConnection.connect(django_settings.DATABASE_URL, **django_settings.DATABASE_LINK) as session:
        settings.DATABASE_ANSWER_SECONDS = 20  # ours; the server was told its own, and its answer may be late
        with pytest.raises(psycopg.errors.QueryCanceled) as refusal:
            session.execute(WAIT)
        session.rollback()
        assert session.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(OperationalError) as seen, DatabaseErrorWrapper(_connection()):
        raise refusal.value
    assert translate(seen.value).status == 503


async def test_so_does_one_of_an_event_loop_at_the_server(held, settings):
    async with await PatientAsyncConnection.connect(django_settings.DATABASE_URL) as session:
        settings.DATABASE_ANSWER_SECONDS = 20
        with pytest.raises(psycopg.errors.QueryCanceled):
            await session.execute(WAIT)
        await session.rollback()
        assert await (await session.execute("SELECT 1")).fetchone() == (1,)


def test_a_wait_that_was_given_up_ends_at_the_server_too(held):
    name = "given up"
    for _ in range(3):
        waiting = PatientConnection.connect(django_settings.DATABASE_URL, application_name=name, **MUTE)
        with pytest.raises(Unanswered):
            waiting.execute(WAIT)

    def none_left() -> bool:
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
        return held.execute(count, [name]).fetchone() == (0,)

    eventually(none_left, seconds=10)


def test_a_commit_that_no_standby_confirms_is_never_taken_for_done(held):
    # A cancelled wait for a standby would end in a COMMIT with a warning that nobody reads.
    held.execute("SET synchronous_commit = off")
    held.execute("ALTER SYSTEM SET synchronous_standby_names = 'none_there'")
    try:
        held.execute("SELECT pg_reload_conf()")
        options = "-c synchronous_commit=on"
        with _committing_until_held_up(held, options):
            with PatientConnection.connect(django_settings.DATABASE_URL, options=options) as session:
                session.execute("INSERT INTO auth_group (name) VALUES ('unconfirmed')")
                with pytest.raises(Unanswered):
                    session.commit()
            assert session.closed
    finally:
        held.execute("ALTER SYSTEM RESET synchronous_standby_names")
        held.execute("SELECT pg_reload_conf()")
        eventually(lambda: held.execute(HELD_UP).fetchone() == (0,))


HELD_UP = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@contextlib.contextmanager
def _committing_until_held_up(held, options):
    """Come back when a commit of another session waits for a standby, and cancel it afterwards.

    That a session sees the setting is not enough: commits wait by a flag in shared memory, which
    the checkpointer sets when it reads the setting itself, later by as much as it is busy.
    """
    note = "SELECT pg_logical_emit_message(true, 'tests', '')"

    def commit() -> None:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                other.execute(note)

    address = django_settings.DATABASE_URL
    with (
        contextlib.closing(psycopg.connect(address, autocommit=True, options=options)) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        pool.submit(commit)
        try:
            eventually(lambda: held.execute(HELD_UP).fetchone() == (1,))
            yield
        finally:
            held.execute("SELECT pg_terminate_backend(%s)", [other.info.backend_pid])


def test_what_the_address_says_of_the_session_counts():
    said = f"{django_settings.DATABASE_URL}?options=-c%20statement_timeout%3D7s%20-c%20work_mem%3D5MB"
    with PatientConnection.connect(said) as session:
        assert session.execute("SHOW statement_timeout").fetchone() == ("7s",)
        assert session.execute("SHOW work_mem").fetchone() == ("5MB",)
        assert session.execute("SHOW client_connection_check_interval").fetchone() == ("1s",)


def test_whoever_has_nobody_waiting_is_left_all_the_time():
    with _connection().cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)


def _connection():
    from django.db import connection

    return connection
