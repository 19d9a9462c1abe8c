"""Which history the log is of: a restore of an older state is noticed, whichever way it was made.

A dump, or a copy of the database, comes back under other numbers in the catalogue. A copied data folder comes
back with the very same ones: that it lacks what somebody has seen is told by a mark they kept of it.
"""

from django.db import migrations, models
from django.db.models.functions import Now

FORWARD = r"""
-- Where the log's row lives. It is of another cluster after most restores, on another timeline after a
-- promotion, and in another table or database after a dump or a copy was restored in the same cluster.
DROP FUNCTION tickertape_identity();
CREATE FUNCTION tickertape_identity(OUT system_identifier bigint, OUT timeline text, OUT home text)
LANGUAGE sql STABLE AS $$
    SELECT c.system_identifier,
           CASE WHEN pg_is_in_recovery() THEN NULL
                ELSE left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END,
           (SELECT oid FROM pg_database WHERE datname = current_database())
               || '.' || 'events_logstate'::regclass::oid
    FROM pg_control_system() c
$$;

-- Whether the database is no longer the one that the epoch was begun in.
CREATE OR REPLACE FUNCTION tickertape_moved(l events_logstate) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT l.system_identifier <> i.system_identifier OR l.timeline <> i.timeline OR l.home <> i.home
    FROM tickertape_identity() i
$$;

-- What an event is told apart by from another that has its position in another history.
CREATE FUNCTION tickertape_microseconds(at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT (extract(epoch FROM at) * 1000000)::bigint
$$;

-- Where the log stands, to be kept by who sees it: when its epoch began, the epoch, the head and its event.
CREATE FUNCTION tickertape_mark(l events_logstate) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT format('%s-%s-%s-%s', tickertape_microseconds(l.began_at), l.epoch, l.head, coalesce(
        (SELECT tickertape_microseconds(e.created_at) FROM events_event e WHERE e.position = l.head), 0))
$$;

-- Whether the log lacks what one of the marks was made of: a later epoch, a higher head, or that very event.
-- An event that was pruned proves nothing. What is no mark is none.
CREATE FUNCTION tickertape_undone(l events_logstate, marks text[]) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM unnest(marks) AS kept (mark)
        CROSS JOIN LATERAL regexp_match(
            kept.mark, '^([0-9]{1,18})-([0-9a-f]{1,16})-([0-9]{1,18})-([0-9]{1,18})$') AS m (part)
        WHERE part[1]::bigint > tickertape_microseconds(l.began_at)
           OR part[2] = l.epoch AND (
               part[3]::bigint > l.head
               OR EXISTS (
                   SELECT FROM events_event e WHERE e.position = part[3]::bigint
                   AND tickertape_microseconds(e.created_at) <> part[4]::bigint))
    )
$$;

-- Begin a new epoch, unless the one expected to end has ended already. Of two, the later has the later
-- time, whatever the machines' clocks say.
CREATE OR REPLACE FUNCTION tickertape_new_epoch(expected text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    UPDATE events_logstate l
    SET epoch = left(replace(gen_random_uuid()::text, '-', ''), 10),
        began = l.head,
        began_at = greatest(clock_timestamp(), l.began_at + interval '1 microsecond'),
        system_identifier = i.system_identifier,
        timeline = i.timeline,
        home = i.home
    FROM tickertape_identity() i
    WHERE l.id = 1 AND l.epoch = coalesce(expected, l.epoch);
    SELECT epoch INTO STRICT answer FROM events_logstate WHERE id = 1;
    RETURN answer;
END
$$;

-- What hubs and sequencers ask once a second. The history is another one where the database is,
-- and where the log lacks what somebody has already seen.
DROP FUNCTION tickertape_look(text, bigint);
CREATE FUNCTION tickertape_look(
    seen_epoch text, seen_position bigint, seen_marks text[] DEFAULT '{}',
    OUT epoch text, OUT head bigint, OUT oldest bigint, OUT tick_age double precision, OUT mark text
)
LANGUAGE plpgsql AS $$
DECLARE
    l events_logstate;
BEGIN
    SELECT * INTO STRICT l FROM events_logstate WHERE id = 1;
    IF NOT pg_is_in_recovery() AND (
        (l.epoch = seen_epoch AND l.head < seen_position)
        OR tickertape_moved(l)
        OR tickertape_undone(l, seen_marks)
    ) THEN
        PERFORM tickertape_new_epoch(l.epoch);
        SELECT * INTO STRICT l FROM events_logstate WHERE id = 1;
    END IF;
    epoch := l.epoch;
    head := l.head;
    oldest := l.oldest;
    tick_age := extract(epoch FROM clock_timestamp() - l.ticked_at);
    mark := tickertape_mark(l);
END
$$;

UPDATE events_logstate l SET home = i.home FROM tickertape_identity() i;
"""

BACKWARD = r"""
DROP FUNCTION tickertape_look(text, bigint, text[]);
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
CREATE OR REPLACE FUNCTION tickertape_new_epoch(expected text) RETURNS text
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
CREATE OR REPLACE FUNCTION tickertape_moved(l events_logstate) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT l.system_identifier <> i.system_identifier OR l.timeline <> i.timeline FROM tickertape_identity() i
$$;
DROP FUNCTION tickertape_undone, tickertape_mark, tickertape_microseconds;
DROP FUNCTION tickertape_identity();
CREATE FUNCTION tickertape_identity(OUT system_identifier bigint, OUT timeline text)
LANGUAGE sql STABLE AS $$
    SELECT c.system_identifier,
           CASE WHEN pg_is_in_recovery() THEN NULL
                ELSE left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END
    FROM pg_control_system() c
$$;
"""


class Migration(migrations.Migration):
    """Have the log's row know where it lives and when its epoch began."""

    dependencies = [("events", "0005_keeping")]
    operations = [
        migrations.AddField("logstate", "home", models.TextField(default="")),
        migrations.AddField("logstate", "began_at", models.DateTimeField(db_default=Now())),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
