"""One connection's bounded inbox: replay, then live, then replay again where the reader is slow.

`position` is the proof: every event of the channels at or below it was handed over or lies in
the buffer. The hub pushes only while `live`; what does not fit is not kept but read again, from
the ring or the log, when the reader has room. So a reader's speed costs time, never memory.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

from django.conf import settings

from events.access import AccessChanged
from events.channels import Channel
from events.cursor import Cursor
from streams import behind, sse
from streams.batch import Transient
from streams.behind import DATABASE_AWAY
from streams.reader import Reader

if TYPE_CHECKING:
    from streams.connection import Sink
    from streams.hub import Hub

REVOKED_RETRY_SECONDS = 0.5  # soon: a permission may have been given, not taken


class Subscriber:
    """The inbox. Made by a view, joined to a hub, drained by one response."""

    __slots__ = (
        "_buffered",
        "_deadline",
        "_ended",
        "_limit",
        "_piece",
        "_replaying",
        "_reset",
        "_told",
        "_untold",
        "_waiter",
        "address",
        "buffer",
        "channels",
        "due",
        "heartbeat",
        "hub",
        "live",
        "moved",
        "on_end",
        "on_stir",
        "outlet",
        "position",
        "reader",
        "silent",
        "since",
        "told_first",
    )

    def __init__(
        self, hub: "Hub", channels: frozenset[Channel], reader: Reader, *, since: Cursor, address: str = ""
    ) -> None:
        self.channels = channels
        self.reader = reader
        self.address = address  # the client's: for counting only
        self.position = 0
        # Where the hub stood before the permission was checked: what changed access up to here, the
        # check has seen.
        self.since = since
        self.live = False
        self.on_end: Callable[[str], None] | None = None  # told why, once; by whoever ends it
        self.told_first = False  # the chunk before the next one was the transient, as it stands
        self.heartbeat = settings.STREAMS_HEARTBEAT_SECONDS  # between two signs of life
        self.silent: Callable[[], bool] = bool  # whether the peer seems to be lost; False until one can tell
        self.hub = hub
        self.buffer: list[bytes] = []
        self._buffered = 0
        self._limit, self._piece = settings.STREAMS_BUFFER_BYTES, settings.STREAMS_WRITE_BYTES
        self._ended: tuple[str, float] | None = None
        self._reset: str | None = None
        self._replaying = False  # what was missed at the opening: `stream.live` follows it
        self._told: dict[tuple[str, str], bytes] = {}  # transient frames, the latest by channel and key
        self._untold = False  # went live, and what is told first was not told yet
        self.moved = hub.parked.now()  # when the client's cursor did
        self._waiter: asyncio.Future[None] | None = None
        self.outlet: Sink | None = None  # while parked: what is pushed goes straight there
        self.on_stir: Callable[[], None] | None = None  # told, when that ends
        self.due = 0  # while parked: the round in which it is looked after, 0 for none
        age = settings.STREAMS_MAX_AGE_SECONDS * random.uniform(0.8, 1.0)  # noqa: S311
        self._deadline = time.monotonic() + age
        if reader.expires_at is not None:
            self._deadline = min(self._deadline, time.monotonic() + reader.expires_at - time.time())

    # --- the hub's side: synchronous, within one turn of the loop ---------------------------

    def push(self, frames: bytes, first: int, last: int) -> bool:
        """Return whether live events were taken; turn to replay where there is no room, or some were seen."""
        if not self.live or last <= self.position:
            return False
        buffer, size = self.buffer, self._buffered + len(frames)
        if first <= self.position or (buffer and size > self._limit):
            self.fall_back(first - 1)
            return False
        if self.outlet is None:
            self._wake()
        elif size > self._piece:
            self.flush(self.hub.parked.now())
            size = len(frames)
            if size > self._piece:
                self.stir()  # it is written in pieces, as fast as the reader takes them
            else:
                self.hub.parked.unsent.append(self)
        elif not buffer:
            self.hub.parked.unsent.append(self)
        self.position = last
        buffer.append(frames)
        self._buffered = size
        return True

    def flush(self, now: float) -> bool:
        """Send what was pushed while parked, in one piece, which costs the same; tell whether it still is."""
        buffer = self.buffer
        if self.outlet is not None and buffer:
            pushed = buffer[0] if len(buffer) == 1 else sse.join(buffer)
            buffer.clear()
            self._buffered, self.moved = 0, now
            self.hub.parked.write(self, pushed)
        return self.outlet is not None

    def tell(self, said: Transient) -> None:
        """Take a transient frame in place of the one before it; where there is no room, it is not missed."""
        if not self.live:
            return
        if self.flush(self.hub.parked.now()):  # it does not pass what was pushed before
            self.hub.parked.write(self, said.frame)
            return
        self._told.pop((said.channel, said.key), None)
        if self._buffered + sum(map(len, self._told.values())) + len(said.frame) <= self._limit:
            self._told[said.channel, said.key] = said.frame
            self._wake()

    def fall_back(self, proven: int) -> None:
        """Stop taking live events; go on by replay above `proven`, up to which all were pushed."""
        if self.live:
            self.live = False
            self.position = max(self.position, proven)
            self._wake()

    def reset(self, reason: str) -> None:
        """Say that continuity is lost, and go on from now."""
        self._reset = reason
        self.live = False
        self._drop()
        self._wake()

    def end(self, reason: str, *, retry_seconds: float | None = None) -> None:
        """Close the stream: nothing pushed after this is read; when revoked, nothing buffered either."""
        if self._ended is None:
            self._ended = (reason, settings.STREAMS_RETRY_SECONDS if retry_seconds is None else retry_seconds)
            self.live = False
            if reason == "revoked":
                self._drop()
            self._wake()
            if self.on_end is not None:
                self.on_end(reason)

    def expire(self) -> bool:
        """End the stream where its time is over, and it had not ended; return whether that was so."""
        if self._ended is not None or time.monotonic() < self._deadline:
            return False
        self.end("revoked" if self._expired() else "max_age")
        return True

    def heed(self, changed: AccessChanged) -> None:
        """End the stream where a change of access may concern it; its client may ask again."""
        if (
            changed.user_id in (None, self.reader.user_id)
            and changed.session in (None, self.reader.session)
            and (changed.channel is None or changed.channel in self.channels)
        ):
            self.end("revoked", retry_seconds=REVOKED_RETRY_SECONDS)

    def _drop(self) -> None:
        self._told.clear()
        self.buffer.clear()
        self._buffered = 0

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        elif self.outlet is not None:
            self.stir()

    # --- parked: nothing but the hub has anything to do ----------------------------------------------

    def park(self, outlet: "Sink") -> bool:
        """Have what is pushed go straight out from now on, where nothing else is to be done; tell whether."""
        if not self.live or self.buffer or self._told or self._untold or self._ended or self._reset:
            return False
        if self.position > self.hub.position:  # what the hub will hand out by then is not for this one
            return False
        self.outlet = outlet
        self.hub.audience.sort_again(self)
        self.hub.parked.add(self)
        return True

    def unpark(self) -> None:
        """End that; twice is once."""
        if self.outlet is not None:
            self.outlet = None
            self.hub.audience.sort_again(self)

    def stir(self) -> None:
        """Have the response go on: there is something to do that may have to wait."""
        if self.outlet is not None:
            self.unpark()
            if self.on_stir is not None:
                self.on_stir()

    @property
    def next_look(self) -> float:
        """Return when a parked stream is to be looked after, by the monotonic clock."""
        return float(min(self.moved + self.heartbeat, self._deadline))

    def instead(self, channels: frozenset[Channel], *, since: Cursor) -> "Subscriber":
        """Return one that reads other channels on the same connection, for as long as this one would."""
        other = Subscriber(self.hub, channels, self.reader, since=since, address=self.address)
        other._deadline, other.on_end, other.silent = self._deadline, self.on_end, self.silent
        return other

    @property
    def is_reset(self) -> bool:
        """Tell whether the reader is to be told that continuity is lost."""
        return self._reset is not None

    @property
    def over(self) -> bool:
        """Tell whether nothing is left to be written but the end."""
        return self._ended is not None and not self.buffer

    @property
    def ended(self) -> bool:
        """Tell whether the stream was told to end."""
        return self._ended is not None

    @property
    def proven(self) -> Cursor | None:
        """Return where the reader stands with all chunks so far; None where something else comes first."""
        return None if self.buffer or self._reset is not None or self._ended else self._cursor()

    # --- the response's side ---------------------------------------------------------------------

    async def chunks(self, last_event_id: str | None) -> AsyncGenerator[bytes]:
        """Join the hub and yield what to write, from the opening frame to the ending one; then leave.

        A chunk is small, or one event. Ask for the next one when the last is written.
        """
        try:
            if opening := await self.enter(last_event_id):
                yield opening
            while not self.over:
                if chunk := await self.turn():
                    yield chunk
            yield self.ending()
        finally:
            self.leave()

    async def enter(self, last_event_id: str | None) -> bytes:
        """Join the hub; return what to write first, or nothing where the stream has ended already."""
        self.hub.join(self)
        if self._ended is not None:
            return b""
        opening = await self._open(last_event_id)
        self._replaying = not self.live  # said now: a reader who is slow to ask may fall back
        return opening

    def ending(self) -> bytes:
        """Return the last frame of a stream that is over."""
        reason, retry_seconds = self._ended or ("drain", settings.STREAMS_RETRY_SECONDS)
        return sse.ending(reason, retry_seconds)

    def leave(self) -> None:
        """Leave the hub; twice is once."""
        self.unpark()
        self.hub.parked.discard(self)
        self.hub.leave(self)

    async def turn(self) -> bytes:
        """Return what comes next, or nothing where there is something else to do first."""
        # First of all: on a busy channel something is always buffered.
        if self.expire():
            return b""
        if self._untold and self.live:
            return await self._tell_first()
        if self.buffer:
            return self._take()
        if self._reset is not None:
            return self._restart()
        if not self.live:
            chunk = await behind.catch_up(self)
            if self._replaying and self.live:
                self._replaying = False
                chunk += sse.control("live", {}, self._cursor())
            self._untold = self.live
            return chunk
        if self._told and self.hub.parked.now() - self.moved < self.heartbeat:
            return self._take()
        pushed = not self._told and await self.touched(self.heartbeat)
        # A push in the moment in which the wait ended: the cursor must not pass what lies here.
        if pushed or not self.live or self.buffer:
            return b""
        self.moved = self.hub.parked.now()
        return sse.heartbeat(self._cursor())

    def _take(self) -> bytes:
        """Return the next piece of what was handed over; the transient first: it is the older."""
        if self.buffer:
            self.moved = self.hub.parked.now()
        told = sse.join(self._told.values())
        self._told.clear()
        count, size = 0, 0
        for frame in self.buffer:
            if count and size + len(frame) > self._piece:
                break
            count += 1
            size += len(frame)
        pushed = sse.join(self.buffer[:count])
        del self.buffer[:count]
        self._buffered -= size
        return told + pushed

    async def _tell_first(self) -> bytes:
        """Return what is transient as it stands: what was told while this was not live nobody replays."""
        self._untold = False
        try:
            latest = await self.hub.latest(self.channels)
        except DATABASE_AWAY:
            return b""  # it may be out of date until the next one comes
        self.told_first = bool(latest)
        return sse.join(latest) if self._ended is None else b""

    async def _open(self, last_event_id: str | None) -> bytes:
        """Decide where to begin, and say so; or nothing, where the stream was ended meanwhile."""
        hub = self.hub
        missed: int | None = None
        if not last_event_id:
            mode = "live"
            self.position = hub.position
            self.live = self._untold = True
            missed = 0
        else:
            reason = await behind.place_at(self, last_event_id)
            if self._ended is not None:
                return b""
            if reason is not None:
                return self._restart(reason, opening=True)
            mode = "resumed"
            if self.position >= hub.ring.start:
                missed = len(hub.ring.after(self.channels, self.position))
        self._reset = None  # of an epoch that ended while the log was asked: decided above
        cursor = Cursor(hub.epoch, self.position)
        return sse.opening(mode, cursor, missed, settings.STREAMS_RETRY_SECONDS)

    def _restart(self, reason: str | None = None, *, opening: bool = False) -> bytes:
        """Go live from now, saying what was lost."""
        hub = self.hub
        reason = reason or self._reset or "epoch"
        self._reset = None
        self._replaying = False
        self.position = hub.position
        self.live = self._untold = self._ended is None  # it may have been ended while the log was asked
        cursor = Cursor(hub.epoch, self.position)
        oldest = str(Cursor(hub.epoch, max(hub.oldest - 1, 0)))
        frame = sse.control("reset", {"reason": reason, "oldest": oldest}, cursor)
        if opening:
            return sse.opening("reset", cursor, None, settings.STREAMS_RETRY_SECONDS) + frame
        return frame

    def _cursor(self) -> Cursor:
        """Return how far the reader provably is: live with nothing buffered, as far as the hub."""
        return Cursor(self.hub.epoch, max(self.position, self.hub.position) if self.live else self.position)

    def _expired(self) -> bool:
        return self.reader.expires_at is not None and time.time() >= self.reader.expires_at

    async def touched(self, seconds: float) -> bool:
        """Wait for the hub to touch this inbox; return whether it did within the time."""
        seconds = max(0.0, min(seconds, self._deadline - time.monotonic()))
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._waiter
        except TimeoutError:
            return False
        finally:
            self._waiter = None
        return True
