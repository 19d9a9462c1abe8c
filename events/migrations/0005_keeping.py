"""Retention and erasure: the two ways out of an append-only log, each a function of the database.

Both are one statement for their caller, so a client that is frozen in the middle holds no lock,
and both append what hubs forget by in the transaction in which they forget.
"""

from django.db import migrations

FORWARD = r"""
-- What keeps the log and what is folded from it takes turns here: a rebuild must not read half of
-- what a pruning or an erasure is taking away. Taken before every other lock, and by nothing else.
CREATE FUNCTION tickertape_take_turns() RETURNS void
LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('tickertape keeping', 0))
$$;

-- Remove a batch of the oldest events, and say so in the log.
CREATE OR REPLACE FUNCTION tickertape_prune(
    upto bigint, batch integer, OUT removed bigint, OUT oldest bigint, OUT done boolean
)
LANGUAGE plpgsql AS $$
DECLARE
    l events_logstate;
    below bigint;
BEGIN
    PERFORM tickertape_take_turns();
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
    IF removed > 0 THEN
        INSERT INTO events_event (type, version, data, channels)
        VALUES ('LogPruned', 1, format('{"oldest":%s}', oldest), ARRAY['internal:log']);
    END IF;
END
$$;

-- The JSON of an object with some of its members overwritten. Of the others every byte stays.
CREATE FUNCTION tickertape_overwritten(data text, members text[], placeholder text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT '{' || string_agg(
        to_json(m.key)::text || ':' || CASE WHEN m.key = ANY (members) THEN to_json(placeholder) ELSE m.value END::text,
        ',' ORDER BY m.ordinality
    ) || '}'
    FROM json_each(data::json) WITH ORDINALITY AS m (key, value, ordinality)
$$;

-- Overwrite what is personal to somebody in the next batch of positions above `after`, and say so
-- in the log. A rule is a type, a member that is personal, and whose it is: the member that holds
-- their id, or `@actor`. Events that are not placed yet are left to a later call.
CREATE FUNCTION tickertape_erase(
    person text, rules jsonb, placeholder text, after bigint, batch integer,
    OUT erased bigint, OUT covered_to bigint, OUT done boolean
)
LANGUAGE plpgsql AS $$
DECLARE
    head bigint;
    last bigint;
BEGIN
    PERFORM tickertape_take_turns();
    SELECT l.head INTO STRICT head FROM events_logstate l WHERE id = 1;
    covered_to := greatest(least(after + batch, head), after);
    done := covered_to >= head;
    PERFORM set_config('tickertape.erasure', 'on', true);
    WITH told AS MATERIALIZED (
        SELECT e.id, e.data, e.actor_id, r.member, r.whose
        FROM events_event e JOIN jsonb_to_recordset(rules) AS r (type text, member text, whose text) USING (type)
        WHERE e.position > after AND e.position <= covered_to
    ), theirs AS (
        SELECT id, array_agg(member) AS members FROM told
        WHERE CASE whose WHEN '@actor' THEN actor_id::text ELSE data::json ->> whose END = person
          AND data::json ->> member <> placeholder
        GROUP BY id
    ), changed AS (
        UPDATE events_event e SET data = tickertape_overwritten(e.data, t.members, placeholder)
        FROM theirs t WHERE t.id = e.id
        RETURNING e.position
    )
    SELECT count(*), max(position) INTO erased, last FROM changed;
    PERFORM set_config('tickertape.erasure', '', true);
    IF erased > 0 THEN
        INSERT INTO events_event (type, version, data, channels)
        VALUES ('LogErased', 1, format('{"upto":%s,"events":%s}', last, erased), ARRAY['internal:log']);
    END IF;
END
$$;

-- Retention may delete, erasure may give a placed event other data; neither may do more.
CREATE OR REPLACE FUNCTION tickertape_refuse() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(current_setting('tickertape.retention', true), '') = 'on' THEN
        IF TG_OP = 'DELETE' THEN
            RETURN OLD;
        ELSIF TG_OP = 'TRUNCATE' THEN
            RETURN NULL;
        END IF;
    END IF;
    IF coalesce(current_setting('tickertape.erasure', true), '') = 'on'
            AND TG_OP = 'UPDATE' AND TG_TABLE_NAME = 'events_event' THEN
        IF to_jsonb(OLD) - 'data' = to_jsonb(NEW) - 'data' THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'the log is append-only: % of % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;
"""

# The functions that were there before stay as they are now: they do what they did, and more.
BACKWARD = r"""
DROP FUNCTION tickertape_erase, tickertape_overwritten, tickertape_take_turns;
"""


class Migration(migrations.Migration):
    """Let the database itself forget, and say what it forgot."""

    dependencies = [("events", "0004_access")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
