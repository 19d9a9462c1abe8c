"""What admins said to many, and who has seen enough of it."""

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Broadcast(models.Model):
    """Read model: what admins said to many, or are about to, folded from the log by `events.broadcasts`."""

    id = models.UUIDField(primary_key=True)
    event_id = models.BigIntegerField(unique=True)  # of its first plan: the order of the list
    author_id = models.BigIntegerField()  # no foreign key: the log outlives its users
    title = models.TextField()
    message = models.TextField()
    severity = models.TextField()
    link = models.TextField(null=True)
    audience = ArrayField(models.TextField())  # addresses, as `events.audiences` reads them
    starts_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)
    alert_id = models.BigIntegerField(null=True)  # of the event that told its audience: the inboxes' order
    recalled_at = models.DateTimeField(null=True)

    class Meta:
        """Who may send, and the indexes that find what is due and what is live."""

        default_permissions = ("view",)
        permissions = [("can_broadcast", "Can send, change and recall broadcasts")]
        indexes = [
            models.Index(
                fields=["starts_at"],
                name="events_broadcast_due",
                condition=models.Q(alert_id=None, recalled_at=None),
            ),
            models.Index(
                fields=["expires_at"],
                name="events_broadcast_live",
                condition=models.Q(alert_id__isnull=False, recalled_at=None),
            ),
        ]

    def __str__(self) -> str:
        return self.title or self.message[:50]


class BroadcastMark(models.Model):
    """Read model: what somebody did about a broadcast, folded by `events.marks`; no row until they do."""

    pk = models.CompositePrimaryKey("user_id", "broadcast_id")
    user_id = models.BigIntegerField()
    broadcast_id = models.UUIDField()  # no foreign key: each table is rebuilt alone
    event_id = models.BigIntegerField(
        db_index=True
    )  # of the first that they did: to several at once, perhaps
    read = models.BooleanField(default=False)
    dismissed = models.BooleanField(default=False)  # seen no more on any screen, and put away in the inbox

    class Meta:
        """What is dismissed is counted for each broadcast, and was read."""

        indexes = [
            models.Index(
                fields=["broadcast_id"], name="events_mark_dismissed", condition=models.Q(dismissed=True)
            )
        ]
        constraints = [
            models.CheckConstraint(
                name="events_dismissed_is_read", condition=models.Q(dismissed=False) | models.Q(read=True)
            )
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.broadcast_id}"
