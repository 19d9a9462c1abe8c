"""Who is told of what: the reactions that raise notifications."""

import re
from collections.abc import Mapping, Sequence, Set
from time import time

from events import comments, items, mentions, notifications, watching
from events.channels import item_channel, user_channel
from events.comments import CommentAdded
from events.jobs import JobFailed, TaskComplete
from events.models import Item
from workers.reactions import Cause, reaction

FEW = 8  # people: with each of them, what hundreds of comments raise at once is still done soon
_ITEM = re.compile(r"item:([1-9][0-9]{0,17})")  # one whose id fits into the database's integers
TITLE_SHOWN = 100  # characters of a job's type: another program's may be of any length


def _crowds(subjects: Set[str]) -> Set[str]:
    """Return those of some channels of items of whose comments more than a few may be told."""
    named = filter(None, map(_ITEM.fullmatch, subjects))
    few = watching.followed_by_few([int(match[1]) for match in named], most=FEW)
    return subjects - {item_channel(item_id) for item_id in few}


@reaction(to=CommentAdded, together=True, crowds=_crowds)
def tell_of_comment(causes: Sequence[Cause]) -> None:
    """Tell those whom comments concern, and who may read them now."""
    added = [(cause, cause.event) for cause in causes if isinstance(cause.event, CommentAdded)]
    ids = {pk for _, event in added for pk in (event.comment_id, event.reply_to) if pk}
    there = comments.authors(ids)
    found = items.some({int(event.item_id) for _, event in added})
    # Of what is gone meanwhile there is nothing to look at.
    added = [each for each in added if int(each[1].item_id) in found and each[1].comment_id in there]
    audiences = watching.audiences(found.values())
    named = mentions.mentioned_in([event.text for _, event in added])
    news = []
    for (cause, event), mentioned in zip(added, named, strict=True):
        item = found[int(event.item_id)]
        answered = {there[event.reply_to]} if event.reply_to in there else set()
        reasons = _reasons(item, audiences[item.pk], mentioned=mentioned, answered=answered)
        reasons.pop(int(event.author_id), None)
        news.append((cause, event, item, reasons))
    concerned: dict[int, set[int]] = {pk: set() for pk in found}
    for _, _, item, reasons in news:
        concerned[item.pk].update(reasons)
    may_read = items.readers_of([(item, concerned[pk]) for pk, item in found.items()])
    notifications.raise_comments(
        [
            notifications.News(
                _about(event, item),
                {user_id: whys for user_id, whys in reasons.items() if user_id in may_read[item.pk]},
                cause.entry.id,
            )
            for cause, event, item, reasons in news
        ]
    )


def _about(event: CommentAdded, item: Item) -> notifications.Comment:
    return notifications.Comment(
        id=event.comment_id,
        item_id=item.pk,
        owner_id=item.owner_id,
        title=item.title,
        author_id=int(event.author_id),
        author_name=event.author_name,
        timestamp=event.timestamp,
    )


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


def _reasons(
    item: Item, audience: watching.Audience, *, mentioned: set[int], answered: set[int]
) -> dict[int, list[str]]:
    """Return for whom a comment is news, and why: the strongest reason first."""
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
