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


class Job(models.Model):
    """Read model: what became of each job, folded from the log by `events.jobs`."""

    class State(models.TextChoices):
        """Where a job stands; the last three are for good."""

        QUEUED = "queued"
        RUNNING = "running"
        COMPLETE = "complete"
        FAILED = "failed"
        CANCELLED = "cancelled"

    id = models.UUIDField(primary_key=True)
    event_id = models.BigIntegerField(unique=True)  # of its JobQueued: the order of somebody's jobs
    owner_id = models.BigIntegerField()
    name = models.TextField()
    params = models.JSONField()
    state = models.TextField(choices=State.choices, default=State.QUEUED)
    tries = models.IntegerField(default=0)
    result = models.JSONField(null=True)
    error = models.TextField(default="")
    error_type = models.TextField(default="")
    queued_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        """The index that a page of somebody's jobs is read by."""

        indexes = [models.Index(fields=["owner_id", "event_id"], name="events_job_page")]
        constraints = [
            models.CheckConstraint(
                name="events_job_state",
                condition=models.Q(state__in=["queued", "running", "complete", "failed", "cancelled"]),
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.state}"


class JobRun(models.Model):
    """Who has a job in hand: written by `events.runs` alone, and never folded from anything.

    Queued where `send_at` is set, running where `lease_until` is, over where neither is.
    """

    job_id = models.UUIDField(primary_key=True)  # no foreign key: a rebuild replaces the jobs' rows
    owner_id = models.BigIntegerField()
    tries = models.IntegerField(default=0)  # claims so far: what only the last of them may write is fenced by
    task_id = models.TextField(default="")  # of the message sent last, then of the one that claimed it
    due_at = models.DateTimeField()  # not to be claimed before
    send_at = models.DateTimeField(null=True)  # when its message is sent, or sent again
    sends = models.IntegerField(default=0)  # since it was queued
    lease_until = models.DateTimeField(null=True)
    cancel_at = models.DateTimeField(null=True)  # when it was asked to stop
    progress = models.JSONField(null=True)  # the latest, as `JobProgressed` has it

    class Meta:
        """The indexes of the two looks that every worker takes twice a second."""

        indexes = [
            models.Index(
                fields=["send_at"], name="events_run_queued", condition=models.Q(send_at__isnull=False)
            ),
            models.Index(
                fields=["lease_until"],
                name="events_run_leased",
                condition=models.Q(lease_until__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.job_id} {self.tries}"


class JobFile(models.Model):
    """What a job made for its owner to download."""

    job_id = models.UUIDField(primary_key=True)
    owner_id = models.BigIntegerField(db_index=True)
    name = models.TextField()
    content_type = models.TextField()
    content = models.BinaryField()
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name


class ApiKey(models.Model):
    """What another program may append, and how it is known: by the digest of a secret that nobody keeps."""

    name = models.CharField(max_length=100, help_text="Who uses it")
    digest = models.BinaryField(unique=True, editable=False)
    beginning = models.CharField(max_length=12, editable=False)  # of the secret: to tell keys apart
    channels = ArrayField(
        models.CharField(max_length=182), help_text="With commas; * stands for anything, as in item:*"
    )
    types = ArrayField(
        models.CharField(max_length=64), help_text="Event types, with commas; * stands for anything"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        """As people call it."""

        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.beginning}…)"
