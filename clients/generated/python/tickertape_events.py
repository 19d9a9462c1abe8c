"""The events of Tickertape, typed.

Written by `manage.py generate_client --lang python` from the catalogue of events: not to be edited.

    with httpx.Client(base_url="https://tickertape.example", cookies=…) as client:
        for received in item_events(client, "42"):
            if isinstance(received.data, CommentAdded):
                print(received.data.text)

Each iterator begins now, or behind `last_event_id`; comes back by itself to where it was; and hands on
what the stream says of itself too: on `StreamReset`, load anew. What is newer than this client is an
`UnknownEvent`, a field left out, a word any string. It raises StreamRefused where the answer would be the
same again, and ends where the stream is over.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, Union

import httpx
from httpx_sse import ServerSentEvent, aconnect_sse, connect_sse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 30.0
TIMEOUT = httpx.Timeout(10, read=45)  # a heartbeat comes every 15 s: a connection without one is dead
PASSING = frozenset({408, 425, 429})  # of the 4xx; else all passes, also the page of a network to log in to

E = TypeVar("E", covariant=True)


class Payload(BaseModel):
    """What an event holds. A field that is newer than this client is left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, protected_namespaces=())


class UnknownEvent(Payload):
    """An event of a type, or of a shape, that this client does not know; `data` is as it came."""

    data: Any


class Person(Payload):
    """Someone who is there."""

    id: str = Field(description="The user's id")
    username: str = Field(description="The user's name")


class CommentAdded(Payload):
    """Someone commented on an item, or replied to a comment on it. `timestamp` is in Unix seconds."""

    comment_id: str = Field(description="The comment's id")
    item_id: str = Field(description="The item's id")
    author_id: str = Field(description="The id of the user who wrote it")
    author_name: str = Field(description="The author's user name, as it was then")
    text: str = Field(description="The text, exactly as it was sent")
    timestamp: int = Field(description="When it happened, in Unix seconds")
    reply_to: str | None = Field(description="The id of the comment that it answers")


class CommentDeleted(Payload):
    """A comment is gone."""

    comment_id: str = Field(description="The comment's id")
    item_id: str = Field(description="The item's id")


class CommentUpdated(Payload):
    """A comment's author changed its text. `edited_at` is in Unix seconds."""

    comment_id: str = Field(description="The comment's id")
    item_id: str = Field(description="The item's id")
    new_text: str = Field(description="The text from now on, exactly as it was sent")
    edited_at: int = Field(description="When it was changed, in Unix seconds")


class EmailSent(Payload):
    """A mail was handed to the mail server."""

    user_id: str = Field(description="The id of the user whom it concerns")
    email_type: str = Field(description="Which mail it is")
    sent_to: str = Field(description="The address that it was mailed to")
    correlation_id: str = Field(description="What the mail server's log calls the mail by")


class ItemChanged(Payload):
    """An item has other properties; all of them are given. Its title is its owner's."""

    item_id: str = Field(description="The item's id")
    title: str = Field(description="The title")
    owner_id: str = Field(description="The id of the item's owner")
    visibility: str = Field(description="Who may read the item: `public` or `members`")


class ItemCreated(Payload):
    """An item came to be. Its title is its owner's."""

    item_id: str = Field(description="The item's id")
    title: str = Field(description="The title")
    owner_id: str = Field(description="The id of the item's owner")
    visibility: str = Field(description="Who may read the item: `public` or `members`")
    timestamp: int = Field(description="When it happened, in Unix seconds")


class ItemDeleted(Payload):
    """An item is gone, and its comments with it."""

    item_id: str = Field(description="The item's id")


class ItemMuted(Payload):
    """Somebody wants to be told of nothing about an item."""

    item_id: str = Field(description="The item's id")
    user_id: str = Field(description="The id of the user whom it concerns")


class ItemUnmuted(Payload):
    """Somebody wants to be told of an item again, as before they muted it."""

    item_id: str = Field(description="The item's id")
    user_id: str = Field(description="The id of the user whom it concerns")


class ItemUnwatched(Payload):
    """Somebody does not want to be told of an item's comments, but of what is meant for them."""

    item_id: str = Field(description="The item's id")
    user_id: str = Field(description="The id of the user whom it concerns")


class ItemWatched(Payload):
    """Somebody wants to be told of an item's comments. On their own channel only."""

    item_id: str = Field(description="The item's id")
    user_id: str = Field(description="The id of the user whom it concerns")


class JobCancelled(Payload):
    """A job was stopped because somebody asked for that."""

    job_id: str = Field(description="The job's id")
    user_id: str = Field(description="The id of the user whom it concerns")
    task_type: str = Field(description="Which job it is")
    timestamp: int = Field(description="When it happened, in Unix seconds")


class JobFailed(Payload):
    """A job failed for good."""

    job_id: str = Field(description="The job's id")
    user_id: str = Field(description="The id of the user whom it concerns")
    task_type: str = Field(description="Which job it is")
    error: str = Field(description="What went wrong")
    error_type: str = Field(description="The kind of error")
    timestamp: int = Field(description="When it happened, in Unix seconds")


class JobProgressed(Payload):
    """How far a job is. The latest is all there is: not recorded, and not every one is sent."""

    job_id: str = Field(description="The job's id")
    done: int | float = Field(description="How much is done")
    total: int | float | None = Field(description="How much there is to do, where that is known")
    message: str = Field(description="What to show")


class JobQueued(Payload):
    """Somebody asked for a job. `timestamp` is in Unix seconds."""

    job_id: str = Field(description="The job's id")
    user_id: str = Field(description="The id of the user whom it concerns")
    task_type: str = Field(description="Which job it is")
    params: Any = Field(description="What the job was asked with")
    timestamp: int = Field(description="When it happened, in Unix seconds")


class JobRetrying(Payload):
    """A job failed and is tried again at `retry_at` (Unix seconds)."""

    job_id: str = Field(description="The job's id")
    user_id: str = Field(description="The id of the user whom it concerns")
    task_type: str = Field(description="Which job it is")
    attempt: int = Field(description="Which attempt it is, from 1")
    error: str = Field(description="What went wrong")
    error_type: str = Field(description="The kind of error")
    retry_at: int = Field(description="When it is tried again, in Unix seconds")


class JobSent(Payload):
    """A job's code sent something; `event` is what it calls that, if anything."""

    job_id: str = Field(description="The job's id")
    user_id: str = Field(description="The id of the user whom it concerns")
    event: str | None = Field(description="What the job's code calls it")
    data: Any = Field(description="What the job's code sent")


class JobStarted(Payload):
    """A worker has the job in hand, for the `attempt`th time."""

    job_id: str = Field(description="The job's id")
    user_id: str = Field(description="The id of the user whom it concerns")
    task_type: str = Field(description="Which job it is")
    attempt: int = Field(description="Which attempt it is, from 1")
    timestamp: int = Field(description="When it happened, in Unix seconds")


class JobState(Payload):
    """Where a job stands: told to who comes late, and when it is asked to stop. Not recorded."""

    job_id: str = Field(description="The job's id")
    task_type: str = Field(description="Which job it is")
    state: str = Field(description="`queued`, `running`, `complete`, `failed` or `cancelled`")
    progress: Any = Field(description="How far it is: `done`, `total` and `message`")
    result: Any = Field(description="What the job returned")
    error: str | None = Field(description="What went wrong")
    stopping: bool = Field(description="Whether it was asked to stop, and has not yet")


class MemberAdded(Payload):
    """Someone may read an item that is for members. Also on that user's own channel."""

    item_id: str = Field(description="The item's id")
    user_id: str = Field(description="The id of the user whom it concerns")


class MemberRemoved(Payload):
    """Someone is no longer a member of an item. Also on that user's own channel."""

    item_id: str = Field(description="The item's id")
    user_id: str = Field(description="The id of the user whom it concerns")


class NotificationArchived(Payload):
    """Somebody put a notification away; it is read, too."""

    user_id: str = Field(description="The id of the user whom it concerns")
    notification_id: str = Field(description="The notification's id")


class NotificationRaised(Payload):
    """Somebody is told something; with a `notification_id` that there is, it takes that one's place.

    `actors` are the ids of those whose doing it is, the latest first, and `people` how many they
    are; `count` is how many times they did it. `delivery` says whether to show it at once (`live`)
    or to leave it in the inbox (`quiet`, `digest`). In Unix seconds, `since` is when the first of it
    happened, and `timestamp` when the latest did.
    """

    notification_id: str = Field(description="The notification's id")
    user_id: str = Field(description="The id of the user whom it concerns")
    kind: str = Field(description="What it is about: `mention`, `reply`, `comment`, `watch` or `job`")
    delivery: Literal["live", "quiet", "digest"] | str = Field(description="Whether to show it at once (`live`) or leave it in the inbox")
    message: str = Field(description="What to show")
    item_id: str | None = Field(description="The item's id")
    comment_id: str | None = Field(description="The comment's id")
    job_id: str | None = Field(description="The job's id")
    actor_id: str | None = Field(description="The id of the user whose doing it is")
    owner_id: str | None = Field(description="The id of the item's owner")
    actors: list[str] = Field(description="The ids of those whose doing it is, the latest first")
    people: int = Field(description="How many people's doing it is")
    count: int = Field(description="How many times it happened")
    since: int = Field(description="When the first of it happened, in Unix seconds")
    timestamp: int = Field(description="When it happened, in Unix seconds")


class NotificationUnread(Payload):
    """Somebody wants to come back to a notification; it is no longer archived either."""

    user_id: str = Field(description="The id of the user whom it concerns")
    notification_id: str = Field(description="The notification's id")


class NotificationsRead(Payload):
    """Somebody saw these notifications; or all of an item; or, where neither is given, all there are."""

    user_id: str = Field(description="The id of the user whom it concerns")
    notification_ids: list[str] | None = Field(description="The notifications' ids")
    item_id: str | None = Field(description="The item's id")


class PreferencesChanged(Payload):
    """Somebody wants to be told otherwise; all of it is given. Quiet hours are `HH:MM`, of their zone."""

    user_id: str = Field(description="The id of the user whom it concerns")
    types: dict[str, Literal["live", "off", "digest"] | str] = Field(description="How to be told, by kind of notification")
    quiet_start: str | None = Field(description="When quiet hours begin, as `HH:MM`")
    quiet_end: str | None = Field(description="When quiet hours end, as `HH:MM`")
    time_zone: str = Field(description="The time zone that the hours are meant in")
    presence: Literal["shown", "hidden"] | str = Field(description="Whether others are shown what one has open: `shown` or `hidden`")


class PresenceChanged(Payload):
    """Who has the item open. Transient: on the item's channel, without an id, the latest is all there is."""

    item_id: str = Field(description="The item's id")
    users: list[Person] = Field(description="50 of them at the most")
    total: int | None = Field(description="How many; null while nobody knows, as without Redis")


class SystemAlert(Payload):
    """An admin speaks. Show it until `expires_at`, or until it is recalled or dismissed."""

    broadcast_id: str = Field(description="The broadcast's id")
    title: str = Field(description="The title")
    message: str = Field(description="What to show")
    severity: Literal["info", "warning", "critical"] | str = Field(description="How much it matters")
    link: str | None = Field(description="Where to read more")
    starts_at: int = Field(description="From when on to show it, in Unix seconds")
    expires_at: int | None = Field(description="Until when to show it, in Unix seconds; null: until it is recalled")


class SystemAlertDismissed(Payload):
    """Somebody wants to see a broadcast no more, on any device; in the inbox it is read and archived."""

    broadcast_id: str = Field(description="The broadcast's id")
    user_id: str = Field(description="The id of the user whom it concerns")


class SystemAlertRecalled(Payload):
    """A broadcast was taken back: show it no more."""

    broadcast_id: str = Field(description="The broadcast's id")
    recalled_at: int = Field(description="When it was taken back, in Unix seconds")


class SystemAlertUnread(Payload):
    """Somebody wants to come back to a broadcast; it is dismissed no more either."""

    user_id: str = Field(description="The id of the user whom it concerns")
    broadcast_id: str = Field(description="The broadcast's id")


class SystemAlertUpdated(Payload):
    """A broadcast says something else; all of it is given. Who dismissed it need not see it again."""

    broadcast_id: str = Field(description="The broadcast's id")
    title: str = Field(description="The title")
    message: str = Field(description="What to show")
    severity: Literal["info", "warning", "critical"] | str = Field(description="How much it matters")
    link: str | None = Field(description="Where to read more")
    starts_at: int = Field(description="From when on to show it, in Unix seconds")
    expires_at: int | None = Field(description="Until when to show it, in Unix seconds; null: until it is recalled")


class SystemAlertsRead(Payload):
    """Somebody saw these broadcasts in their inbox; they stay on the screen. On their own channel only."""

    user_id: str = Field(description="The id of the user whom it concerns")
    broadcast_ids: list[str] = Field(description="The broadcasts' ids")


class TaskComplete(Payload):
    """A job is done."""

    user_id: str = Field(description="The id of the user whom it concerns")
    job_id: str = Field(description="The job's id")
    task_type: str = Field(description="Which job it is")
    result: Any = Field(description="What the job returned")
    duration_ms: int = Field(description="How long it took, in milliseconds")


class StreamOpen(Payload):
    """The first frame of every connection: whether it goes on from where the client was."""

    mode: Literal["live", "resumed", "reset"] | str = Field(description="`live`: from now on. `resumed`: from the last id. `reset`: `stream.reset` follows")
    cursor: str = Field(description="The place that the stream begins at")
    missed: int | None = Field(description="How many events the client missed, which come first; null where that is not known")


class StreamLive(Payload):
    """What the client missed has come; from here on events come as they happen."""


class StreamReset(Payload):
    """The log cannot go on from the client's last id: load the state anew. The stream goes on live."""

    reason: Literal["pruned", "epoch", "ahead", "malformed"] | str = Field(description="Why: it was pruned, is of another epoch, lies ahead, or is no id")
    oldest: str = Field(description="The oldest place that can be gone on from")


class StreamEnd(Payload):
    """The last frame of a stream that the server ends. It comes with a `retry:`, the time to wait."""

    reason: Literal["database", "capacity", "drain", "max_age", "revoked", "over"] | str = Field(description="Why: a passing fault (`database`, `capacity`), the server's end (`drain`), the stream's greatest age, access that was taken away, or `over`: nothing follows")

Person.model_rebuild()
CommentAdded.model_rebuild()
CommentDeleted.model_rebuild()
CommentUpdated.model_rebuild()
EmailSent.model_rebuild()
ItemChanged.model_rebuild()
ItemCreated.model_rebuild()
ItemDeleted.model_rebuild()
ItemMuted.model_rebuild()
ItemUnmuted.model_rebuild()
ItemUnwatched.model_rebuild()
ItemWatched.model_rebuild()
JobCancelled.model_rebuild()
JobFailed.model_rebuild()
JobProgressed.model_rebuild()
JobQueued.model_rebuild()
JobRetrying.model_rebuild()
JobSent.model_rebuild()
JobStarted.model_rebuild()
JobState.model_rebuild()
MemberAdded.model_rebuild()
MemberRemoved.model_rebuild()
NotificationArchived.model_rebuild()
NotificationRaised.model_rebuild()
NotificationUnread.model_rebuild()
NotificationsRead.model_rebuild()
PreferencesChanged.model_rebuild()
PresenceChanged.model_rebuild()
SystemAlert.model_rebuild()
SystemAlertDismissed.model_rebuild()
SystemAlertRecalled.model_rebuild()
SystemAlertUnread.model_rebuild()
SystemAlertUpdated.model_rebuild()
SystemAlertsRead.model_rebuild()
TaskComplete.model_rebuild()
StreamOpen.model_rebuild()
StreamLive.model_rebuild()
StreamReset.model_rebuild()
StreamEnd.model_rebuild()

_CONTROLS: Mapping[str, type[BaseModel]] = {
    "stream.open": StreamOpen,
    "stream.live": StreamLive,
    "stream.reset": StreamReset,
    "stream.end": StreamEnd,
}


@dataclass(frozen=True, slots=True)
class Received(Generic[E]):
    """What came, under its name on the wire. `id` is the place to come back to; keep it where that matters."""

    event: str
    id: str
    data: E


class StreamRefused(Exception):
    """The stream was refused, and would be again: the status and the problem say why."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(f"{status} {problem}")
        self.status = status
        self.problem = problem


class _Place:
    """Where a reader is, how long it waits before it comes back, and whether it is over."""

    def __init__(self, last_event_id: str | None) -> None:
        self.id = last_event_id or ""
        self.retry = FIRST_WAIT_SECONDS
        self.over = False

    def headers(self) -> dict[str, str]:
        return {"Last-Event-ID": self.id} if self.id else {}

    def check(self, status: int, text: str) -> None:
        if status == 204:
            self.over = True
        elif 400 <= status < 500 and status not in PASSING:
            raise StreamRefused(status, text)
        else:
            self.retry = min(self.retry * 2, LONGEST_WAIT_SECONDS)

    def read(self, sse: ServerSentEvent, models: Mapping[str, type[BaseModel]]) -> Received[Any] | None:
        self.id = sse.id or self.id
        if sse.retry is not None:
            self.retry = sse.retry / 1000
        if not sse.data:  # a heartbeat: it only moves the place
            return None
        data: BaseModel
        try:
            data = models[sse.event].model_validate_json(sse.data)
        except (KeyError, ValidationError):
            data = UnknownEvent(data=json.loads(sse.data))
        if isinstance(data, StreamEnd) and data.reason == "over":
            self.over = True
        return Received(sse.event, self.id, data)


def _stream(
    client: httpx.Client, channel: str, last_event_id: str | None, models: Mapping[str, type[BaseModel]]
) -> Iterator[Received[Any]]:
    place = _Place(last_event_id)
    while not place.over:
        try:
            with connect_sse(
                client, "GET", "/streams/", params={"channel": channel}, headers=place.headers(), timeout=TIMEOUT
            ) as source:
                if source.response.status_code != 200:
                    source.response.read()
                    place.check(source.response.status_code, source.response.text)
                else:
                    for sse in source.iter_sse():
                        if received := place.read(sse, models):
                            yield received
        except httpx.TransportError:
            place.retry = max(place.retry, FIRST_WAIT_SECONDS)
        if not place.over:
            time.sleep(place.retry * random.uniform(0.5, 1.5))


async def _astream(
    client: httpx.AsyncClient, channel: str, last_event_id: str | None, models: Mapping[str, type[BaseModel]]
) -> AsyncIterator[Received[Any]]:
    place = _Place(last_event_id)
    while not place.over:
        try:
            async with aconnect_sse(
                client, "GET", "/streams/", params={"channel": channel}, headers=place.headers(), timeout=TIMEOUT
            ) as source:
                if source.response.status_code != 200:
                    await source.response.aread()
                    place.check(source.response.status_code, source.response.text)
                else:
                    async for sse in source.aiter_sse():
                        if received := place.read(sse, models):
                            yield received
        except httpx.TransportError:
            place.retry = max(place.retry, FIRST_WAIT_SECONDS)
        if not place.over:
            await asyncio.sleep(place.retry * random.uniform(0.5, 1.5))



GroupEvent = Union[
    SystemAlert,
    SystemAlertRecalled,
    SystemAlertUpdated,
    StreamOpen,
    StreamLive,
    StreamReset,
    StreamEnd,
    UnknownEvent,
]
_GROUP: Mapping[str, type[BaseModel]] = {
    "SystemAlert": SystemAlert,
    "SystemAlertRecalled": SystemAlertRecalled,
    "SystemAlertUpdated": SystemAlertUpdated,
    **_CONTROLS,
}


def group_events(
    client: httpx.Client, group_name: str, *, last_event_id: str | None = None
) -> Iterator[Received[GroupEvent]]:
    """Yield what comes on a channel `group:`: What concerns a group. Its members read it."""
    return _stream(client, f"group:{group_name}", last_event_id, _GROUP)


def async_group_events(
    client: httpx.AsyncClient, group_name: str, *, last_event_id: str | None = None
) -> AsyncIterator[Received[GroupEvent]]:
    """Yield what comes on a channel `group:`: What concerns a group. Its members read it."""
    return _astream(client, f"group:{group_name}", last_event_id, _GROUP)


ItemEvent = Union[
    CommentAdded,
    CommentDeleted,
    CommentUpdated,
    ItemChanged,
    ItemCreated,
    ItemDeleted,
    MemberAdded,
    MemberRemoved,
    PresenceChanged,
    StreamOpen,
    StreamLive,
    StreamReset,
    StreamEnd,
    UnknownEvent,
]
_ITEM: Mapping[str, type[BaseModel]] = {
    "CommentAdded": CommentAdded,
    "CommentDeleted": CommentDeleted,
    "CommentUpdated": CommentUpdated,
    "ItemChanged": ItemChanged,
    "ItemCreated": ItemCreated,
    "ItemDeleted": ItemDeleted,
    "MemberAdded": MemberAdded,
    "MemberRemoved": MemberRemoved,
    "PresenceChanged": PresenceChanged,
    **_CONTROLS,
}


def item_events(
    client: httpx.Client, item_id: str, *, last_event_id: str | None = None
) -> Iterator[Received[ItemEvent]]:
    """Yield what comes on a channel `item:`: An item and its comments. Who may read it hears it."""
    return _stream(client, f"item:{item_id}", last_event_id, _ITEM)


def async_item_events(
    client: httpx.AsyncClient, item_id: str, *, last_event_id: str | None = None
) -> AsyncIterator[Received[ItemEvent]]:
    """Yield what comes on a channel `item:`: An item and its comments. Who may read it hears it."""
    return _astream(client, f"item:{item_id}", last_event_id, _ITEM)


JobEvent = Union[
    JobCancelled,
    JobFailed,
    JobProgressed,
    JobQueued,
    JobRetrying,
    JobSent,
    JobStarted,
    JobState,
    TaskComplete,
    StreamOpen,
    StreamLive,
    StreamReset,
    StreamEnd,
    UnknownEvent,
]
_JOB: Mapping[str, type[BaseModel]] = {
    "JobCancelled": JobCancelled,
    "JobFailed": JobFailed,
    "JobProgressed": JobProgressed,
    "JobQueued": JobQueued,
    "JobRetrying": JobRetrying,
    "JobSent": JobSent,
    "JobStarted": JobStarted,
    "JobState": JobState,
    "TaskComplete": TaskComplete,
    **_CONTROLS,
}


def job_events(
    client: httpx.Client, job_id: str, *, last_event_id: str | None = None
) -> Iterator[Received[JobEvent]]:
    """Yield what comes on a channel `job:`: A job, from its start to its end. Whoever asked for it reads it."""
    return _stream(client, f"job:{job_id}", last_event_id, _JOB)


def async_job_events(
    client: httpx.AsyncClient, job_id: str, *, last_event_id: str | None = None
) -> AsyncIterator[Received[JobEvent]]:
    """Yield what comes on a channel `job:`: A job, from its start to its end. Whoever asked for it reads it."""
    return _astream(client, f"job:{job_id}", last_event_id, _JOB)


SystemEvent = Union[
    SystemAlert,
    SystemAlertRecalled,
    SystemAlertUpdated,
    StreamOpen,
    StreamLive,
    StreamReset,
    StreamEnd,
    UnknownEvent,
]
_SYSTEM: Mapping[str, type[BaseModel]] = {
    "SystemAlert": SystemAlert,
    "SystemAlertRecalled": SystemAlertRecalled,
    "SystemAlertUpdated": SystemAlertUpdated,
    **_CONTROLS,
}


def system_events(
    client: httpx.Client, *, last_event_id: str | None = None
) -> Iterator[Received[SystemEvent]]:
    """Yield what comes on a channel `system`: What concerns everyone. Whoever is logged in reads it."""
    return _stream(client, "system", last_event_id, _SYSTEM)


def async_system_events(
    client: httpx.AsyncClient, *, last_event_id: str | None = None
) -> AsyncIterator[Received[SystemEvent]]:
    """Yield what comes on a channel `system`: What concerns everyone. Whoever is logged in reads it."""
    return _astream(client, "system", last_event_id, _SYSTEM)


UserEvent = Union[
    EmailSent,
    ItemMuted,
    ItemUnmuted,
    ItemUnwatched,
    ItemWatched,
    JobCancelled,
    JobFailed,
    JobQueued,
    JobRetrying,
    JobStarted,
    MemberAdded,
    MemberRemoved,
    NotificationArchived,
    NotificationRaised,
    NotificationUnread,
    NotificationsRead,
    PreferencesChanged,
    SystemAlert,
    SystemAlertDismissed,
    SystemAlertRecalled,
    SystemAlertUnread,
    SystemAlertUpdated,
    SystemAlertsRead,
    TaskComplete,
    StreamOpen,
    StreamLive,
    StreamReset,
    StreamEnd,
    UnknownEvent,
]
_USER: Mapping[str, type[BaseModel]] = {
    "EmailSent": EmailSent,
    "ItemMuted": ItemMuted,
    "ItemUnmuted": ItemUnmuted,
    "ItemUnwatched": ItemUnwatched,
    "ItemWatched": ItemWatched,
    "JobCancelled": JobCancelled,
    "JobFailed": JobFailed,
    "JobQueued": JobQueued,
    "JobRetrying": JobRetrying,
    "JobStarted": JobStarted,
    "MemberAdded": MemberAdded,
    "MemberRemoved": MemberRemoved,
    "NotificationArchived": NotificationArchived,
    "NotificationRaised": NotificationRaised,
    "NotificationUnread": NotificationUnread,
    "NotificationsRead": NotificationsRead,
    "PreferencesChanged": PreferencesChanged,
    "SystemAlert": SystemAlert,
    "SystemAlertDismissed": SystemAlertDismissed,
    "SystemAlertRecalled": SystemAlertRecalled,
    "SystemAlertUnread": SystemAlertUnread,
    "SystemAlertUpdated": SystemAlertUpdated,
    "SystemAlertsRead": SystemAlertsRead,
    "TaskComplete": TaskComplete,
    **_CONTROLS,
}


def user_events(
    client: httpx.Client, user_id: str, *, last_event_id: str | None = None
) -> Iterator[Received[UserEvent]]:
    """Yield what comes on a channel `user:`: What concerns a user. They alone read it."""
    return _stream(client, f"user:{user_id}", last_event_id, _USER)


def async_user_events(
    client: httpx.AsyncClient, user_id: str, *, last_event_id: str | None = None
) -> AsyncIterator[Received[UserEvent]]:
    """Yield what comes on a channel `user:`: What concerns a user. They alone read it."""
    return _astream(client, f"user:{user_id}", last_event_id, _USER)
