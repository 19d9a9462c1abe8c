"""Sessions that ended, by their digests, for as long as a stream token of theirs may last."""

import django.db.models.functions.datetime
from django.db import migrations, models

FORWARD = r"""
CREATE OR REPLACE FUNCTION tickertape_session_ended() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    session text := left(encode(sha256(convert_to(OLD.session_key, 'UTF8')), 'hex'), 32);
BEGIN
    PERFORM tickertape_access_changed(NULL, NULL, session, coalesce(TG_ARGV[0], 'session_ended'));
    -- One that was only cut short is over at its new end; one that was deleted, now.
    INSERT INTO events_endedsession (digest, ended_at) VALUES (session, coalesce(NEW.expire_date, now()))
    ON CONFLICT (digest) DO UPDATE SET ended_at = EXCLUDED.ended_at;
    RETURN NULL;
END
$$;
"""

BACKWARD = r"""
CREATE OR REPLACE FUNCTION tickertape_session_ended() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tickertape_access_changed(
        NULL, NULL, left(encode(sha256(convert_to(OLD.session_key, 'UTF8')), 'hex'), 32),
        coalesce(TG_ARGV[0], 'session_ended'));
    RETURN NULL;
END
$$;
"""


class Migration(migrations.Migration):
    """Keep which sessions ended."""

    dependencies = [("events", "0013_broadcast_marks")]
    operations = [
        migrations.CreateModel(
            name="EndedSession",
            fields=[
                ("digest", models.TextField(primary_key=True, serialize=False)),
                ("ended_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
