"""The inbox as it is read: pages of notifications, with the broadcasts that stand among them, and the count.

What is counted is what is unread: there is no counter that could differ from it. Each answer comes
with the cursor at which it is true, from one snapshot. What is over, a broadcast that expired or was
recalled, is in no list.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from django.contrib.auth.models import AbstractBaseUser

from events import log, marks, watching
from events.channels import own_channels
from events.cursor import Cursor
from events.marks import Standing
from events.models import Notification

Entry = Notification | Standing


@dataclass(frozen=True, slots=True)
class Entries:
    """A part of an inbox, and which of the items in it its user muted."""

    rows: Sequence[Entry]
    muted: set[int]


def page(
    user: AbstractBaseUser, *, limit: int, before: int | None, unread: bool, archived: bool
) -> tuple[Entries, Cursor]:
    """Return at most `limit` of what is in a user's inbox, the latest first, below the event `before`."""

    def query() -> Entries:
        which = {"limit": limit, "before": before, "unread": unread, "archived": archived}
        found: list[Entry] = [*_notifications(user.pk, **which), *marks.page(user, **which)]  # type: ignore[arg-type]
        rows = sorted(found, key=lambda entry: entry.event_id, reverse=True)[:limit]
        about = {row.item_id for row in rows if isinstance(row, Notification)}
        return Entries(rows, watching.muted_by(user, about - {None}))  # type: ignore[arg-type]

    return log.snapshot(own_channels(user), query)


def unread_count(user: AbstractBaseUser) -> tuple[int, Cursor]:
    """Return how much in a user's inbox is unread."""

    def query() -> int:
        return Notification.objects.filter(user_id=user.pk, read=False).count() + marks.unread(user)

    return log.snapshot(own_channels(user), query)


def _notifications(
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
