"""What placing may leave behind: an id counts as settled only when nobody can commit it any more.

An event whose id was settled too early would never be placed. So a transaction is held at each
step of its append while others append and are placed, again and again.
"""

import contextlib
import random
import threading
from collections.abc import Iterator

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from events import log
from tests.stack import eventually

GATE = 4243  # the advisory lock that the test's triggers wait for
INSERT = "INSERT INTO events_event (type, version, data, channels) VALUES ('Noted', 1, %s, '{item:1}')"


@pytest.fixture
def start(database):
    """The head before the test, all before it placed."""
    while log.place().count:
        pass
    return log.head().position


@pytest.fixture
def connect():
    """Open sessions of the test's own."""
    with contextlib.ExitStack() as opened:
        yield lambda **how: opened.enter_context(
            contextlib.closing(psycopg.connect(settings.DATABASE_URL, **how))
        )


@pytest.fixture
def other(connect):
    """A session in which every statement is a transaction."""
    return connect(autocommit=True)


def append(session, n: int) -> None:
    session.execute(INSERT, [f'{{"n":{n}}}'])


def state() -> tuple[int, int]:
    """Return how far ids are settled, and how far they are taken."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT l.settled_to, s.last_value FROM events_logstate l, events_event_id_seq s")
        return cursor.fetchone()


def placed(start: int) -> list[int]:
    return [int(entry.data[5:-1]) for entry in log.read(start).entries]


@contextlib.contextmanager
def gate(other, step: str) -> Iterator[None]:
    """Have the append of who asks for it wait at a step until the block ends."""
    when = {
        "numbered": "CREATE TRIGGER events_zz_wait BEFORE INSERT ON events_event FOR EACH STATEMENT",
        "id taken": "CREATE TRIGGER events_zz_wait BEFORE INSERT ON events_event FOR EACH ROW",
        "row stored": "CREATE TRIGGER events_zz_wait AFTER INSERT ON events_event FOR EACH ROW",
    }[step]
    other.execute(
        "CREATE FUNCTION test_wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF current_setting('application_name') = 'held' THEN"
        f" PERFORM pg_advisory_xact_lock({GATE}); END IF; RETURN NEW; END $$;"
        f"{when} EXECUTE FUNCTION test_wait()"
    )
    other.execute("SELECT pg_advisory_lock(%s)", [GATE])
    try:
        yield
    finally:
        other.execute("SELECT pg_advisory_unlock(%s)", [GATE])


def until_it_waits(session, pid: int) -> None:
    waits = "SELECT wait_event = 'advisory' FROM pg_stat_activity WHERE pid = %s"
    eventually(lambda: session.execute(waits, [pid]).fetchone()[0])


@pytest.mark.parametrize("before", [0, 2], ids="{} placings before".format)
@pytest.mark.parametrize("during", [1, 4], ids="{} meanwhile".format)
@pytest.mark.parametrize("step", ["numbered", "id taken", "row stored"])
def test_who_is_held_at_a_step_of_its_append_is_placed_all_the_same(
    start, connect, other, step, before, during
):
    for n in range(1, before + 1):
        append(other, n)
        log.place()
    held = connect(application_name="held")
    try:
        with gate(other, step):
            append(other, 100)  # unplaced: so that the placing that sees the held one has something to do
            thread = threading.Thread(target=append, args=(held, -1))
            thread.start()
            until_it_waits(other, held.info.backend_pid)
            held_id = state()[1] + (step == "numbered")
            for n in range(101, 101 + during):
                log.place()
                append(other, n)
                assert state()[0] < held_id
        thread.join(10)
        for n in range(201, 201 + during):  # stored, and not committed
            append(other, n)
            log.place()
            assert state()[0] < held_id
        held.commit()
        log.place()
    finally:
        held.close()  # what failed in between must not hold the table
        other.execute("DROP FUNCTION test_wait() CASCADE")
    found = placed(start)
    assert found[-1] == -1
    assert sorted(found) == sorted(
        [-1, *range(1, before + 1), 100, *range(101, 101 + during), *range(201, 201 + during)]
    )
    for n in range(3):
        append(other, 300 + n)
        log.place()
    assert state()[0] > held_id  # and then it no longer holds anything up


def test_an_append_in_a_savepoint_counts_as_its_transaction(start, connect, other):
    held = connect()
    with held.transaction():
        with held.transaction():
            append(held, -1)
        for n in range(5):
            append(other, n)
            log.place()
        with held.transaction():
            append(held, -2)
        for n in range(5, 10):
            append(other, n)
            log.place()
    log.place()
    assert placed(start) == [*range(10), -1, -2]


def test_a_snapshot_holds_nothing_up_and_neither_do_ids_that_nobody_used(start, connect, other):
    reader = connect()
    reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    reader.execute("SELECT count(*) FROM events_event")
    for n in range(5):
        append(other, n)
        with contextlib.suppress(ZeroDivisionError), other.transaction():
            append(other, 99)
            raise ZeroDivisionError
        log.place()
    settled, taken = state()
    assert taken - settled <= 4  # two rounds: taken, then seen to have ended


def test_a_placing_of_many_batches_settles_none_that_it_has_not_reached(start, other):
    append(other, -1)
    log.place()
    for n in range(10):
        append(other, n)
    while log.place(batch=3).count:
        settled, _ = state()
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM events_event WHERE position IS NULL AND id <= %s", [settled])
            assert cursor.fetchone() == (0,)
        append(other, 50)
        with connection.cursor() as cursor:  # enough
            cursor.execute("SELECT count(*) FROM events_event WHERE data = '{\"n\":50}'")
            if cursor.fetchone()[0] >= 4:
                break
    while log.place(batch=3).count:
        pass
    assert placed(start) == [-1, *range(10), *[50] * 4]


def test_one_that_is_parked_is_settled_too(start, other):
    other.execute(
        "CREATE FUNCTION test_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'no'; END $$;"
        "CREATE TRIGGER test_refuse BEFORE INSERT ON events_channelposition FOR EACH ROW"
        " WHEN (NEW.channel = 'item:13') EXECUTE FUNCTION test_refuse()"
    )
    try:
        for n in range(4):
            other.execute(INSERT.replace("item:1", "item:13"), [f'{{"n":{n}}}'])
            append(other, n + 10)
            assert log.place().count == 2
    finally:
        other.execute("DROP FUNCTION test_refuse() CASCADE")
    settled, taken = state()
    assert taken - settled <= 4


def test_ids_that_begin_anew_are_not_settled(start, other):
    for n in range(5):
        append(other, n)
        log.place()
    assert state()[0] > 1
    other.execute("SET tickertape.retention = 'on'")
    other.execute("TRUNCATE events_event, events_channelposition RESTART IDENTITY")
    append(other, 7)
    assert log.place().count == 1


def test_what_another_cluster_counted_is_forgotten(start, other):
    """A restore brings the log's row with the numbers of transactions that this cluster never had."""
    for n in range(3):
        append(other, n)
        log.place()
    other.execute(
        "UPDATE events_logstate SET system_identifier = 1, taken_to = settled_to + 1, taken_before = %s",
        [2**62],
    )
    for n in range(4):
        append(other, n)
        log.place()
    settled, taken = state()
    assert taken - settled <= 2


@pytest.mark.parametrize("column", ["id", "id, position"])
def test_nobody_may_choose_an_id(start, other, column):
    values = "1, 1" if "," in column else "1"
    with pytest.raises(psycopg.errors.GeneratedAlways):
        other.execute(
            f"INSERT INTO events_event ({column}, type, version, data, channels)"
            f" VALUES ({values}, 'Noted', 1, '{{}}', '{{item:1}}')"
        )


def test_copy_takes_its_ids_in_time_too(start, connect, other):
    held = connect()
    with held.cursor().copy("COPY events_event (type, version, data, channels) FROM STDIN") as copy:
        copy.write_row(["Noted", 1, '{"n":-1}', ["item:1"]])
        # The server answers nothing before the end: it has the row when its transaction has a number.
        numbered = "SELECT backend_xid IS NOT NULL FROM pg_stat_activity WHERE pid = %s"
        eventually(lambda: other.execute(numbered, [held.info.backend_pid]).fetchone()[0])
        for n in range(4):
            append(other, n)
            log.place()
        copy.write_row(["Noted", 1, '{"n":-2}', ["item:1"]])
        for n in range(4, 8):
            append(other, n)
            log.place()
    held.commit()
    log.place()
    assert placed(start) == [*range(8), -1, -2]


def test_in_a_crowd_of_appends_that_commit_as_they_like_none_is_left(start, connect):
    committed: list[int] = []
    stop = threading.Event()

    def writer(number: int) -> None:
        dice = random.Random(number)
        session = connect()
        for turn in range(60):
            n = number * 1000 + turn
            append(session, n)
            stop.wait(dice.choice((0, 0, 0.001, 0.01, 0.03)))
            if dice.random() < 0.2:
                session.rollback()
            else:
                session.commit()
                committed.append(n)

    def placer() -> None:
        session = connect(autocommit=True)
        while not stop.is_set():
            session.execute("SELECT tickertape_place(%s)", [random.choice((1, 5, 1000))])

    writers = [threading.Thread(target=writer, args=(number,)) for number in range(6)]
    placers = [threading.Thread(target=placer) for _ in range(2)]
    for thread in writers + placers:
        thread.start()
    for thread in writers:
        thread.join(60)
    stop.set()
    for thread in placers:
        thread.join(10)
    while log.place().count:
        pass
    assert sorted(placed(start)) == sorted(committed)


def test_a_placing_that_was_numbered_long_before_remembers_nothing(start, connect, other):
    """Who is numbered after it, and takes an id before it looks, is not below its number."""
    append(other, 1)
    placer, held = connect(), connect()
    placer.execute("SELECT pg_current_xact_id()")
    append(held, -1)
    placer.execute("SELECT tickertape_place(1000)")
    placer.commit()
    for n in range(2, 5):
        append(other, n)
        log.place()
    held.commit()
    log.place()
    assert placed(start) == [1, 2, 3, 4, -1]


def test_a_held_snapshot_makes_placing_and_reading_no_dearer(start, connect, other):
    """In pages of the database that are looked at, which a busy machine does not change."""
    reader = connect()
    reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    reader.execute("SELECT count(*) FROM events_event")
    for plan in ("seqscan", "hashjoin", "mergejoin"):  # a larger log has no use for them
        other.execute(f"SET enable_{plan} = off")

    def pages(statement: str) -> int:
        explained = other.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}").fetchone()
        top = explained[0][0]["Plan"]
        return top["Shared Hit Blocks"] + top["Shared Read Blocks"]

    def cost() -> list[int]:
        append(other, 0)
        placing = pages("SELECT * FROM tickertape_place(1000)")
        found = {"after": log.head().position - 1, "limit": 500, "bytes": 100_000}
        return [placing, pages("SELECT * FROM tickertape_look('', 0)"), pages(log.ALL_SQL % found)]

    def nobody_writes() -> bool:
        """No transaction has a number: autovacuum's, while it lasts, holds up what is settled."""
        sql = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_xid IS NOT NULL)"
        return bool(other.execute(sql).fetchone()[0])

    def least() -> list[int]:
        """What autovacuum does has the server plan anew, and look up what it needs for that: once."""
        eventually(nobody_writes, seconds=60)
        return [min(found) for found in zip(*[cost() for _ in range(5)], strict=True)]

    first = least()
    for _ in range(25):
        other.execute(
            "INSERT INTO events_event (type, version, data, channels)"
            " SELECT 'Noted', 1, '{}', '{item:1}' FROM generate_series(1, 200)"
        )
        while log.place(20).count:
            pass
    last = least()
    assert all(late < early + 30 for early, late in zip(first, last, strict=True)), (first, last)


def test_an_unplaced_row_put_back_by_hand_is_placed_after_a_new_epoch(start, other):
    low = other.execute("SELECT nextval('events_event_id_seq')").fetchone()[0]
    for _ in range(4):
        append(other, 1)
        log.place()
    settled, _ = state()
    assert settled > low
    # As COPY or `pg_restore --data-only` does, with the id that the row had when it was dumped.
    other.execute(
        "INSERT INTO events_event (id, type, version, data, channels) OVERRIDING SYSTEM VALUE"
        " VALUES (%s, 'Noted', 1, '{}', '{item:1}')",
        [low],
    )
    log.new_epoch()  # what docs/operations.md says to run
    log.place()
    assert other.execute("SELECT position FROM events_event WHERE id = %s", [low]).fetchone()[0]


def test_a_sequence_that_stands_lower_loses_no_append(start, other):
    """As after a switch-over to a logical replica, or `setval`: ids that pruning made free come again."""
    for _ in range(4):
        append(other, 1)
        log.place()
    settled, taken = state()
    log.prune(log.head().position)
    other.execute("SELECT setval('events_event_id_seq', %s)", [settled - 2])
    try:
        append(other, 1)
        log.place()
        left = other.execute("SELECT count(*) FROM events_event WHERE position IS NULL").fetchone()[0]
        assert left == 0
    finally:
        other.execute("SELECT setval('events_event_id_seq', %s)", [taken + 10])
