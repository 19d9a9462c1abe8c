"""How far the reactions have come, and which of them wait or gave up."""

from django.db import models


class Checkpoint(models.Model):
    """A server-side reader's place on the tape: all at or below `position` was handed out."""

    name = models.TextField(primary_key=True)
    position = models.BigIntegerField(default=0)
    epoch = models.TextField(default="")

    def __str__(self) -> str:
        return f"{self.name} {self.position}"


class Delivery(models.Model):
    """A reaction that failed or waits behind one that did; parked when it gave up."""

    reaction = models.TextField()
    position = models.BigIntegerField()
    subject = models.TextField()  # the channel whose events must be reacted to in order
    tries = models.IntegerField(default=0)
    due_at = models.DateTimeField()
    parked_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(default="", blank=True)

    class Meta:
        """One row for each reaction to an event."""

        verbose_name_plural = "deliveries"
        constraints = [
            models.UniqueConstraint(fields=["reaction", "position"], name="workers_once_each"),
        ]
        indexes = [
            models.Index(
                fields=["reaction", "subject", "position"],
                name="workers_waiting",
                condition=models.Q(parked_at__isnull=True),
            )
        ]

    def __str__(self) -> str:
        return f"{self.reaction} of {self.position}"
