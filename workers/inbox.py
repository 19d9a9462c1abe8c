"""Who is told of what: the reactions that raise notifications."""

from collections.abc import Mapping
from time import time

from events import items, mentions, notifications, watching
from events.channels import user_channel
from events.comments import CommentAdded
from events.jobs import JobFailed, TaskComplete
from events.models import Comment, Item
from workers.reactions import Cause, reaction

TITLE_SHOWN = 100  # characters of a job's type: another program's may be of any length


@reaction(to=CommentAdded)
def tell_of_comment(cause: Cause) -> None:
    """Tell those whom a comment concerns, and who may read it now."""
    event = cause.event
    assert isinstance(event, CommentAdded)  # noqa: S101 (what it is registered for)
    there = dict(
        Comment.objects.filter(pk__in=[event.comment_id, *filter(None, [event.reply_to])]).values_list(
            "pk", "author_id"
        )
    )
    item = Item.objects.filter(pk=int(event.item_id)).first()
    if item is None or event.comment_id not in map(str, there):
        return  # gone meanwhile: there is nothing to look at
    answered = {author for pk, author in there.items() if str(pk) == event.reply_to}
    reasons = _reasons(item, mentioned=mentions.mentioned(event.text), answered=answered)
    reasons.pop(int(event.author_id), None)
    if not reasons:
        return
    may_read = items.readers(item, reasons)
    about = notifications.Comment(
        id=event.comment_id,
        item_id=item.pk,
        owner_id=item.owner_id,
        title=item.title,
        author_id=int(event.author_id),
        author_name=event.author_name,
        timestamp=event.timestamp,
    )
    told = {user_id: reasons[user_id] for user_id in reasons if user_id in may_read}
    notifications.raise_comment(about, told, caused_by=cause.entry.id)


@reaction(to=TaskComplete)
def tell_of_job_done(cause: Cause) -> None:
    """Tell whose job it is that it is done."""
    _tell_of_job(cause, "is done")


@reaction(to=JobFailed)
def tell_of_job_failed(cause: Cause) -> None:
    """Tell whose job it is that it failed. Of one that was cancelled nobody is told: they asked for it."""
    _tell_of_job(cause, "failed")


def _tell_of_job(cause: Cause, how: str) -> None:
    event = cause.event
    assert isinstance(event, TaskComplete | JobFailed)  # noqa: S101 (what it is registered for)
    if user_channel(event.user_id) not in cause.entry.channels:
        return  # of another program, which may not speak to them
    message = f"Your job “{event.task_type[:TITLE_SHOWN]}” {how}"
    about = notifications.Job(id=event.job_id, message=message, timestamp=int(time()))
    notifications.raise_job(about, int(event.user_id), caused_by=cause.entry.id)


def _reasons(item: Item, *, mentioned: set[int], answered: set[int]) -> dict[int, list[str]]:
    """Return for whom a comment is news, and why: the strongest reason first."""
    audience = watching.audience(item)
    by_strength: Mapping[str, set[int] | frozenset[int]] = {
        "mention": mentioned,
        "reply": answered,
        "comment": {item.owner_id} & audience.watching,
        "watch": audience.watching - {item.owner_id},
    }
    reasons: dict[int, list[str]] = {}
    for kind, people in by_strength.items():
        for user_id in people - audience.muted:
            reasons.setdefault(user_id, []).append(kind)
    return reasons
