"""The log's functions and guards: placing, looking, pruning, epochs, and append-only by the database.

Kept in SQL so that no client's round trip ever happens under the log's row lock.
"""

from django.db import migrations

FORWARD = r"""
CREATE FUNCTION tickertape_identity(OUT system_identifier bigint, OUT timeline text)
LANGUAGE sql STABLE AS $$
    SELECT c.system_identifier,
           CASE WHEN pg_is_in_recovery() THEN NULL
                ELSE left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END
    FROM pg_control_system() c
$$;

-- Whether the database is no longer the one that the epoch was begun in.
CREATE FUNCTION tickertape_moved(l events_logstate) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT l.system_identifier <> i.system_identifier OR l.timeline <> i.timeline FROM tickertape_identity() i
$$;

-- Begin a new epoch, unless the one expected to end has ended already.
CREATE FUNCTION tickertape_new_epoch(expected text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    UPDATE events_logstate l
    SET epoch = left(replace(gen_random_uuid()::text, '-', ''), 10),
        began = l.head,
        system_identifier = i.system_identifier,
        timeline = i.timeline
    FROM tickertape_identity() i
    WHERE l.id = 1 AND l.epoch = coalesce(expected, l.epoch);
    SELECT epoch INTO STRICT answer FROM events_logstate WHERE id = 1;
    RETURN answer;
END
$$;

-- What a hub asks once a second. The history is another one (a restore, a fail-over to a
-- replica that lacked the last commits) where the cluster or its timeline changed, or where
-- the head lies below a position that somebody has already seen.
CREATE FUNCTION tickertape_look(
    seen_epoch text, seen_position bigint,
    OUT epoch text, OUT head bigint, OUT oldest bigint, OUT tick_age double precision
)
LANGUAGE plpgsql AS $$
DECLARE
    l events_logstate;
BEGIN
    SELECT * INTO STRICT l FROM events_logstate WHERE id = 1;
    IF NOT pg_is_in_recovery() AND (
        (l.epoch = seen_epoch AND l.head < seen_position)
        OR tickertape_moved(l)
    ) THEN
        PERFORM tickertape_new_epoch(l.epoch);
        SELECT * INTO STRICT l FROM events_logstate WHERE id = 1;
    END IF;
    epoch := l.epoch;
    head := l.head;
    oldest := l.oldest;
    tick_age := extract(epoch FROM clock_timestamp() - l.ticked_at);
END
$$;

-- Give positions to committed events, by id. One call is one transaction: the lock on the log's
-- row makes placers take turns, and each statement's own snapshot (READ COMMITTED) sees all that
-- the placers before it did.
CREATE FUNCTION tickertape_place(batch integer, OUT epoch text, OUT head bigint, OUT placed integer)
LANGUAGE plpgsql AS $$
DECLARE
    l events_logstate;
    e record;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'tickertape_place needs READ COMMITTED';
    END IF;
    -- Not a SET of the function: only a superuser may give one for a parameter of ours.
    PERFORM set_config('tickertape.sequencing', 'on', true);
    -- A position that was seen must outlive a crash, whatever the cluster's default.
    PERFORM set_config('synchronous_commit', 'on', true)
        WHERE current_setting('synchronous_commit') = 'off';
    SELECT * INTO STRICT l FROM events_logstate WHERE id = 1 FOR UPDATE;
    IF tickertape_moved(l) THEN
        PERFORM tickertape_new_epoch(l.epoch);
        SELECT * INTO STRICT l FROM events_logstate WHERE id = 1;
    END IF;
    BEGIN
        WITH unplaced AS (
            SELECT id, channels FROM events_event WHERE position IS NULL ORDER BY id LIMIT batch
        ), numbered AS (
            SELECT id, channels, l.head + row_number() OVER (ORDER BY id) AS position FROM unplaced
        ), given AS (
            UPDATE events_event SET position = n.position FROM numbered n WHERE events_event.id = n.id
        ), addressed AS (
            INSERT INTO events_channelposition (channel, position)
            SELECT DISTINCT c.channel, n.position FROM numbered n, unnest(n.channels) AS c (channel)
        )
        SELECT count(*) INTO placed FROM numbered;
    EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded
                OR raise_exception THEN
        -- One of them cannot be placed: find it by going one by one, and park it alone. It keeps
        -- a position, on no channel, so that the others are neither held up nor renumbered.
        placed := 0;
        FOR e IN SELECT id, channels FROM events_event WHERE position IS NULL ORDER BY id LIMIT batch LOOP
            placed := placed + 1;
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
    epoch := l.epoch;
    head := l.head + placed;
    IF placed > 0 OR l.ticked_at IS NULL OR l.ticked_at < clock_timestamp() - interval '900 milliseconds' THEN
        UPDATE events_logstate SET head = tickertape_place.head, ticked_at = clock_timestamp() WHERE id = 1;
    END IF;
    PERFORM set_config('tickertape.sequencing', '', true);
END
$$;

-- Remove a batch of the oldest events. The only way out of the log but erasure.
CREATE FUNCTION tickertape_prune(
    upto bigint, batch integer, OUT removed bigint, OUT oldest bigint, OUT done boolean
)
LANGUAGE plpgsql AS $$
DECLARE
    l events_logstate;
    below bigint;
BEGIN
    PERFORM set_config('tickertape.retention', 'on', true);
    SELECT * INTO STRICT l FROM events_logstate WHERE id = 1 FOR UPDATE;
    below := least(upto, l.head, l.oldest + batch - 1) + 1;
    DELETE FROM events_channelposition p WHERE p.position >= l.oldest AND p.position < below;
    DELETE FROM events_event e WHERE e.position >= l.oldest AND e.position < below;
    GET DIAGNOSTICS removed = ROW_COUNT;
    oldest := greatest(below, l.oldest);
    UPDATE events_logstate SET oldest = tickertape_prune.oldest WHERE id = 1 AND below > l.oldest;
    done := below > least(upto, l.head);
    PERFORM set_config('tickertape.retention', '', true);
END
$$;

CREATE FUNCTION tickertape_refuse() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(current_setting('tickertape.retention', true), '') = 'on' THEN
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    RAISE EXCEPTION 'the log is append-only: % of % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER events_born_unplaced BEFORE INSERT ON events_event
FOR EACH ROW WHEN (NEW.position IS NOT NULL OR NEW.parked IS NOT NULL)
EXECUTE FUNCTION tickertape_refuse();

-- The placing is the one update: from no position to one, by its function, and nothing else.
CREATE TRIGGER events_only_placed BEFORE UPDATE ON events_event
FOR EACH ROW WHEN (
    OLD.position IS NOT NULL OR NEW.position IS NULL
    OR coalesce(current_setting('tickertape.sequencing', true), '') <> 'on'
    OR (OLD.id, OLD.type, OLD.version, OLD.data, OLD.channels, OLD.actor_id, OLD.caused_by, OLD.unique_key, OLD.created_at)
       IS DISTINCT FROM
       (NEW.id, NEW.type, NEW.version, NEW.data, NEW.channels, NEW.actor_id, NEW.caused_by, NEW.unique_key, NEW.created_at)
)
EXECUTE FUNCTION tickertape_refuse();

-- What was given is not taken back: the log's row goes on, and stays.
CREATE TRIGGER events_log_goes_on BEFORE UPDATE ON events_logstate
FOR EACH ROW WHEN (NEW.head < OLD.head OR NEW.oldest < OLD.oldest OR NEW.oldest > NEW.head + 1)
EXECUTE FUNCTION tickertape_refuse();
CREATE TRIGGER events_log_stays BEFORE DELETE ON events_logstate
FOR EACH ROW EXECUTE FUNCTION tickertape_refuse();

CREATE TRIGGER events_not_deleted BEFORE DELETE ON events_event
FOR EACH ROW EXECUTE FUNCTION tickertape_refuse();
CREATE TRIGGER events_not_truncated BEFORE TRUNCATE ON events_event
FOR EACH STATEMENT EXECUTE FUNCTION tickertape_refuse();
CREATE TRIGGER events_channels_placed BEFORE INSERT ON events_channelposition
FOR EACH ROW WHEN (coalesce(current_setting('tickertape.sequencing', true), '') <> 'on')
EXECUTE FUNCTION tickertape_refuse();
CREATE TRIGGER events_channels_fixed BEFORE UPDATE OR DELETE ON events_channelposition
FOR EACH ROW EXECUTE FUNCTION tickertape_refuse();
CREATE TRIGGER events_channels_not_truncated BEFORE TRUNCATE ON events_channelposition
FOR EACH STATEMENT EXECUTE FUNCTION tickertape_refuse();

CREATE INDEX events_channelposition_position ON events_channelposition (position);

INSERT INTO events_logstate (id, head, began, oldest, epoch, system_identifier, timeline)
SELECT 1, 0, 0, 1, left(replace(gen_random_uuid()::text, '-', ''), 10), i.system_identifier, i.timeline
FROM tickertape_identity() i;
"""

BACKWARD = r"""
DROP TRIGGER events_log_goes_on ON events_logstate;
DROP TRIGGER events_log_stays ON events_logstate;
DROP TRIGGER events_born_unplaced ON events_event;
DROP TRIGGER events_only_placed ON events_event;
DROP TRIGGER events_not_deleted ON events_event;
DROP TRIGGER events_not_truncated ON events_event;
DROP TRIGGER events_channels_placed ON events_channelposition;
DROP TRIGGER events_channels_fixed ON events_channelposition;
DROP TRIGGER events_channels_not_truncated ON events_channelposition;
DROP INDEX events_channelposition_position;
DROP FUNCTION tickertape_refuse, tickertape_prune, tickertape_place, tickertape_look, tickertape_new_epoch, tickertape_moved,
    tickertape_identity;
DELETE FROM events_logstate;
"""


class Migration(migrations.Migration):
    """Create the functions, the guards and the log's row."""

    dependencies = [("events", "0001_initial")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
