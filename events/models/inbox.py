"""What people are told of, and how they want it."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone

from events.models.items import Item


class Watch(models.Model):
    """Read model: what somebody decided about the news of an item, folded by `events.watching`."""

    event_id = models.BigIntegerField(primary_key=True)  # of the first decision
    item = models.ForeignKey(Item, models.CASCADE, db_index=False)
    user_id = models.BigIntegerField()
    watching = models.BooleanField(null=True)  # NULL: as by default
    muted = models.BooleanField(default=False)

    class Meta:
        """One row for each person and item."""

        constraints = [models.UniqueConstraint(fields=["item", "user_id"], name="events_watch_once")]

    def __str__(self) -> str:
        return f"{self.user_id} of {self.item_id}"


class Preferences(models.Model):
    """Read model: how somebody wants to be told, folded by `events.preferences`."""

    user_id = models.BigIntegerField(primary_key=True)
    event_id = models.BigIntegerField(unique=True)
    types = models.JSONField()
    quiet_start = models.TextField(null=True)
    quiet_end = models.TextField(null=True)
    time_zone = models.TextField()
    presence = models.TextField(default="shown", db_default="shown")

    class Meta:
        """A word that is its own plural."""

        verbose_name_plural = "preferences"

    def __str__(self) -> str:
        return str(self.user_id)


class Inbox(models.Model):
    """One row a person, locked by whoever changes what is in their inbox: such changes take turns.

    It holds nothing that the inbox is counted or shown by; only how far its digests have come.
    """

    user_id = models.BigIntegerField(primary_key=True)
    digested_to = models.BigIntegerField(default=0)  # the last `event_id` that a digest was claimed for
    broadcasts_to = models.BigIntegerField(
        default=0, db_default=0
    )  # likewise, the last `alert_id` of broadcasts
    # When the last digest was claimed: one a day; earlier where it was put off.
    digested_at = models.DateTimeField(null=True)

    class Meta:
        """Its plural."""

        verbose_name_plural = "inboxes"

    def __str__(self) -> str:
        return str(self.user_id)


class Notification(models.Model):
    """Read model: what stands in people's inboxes, folded by `events.notifications`."""

    id = models.UUIDField(primary_key=True)
    event_id = models.BigIntegerField(unique=True)  # of its latest NotificationRaised: the inbox's order
    user_id = models.BigIntegerField()
    kind = models.TextField()
    delivery = models.TextField()
    message = models.TextField()
    item_id = models.BigIntegerField(null=True)  # no foreign key: what was told outlives the item
    comment_id = models.UUIDField(null=True)
    job_id = models.TextField(null=True)
    actor_id = models.BigIntegerField(null=True)
    owner_id = models.BigIntegerField(null=True)  # whose title the message quotes
    actors = ArrayField(models.BigIntegerField())
    people = models.IntegerField()
    count = models.IntegerField()
    read = models.BooleanField(default=False)
    archived = models.BooleanField(default=False)
    since = models.DateTimeField()
    created_at = models.DateTimeField()

    class Meta:
        """An index for each way in which an inbox is read; each holds just the rows that it is for."""

        indexes = [
            models.Index(
                fields=["user_id", "event_id"], name="events_inbox_page", condition=models.Q(archived=False)
            ),
            models.Index(
                fields=["user_id", "event_id"], name="events_inbox_archive", condition=models.Q(archived=True)
            ),
            models.Index(
                fields=["user_id", "event_id"], name="events_inbox_unread", condition=models.Q(read=False)
            ),
            models.Index(
                fields=["item_id", "user_id"], name="events_inbox_item", condition=models.Q(read=False)
            ),
            models.Index(
                fields=["user_id", "since"],
                name="events_inbox_digest",
                condition=models.Q(delivery="digest", read=False),
            ),
        ]
        constraints = [
            # What was put away was seen: so the unread are just those that are not read.
            models.CheckConstraint(
                name="events_archived_is_read", condition=models.Q(archived=False) | models.Q(read=True)
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} for {self.user_id}"


class Email(models.Model):
    """A mail that was claimed before it was sent; one without `sent_at` may not have arrived."""

    correlation_id = models.UUIDField(primary_key=True)
    user_id = models.BigIntegerField()  # the address is in its EmailSent, which erasure overwrites
    email_type = models.TextField()
    claimed_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True)
    error = models.TextField(default="")  # the error's kind only: a server's words may quote the address

    def __str__(self) -> str:
        return f"{self.email_type} for {self.user_id}"
