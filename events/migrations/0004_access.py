"""Access taken away says so in the log, by the database, in the transaction that takes it."""

from django.conf import settings
from django.db import migrations

FUNCTIONS = r"""
CREATE FUNCTION tickertape_access_changed(user_id text, channel text, session text, reason text) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO events_event (type, version, data, channels)
    VALUES ('AccessChanged', 1,
            jsonb_build_object('user_id', user_id, 'channel', channel, 'session', session, 'reason', reason)::text,
            ARRAY['internal:access'])
$$;

CREATE FUNCTION tickertape_user_changed() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tickertape_access_changed(to_jsonb(OLD) ->> TG_ARGV[0], NULL, NULL, TG_ARGV[1]);
    RETURN NULL;
END
$$;

CREATE FUNCTION tickertape_membership_changed() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    old_user text := to_jsonb(OLD) ->> TG_ARGV[0];
    new_user text := to_jsonb(NEW) ->> TG_ARGV[0];
BEGIN
    PERFORM tickertape_access_changed(u, NULL, NULL, 'groups_changed')
    FROM unnest(ARRAY[old_user, new_user]) AS u WHERE u IS NOT NULL;
    RETURN NULL;
END
$$;

CREATE FUNCTION tickertape_group_renamed() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tickertape_access_changed(NULL, 'group:' || OLD.name, NULL, 'group_renamed');
    RETURN NULL;
END
$$;

-- The key itself would let a reader of the log be the user.
CREATE FUNCTION tickertape_session_ended() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tickertape_access_changed(
        NULL, NULL, left(encode(sha256(convert_to(OLD.session_key, 'UTF8')), 'hex'), 32), 'session_ended');
    RETURN NULL;
END
$$;

CREATE TRIGGER tickertape_group_renamed AFTER UPDATE ON auth_group
FOR EACH ROW WHEN (OLD.name <> NEW.name) EXECUTE FUNCTION tickertape_group_renamed();

-- Not for those long over, which a clean-up removes by the thousand.
CREATE TRIGGER tickertape_session_ended AFTER DELETE ON django_session
FOR EACH ROW WHEN (OLD.expire_date > now()) EXECUTE FUNCTION tickertape_session_ended();
"""

BACKWARD = r"""
DROP FUNCTION tickertape_user_changed, tickertape_membership_changed, tickertape_group_renamed,
    tickertape_session_ended CASCADE;
DROP FUNCTION tickertape_access_changed;
"""

# Columns that a user model may have, what a change of each is called, and which changes count.
WATCHED = {
    "is_active": ("user_disabled", "OLD.{0} AND NOT NEW.{0}"),
    "is_staff": ("staff_changed", "OLD.{0} <> NEW.{0}"),
    "password": ("password_changed", "OLD.{0} <> NEW.{0}"),
}


def watch_users(apps, schema_editor):
    """Put the triggers on the user model of the settings, whatever its table and columns are called."""
    user = apps.get_model(settings.AUTH_USER_MODEL)
    quote = schema_editor.connection.ops.quote_name
    table, key = quote(user._meta.db_table), user._meta.pk.column
    fields = {field.name: field for field in user._meta.get_fields() if field.concrete}
    for name, (reason, changed) in WATCHED.items():
        if name in fields:
            condition = changed.format(quote(fields[name].column))
            schema_editor.execute(
                f"CREATE TRIGGER tickertape_{reason} AFTER UPDATE ON {table} FOR EACH ROW"
                f" WHEN ({condition})"
                f" EXECUTE FUNCTION tickertape_user_changed('{key}', '{reason}')"
            )
    schema_editor.execute(
        f"CREATE TRIGGER tickertape_user_deleted AFTER DELETE ON {table} FOR EACH ROW"
        f" EXECUTE FUNCTION tickertape_user_changed('{key}', 'user_deleted')"
    )
    if "groups" in fields:
        groups = fields["groups"]
        through = quote(groups.remote_field.through._meta.db_table)
        schema_editor.execute(
            f"CREATE TRIGGER tickertape_membership_changed AFTER INSERT OR UPDATE OR DELETE ON {through}"
            f" FOR EACH ROW EXECUTE FUNCTION tickertape_membership_changed('{groups.m2m_column_name()}')"
        )


class Migration(migrations.Migration):
    """Create the triggers on users, groups and sessions."""

    dependencies = [
        ("events", "0003_items_and_comments"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("sessions", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [
        migrations.RunSQL(FUNCTIONS, BACKWARD),
        migrations.RunPython(watch_users, migrations.RunPython.noop),
    ]
