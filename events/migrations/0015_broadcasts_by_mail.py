"""How far somebody's digests have come among broadcasts, and when the last one was."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Keep both beside how far they have come among notifications."""

    dependencies = [("events", "0014_ended_sessions")]
    operations = [
        migrations.AddField("inbox", "broadcasts_to", models.BigIntegerField(default=0, db_default=0)),
        migrations.AddField("inbox", "digested_at", models.DateTimeField(null=True)),
    ]
