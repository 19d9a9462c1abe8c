"""The log: appended with the change, placed after its commit, in one order, for good."""

import threading

import psycopg
import pytest
from django.db import connection, transaction

from events import log
from events.channels import Channel
from events.errors import ChannelMalformed, PayloadInvalid, PayloadTooLarge
from events.registry import EventType
from tests.stack import eventually

A, B = Channel("item:1"), Channel("item:2")


class LogTested(EventType):
    """Something happened to a test."""

    n: int = 0
    text: str = ""


def append(n=0, *channels, **more):
    with transaction.atomic():
        return log.append(LogTested(n=n, **more), channels=channels or [A])


@pytest.fixture
def start(database):
    """The head before the test: positions go on from there."""
    log.place()
    return log.head().position


def read(start, *channels):
    return [entry.data for entry in log.read(start, channels=channels or None).entries]


def test_an_event_has_no_position_before_it_is_placed(start):
    append()
    assert log.head().position == start
    assert read(start) == []

    placed = log.place()

    assert (placed.head, placed.count) == (start + 1, 1)
    assert len(read(start)) == 1


def test_a_rolled_back_append_leaves_no_trace_and_no_gap(start):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        log.append(LogTested(n=1), channels=[A])
        raise ZeroDivisionError
    append(2)
    log.place()

    page = log.read(start)
    assert [(entry.position, entry.data) for entry in page.entries] == [(start + 1, '{"n":2,"text":""}')]


def test_positions_are_dense_although_ids_are_not(start):
    for n in range(5):
        append(n)
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            log.append(LogTested(n=99), channels=[A])
            raise ZeroDivisionError
    log.place()

    assert [entry.position for entry in log.read(start).entries] == list(range(start + 1, start + 6))


def test_a_transaction_that_commits_late_is_placed_late_and_not_lost(start):
    """`id > last` would lose it: its id is below those that were read before it committed."""
    began, go_on = threading.Event(), threading.Event()

    def slow():
        with transaction.atomic():
            log.append(LogTested(n=1), channels=[A])
            began.set()
            assert go_on.wait(10)
        connection.close()

    thread = threading.Thread(target=slow)
    thread.start()
    assert began.wait(10)
    append(2)
    log.place()
    before = log.read(start)
    go_on.set()
    thread.join(10)
    log.place()
    after = log.read(before.covered_to)

    assert [entry.data for entry in before.entries] == ['{"n":2,"text":""}']
    assert [entry.data for entry in after.entries] == ['{"n":1,"text":""}']
    assert after.entries[0].id < before.entries[0].id


def test_an_append_waits_for_no_other_and_for_no_placing(start):
    with psycopg.connect(log.settings.DATABASE_URL) as other:
        other.execute("SELECT FROM events_logstate FOR UPDATE")
        other.execute(
            "INSERT INTO events_event (type, version, data, channels) VALUES ('Other', 1, '{}', '{item:1}')"
        )
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '2s'")
        append(1)
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")
        other.commit()
    assert log.place().count == 2


def test_placers_take_turns_and_give_each_position_once(start):
    for n in range(300):
        append(n)
    barrier = threading.Barrier(4)

    def placer():
        barrier.wait(10)
        while log.place(batch=20).count:
            pass
        connection.close()

    threads = [threading.Thread(target=placer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    entries = log.read(start, limit=1000).entries
    assert [entry.position for entry in entries] == list(range(start + 1, start + 301))
    assert [entry.data for entry in entries] == [f'{{"n":{n},"text":""}}' for n in range(300)]


def test_a_placer_that_waits_for_its_turn_sees_what_the_one_before_it_did(start):
    append(1)
    done = []
    with psycopg.connect(log.settings.DATABASE_URL) as other:
        other.execute("SELECT * FROM tickertape_place(1000)")

        def placer():
            done.append(log.place())
            connection.close()

        thread = threading.Thread(target=placer)
        thread.start()
        with psycopg.connect(log.settings.DATABASE_URL, autocommit=True) as watcher:
            query = (
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            eventually(lambda: watcher.execute(query).fetchone()[0])
        other.commit()
        thread.join(10)

    assert (done[0].head, done[0].count) == (start + 1, 0)


def test_a_placing_hands_back_just_what_a_read_of_the_log_finds(start):
    append(1)
    append(2, A, B)
    with transaction.atomic():
        log.append(LogTested(n=3), channels=[B], actor_id=7)

    placed = log.place(read=True)

    page = placed.page
    assert page == log.read(start)
    assert (page.after, page.covered_to, len(page.entries)) == (start, start + 3, 3)
    assert log.place(read=True).page is None, "nothing more was placed"


def test_a_placing_that_was_not_asked_hands_back_nothing(start):
    append(1)
    assert log.place().page is None


@pytest.mark.parametrize(("events", "size"), [(log.READ_EVENTS + 1, 1), (3, log.READ_BYTES // 3)])
def test_a_placing_hands_back_no_more_than_little(start, events, size):
    for _ in range(events):
        append(text="x" * size)
    placed = log.place(read=True)
    assert placed.count == events
    assert placed.page is None


def test_a_placer_that_never_reads_what_it_is_handed_back_holds_up_nobody(start):
    size = log.READ_BYTES // log.READ_EVENTS - 40
    for n in range(log.READ_EVENTS):
        append(n, text="x" * size)
    with psycopg.connect(log.settings.DATABASE_URL, autocommit=True) as frozen:
        frozen.pgconn.send_query(
            b"SELECT * FROM tickertape_place_and_read(1000, %d, %d)" % (log.READ_EVENTS, log.READ_BYTES)
        )
        frozen.pgconn.flush()
        eventually(lambda: log.head().position == start + log.READ_EVENTS)
        append()
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '5s'")
        try:
            assert log.place().count == 1
        finally:
            with connection.cursor() as cursor:
                cursor.execute("RESET lock_timeout")
        [result] = iter(frozen.pgconn.get_result, None)
    assert result.ntuples == log.READ_EVENTS, "they were handed back"


def test_a_page_is_bounded_by_count_and_by_bytes_and_says_what_it_covers(start):
    for n in range(6):
        append(n, A if n % 2 else B, text="x" * 100)
    log.place()

    by_count = log.read(start, channels=[A], limit=2)
    rest = log.read(by_count.covered_to, channels=[A], limit=2)
    by_bytes = log.read(start, max_bytes=250)
    one = log.read(start, max_bytes=1)

    assert [entry.position - start for entry in by_count.entries] == [2, 4]
    assert by_count.covered_to == start + 4
    assert [entry.position - start for entry in rest.entries] == [6]
    assert rest.covered_to == start + 6 == rest.head
    assert [entry.position - start for entry in by_bytes.entries] == [1, 2, 3]
    assert by_bytes.covered_to == start + 3
    assert len(one.entries) == 1


def test_a_page_of_channels_without_events_covers_the_whole_log(start):
    append()
    log.place()
    assert log.read(start, channels=[B]).covered_to == start + 1


def test_an_event_of_several_channels_is_read_once(start):
    append(1, A, B)
    log.place()
    assert len(log.read(start, channels=[A, B]).entries) == 1
    assert len(log.read(start, channels=[B]).entries) == 1


def test_a_unique_key_makes_an_append_idempotent(start):
    with transaction.atomic():
        first = log.append(LogTested(n=1), channels=[A], unique_key="once")
    with transaction.atomic():
        again = log.append(LogTested(n=2), channels=[A], unique_key="once")
    log.place()
    assert first == again
    assert read(start) == ['{"n":1,"text":""}']


def test_appending_outside_a_transaction_is_refused(start):
    with pytest.raises(transaction.TransactionManagementError):
        log.append(LogTested(), channels=[A])


def test_placing_inside_a_transaction_is_refused(start):
    with pytest.raises(transaction.TransactionManagementError), transaction.atomic():
        log.place()


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"a": "x\x00y"}, "a"),
        ({"a": {"b": ["\ud800"]}}, "a.b[0]"),
        ({"a": 2**53}, "a"),
        ({"a": -(2**53)}, "a"),
        ({"a": float("nan")}, "a"),
        ({"a": float("inf")}, "a"),
        ({"a": {1: 2}}, "a"),
        ({"a": object()}, "a"),
    ],
)
def test_what_could_not_be_read_back_is_refused_at_append(start, payload, field):
    with pytest.raises(PayloadInvalid) as refused, transaction.atomic():
        log.append_raw("Thing", payload, channels=[A])
    assert [error.field for error in refused.value.errors] == [field]


def test_nesting_too_deep_for_clients_is_refused(start):
    payload = {}
    for _ in range(100):
        payload = {"a": payload}
    with pytest.raises(PayloadInvalid), transaction.atomic():
        log.append_raw("Thing", payload, channels=[A])


def test_a_payload_is_bounded(start, settings):
    settings.EVENTS_MAX_PAYLOAD_BYTES = 1000
    append(text="é" * 490)
    with pytest.raises(PayloadTooLarge):
        append(text="é" * 500)


def test_channels_are_checked_and_bounded(start, settings):
    settings.EVENTS_MAX_CHANNELS = 2
    with pytest.raises(ChannelMalformed):
        append(1, "no channel")
    with pytest.raises(PayloadInvalid):
        append(1, "item:1", "item:2", "item:3")
    with pytest.raises(PayloadInvalid), transaction.atomic():
        log.append(LogTested(), channels=[])


@pytest.mark.parametrize("more", [(), ("other",)], ids=["alone", "with others"])
def test_any_name_is_a_channels_by_either_way_of_appending(start, more):
    names = sorted({"null", "item:1", "user:A.b_c@d+e-f", "kind:null"})
    with transaction.atomic():
        log.append_all([log.new_raw("LogTested", {"n": 1}, channels=names) for _ in ("one", *more)])
    log.place()

    found = log.read(start).entries
    assert [sorted(entry.channels) for entry in found] == [names] * (1 + len(more))


def test_data_is_one_line_whatever_it_holds(start):
    text = "a\nb\rc\r\nd\u2028e\u2029f\u0085g data: x\n\nevent: y 😀"
    append(text=text)
    log.place()
    entry = log.read(start).entries[0]
    assert len(entry.data.splitlines()) == 1
    assert LogTested.model_validate_json(entry.data).text == text


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events_event SET data = '{}' WHERE position IS NOT NULL",
        "UPDATE events_event SET position = position + 1000",
        "UPDATE events_event SET position = NULL",
        "UPDATE events_event SET position = 99999, data = '{}' WHERE position IS NULL",
        "DELETE FROM events_event",
        "TRUNCATE events_event",
        "INSERT INTO events_event (type, data, version, channels, position) VALUES ('X', '{}', 1, '{}', 9)",
        "UPDATE events_channelposition SET channel = 'item:9'",
        "DELETE FROM events_channelposition",
        "TRUNCATE events_channelposition",
        "UPDATE events_logstate SET head = head - 1",
        "UPDATE events_logstate SET oldest = oldest - 1",
        "UPDATE events_logstate SET oldest = head + 2",
        "DELETE FROM events_logstate",
    ],
)
def test_the_database_itself_refuses_to_change_the_log(start, statement):
    append(1)
    log.place()
    append(2)
    with (
        psycopg.connect(log.settings.DATABASE_URL) as other,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        other.execute(statement)


def test_an_event_that_cannot_be_placed_is_parked_alone(start):
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse_13() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN IF NEW.channel = 'item:13' THEN RAISE 'no 13'; END IF; RETURN NEW; END $$;"
            "CREATE TRIGGER refuse_13 BEFORE INSERT ON events_channelposition"
            " FOR EACH ROW EXECUTE FUNCTION refuse_13()"
        )
    try:
        append(1)
        append(2, "item:13", A)
        append(3)
        placed = log.place(read=True)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION refuse_13 CASCADE")

    assert (placed.count, placed.head) == (3, start + 3)
    assert placed.page == log.read(start)
    assert [entry.position - start for entry in log.read(start, channels=[A]).entries] == [1, 3]
    with connection.cursor() as cursor:
        cursor.execute("SELECT parked FROM events_event WHERE position = %s", [start + 2])
        assert "no 13" in cursor.fetchone()[0]


def test_a_snapshot_and_its_cursor_belong_together(start):
    """What the query sees has its event at or below the cursor; what is above it, it does not see."""
    append(1)
    count, cursor = log.snapshot([A], lambda: log.read(start, channels=[A]).covered_to)
    assert count == cursor.position == start + 1  # placed by the snapshot itself


def test_a_snapshot_does_not_see_what_commits_meanwhile(start):
    def query():
        rows = _count()
        thread = threading.Thread(target=lambda: (append(1), log.place(), connection.close()))
        thread.start()
        thread.join(10)
        return rows, _count()

    (before, after), cursor = log.snapshot([A], query)
    assert before == after == 0
    assert cursor.position == start
    assert log.head().position == start + 1


def _count():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM events_event WHERE 'item:1' = ANY (channels)")
        return cursor.fetchone()[0]


def test_pruning_removes_the_oldest_and_says_so(start):
    for n in range(25):
        append(n)
    log.place()
    removed = log.prune(start + 20, batch=7)

    page = log.read(0)
    assert removed == 20
    assert page.oldest == start + 21
    assert [entry.position for entry in page.entries if entry.type == "LogTested"] == list(
        range(start + 21, start + 26)
    )


def test_pruning_never_goes_past_the_head(start):
    append()
    log.place()
    log.prune(start + 1000)
    page = log.read(start)
    assert page.oldest <= page.head + 1


def test_a_new_epoch_is_another_one_and_keeps_the_positions(start):
    append()
    log.place()
    before = log.head()
    log.new_epoch()
    after = log.head()
    assert before.epoch != after.epoch
    assert before.position == after.position


def test_a_head_below_what_was_seen_begins_a_new_epoch(start):
    epoch = log.head().epoch
    with connection.cursor() as cursor:
        cursor.execute("SELECT epoch FROM tickertape_look(%s, %s)", [epoch, start])
        assert cursor.fetchone()[0] == epoch
        cursor.execute("SELECT epoch FROM tickertape_look(%s, %s)", [epoch, start + 1])
        assert cursor.fetchone()[0] != epoch


@pytest.mark.parametrize(
    "change", ["system_identifier = system_identifier + 1", "timeline = '000000FF'", "home = '1.2'"]
)
def test_another_cluster_timeline_or_table_begins_a_new_epoch_before_anything_is_placed(start, change):
    epoch = log.head().epoch
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE events_logstate SET {change}")
    append()
    assert log.place().epoch != epoch
    epoch = log.head().epoch
    log.place()
    assert log.head().epoch == epoch
