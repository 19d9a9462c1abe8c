"""What the inbox's tests share: reactions run to their end, and an inbox folded as a client folds it."""

import json
from typing import Any

from events import log
from events.channels import user_channel
from workers import reactions


def react() -> None:
    """Place what was committed and react to it, until nothing follows any more."""
    while log.place().count or reactions.run():
        pass


def stream_of(user: Any, *, upto: int | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Return all that a user's own channel holds, as a client gets it; up to a position, if one is given."""
    while log.place().count:
        pass
    found, after = [], 0
    while True:
        page = log.read(after, channels=[user_channel(user.pk)], limit=5_000, max_bytes=10**9)
        found += [
            (entry.type, json.loads(entry.data))
            for entry in page.entries
            if upto is None or entry.position <= upto
        ]
        if page.covered_to >= page.head:
            return found
        after = page.covered_to


def fold(stream: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Fold a user's stream into their inbox, the latest first, with nothing but what the events say.

    Written anew, as a client's author would from the documentation: it shares no code with the rows' fold.
    """
    inbox: dict[str, dict[str, Any]] = {}  # in the order in which they were raised
    for name, data in stream:
        match name:
            case "NotificationRaised":
                inbox.pop(data["notification_id"], None)
                inbox[data["notification_id"]] = {**data, "read": False, "archived": False}
            case "NotificationsRead":
                for row in inbox.values():
                    if data["notification_ids"] is not None:
                        row["read"] |= row["notification_id"] in data["notification_ids"]
                    else:
                        row["read"] |= data["item_id"] in (None, row["item_id"])
            case "NotificationUnread":
                inbox[data["notification_id"]] |= {"read": False, "archived": False}
            case "NotificationArchived":
                inbox[data["notification_id"]] |= {"read": True, "archived": True}
    return list(reversed(inbox.values()))


def shown(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a page shows of a notification, of an event's payload and of the API's answer alike."""
    same = ("kind", "message", "item_id", "comment_id", "people", "count", "delivery", "read", "archived")
    return (row.get("notification_id") or row["id"], *(row[name] for name in same), tuple(row["actors"]))
