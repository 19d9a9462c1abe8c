"""The log's tables: written by `events.log` and placed by the database alone."""

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Length, Now, StrIndex
from django.db.models.lookups import Exact, LessThanOrEqual


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
    unique_key = models.TextField(null=True)  # makes an append idempotent
    parked = models.TextField(null=True)  # why it could not be placed on its channels
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        """Indexes and constraints that the placing and the frames rely on.

        Each index is written twice for an event, and each condition read twice, for PostgreSQL also reads
        it where the placing changes nothing of it. So there is none too many, and they are cheap: a bound in
        a regular expression (`{0,63}`) makes it thirty times as dear.
        """

        indexes = [
            models.Index(fields=["id"], name="events_unplaced", condition=models.Q(position__isnull=True))
        ]
        constraints = [
            # Not `unique` of the field: for that, Django makes another index, for LIKE.
            models.UniqueConstraint(name="events_event_unique_key_key", fields=["unique_key"]),
            models.CheckConstraint(
                name="events_type_is_a_name",
                condition=models.Q(type__regex=r"^[A-Z][A-Za-z0-9]*$")
                & models.Q(LessThanOrEqual(Length("type"), 64)),
            ),
            models.CheckConstraint(
                name="events_data_is_one_line",
                condition=models.Q(Exact(StrIndex("data", models.Value("\n")), 0))
                & models.Q(Exact(StrIndex("data", models.Value("\r")), 0)),
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
    began_at = models.DateTimeField(db_default=Now())
    # Where the row lived then: an epoch ends with the cluster, the timeline or the table that it began in.
    system_identifier = models.BigIntegerField()
    timeline = models.TextField()
    home = models.TextField(default="")
    ticked_at = models.DateTimeField(null=True)  # when a worker's clock last placed
    settled_to = models.BigIntegerField(db_default=0)  # ids up to here are placed, or never will be
    taken_to = models.BigIntegerField(db_default=0)  # ids up to here had been taken …
    taken_before = models.BigIntegerField(db_default=0)  # … by transactions of lower numbers than this

    class Meta:
        """One row, held by the database."""

        constraints = [models.CheckConstraint(name="events_one_log", condition=models.Q(id=1))]

    def __str__(self) -> str:
        return f"{self.epoch} {self.oldest}–{self.head}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: the row belongs to the database's functions."""
        raise TypeError("the log's row is changed by the functions in events/migrations only")
