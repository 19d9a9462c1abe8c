"""A job's stream: where it stands first, then what happens, and with the job's end it is over.

A client that has seen the end and comes back is answered 204, which ends an EventSource; one that
has not gets the rest. Nothing is over before its last event was written, so a stream that breaks
at any point goes on from the client's last id.
"""

import contextlib
import json
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from events import jobs, log
from events.channels import Channel, job_channel
from events.cursor import Cursor
from events.errors import Unavailable
from events.models import Job
from events.peer import address
from streams import places, sse, switchboard
from streams.hub import Hub
from streams.permission import by_session
from streams.response import EventStream
from streams.subscriber import Subscriber

LAST = frozenset(kind.name() for kind in jobs.FINAL)


@dataclass(frozen=True, slots=True)
class End:
    """A job that is over, with the event that ended it, unless that was pruned."""

    entry: log.Entry | None


def end_of(job_id: UUID) -> End | None:
    """Return how a job ended, if it did."""
    try:
        if Job.objects.filter(pk=job_id, state__in=jobs.OVER).exists():
            return End(jobs.last_event(job_id))
        return None
    finally:
        close_old_connections()  # the thread may be one of the loop's, which nothing else tidies


async def serve(
    hub: Hub, subscriber: Subscriber, job_id: UUID, last_event_id: str | None
) -> HttpResponseBase:
    """Answer with a job's stream, or with what is left of it."""
    end = await sync_to_async(end_of)(job_id) if await _may_be_over(hub, job_id) else None
    if end is not None:
        doubt, position = await _place(hub, last_event_id)
        if position is None or (end.entry is None and position < hub.oldest):
            return EventStream(_ended(hub, job_channel(job_id), end, doubt))
        if end.entry is None or position >= end.entry.position:
            return HttpResponse(status=204)
    chunks = until_over(subscriber.chunks(last_event_id), subscriber, job_id)
    return EventStream(chunks, subscriber=subscriber)


async def until_over(
    chunks: AsyncGenerator[bytes], subscriber: Subscriber, job_id: UUID
) -> AsyncGenerator[bytes]:
    """Yield a job's frames, each as a chunk, up to its last event; then end."""
    begun = 0
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            for frame in sse.split(chunk):
                name = sse.fields(frame).get("event", "")
                yield frame
                if name in LAST:
                    yield _over()
                    return
                if name in ("stream.open", "stream.reset"):
                    begun = Cursor.parse(sse.fields(frame)["id"]).position
                if name == "JobState" and json.loads(sse.fields(frame)["data"])["state"] in jobs.OVER:
                    # Where the stream began, or began anew, the end lay behind it already; or it comes.
                    end = await sync_to_async(end_of, thread_sensitive=False)(job_id)
                    if end is not None and (end.entry is None or end.entry.position <= begun):
                        if end.entry is not None:
                            yield sse.event(end.entry, subscriber.since.epoch)
                        yield _over()
                        return


async def _may_be_over(hub: Hub, job_id: UUID) -> bool:
    """Tell whether it is worth a thread to ask how a job ended; most that are watched are under way."""
    if not settings.STREAMS_DIRECT:
        return True
    async with hub.replay.turns:
        rows = await hub.fetch("SELECT state FROM events_job WHERE id = %s", (job_id,))
    return any(state in jobs.OVER for (state,) in rows)


async def _place(hub: Hub, last_event_id: str | None) -> tuple[str | None, int | None]:
    """Return a client's place in the log; or none, and why the log cannot go on from what was named."""
    if not last_event_id:
        return None, None
    doubt, position = await places.find(hub, last_event_id)
    return doubt, None if doubt else position


async def _ended(hub: Hub, channel: Channel, end: End, doubt: str | None) -> AsyncGenerator[bytes]:
    """Yield the state and the last event of a job that is over, to who has no place in its stream."""
    # A client that drops before it has read the last event comes back before it.
    cursor = hub.cursor if end.entry is None else Cursor(hub.epoch, end.entry.position - 1)
    frames = [
        sse.opening(
            "reset" if doubt else "live", cursor, None if doubt else 0, settings.STREAMS_RETRY_SECONDS
        )
    ]
    if doubt:
        oldest = str(Cursor(hub.epoch, max(hub.oldest - 1, 0)))
        frames.append(sse.control("reset", {"reason": doubt, "oldest": oldest}, cursor))
    frames += await hub.latest([channel])
    if end.entry is not None:
        frames.append(sse.event(end.entry, hub.epoch))
    yield sse.join([*frames, _over()])


# --- In the answer to who asked for the job ------------------------------------------------------------


async def in_short(frames: AsyncGenerator[bytes], start: bytes) -> AsyncGenerator[bytes]:
    """Yield a job's stream in the words of who asked for it: start, progress, complete or error.

    An id stays where there is one: from it, the job's own stream goes on where this one broke.
    """
    yield start
    async with contextlib.aclosing(frames):
        async for frame in frames:
            fields = sse.fields(frame)
            name, data = fields.get("event", ""), json.loads(fields.get("data", "null"))
            match name:
                case "":
                    yield frame  # a heartbeat
                case "stream.end":
                    if data["reason"] != "over":
                        yield frame
                case "JobProgressed":
                    yield sse.message(data, event="progress")
                case "JobSent":
                    yield sse.message(data["data"], event=data["event"], last_id=fields["id"])
                case "TaskComplete":
                    yield _end("complete", fields["id"], result=data["result"])
                case "JobFailed":
                    yield _end("error", fields["id"], error=data["error"], error_type=data["error_type"])
                case "JobCancelled":
                    yield _end("error", fields["id"], error="The job was cancelled.", error_type="Cancelled")


def _end(event: str, last_id: str, **fields: Any) -> bytes:
    return sse.message({**fields, "timestamp": int(time.time())}, event=event, last_id=last_id)


def _over() -> bytes:
    return sse.ending("over", settings.STREAMS_RETRY_SECONDS)


@dataclass(frozen=True, slots=True)
class Answer:
    """A stream to come, in the answer to a request that is still at work."""

    hub: Hub
    since: Cursor  # before the job was asked for: nothing of it lies behind this

    @classmethod
    def ready(cls) -> "Answer":
        """Return where the answer will begin; raise Unavailable where there cannot be a stream now.

        Synchronous, in the request's thread: its loop is the one that streams.
        """
        hub = async_to_sync(switchboard.hub)()
        if not hub.running.is_set() or not hub.database_up or hub.draining:
            raise Unavailable
        if hub.connections >= settings.STREAMS_MAX_CONNECTIONS:
            raise Unavailable("There are too many streams; try again soon.")
        return cls(hub, hub.cursor)

    def stream(self, request: HttpRequest, job_id: UUID, *, start: bytes, begun_here: bool) -> EventStream:
        """Answer with a job's events; one that was not begun by this request is joined where it stands."""
        since = self.hub.cursor
        reader, channels = by_session(request, lambda user: [job_channel(job_id)])
        subscriber = Subscriber(self.hub, channels, reader, since=since, address=address(request))
        chunks = subscriber.chunks(str(self.since) if begun_here else None)
        frames = in_short(until_over(chunks, subscriber, job_id), start)
        return EventStream(frames, subscriber=subscriber)
