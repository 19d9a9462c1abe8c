"""Whether others are shown what somebody has open."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Everybody is shown until they choose otherwise."""

    dependencies = [("events", "0015_broadcasts_by_mail")]
    operations = [
        migrations.AddField("preferences", "presence", models.TextField(default="shown", db_default="shown")),
    ]
