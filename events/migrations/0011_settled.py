"""How far ids are settled, so that placing never walks over what it placed before.

While anybody holds a snapshot (a pg_dump) nothing that placing leaves behind can be cleaned up: the
entries of `events_unplaced`, whose events are placed by now, and the versions of the log's row. So
the scan for unplaced events begins above `settled_to`, and the log's row is found from its newest end.
"""

from importlib import import_module

from django.db import migrations, models

_PLACE = import_module("events.migrations.0002_functions").FORWARD
_LOOK = import_module("events.migrations.0006_history").FORWARD

FORWARD = r"""
-- What `settled_to` rests on: a transaction has its number before it takes ids from the sequence, so
-- an id that was taken by some moment belongs to a transaction numbered by that moment. A statement's
-- triggers run before the first row's defaults, those of COPY too.
-- Asking for the number is what gives it; the condition is never true, and a trigger that is not
-- called costs an append nothing.
CREATE TRIGGER events_number_first BEFORE INSERT ON events_event
FOR EACH STATEMENT WHEN (pg_current_xact_id() IS NULL) EXECUTE FUNCTION tickertape_refuse();

-- For the same reason nobody may choose an id, and no session may keep ids for later.
ALTER TABLE events_event ALTER COLUMN id SET GENERATED ALWAYS, ALTER COLUMN id SET CACHE 1;

-- A log that was emptied may begin its ids anew.
CREATE FUNCTION tickertape_unsettle() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE events_logstate SET settled_to = 0, taken_to = 0;
    RETURN NULL;
END
$$;
CREATE TRIGGER events_unsettled AFTER TRUNCATE ON events_event
FOR EACH STATEMENT EXECUTE FUNCTION tickertape_unsettle();

-- As before; and what came back is not what was settled, nor taken by which transaction. Where an epoch is
-- remembered that is not there any more, this one is later: else each who does would begin one more.
DROP FUNCTION tickertape_new_epoch(text);
CREATE FUNCTION tickertape_new_epoch(expected text, remembered bigint DEFAULT 0) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    UPDATE events_logstate l
    SET epoch = left(replace(gen_random_uuid()::text, '-', ''), 10),
        began = l.head,
        began_at = greatest(
            clock_timestamp(), l.began_at + interval '1 microsecond',
            'epoch'::timestamptz + (remembered + 1) * interval '1 microsecond'),
        settled_to = 0,
        taken_to = 0,
        system_identifier = i.system_identifier,
        timeline = i.timeline,
        home = i.home
    FROM tickertape_identity() i
    WHERE l.id = 1 AND l.epoch = coalesce(expected, l.epoch);
    SELECT epoch INTO STRICT answer FROM events_logstate WHERE id = 1;
    RETURN answer;
END
$$;

-- As before, with the log's row found from the end of its index where the newest version is: from
-- the other one it would pass all those that a held snapshot keeps.
CREATE OR REPLACE FUNCTION tickertape_look(
    seen_epoch text, seen_position bigint, seen_marks text[] DEFAULT '{}',
    OUT epoch text, OUT head bigint, OUT oldest bigint, OUT tick_age double precision, OUT mark text
)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    l events_logstate;
BEGIN
    SELECT * INTO STRICT l FROM events_logstate ORDER BY id DESC LIMIT 1;
    IF NOT pg_is_in_recovery() AND (
        (l.epoch = seen_epoch AND l.head < seen_position)
        OR tickertape_moved(l)
        OR tickertape_undone(l, seen_marks)
    ) THEN
        PERFORM tickertape_new_epoch(l.epoch, (
            SELECT max(substring(kept.mark FROM '^([0-9]{1,18})-')::bigint) FROM unnest(seen_marks) AS kept (mark)));
        SELECT * INTO STRICT l FROM events_logstate ORDER BY id DESC LIMIT 1;
    END IF;
    epoch := l.epoch;
    head := l.head;
    oldest := l.oldest;
    tick_age := extract(epoch FROM clock_timestamp() - l.ticked_at);
    mark := tickertape_mark(l);
END
$$;

-- As before, and beginning above `settled_to`: every id at or below it is placed, or will never be.
-- It moves in two steps. A placing remembers how far ids had been taken before it was numbered itself
-- (`taken_to`, `taken_before`). A later one that sees all transactions below that number ended sees
-- all that they appended; having placed it, it has settled those ids. Transactions that only read
-- have no number and hold nothing up.
CREATE OR REPLACE FUNCTION tickertape_place(batch integer, OUT epoch text, OUT head bigint, OUT placed integer)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    l events_logstate;
    row_at tid;
    e record;
    taken bigint;
    ended_below bigint;
    last bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'tickertape_place needs READ COMMITTED';
    END IF;
    -- Not a SET of the function: only a superuser may give one for a parameter of ours.
    PERFORM set_config('tickertape.sequencing', 'on', true);
    -- A position that was seen must outlive a crash, whatever the cluster's default.
    PERFORM set_config('synchronous_commit', 'on', true)
        WHERE current_setting('synchronous_commit') = 'off';
    -- Before we are numbered: whoever took one of these ids has a lower number than ours will be.
    IF pg_current_xact_id_if_assigned() IS NULL THEN
        SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END INTO STRICT taken FROM events_event_id_seq;
    END IF;
    SELECT ctid INTO STRICT row_at FROM events_logstate ORDER BY id DESC LIMIT 1 FOR UPDATE;
    SELECT * INTO STRICT l FROM events_logstate WHERE ctid = row_at;
    IF tickertape_moved(l) THEN
        PERFORM tickertape_new_epoch(l.epoch);
        SELECT ctid INTO STRICT row_at FROM events_logstate ORDER BY id DESC LIMIT 1;
        SELECT * INTO STRICT l FROM events_logstate WHERE ctid = row_at;
    END IF;
    SELECT last_value INTO STRICT last FROM events_event_id_seq;
    IF last < l.settled_to THEN
        -- Ids begin anew, as after a switch-over to a logical replica: what is settled was settled elsewhere.
        l.settled_to := 0;
        l.taken_to := 0;
    END IF;
    -- In a snapshot older than that of the placing, which sees what these transactions appended.
    ended_below := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
    BEGIN
        WITH unplaced AS (
            SELECT id, channels FROM events_event
            WHERE position IS NULL AND id > l.settled_to ORDER BY id LIMIT batch
        ), numbered AS (
            SELECT id, channels, l.head + row_number() OVER (ORDER BY id) AS position FROM unplaced
        ), given AS (
            UPDATE events_event SET position = n.position FROM numbered n WHERE events_event.id = n.id
        ), addressed AS (
            INSERT INTO events_channelposition (channel, position)
            SELECT DISTINCT c.channel, n.position FROM numbered n, unnest(n.channels) AS c (channel)
        )
        SELECT count(*), max(id) INTO placed, last FROM numbered;
    EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded
                OR raise_exception THEN
        -- One of them cannot be placed: find it by going one by one, and park it alone. It keeps
        -- a position, on no channel, so that the others are neither held up nor renumbered.
        placed := 0;
        FOR e IN
            SELECT id, channels FROM events_event
            WHERE position IS NULL AND id > l.settled_to ORDER BY id LIMIT batch
        LOOP
            placed := placed + 1;
            last := e.id;
            BEGIN
                UPDATE events_event SET position = l.head + placed WHERE id = e.id;
                INSERT INTO events_channelposition (channel, position)
                SELECT DISTINCT c.channel, l.head + placed FROM unnest(e.channels) AS c (channel);
            EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded
                        OR raise_exception THEN
                UPDATE events_event SET position = l.head + placed, parked = SQLSTATE || ' ' || SQLERRM
                WHERE id = e.id;
            END;
        END LOOP;
    END;
    IF l.taken_to > l.settled_to AND ended_below >= l.taken_before THEN
        -- Placed by id: a full batch may have left some of them.
        l.settled_to := CASE WHEN placed < batch THEN l.taken_to ELSE least(l.taken_to, last) END;
    END IF;
    IF taken > l.settled_to AND l.taken_to <= l.settled_to THEN
        l.taken_to := taken;
        l.taken_before := pg_current_xact_id()::text::bigint;
    END IF;
    epoch := l.epoch;
    head := l.head + placed;
    IF placed > 0 OR l.ticked_at IS NULL OR l.ticked_at < clock_timestamp() - interval '900 milliseconds' THEN
        UPDATE events_logstate
        SET head = tickertape_place.head,
            ticked_at = clock_timestamp(),
            settled_to = l.settled_to,
            taken_to = l.taken_to,
            taken_before = l.taken_before
        WHERE ctid = row_at;
    END IF;
    PERFORM set_config('tickertape.sequencing', '', true);
END
$$;
"""


def _function(source: str, name: str) -> str:
    """Return the statement that made a function, as one that replaces it."""
    begin = source.rindex(f"FUNCTION {name}(")
    return "CREATE OR REPLACE " + source[begin : source.index("$$;", begin) + 3]


BACKWARD = f"""
DROP FUNCTION tickertape_new_epoch(text, bigint);
{_function(_PLACE, "tickertape_place")}
{_function(_LOOK, "tickertape_new_epoch")}
{_function(_LOOK, "tickertape_look")}
ALTER FUNCTION tickertape_place(integer) RESET ALL;
ALTER FUNCTION tickertape_look(text, bigint, text[]) RESET ALL;
DROP TRIGGER events_number_first ON events_event;
DROP TRIGGER events_unsettled ON events_event;
DROP FUNCTION tickertape_unsettle;
ALTER TABLE events_event ALTER COLUMN id SET GENERATED BY DEFAULT;
"""


class Migration(migrations.Migration):
    """Begin every placing where the one before it ended."""

    dependencies = [("events", "0010_sessions")]
    operations = [
        migrations.AddField("logstate", "settled_to", models.BigIntegerField(db_default=0)),
        migrations.AddField("logstate", "taken_to", models.BigIntegerField(db_default=0)),
        migrations.AddField("logstate", "taken_before", models.BigIntegerField(db_default=0)),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
