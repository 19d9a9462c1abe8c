"""Promise 9: the database refuses to change the log; what cannot be placed holds nobody up."""

import psycopg
import pytest

from tests.faults.people import both, new_item, noted, notes, on_both, settle
from tests.faults.wire import append


@pytest.fixture
def kept(rough):
    """A placed event and a connection that may try to change it."""
    with rough.connect() as connection:
        event = append(connection, "item:900000001", data={"n": "kept"})
        settle(rough)
        yield connection, event


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events_event SET data = '{}' WHERE id = %(id)s",
        "UPDATE events_event SET type = 'Other' WHERE id = %(id)s",
        "UPDATE events_event SET channels = '{item:900000002}' WHERE id = %(id)s",
        "UPDATE events_event SET actor_id = 1 WHERE id = %(id)s",
        "UPDATE events_event SET created_at = now() WHERE id = %(id)s",
        "UPDATE events_event SET position = position + 1000000 WHERE id = %(id)s",
        "UPDATE events_event SET position = NULL WHERE id = %(id)s",
        "UPDATE events_event SET parked = 'not at all' WHERE id = %(id)s",
        "DELETE FROM events_event WHERE id = %(id)s",
        "TRUNCATE events_event",
        "TRUNCATE events_event CASCADE",
        "INSERT INTO events_event (type, version, data, channels, position)"
        " VALUES ('Noted', 1, '{}', '{item:900000001}', 1000000)",
        "INSERT INTO events_event (type, version, data, channels, parked)"
        " VALUES ('Noted', 1, '{}', '{item:900000001}', 'no')",
        "UPDATE events_channelposition SET channel = 'item:900000002' WHERE channel = 'item:900000001'",
        "DELETE FROM events_channelposition WHERE channel = 'item:900000001'",
        "TRUNCATE events_channelposition",
        "INSERT INTO events_channelposition (channel, position)"
        " SELECT 'item:900000002', position FROM events_event WHERE id = %(id)s",
    ],
)
def test_promise_9_the_database_refuses_to_change_what_happened(kept, statement):
    connection, event = kept
    whole = "SELECT * FROM events_event WHERE id = %s"
    before = connection.execute(whole, [event]).fetchone()

    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        connection.execute(statement, {"id": event})

    assert connection.execute(whole, [event]).fetchone() == before


def test_promise_9_an_unplaced_event_gets_its_position_from_the_placing_only(kept):
    connection, _ = kept
    with connection.transaction(force_rollback=True):
        event = append(connection, "item:900000001")
        for change in ("position = 1000000", "data = '[]'", "parked = 'no'"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(f"UPDATE events_event SET {change} WHERE id = %s", [event])


@pytest.mark.parametrize("name", ["", "noted", "Not ed", "Noted\ndata: x", "N" * 65, "É"])
def test_promise_9_a_name_that_could_break_a_frame_is_refused_by_the_database(kept, name):
    connection, _ = kept
    with pytest.raises(psycopg.errors.CheckViolation):
        append(connection, "item:900000001", kind=name)


@pytest.mark.parametrize("data", ['{"n":\n1}', '{"n":\r1}', "{}\n\nevent: x"])
def test_promise_9_data_of_more_than_one_line_is_refused_by_the_database(kept, data):
    connection, _ = kept
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(
            "INSERT INTO events_event (type, version, data, channels)"
            " VALUES ('Noted', 1, %s, '{item:900000001}')",
            [data],
        )


def test_promise_9_what_cannot_be_placed_is_parked_alone(rough):
    alice = both(rough, "alice")
    channel, poison = (f"item:{new_item(alice['daphne'])}" for _ in range(2))
    settle(rough)
    with (
        on_both(rough, alice, f"/streams/?channel={channel}&channel={poison}") as streams,
        rough.connect() as connection,
    ):
        connection.execute(
            "CREATE FUNCTION test_refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'a test refuses'; END $$;"
            "CREATE TRIGGER test_refuse BEFORE INSERT ON events_channelposition FOR EACH ROW"
            f" WHEN (NEW.channel = '{poison}') EXECUTE FUNCTION test_refuse()"
        )
        try:
            with connection.transaction():
                ids = [
                    append(connection, channel, data={"n": 0}),
                    append(connection, channel, poison, data={"n": "refused"}),
                    append(connection, channel, data={"n": 1}),
                    append(connection, poison, data={"n": "refused"}),
                    append(connection, channel, data={"n": 2}),
                ]
            settle(rough)
        finally:
            connection.execute("DROP FUNCTION test_refuse() CASCADE")
        for stream in streams.values():
            assert notes(stream.until(noted(2))) == [0, 1, 2]

        rows = connection.execute(
            "SELECT position, parked FROM events_event WHERE id = ANY(%s) ORDER BY id", [ids]
        ).fetchall()
        begin = rows[0][0]
        assert [position for position, _ in rows] == list(range(begin, begin + 5))
        assert [parked is not None for _, parked in rows] == [False, True, False, True, False]
        assert "a test refuses" in rows[1][1]
    with on_both(
        rough, alice, f"/streams/?channel={channel}&channel={poison}", last_event_id="earliest"
    ) as replays:
        for stream in replays.values():
            assert notes(stream.until(noted(2))) == [0, 1, 2]
