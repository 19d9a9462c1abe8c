"""The tables: the log, what it is about, and what is folded from it.

Rows of `Event` are written by `log.append` and placed by the database alone; every other
table has one module that changes it.
"""

from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone


class Event(models.Model):
    """One immutable fact. `position` is NULL until it is placed, after its transaction committed."""

    id = models.BigAutoField(primary_key=True)
    position = models.BigIntegerField(null=True, unique=True, editable=False)
    type = models.TextField()
    version = models.SmallIntegerField(default=1)
    data = models.TextField()  # the payload's JSON as sent: text, so it arrives byte for byte
    channels = ArrayField(models.TextField())
    actor_id = models.BigIntegerField(null=True)  # no foreign key: the log outlives its users
    caused_by = models.BigIntegerField(null=True)  # the event that a reaction answered
    unique_key = models.TextField(null=True, unique=True)  # makes an append idempotent
    parked = models.TextField(null=True)  # why it could not be placed on its channels
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        """Indexes and constraints that the placing and the frames rely on."""

        indexes = [
            models.Index(fields=["id"], name="events_unplaced", condition=models.Q(position__isnull=True))
        ]
        constraints = [
            models.CheckConstraint(
                name="events_type_is_a_name", condition=models.Q(type__regex=r"^[A-Z][A-Za-z0-9]{0,63}$")
            ),
            models.CheckConstraint(
                name="events_data_is_one_line", condition=~models.Q(data__regex=r"[\r\n]")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.position or 'unplaced'}"


class ChannelPosition(models.Model):
    """Which positions a channel holds: one row for each channel of a placed event."""

    pk = models.CompositePrimaryKey("channel", "position")
    channel = models.TextField()
    position = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.channel} {self.position}"


class LogState(models.Model):
    """The log's one row: how far it is placed, how far back it reaches, and in which epoch."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    head = models.BigIntegerField(default=0)  # the last position given
    oldest = models.BigIntegerField(default=1)  # the first position still kept
    epoch = models.TextField()
    began = models.BigIntegerField(default=0)  # the head when the epoch began
    system_identifier = models.BigIntegerField()
    timeline = models.TextField()
    ticked_at = models.DateTimeField(null=True)  # when a worker's clock last placed

    class Meta:
        """One row, held by the database."""

        constraints = [models.CheckConstraint(name="events_one_log", condition=models.Q(id=1))]

    def __str__(self) -> str:
        return f"{self.epoch} {self.oldest}–{self.head}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: the row belongs to the database's functions."""
        raise TypeError("the log's row is changed by the functions in events/migrations only")


class Item(models.Model):
    """What people look at and comment on. Changed by the verbs in `events.items` only."""

    class Visibility(models.TextChoices):
        """Who may read an item besides its owner and staff."""

        PUBLIC = "public"
        MEMBERS = "members"

    id = models.BigAutoField(primary_key=True)
    title = models.CharField(max_length=200)
    # Protected: an item that went with its owner would go without an event.
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    visibility = models.CharField(max_length=7, choices=Visibility.choices, default=Visibility.PUBLIC)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        """What the database holds whatever the code does."""

        constraints = [
            models.CheckConstraint(
                name="events_item_visibility", condition=models.Q(visibility__in=["public", "members"])
            )
        ]

    def __str__(self) -> str:
        return self.title


class ItemMember(models.Model):
    """Someone who may read an item that is for members."""

    pk = models.CompositePrimaryKey("item_id", "user_id")
    item = models.ForeignKey(Item, models.CASCADE)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")

    def __str__(self) -> str:
        return f"{self.user_id} of {self.item_id}"


class Comment(models.Model):
    """Read model: the comments there are, folded from the log by `events.comments`.

    The author is as the event has it, without a foreign key: the log outlives its users.
    """

    id = models.UUIDField(primary_key=True)
    event_id = models.BigIntegerField(unique=True)  # of its CommentAdded: the order of an item's comments
    item = models.ForeignKey(Item, models.CASCADE, db_index=False)
    author_id = models.BigIntegerField()
    author_name = models.TextField()
    text = models.TextField()
    created_at = models.DateTimeField()
    edited_at = models.DateTimeField(null=True)

    class Meta:
        """The index that a page of an item's comments is read by."""

        indexes = [models.Index(fields=["item", "event_id"], name="events_comment_page")]

    def __str__(self) -> str:
        return f"{self.author_name} on {self.item_id}"


class IdempotencyKey(models.Model):
    """The answer that was given to a POST with an `Idempotency-Key`, for who asks again."""

    pk = models.CompositePrimaryKey("user_id", "key")
    user_id = models.BigIntegerField()
    key = models.TextField()
    digest = models.BinaryField()  # of method, path and body: the same key for another request is refused
    status = models.SmallIntegerField(null=True)  # NULL inside the transaction that makes the effect
    body = models.JSONField(null=True)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"{self.user_id} {self.created_at:%F %T}"


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
    begun = models.BooleanField(default=False)  # its audience was told
    recalled_at = models.DateTimeField(null=True)

    class Meta:
        """Who may send, and the indexes that find what is due and what is live."""

        default_permissions = ("view",)
        permissions = [("can_broadcast", "Can send, change and recall broadcasts")]
        indexes = [
            models.Index(
                fields=["starts_at"],
                name="events_broadcast_due",
                condition=models.Q(begun=False, recalled_at=None),
            ),
            models.Index(
                fields=["expires_at"],
                name="events_broadcast_live",
                condition=models.Q(begun=True, recalled_at=None),
            ),
        ]

    def __str__(self) -> str:
        return self.title or self.message[:50]


class BroadcastDismissal(models.Model):
    """Read model: who wants to see a broadcast no more."""

    pk = models.CompositePrimaryKey("user_id", "broadcast_id")
    user_id = models.BigIntegerField()
    broadcast_id = models.UUIDField(db_index=True)  # counted for each; no foreign key: each is rebuilt alone
    event_id = models.BigIntegerField(unique=True)

    def __str__(self) -> str:
        return f"{self.user_id} {self.broadcast_id}"
