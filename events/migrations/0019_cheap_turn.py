"""A turn of placing is cheaper, whatever it places: five statements instead of sixteen.

What is placed is mostly little, and then what a turn costs is that of starting and ending its statements, and
of reading, for each, the conditions of its tables' triggers. So the placing that hands back is no longer
another function around the placing but that itself, what belongs to one snapshot is one statement, and the
guard of the one update reads a short condition. Both functions are called as before, and do the same: a
worker of before notices nothing.
"""

from importlib import import_module

from django.db import migrations

_history = import_module("events.migrations.0006_history")
_settled = import_module("events.migrations.0011_settled")
_quiet = import_module("events.migrations.0017_quiet")
_read = import_module("events.migrations.0018_placed_and_read")

FORWARD = r"""
-- As before. But which cluster and which database it is can change for no session that goes on, so each asks
-- once and keeps it: it is read from a file. A standby that is promoted keeps its sessions, and a restore in
-- place the sessions of others; so the timeline and the table are asked for each time.
CREATE OR REPLACE FUNCTION tickertape_moved(l events_logstate) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
DECLARE
    here text := current_setting('tickertape.here', true);
BEGIN
    IF coalesce(here, '') = '' THEN
        SELECT set_config('tickertape.here', i.system_identifier || ' ' || split_part(i.home, '.', 1), false)
        INTO STRICT here FROM tickertape_identity() i;
    END IF;
    RETURN l.system_identifier || ' ' || l.home <> here || '.' || 'events_logstate'::regclass::oid
        OR l.timeline <> CASE WHEN pg_is_in_recovery() THEN NULL
                              ELSE left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END;
END
$$;

CREATE OR REPLACE FUNCTION tickertape_place_and_read(batch integer, most_events integer, most_bytes integer)
RETURNS TABLE (
    placed integer, epoch text, began bigint, head bigint, oldest bigint, last bigint, found bigint,
    "position" bigint, id bigint, type text, version smallint, data text, channels text[], actor_id bigint
)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    seen record;
    l record;
    e record;
    said text;
    given integer := 0;
    reached bigint;
    taken bigint;
    ended_below bigint;
    last_id bigint;
    handed bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'tickertape_place needs READ COMMITTED';
    END IF;
    -- One snapshot: what is placed in it lies at or below its head.
    SELECT s.epoch, s.head, s.settled_to,
           q.taken, s.ticked_at >= clock_timestamp() - interval '900 milliseconds'
               AND q.taken >= s.settled_to AND NOT EXISTS (SELECT FROM events_event u WHERE u.position IS NULL AND u.id > s.settled_to)
               AND NOT tickertape_moved(s) AS quiet
    INTO STRICT seen
    FROM (SELECT * FROM events_logstate ORDER BY id DESC LIMIT 1) s,
    -- By its function: read as a table, where scans of tables are off, it would be so dear up to version 17
    -- that all of this were compiled each time, for a tenth of a second.
    (SELECT coalesce(pg_sequence_last_value('events_event_id_seq'), 0) AS taken OFFSET 0) q;
    IF seen.quiet THEN
        -- Nothing is locked, so nothing written. Once a second it goes on all the same, and says so (`ticked_at`).
        placed := 0;
        epoch := seen.epoch;
        head := seen.head;
        RETURN NEXT;
        RETURN;
    END IF;
    -- Not a SET of the function: only a superuser may give one for a parameter of ours.
    said := set_config('tickertape.sequencing', 'on', true);
    -- A position that was seen must outlive a crash, whatever the cluster's default.
    IF current_setting('synchronous_commit') = 'off' THEN
        said := set_config('synchronous_commit', 'on', true);
    END IF;
    -- Seen before we are numbered: whoever took one of these ids has a lower number than ours will be.
    IF pg_current_xact_id_if_assigned() IS NULL THEN
        taken := seen.taken;
    END IF;
    SELECT s.ctid AS at, s.*, tickertape_moved(s) AS moved INTO STRICT l
    FROM events_logstate s ORDER BY s.id DESC LIMIT 1 FOR UPDATE;
    IF l.moved THEN
        PERFORM tickertape_new_epoch(l.epoch);
        SELECT s.ctid AS at, s.*, false AS moved INTO STRICT l FROM events_logstate s ORDER BY s.id DESC LIMIT 1;
    END IF;
    IF seen.taken < l.settled_to THEN
        last_id := coalesce(pg_sequence_last_value('events_event_id_seq'), 0);
        IF last_id < l.settled_to THEN
            -- Ids begin anew, as after a switch-over to a logical replica: what is settled was settled elsewhere.
            l.settled_to := 0;
            l.taken_to := 0;
        END IF;
    END IF;
    -- In a snapshot older than that of the placing, which sees what these transactions appended.
    ended_below := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
    BEGIN
        WITH unplaced AS (
            SELECT u.id, u.channels FROM events_event u
            WHERE u.position IS NULL AND u.id > l.settled_to ORDER BY u.id LIMIT batch
        ), numbered AS (
            SELECT u.id, u.channels, l.head + row_number() OVER (ORDER BY u.id) AS position FROM unplaced u
        ), positioned AS (
            UPDATE events_event SET position = n.position FROM numbered n WHERE events_event.id = n.id
        ), addressed AS (
            INSERT INTO events_channelposition (channel, position)
            SELECT DISTINCT c.channel, n.position FROM numbered n, unnest(n.channels) AS c (channel)
        )
        SELECT count(*), max(n.id) INTO given, last_id FROM numbered n;
    EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded
                OR raise_exception THEN
        -- One of them cannot be placed: find it by going one by one, and park it alone. It keeps
        -- a position, on no channel, so that the others are neither held up nor renumbered.
        given := 0;
        FOR e IN
            SELECT u.id, u.channels FROM events_event u
            WHERE u.position IS NULL AND u.id > l.settled_to ORDER BY u.id LIMIT batch
        LOOP
            given := given + 1;
            last_id := e.id;
            BEGIN
                UPDATE events_event u SET position = l.head + given WHERE u.id = e.id;
                INSERT INTO events_channelposition (channel, position)
                SELECT DISTINCT c.channel, l.head + given FROM unnest(e.channels) AS c (channel);
            EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded
                        OR raise_exception THEN
                UPDATE events_event u SET position = l.head + given, parked = SQLSTATE || ' ' || SQLERRM
                WHERE u.id = e.id;
            END;
        END LOOP;
    END;
    IF l.taken_to > l.settled_to AND ended_below >= l.taken_before THEN
        -- Placed by id: a full batch may have left some of them.
        l.settled_to := CASE WHEN given < batch THEN l.taken_to ELSE least(l.taken_to, last_id) END;
    END IF;
    IF taken > l.settled_to AND l.taken_to <= l.settled_to THEN
        l.taken_to := taken;
        l.taken_before := pg_current_xact_id()::text::bigint;
    END IF;
    reached := l.head + given;
    IF given > 0 OR l.ticked_at IS NULL OR l.ticked_at < clock_timestamp() - interval '900 milliseconds' THEN
        UPDATE events_logstate s
        SET head = reached,
            ticked_at = clock_timestamp(),
            settled_to = l.settled_to,
            taken_to = l.taken_to,
            taken_before = l.taken_before
        WHERE s.ctid = l.at;
    END IF;
    said := set_config('tickertape.sequencing', '', true);
    IF given BETWEEN 1 AND most_events THEN
        RETURN QUERY
        WITH these AS (
            SELECT u.position, u.id, u.type, u.version, u.data, u.channels, u.actor_id, u.parked
            FROM events_event u WHERE u.position > l.head AND u.position <= reached ORDER BY u.position
        )
        SELECT given, l.epoch, l.began, reached, l.oldest, reached, given::bigint,
               t.position, t.id, t.type, t.version, t.data,
               CASE WHEN t.parked IS NULL THEN t.channels ELSE '{}' END, t.actor_id
        FROM these t WHERE most_bytes >= (
            SELECT sum(octet_length(i.data) + octet_length(array_to_string(i.channels, ' '))) FROM these i
        );
        GET DIAGNOSTICS handed = ROW_COUNT;
        IF handed > 0 THEN
            RETURN;
        END IF;
    END IF;
    placed := given;
    epoch := l.epoch;
    head := reached;
    RETURN NEXT;
END
$$;

CREATE OR REPLACE FUNCTION tickertape_place(batch integer, OUT epoch text, OUT head bigint, OUT placed integer)
LANGUAGE plpgsql AS $$
BEGIN
    SELECT p.epoch, p.head, p.placed INTO STRICT epoch, head, placed FROM tickertape_place_and_read(batch, 0, 0) p;
END
$$;

-- The placing is the one update: from no position to one, by its function, and nothing else. Conditions are
-- read anew for each statement, so they are short, and what names another column is refused by its name.
-- Replaced, not dropped: that would wait for whoever reads the log, as a dump does, and all others for it.
CREATE OR REPLACE TRIGGER events_only_placed BEFORE UPDATE ON events_event
FOR EACH ROW WHEN (
    OLD.position IS NOT NULL OR NEW.position IS NULL
    OR coalesce(current_setting('tickertape.sequencing', true), '') <> 'on'
)
EXECUTE FUNCTION tickertape_refuse();
CREATE OR REPLACE TRIGGER events_only_placed_else
BEFORE UPDATE OF id, type, version, data, channels, actor_id, caused_by, unique_key, created_at ON events_event
FOR EACH ROW EXECUTE FUNCTION tickertape_refuse();
"""

BACKWARD = f"""
DROP TRIGGER events_only_placed_else ON events_event;
CREATE OR REPLACE TRIGGER events_only_placed BEFORE UPDATE ON events_event
FOR EACH ROW WHEN (
    OLD.position IS NOT NULL OR NEW.position IS NULL
    OR coalesce(current_setting('tickertape.sequencing', true), '') <> 'on'
    OR (OLD.id, OLD.type, OLD.version, OLD.data, OLD.channels, OLD.actor_id, OLD.caused_by, OLD.unique_key, OLD.created_at)
       IS DISTINCT FROM
       (NEW.id, NEW.type, NEW.version, NEW.data, NEW.channels, NEW.actor_id, NEW.caused_by, NEW.unique_key, NEW.created_at)
)
EXECUTE FUNCTION tickertape_refuse();
{_settled._function(_history.FORWARD, "tickertape_moved")}
{_quiet._PLACE.replace(_quiet._LOCK, _quiet._LOOK + _quiet._LOCK)}
{_read.FORWARD.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")}
"""


class Migration(migrations.Migration):
    """Make the functions and the guards anew."""

    dependencies = [("events", "0018_placed_and_read")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
