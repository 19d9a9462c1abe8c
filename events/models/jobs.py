"""What was begun and is waited for."""

from django.db import models
from django.utils import timezone


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
