"""Placing hands back what it placed, where that is little: nearly always, and it spares its caller a question.

Nothing is sent before all rows are there, but then the log's row is still locked; so it is no more than
fits into what the kernel keeps for a client that does not read, and a frozen one holds up nobody.
"""

from django.db import migrations

FORWARD = r"""
CREATE FUNCTION tickertape_place_and_read(batch integer, most_events integer, most_bytes integer)
RETURNS TABLE (
    placed integer, epoch text, began bigint, head bigint, oldest bigint, last bigint, found bigint,
    "position" bigint, id bigint, type text, version smallint, data text, channels text[], actor_id bigint
)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    p record;
    l events_logstate;
BEGIN
    SELECT * INTO STRICT p FROM tickertape_place(batch);
    SELECT * INTO STRICT l FROM events_logstate s ORDER BY s.id DESC LIMIT 1;
    IF p.placed BETWEEN 1 AND most_events AND most_bytes >= (
        SELECT sum(octet_length(e.data) + octet_length(array_to_string(e.channels, ' '))) FROM events_event e
        WHERE e.position > p.head - p.placed AND e.position <= p.head
    ) THEN
        RETURN QUERY
        SELECT p.placed, l.epoch, l.began, p.head, l.oldest, p.head, p.placed::bigint,
               e.position, e.id, e.type, e.version, e.data,
               CASE WHEN e.parked IS NULL THEN e.channels ELSE '{}' END, e.actor_id
        FROM events_event e WHERE e.position > p.head - p.placed AND e.position <= p.head
        ORDER BY e.position;
    ELSE
        placed := p.placed;
        epoch := p.epoch;
        head := p.head;
        RETURN NEXT;
    END IF;
END
$$;
"""

BACKWARD = "DROP FUNCTION tickertape_place_and_read(integer, integer, integer)"


class Migration(migrations.Migration):
    """Make the function."""

    dependencies = [("events", "0017_quiet")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
