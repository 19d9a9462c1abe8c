"""A placing that finds nothing to place takes no lock, and so has nothing to write and to wait for.

To lock the log's row is to write to it, and its commit waits for the disk. Who looks often, so that
nothing waits for long, most often finds nothing.
"""

from importlib import import_module

from django.db import migrations

_settled = import_module("events.migrations.0011_settled")
_PLACE = _settled._function(_settled.FORWARD, "tickertape_place")

# What the placing would do next.
_LOCK = "    -- Not a SET of the function: only a superuser"

_LOOK = """\
    -- Once a second it goes on all the same, and says so (`ticked_at`).
    SELECT * INTO STRICT l FROM events_logstate ORDER BY id DESC LIMIT 1;
    IF l.ticked_at >= clock_timestamp() - interval '900 milliseconds'
        AND NOT EXISTS (SELECT FROM events_event unplaced WHERE unplaced.position IS NULL AND unplaced.id > l.settled_to)
        AND (SELECT last_value FROM events_event_id_seq) >= l.settled_to
        AND NOT tickertape_moved(l)
    THEN
        -- In a later snapshot than that look: what it did not find any more, because it was placed, this covers.
        SELECT s.epoch, s.head INTO STRICT epoch, head FROM events_logstate s ORDER BY s.id DESC LIMIT 1;
        placed := 0;
        RETURN;
    END IF;
"""


class Migration(migrations.Migration):
    """Look before the placing."""

    dependencies = [("events", "0016_presence")]
    operations = [migrations.RunSQL(_PLACE.replace(_LOCK, _LOOK + _LOCK), _PLACE)]
