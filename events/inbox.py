"""The inbox as it is read: pages, the unread count, and the lock under which it changes.

What is counted are the rows that are unread: there is no counter that could differ from them. Each
answer comes with the cursor at which it is true, from one snapshot.
"""

from collections.abc import Iterable, Sequence

from django.contrib.auth.models import AbstractBaseUser
from django.db import connection

from events import log
from events.channels import user_channel
from events.cursor import Cursor
from events.models import Notification


def page(
    user: AbstractBaseUser, *, limit: int, before: int | None, unread: bool, archived: bool
) -> tuple[Sequence[Notification], Cursor]:
    """Return at most `limit` of a user's notifications, the latest first, below the event `before`."""
    return log.snapshot(
        [user_channel(user.pk)],
        lambda: _rows(user.pk, limit=limit, before=before, unread=unread, archived=archived),
    )


def unread_count(user: AbstractBaseUser) -> tuple[int, Cursor]:
    """Return how many of a user's notifications are unread."""
    return log.snapshot([user_channel(user.pk)], lambda: _unread(user.pk))


def lock(user_ids: Iterable[int]) -> None:
    """Have changes of these inboxes take turns, until the transaction's end.

    The order of an inbox's events is so the order in which they changed it. Rows, because a
    reaction may lock more inboxes than the server has room for other locks; sorted, so that two
    who lock several do not wait for each other.
    """
    wanted = sorted(user_ids)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO events_inbox (user_id, digested_to) SELECT id, 0 FROM unnest(%s::bigint[]) AS id"
            " WHERE NOT EXISTS (SELECT FROM events_inbox WHERE user_id = id)"
            " ORDER BY id ON CONFLICT DO NOTHING",
            [wanted],
        )
        cursor.execute(
            "SELECT user_id FROM events_inbox WHERE user_id = ANY (%s) ORDER BY user_id FOR UPDATE", [wanted]
        )


# What stands in an inbox without a row of its own (fan-out on read) joins in these two, by `event_id`.


def _rows(
    user_id: int, *, limit: int, before: int | None, unread: bool, archived: bool
) -> list[Notification]:
    found = Notification.objects.filter(user_id=user_id)
    # What was put away is read: one of the two says it all, and each has its index.
    found = found.filter(read=False) if unread and not archived else found.filter(archived=archived)
    if unread and archived:
        found = found.none()
    if before is not None:
        found = found.filter(event_id__lt=before)
    return list(found.order_by("-event_id")[:limit])


def _unread(user_id: int) -> int:
    return Notification.objects.filter(user_id=user_id, read=False).count()
