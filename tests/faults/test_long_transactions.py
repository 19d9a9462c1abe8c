"""A transaction that stays open for minutes under load: placing and replay keep their speed."""

import contextlib
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import Connection

from events import log
from events.transactions import PRESSURE_SQL
from project.embedded import Postgres
from tests.faults import second
from tests.stack import Stack, eventually

EVENTS = 100_000
BATCH = 100
CHANNELS = 50
NOT_SLOWER = 1.7  # the last tenth's median to the first one's, of a machine that does other things too


@contextlib.contextmanager
def dump(stack: Stack) -> Iterator[None]:
    """Hold a snapshot as pg_dump does that nobody takes the output from."""
    with subprocess.Popen(
        [stack.postgres.bin("pg_dump"), "--dbname", stack.database_url, "--table", "events_event"],
        stdout=subprocess.PIPE,
    ) as process:
        try:
            yield
            assert process.poll() is None, "it held its snapshot all the time"
        finally:
            process.kill()


@contextlib.contextmanager
def repeatable_read(stack: Stack) -> Iterator[None]:
    with stack.connect() as session, session.transaction():
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        session.execute("SELECT count(*) FROM events_event")
        yield


def held(connection: Connection) -> bool:
    """Somebody holds a snapshot."""
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND backend_xmin IS NOT NULL"
        " AND pid <> pg_backend_pid() AND (application_name = 'pg_dump' OR state = 'idle in transaction')"
    ).fetchone()
    return bool(row[0])


def timed(connection: Connection, statement: str, parameters: object) -> float:
    began = time.perf_counter()
    connection.execute(statement, parameters).fetchall()
    return time.perf_counter() - began


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("hold", [dump, repeatable_read])
def test_a_held_snapshot_slows_neither_placing_nor_replay(postgres, valkey, tmp_path, hold, figure):
    placing: list[float] = []
    replay: list[float] = []
    pages: list[float] = []
    with Stack(postgres, valkey, tmp_path, name="held") as stack, stack.connect() as connection:

        def go(events: int) -> None:
            for _ in range(events // BATCH):
                connection.execute(
                    "INSERT INTO events_event (type, version, data, channels)"
                    " SELECT 'Noted', 1, '{\"n\":' || g || '}', ARRAY['item:' || (g %% %s)]"
                    " FROM generate_series(1, %s) g",
                    [CHANNELS, BATCH],
                )
                placing.append(timed(connection, "SELECT * FROM tickertape_place(%s)", [1_000]))
                head = connection.execute("SELECT max(position) FROM events_event").fetchone()[0]
                found = {"channels": ["item:7"], "after": head - 5_000, "limit": 500, "bytes": 10**6}
                replay.append(timed(connection, log.CHANNELS_SQL, found))
                pages.append(timed(connection, "SELECT head FROM tickertape_look(%s, %s, %s)", ["", 0, []]))

        go(20_000)  # so that the plans are those of a log that is used
        connection.execute("ANALYZE")
        go(5_000)
        for figures in (placing, replay, pages):
            figures.clear()
        with hold(stack):
            eventually(lambda: held(connection))
            go(EVENTS)
            assert held(connection)
    tenth = EVENTS // BATCH // 10
    for name, figures in (("placing", placing), ("replay", replay), ("look", pages)):
        first, last = statistics.median(figures[:tenth]), statistics.median(figures[-tenth:])
        figure(
            f"{hold.__name__} held, {EVENTS} events: {name} {first * 1000:.2f} ms in the first tenth,"
            f" {last * 1000:.2f} ms in the last"
        )
        assert last < first * NOT_SLOWER + 0.0005, name


def test_what_a_standby_keeps_from_cleaning_up_is_seen(postgres, valkey, tmp_path):
    with Stack(postgres, valkey, tmp_path, name="standby") as stack, stack.connect() as connection:

        def kept() -> int:
            return connection.execute(PRESSURE_SQL).fetchone()[-1]

        assert kept() == 0
        near = Path(tempfile.mkdtemp(prefix="tickertape-tests-"))
        near.chmod(0o755)  # the server is another user, where we are root
        replica = second.replica_of(postgres, near / "replica")
        try:
            with replica_session(replica) as session:
                session.execute("ALTER SYSTEM SET hot_standby_feedback = on")
                session.execute("ALTER SYSTEM SET wal_receiver_status_interval = '1s'")
                session.execute("SELECT pg_reload_conf()")
                session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                session.execute("SELECT count(*) FROM pg_class")  # a report that takes days

                def grows() -> bool:
                    """Each transaction since the standby's snapshot counts."""
                    connection.execute("SELECT pg_current_xact_id()")
                    return kept() > 3

                eventually(grows, seconds=30, every=0.2)
        finally:
            replica.stop()
            shutil.rmtree(near, ignore_errors=True)
        eventually(lambda: kept() == 0)


def replica_session(replica: Postgres) -> contextlib.closing[Connection]:
    return contextlib.closing(psycopg.connect(replica.url, autocommit=True))
