from django.db import migrations, models

# Of what was told before: the event that told it, or the plan's where that was pruned.
# One pass over the log, however many there are.
TOLD = """
UPDATE events_broadcast b SET alert_id = coalesce(told.id, b.event_id)
FROM events_broadcast each LEFT JOIN (
    SELECT e.data::json->>'broadcast_id' AS broadcast_id, max(e.id) AS id FROM events_event e
    WHERE e.type = 'SystemAlert' GROUP BY 1
) told ON told.broadcast_id = each.id::text
WHERE b.begun AND b.id = each.id
"""


class Migration(migrations.Migration):
    dependencies = [("events", "0012_broadcasts")]

    operations = [
        migrations.AddField("broadcast", "alert_id", models.BigIntegerField(null=True)),
        migrations.RunSQL(TOLD, migrations.RunSQL.noop),
        migrations.RemoveIndex("broadcast", "events_broadcast_due"),
        migrations.RemoveIndex("broadcast", "events_broadcast_live"),
        migrations.RemoveField("broadcast", "begun"),
        migrations.AddIndex(
            "broadcast",
            models.Index(
                fields=["starts_at"],
                name="events_broadcast_due",
                condition=models.Q(("alert_id", None), ("recalled_at", None)),
            ),
        ),
        migrations.AddIndex(
            "broadcast",
            models.Index(
                fields=["expires_at"],
                name="events_broadcast_live",
                condition=models.Q(("alert_id__isnull", False), ("recalled_at", None)),
            ),
        ),
        migrations.RenameModel("BroadcastDismissal", "BroadcastMark"),
        # Who is there already dismissed it.
        migrations.AddField("broadcastmark", "read", models.BooleanField(default=True)),
        migrations.AddField("broadcastmark", "dismissed", models.BooleanField(default=True)),
        migrations.AlterField("broadcastmark", "read", models.BooleanField(default=False)),
        migrations.AlterField("broadcastmark", "dismissed", models.BooleanField(default=False)),
        migrations.AlterField("broadcastmark", "broadcast_id", models.UUIDField()),
        migrations.AlterField("broadcastmark", "event_id", models.BigIntegerField(db_index=True)),
        migrations.AddIndex(
            "broadcastmark",
            models.Index(
                fields=["broadcast_id"],
                name="events_mark_dismissed",
                condition=models.Q(("dismissed", True)),
            ),
        ),
        migrations.AddConstraint(
            "broadcastmark",
            models.CheckConstraint(
                condition=models.Q(("dismissed", False), ("read", True), _connector="OR"),
                name="events_dismissed_is_read",
            ),
        ),
    ]
