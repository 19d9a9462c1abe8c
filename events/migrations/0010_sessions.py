"""A session that is cut short ends its streams: they know only when it was to end as they began."""

from django.db import migrations

FORWARD = r"""
CREATE OR REPLACE FUNCTION tickertape_session_ended() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tickertape_access_changed(
        NULL, NULL, left(encode(sha256(convert_to(OLD.session_key, 'UTF8')), 'hex'), 32),
        coalesce(TG_ARGV[0], 'session_ended'));
    RETURN NULL;
END
$$;

-- A minute less is what the clocks of two web servers make of the same session.
CREATE TRIGGER tickertape_session_cut_short AFTER UPDATE ON django_session
FOR EACH ROW WHEN (
    OLD.expire_date > now()
    AND (NEW.expire_date <= now() OR NEW.expire_date < OLD.expire_date - interval '1 minute')
)
EXECUTE FUNCTION tickertape_session_ended('session_cut_short');
"""

# The function stays as it is now: without an argument it does what it did.
BACKWARD = "DROP TRIGGER tickertape_session_cut_short ON django_session;"


class Migration(migrations.Migration):
    """Watch when sessions end."""

    dependencies = [("events", "0009_jobs"), ("sessions", "0001_initial")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
