"""What is known of who sends requests."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone


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


class EndedSession(models.Model):
    """A session that ended before its time; written by the database itself. Its stream tokens are over."""

    digest = models.TextField(primary_key=True)  # as `access.session_digest` makes it
    ended_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.ended_at:%F %T}"
