"""What the inbox's tests share: reactions run to their end, and an inbox folded as a client folds it."""

import json
from typing import Any

from events import log
from events.channels import own_channels
from workers import reactions


def react() -> None:
    """Place what was committed and react to it, until nothing follows any more."""
    while log.place().count or reactions.run():
        pass


def stream_of(user: Any, *, upto: int | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Return all that a user's channels hold, as a client gets it; up to a position, if one is given."""
    while log.place().count:
        pass
    found, after = [], 0
    while True:
        page = log.read(after, channels=own_channels(user), limit=5_000, max_bytes=10**9)
        found += [
            (entry.type, json.loads(entry.data))
            for entry in page.entries
            if upto is None or entry.position <= upto
        ]
        if page.covered_to >= page.head:
            return found
        after = page.covered_to


def fold(stream: list[tuple[str, dict[str, Any]]], *, at: float = 0) -> list[dict[str, Any]]:
    """Fold a user's stream into their inbox, the latest first, with nothing but what the events say.

    `at` is the moment, in Unix seconds, at which broadcasts may have expired. Written anew, as a
    client's author would from the documentation: it shares no code with the rows' fold.
    """
    inbox: dict[str, dict[str, Any]] = {}  # in the order in which they were raised
    wishes: dict[str, str] = {}
    for name, data in stream:
        if name == "PreferencesChanged":
            wishes = data["types"]
        elif name.startswith("SystemAlert"):
            fold_broadcast(inbox, name, data)
        else:
            fold_notification(inbox, name, data)
    return [row for row in reversed(inbox.values()) if row["kind"] != "broadcast" or stands(row, wishes, at)]


def fold_notification(inbox: dict[str, dict[str, Any]], name: str, data: dict[str, Any]) -> None:
    match name:
        case "NotificationRaised":
            inbox.pop(data["notification_id"], None)
            inbox[data["notification_id"]] = {**data, "read": False, "archived": False}
        case "NotificationsRead":
            for row in inbox.values():
                if row["kind"] == "broadcast":
                    continue
                if data["notification_ids"] is not None:
                    row["read"] |= row["notification_id"] in data["notification_ids"]
                else:
                    row["read"] |= data["item_id"] in (None, row["item_id"])
        case "NotificationUnread":
            inbox[data["notification_id"]] |= {"read": False, "archived": False}
        case "NotificationArchived":
            inbox[data["notification_id"]] |= {"read": True, "archived": True}


def fold_broadcast(inbox: dict[str, dict[str, Any]], name: str, data: dict[str, Any]) -> None:
    """What says something of a broadcast that was recalled meanwhile, or never told, says it of nothing."""
    row = inbox.get(data.get("broadcast_id", ""), {})
    match name:
        case "SystemAlert":
            inbox[data["broadcast_id"]] = broadcast_entry(data)
        case "SystemAlertUpdated":
            row |= data
        case "SystemAlertRecalled":
            inbox.pop(data["broadcast_id"], None)
        case "SystemAlertsRead":
            for broadcast_id in data["broadcast_ids"]:
                inbox.get(broadcast_id, {})["read"] = True
        case "SystemAlertUnread":
            row |= {"read": False, "archived": False}
        case "SystemAlertDismissed":
            row |= {"read": True, "archived": True}


def broadcast_entry(said: dict[str, Any]) -> dict[str, Any]:
    """Return a broadcast as the other entries are."""
    empty = dict.fromkeys(("item_id", "comment_id"))
    new = {"kind": "broadcast", "people": 0, "count": 1, "actors": [], "read": False, "archived": False}
    return {**said, **empty, **new, "notification_id": said["broadcast_id"]}


def stands(row: dict[str, Any], wishes: dict[str, str], at: float) -> bool:
    """Tell whether a broadcast is in the inbox, and note how it was to be shown."""
    critical = row["severity"] == "critical"
    wish = "live" if critical else wishes.get("broadcast", "live")
    row["delivery"] = wish
    return wish != "off" and not (row["expires_at"] and row["expires_at"] <= at)


def shown(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a page shows of a notification, of an event's payload and of the API's answer alike."""
    same = ("kind", "message", "item_id", "comment_id", "people", "count", "delivery", "read", "archived")
    said = row.get("broadcast") or row
    told = (said.get("title"), said.get("severity"), said.get("link"))
    return (row.get("notification_id") or row["id"], *(row[name] for name in same), *row["actors"], *told)
