"""A stream whose reader talks back: channels are added and dropped while it goes on.

    {"add": ["item:7"], "after": "<cursor>", "drop": ["item:3"]}

A change is made at a place on the tape, the reader's own, and said: `stream.channels`, whose `cursor` is
that place. For what is dropped nothing follows it, for what is added everything does. With `after` comes
first what the added channels had between there and that place, oldest first, but for what this connection
has brought already, be it by a channel that was dropped since. `stream.live` ends it. So nothing is lost,
and nothing comes twice. The id of `stream.channels` is where to go on from with all that is read then: the
place, or `after`, which lies before it.

What cannot be done is answered with `stream.error`, and changes nothing. Who asks too often is told so, and
not heard for a while: what else it sends stays in the kernel.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Annotated

from django.conf import settings
from django.db import InterfaceError, OperationalError
from pydantic import Field, ValidationError

from events.channels import SYSTEM, Channel, parse
from events.cursor import Cursor
from events.errors import (
    FieldError,
    Invalid,
    RateLimited,
    TickertapeError,
    TooManyChannels,
    Unavailable,
)
from events.http import MOST_FAULTS, described
from events.rest import Body, MalformedJson
from streams import places, sse
from streams.allowance import Allowance
from streams.behind import DATABASE_AWAY, REREAD_SECONDS
from streams.brought import Brought
from streams.hub import Hub
from streams.permission import admit_again, named
from streams.replay import Stretch
from streams.subscriber import Subscriber

CLOSER_SECONDS = 0.05  # between two looks whether the hub has come to where a client says it stands

Frames = AsyncGenerator[bytes]
Names = Annotated[list[str], Field(max_length=1_000)]


class Change(Body):
    """What a reader may ask for."""

    add: Names = Field(default_factory=list, description="Channels to be read too", examples=[["item:7"]])
    drop: Names = Field(default_factory=list, description="And not any more", examples=[["item:3"]])
    after: str | None = Field(
        None,
        description="From where on to bring what is added; without it, from now. `earliest` is all there is",
        examples=["2438c2e6ea-17"],
    )

    @classmethod
    def read(cls, text: str | None) -> "Change":
        """Read a message; raise MalformedJson or Invalid."""
        if text is None:
            raise MalformedJson("A message is text, and JSON.")
        try:
            change = cls.model_validate_json(text)
        except ValidationError as error:
            faults = error.errors()
            if faults[0]["type"] == "json_invalid":
                raise MalformedJson("The message is not JSON.") from None
            raise Invalid(
                errors=tuple(
                    FieldError(".".join(map(str, fault["loc"])) or "message", fault["msg"])
                    for fault in faults[:MOST_FAULTS]
                )
            ) from None
        if not change.add and not change.drop:
            raise Invalid(errors=(FieldError("add", "names no channel, and neither does drop"),))
        if change.after is not None and not change.add:
            raise Invalid(errors=(FieldError("after", "is for what is added, and nothing is"),))
        return change

    def faults(self, channels: frozenset[Channel]) -> Iterator[FieldError]:
        """Yield what does not fit what is read now."""
        for field, names in (("add", self.add), ("drop", self.drop)):
            seen: set[str] = set()
            for number, name in enumerate(names):
                if name in seen:
                    yield FieldError(f"{field}.{number}", "is named twice")
                elif (name in channels) == (field == "add"):
                    yield FieldError(
                        f"{field}.{number}", "is read already" if field == "add" else "is not read here"
                    )
                seen.add(name)
        if not self.add and channels <= set(self.drop):
            yield FieldError("drop", "leaves no channel: close the connection instead")


def error_frame(error: TickertapeError) -> bytes:
    """Return the frame that says what is wrong, as problem+json would, and when to try again, in seconds."""
    more = {"retry_after": error.retry_seconds} if isinstance(error, RateLimited) else {}
    return sse.control("error", {**described(error), **more})


class Conversation:
    """One connection: its stream, and what its reader asks for meanwhile."""

    def __init__(self, hub: Hub, subscriber: Subscriber) -> None:
        self._hub = hub
        self._subscriber = subscriber
        self._asked: asyncio.Queue[str | None] = asyncio.Queue(1)
        self._closed = False
        self._chunks: Frames | None = None
        self._step: asyncio.Task[bytes | None] | None = None  # what comes next, under way
        self._opened: Cursor | None = None  # where it was opened, or reset last
        self._placed = False  # the present subscriber has found its place
        self._brought = Brought()
        self._allowance = Allowance(settings.STREAMS_MESSAGES_PER_MINUTE)
        self._deaf_until = 0.0  # by the monotonic clock: what comes too soon stays where it is

    async def ask(self, text: str | None) -> None:
        """Hand over a message of the reader's, None for one that is no text; waits while one is answered.

        Once the frames are over it is dropped, as nobody answers any more.
        """
        if not self._closed:
            await self._asked.put(text)

    async def frames(self, last_event_id: str | None) -> Frames:
        """Yield frames from the opening one to the ending one, as `Subscriber.chunks` does chunks."""
        asking: asyncio.Task[str | None] | None = None
        try:
            self._begin(last_event_id)
            while self._step is not None:
                asking = asking or asyncio.create_task(self._hear())
                # Nothing can be changed of a stream that is not open yet.
                both = {self._step, asking} if self._opened else {self._step}
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                for frame in self._stepped():
                    yield frame
                if asking.done() and self._opened and self._step is not None:
                    text, asking = asking.result(), None
                    async with contextlib.aclosing(self._answer(text)) as answer:
                        async for frame in answer:
                            yield frame
        finally:
            self._closed = True
            if asking is not None:
                asking.cancel()
            while not self._asked.empty():
                self._asked.get_nowait()  # and so whoever waits to put one in goes on
            await self._stop()

    # --- one stream after the other --------------------------------------------------------------

    def _begin(self, last_event_id: str | None) -> None:
        self._placed = False
        self._chunks = self._subscriber.chunks(last_event_id)
        self._step = asyncio.create_task(self._next(self._chunks))

    @staticmethod
    async def _next(chunks: Frames) -> bytes | None:
        return await anext(chunks, None)

    def _stepped(self) -> Iterator[bytes]:
        """Yield the frames of the next chunk, if there is one, and go on; at the end there is no step."""
        if self._step is None or not self._step.done() or self._chunks is None:
            return
        chunk = self._step.result()
        self._placed = True
        for frame in sse.split(chunk or b""):
            fields = sse.fields(frame)
            event = fields.get("event")
            if event in ("stream.open", "stream.reset"):
                if event == "stream.open" and self._opened:
                    continue  # of the same connection, with other channels
                here = Cursor.parse(fields["id"])
                if here != self._opened:  # else it is the opening's own
                    again = self._opened is not None and self._opened.epoch == here.epoch
                    floor = here.position if again else 0
                    self._brought.begin(self._subscriber.channels, here.position, floor=floor)
                self._opened = here
            yield frame
        self._step = None if chunk is None else asyncio.create_task(self._next(self._chunks))

    async def _stop(self) -> None:
        """Leave the hub; what was under way is forgotten."""
        if self._step is not None:
            self._step.cancel()
            await asyncio.gather(self._step, return_exceptions=True)
        if self._chunks is not None:
            await self._chunks.aclose()

    # --- what the reader asks for ----------------------------------------------------------------

    async def _answer(self, text: str | None) -> Frames:
        hub, old = self._hub, self._subscriber
        try:
            change = self._understood(text)
            doubt, after = await self._place_of(change)
            async with contextlib.aclosing(self._up_to(after)) as frames:
                async for frame in frames:
                    yield frame
            here = old.proven
            # Only now: whatever changed access up to here, and so in all that is missed, the check has seen.
            since = hub.cursor
            added = await self._admit(change)
        except TickertapeError as error:
            yield error_frame(error)
            return
        except (*DATABASE_AWAY, OperationalError, InterfaceError):
            yield error_frame(Unavailable("The log does not answer; try again soon."))
            return
        if here is None or old.ended:
            return  # it says so itself
        dropped = old.channels & set(change.drop)
        await self._read_on((old.channels - dropped) | added, since, here)
        self._brought.drop(dropped, here.position)
        self._brought.add(added, here.position)
        if change.after is None:
            after = here
        async with contextlib.aclosing(self._changed(added, dropped, doubt, after, here)) as frames:
            async for frame in frames:
                yield frame

    def _understood(self, text: str | None) -> Change:
        """Return what the reader asks for; raise what is wrong, or RateLimited, and be deaf for a while."""
        if wait := self._allowance.spend():
            limited = RateLimited(retry_seconds=wait)
            self._deaf_until = time.monotonic() + limited.retry_seconds
            raise limited
        change = Change.read(text)
        if faults := tuple(change.faults(self._subscriber.channels)):
            raise Invalid(errors=faults[:MOST_FAULTS])
        return change

    async def _place_of(self, change: Change) -> tuple[str | None, Cursor]:
        """Return where what is added is to go on from; or why the log cannot, and the tape's beginning."""
        doubt, position = None, 0
        if change.after is not None:
            doubt, position = await places.find(self._hub, change.after)
        return doubt, Cursor(self._hub.epoch, position)

    async def _changed(
        self,
        added: frozenset[Channel],
        dropped: frozenset[Channel],
        doubt: str | None,
        after: Cursor,
        here: Cursor,
    ) -> Frames:
        """Yield what is to be said of a change that is made, and what the added channels missed."""
        if self._subscriber.ended:
            return
        if doubt is None and after.epoch != here.epoch:
            doubt = "epoch"
        elif doubt is None and after.position < self._brought.floor:
            doubt = "pruned"
        if doubt is not None:
            after = here
            yield self._reset(doubt, added, here)  # first: from the next id on it would not be known
        said = {
            "channels": sorted(self._subscriber.channels),
            "added": sorted(added),
            "dropped": sorted(dropped),
            "cursor": str(here),
        }
        yield sse.control("channels", said, after)
        async with contextlib.aclosing(self._missed(added, after, here)) as frames:
            async for frame in frames:
                yield frame

    async def _hear(self) -> str | None:
        """Return what the reader asks next."""
        await asyncio.sleep(max(0.0, self._deaf_until - time.monotonic()))
        return await self._asked.get()

    async def _admit(self, change: Change) -> frozenset[Channel]:
        """Return the channels to be added; raise why one may not be, or TooManyChannels."""
        if not change.add:
            return frozenset()
        old = self._subscriber
        count = len(old.channels) + len(change.add) - len(change.drop)
        if count > settings.STREAMS_MAX_CHANNELS:
            error = FieldError("add", f"makes {count}; {settings.STREAMS_MAX_CHANNELS} is the most")
            raise TooManyChannels(errors=(error,))
        _, added = await admit_again(
            old.reader,
            lambda user: named(change.add, field="add", read=parse),
            field="add",
            hub=self._hub,
        )
        most = settings.STREAMS_MAX_PER_CHANNEL
        for channel in added:
            if most and channel != SYSTEM and len(self._hub.audience.of(channel)) >= most:
                error = FieldError("add", f"{channel} has all the streams that it may have")
                raise Unavailable("There are too many streams; try again soon.", errors=(error,))
        return added

    async def _up_to(self, place: Cursor) -> Frames:
        """Yield what comes, until the reader stands at a place at least, in another epoch, or it is over."""
        while self._step is not None:
            if self._step.done():
                for frame in self._stepped():
                    yield frame
                continue
            proven = self._subscriber.proven if self._placed else None
            if proven is not None and (proven.epoch != place.epoch or proven.position >= place.position):
                return
            await asyncio.wait({self._step}, timeout=CLOSER_SECONDS)

    async def _read_on(self, channels: frozenset[Channel], since: Cursor, here: Cursor) -> None:
        """Read other channels from here on. What takes one of them away ends it from now on."""
        await self._stop()
        self._subscriber = self._subscriber.instead(channels, since=since)
        self._begin(str(here))
        if self._step is not None:
            await asyncio.wait({self._step})  # it has joined the hub, and waits to be asked for more

    async def _missed(self, added: frozenset[Channel], after: Cursor, here: Cursor) -> Frames:
        """Yield the added channels' events above `after` up to here, but what was brought already."""
        reader, position = self._subscriber, after.position
        while position < here.position:
            reader.expire()
            if reader.ended or self._hub.epoch != here.epoch:
                return  # it says so itself
            try:
                stretch = await self._hub.read(added, position)
            except DATABASE_AWAY:
                stretch = None
            if stretch is None or (stretch.epoch == here.epoch and stretch.covered_to <= position):
                # Away, or behind what was seen of it, as after a restore: a look will begin its epoch.
                yield sse.KEEPALIVE
                await asyncio.sleep(REREAD_SECONDS)
                continue
            if stretch.epoch != here.epoch:
                return  # as the hub will see, and reset it
            if stretch.oldest > position + 1:
                yield self._reset("pruned", added, here)
                return
            frames, position = self._piece(stretch, position, here.position)
            for frame in self._hub.deliveries.heed(frames):
                if reader.ended:
                    return
                yield frame
        self._brought.add(added, after.position)

    def _reset(self, reason: str, added: frozenset[Channel], here: Cursor) -> bytes:
        oldest = Cursor(self._hub.epoch, max(self._hub.oldest - 1, self._brought.floor, 0))
        said = {"reason": reason, "oldest": str(oldest), "channels": sorted(added)}
        return sse.control("reset", said, here)

    def _piece(self, stretch: Stretch, after: int, upto: int) -> tuple[list[bytes], int]:
        """Return some of a stretch's frames, and up to where they are all that is missing."""
        frames: list[bytes] = []
        size = 0
        for event in stretch.above(after):
            if event.position > upto:
                break
            if not self._brought.has(event.position, event.channels):
                size += len(event.frame)
                if frames and size > settings.STREAMS_WRITE_BYTES:
                    return frames, after
                frames.append(event.frame)
            after = event.position
        return frames, min(stretch.covered_to, upto)
