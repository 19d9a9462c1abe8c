"""The tables: the log, what it is about, and what is folded from it.

Rows of `Event` are written by `log.append` and placed by the database alone; every other
table has one module that changes it.
"""

from events.models.broadcasts import Broadcast, BroadcastMark
from events.models.inbox import Email, Inbox, Notification, Preferences, Watch
from events.models.items import Comment, Item, ItemMember
from events.models.jobs import Job, JobFile, JobRun
from events.models.log import ChannelPosition, Event, LogState
from events.models.requests import ApiKey, EndedSession, IdempotencyKey

__all__ = [
    "ApiKey",
    "Broadcast",
    "BroadcastMark",
    "ChannelPosition",
    "Comment",
    "Email",
    "EndedSession",
    "Event",
    "IdempotencyKey",
    "Inbox",
    "Item",
    "ItemMember",
    "Job",
    "JobFile",
    "JobRun",
    "LogState",
    "Notification",
    "Preferences",
    "Watch",
]
