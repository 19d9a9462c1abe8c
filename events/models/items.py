"""What people look at, and what they say about it."""

from django.conf import settings
from django.db import models
from django.utils import timezone


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
    reply_to = models.UUIDField(null=True)  # no foreign key: the comment that it answers may go
    created_at = models.DateTimeField()
    edited_at = models.DateTimeField(null=True)

    class Meta:
        """The indexes that a page of an item's comments is read by, and who commented on it."""

        indexes = [
            models.Index(fields=["item", "event_id"], name="events_comment_page"),
            models.Index(fields=["item", "author_id"], name="events_comment_authors"),
        ]

    def __str__(self) -> str:
        return f"{self.author_name} on {self.item_id}"
