"""Who used how much of a minute's allowance: written often, worth nothing after a crash."""

from django.db import migrations

# Unlogged: no disk is waited for. Room in its pages: the one column that changes is in no index.
FORWARD = """
CREATE UNLOGGED TABLE events_allowance (
    subject text PRIMARY KEY,
    spent_until timestamptz NOT NULL
) WITH (fillfactor = 50);
"""

BACKWARD = """
DROP TABLE events_allowance;
"""


class Migration(migrations.Migration):
    """Add the table; `events.limits` alone knows it."""

    dependencies = [("events", "0006_history")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
