"""A process's switchboard: one Redis subscription, one look at the log a second, every subscriber.

Its `position` is contiguous: everything at or below it was handed to whom it concerned. A batch
moves it only where it continues it; anything else, a lost message, a Redis that is away or
hangs, is made good by reading the log. So Redis may do what it likes: it costs up to 2 s.
"""

import asyncio
import contextlib
import json
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Any

import psycopg
from django.conf import settings
from psycopg_pool import AsyncConnectionPool
from redis.exceptions import RedisError

from events import channels as names
from events import log
from events.access import read_change
from events.channels import Channel
from events.cursor import Cursor
from events.patience import PatientAsyncConnection, check
from events.registry import encode
from streams import hints, sse
from streams.audience import Audience, Permitted
from streams.batch import TRANSIENT, Batch, Published, Transient
from streams.behind import DATABASE_AWAY
from streams.deliveries import Deliveries
from streams.direct import Desk
from streams.handing import hand_out
from streams.parked import Parked
from streams.replay import Replay, Stretch
from streams.reporter import Reporter
from streams.ring import Ring
from streams.subscriber import REVOKED_RETRY_SECONDS, Subscriber

logger = logging.getLogger(__name__)

READ_SECONDS = 10.0  # longest a read of the log may take before it counts as away
SETTLE_SECONDS = 0.15  # a batch is usually this close behind the placing that a look sees
FILL_EVENTS = 5_000  # of the log's end that are read into the ring at start
AGAIN_SECONDS = 0.5  # between two calls to end
CAPACITY_RETRIES = 5  # times the usual wait of a client that found no room
WORKER_SECONDS = 5.0  # a worker's clock ticks twice a second; ten misses mean that none runs
LOOK_SQL = "SELECT epoch, head, oldest, tick_age, mark FROM tickertape_look(%s, %s, %s)"

Messages = Callable[[hints.Take, hints.Nobody], AsyncGenerator[bytes | None]]


class Hub:
    """The switchboard of one event loop."""

    def __init__(self, *, permitted: Permitted, messages: Messages = hints.messages) -> None:
        self.epoch = ""
        self.position = 0
        self.head = 0  # the log's, as of the last look
        self.oldest = 1
        self.ring = Ring(max_events=settings.STREAMS_RING_EVENTS, max_bytes=settings.STREAMS_RING_BYTES)
        self.audience = Audience(permitted=permitted)
        self.parked = Parked()
        self.deliveries = Deliveries()
        self.presence = Reporter(tell=self._tell, of_user=self.audience.of_user)
        # All connections but one, which is the hub's: it must not wait behind a crowd.
        self.replay = Replay(self._channels_page, at_once=max(1, settings.STREAMS_POOL_SIZE - 1))
        self.desk = Desk(self)
        self.running = asyncio.Event()
        self.draining = False
        self.started_at = 0.0  # by the monotonic clock
        self.database_up = False
        self.redis_up = False
        self.worker_seen = False  # since this process began: a fleet without workers is not ready
        self.worker_up = False
        self._mark = ""  # of the log as it was seen last: by it a restore is noticed
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._messages = messages
        self._advancing = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._looks_begun = 0
        self._looks_answered = 0  # the number of the last one that was answered
        self._stopped = self._failed = self._listening = False

    # --- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to follow the log, in the background; `running` is set once the log was read."""
        if self._tasks or self._stopped:
            return
        self.started_at = time.monotonic()
        self._pool = AsyncConnectionPool(
            settings.DATABASE_URL,
            connection_class=PatientAsyncConnection,
            min_size=1,
            max_size=max(2, settings.STREAMS_POOL_SIZE),
            open=False,
            timeout=settings.DATABASE_CONNECT_SECONDS,
            reconnect_timeout=0,  # a database that is away is asked again at the next look
            check=check,
            kwargs={
                **settings.DATABASE_LINK,
                "autocommit": True,
                "application_name": "tickertape hub",
            },
            name="hub",
        )
        await self._pool.open(wait=False)
        follow = [self._watch(), self._listen(), self.parked.look_after(), self.deliveries.report()]
        follow.append(self.audience.keep_permitted(self.presence.hide))
        if settings.STREAMS_PRESENCE:
            follow.append(self.presence.report())
        self._tasks += map(asyncio.create_task, follow)

    async def stop(self) -> None:
        """End the background work and close the connections; subscribers are ended first."""
        self._stopped = True
        await self.drain(0)
        # Again and again: redis-py may lose a cancellation that comes while it closes a connection.
        while running := [task for task in self._tasks if not task.done()]:
            _ = [task.cancel() for task in running]
            await asyncio.wait(running, timeout=AGAIN_SECONDS)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    async def drain(self, seconds: float) -> None:
        """End every stream, spread over a time, each told when to come back; take no new ones."""
        self.draining = True
        await self.audience.drain(seconds)

    @property
    def cursor(self) -> Cursor:
        """Return where the hub stands."""
        return Cursor(self.epoch, self.position)

    @property
    def connections(self) -> int:
        """Return how many subscribers are joined."""
        return len(self.audience)

    # --- who listens ------------------------------------------------------------------------------

    def join(self, subscriber: Subscriber) -> None:
        """Hand events to a subscriber from now on; end it where there is no room.

        A change of access that the check of its permission may not have seen ends it at once.
        """
        if not self.audience.add(subscriber):
            # Whoever is here stays for long: not as soon as after other ends.
            subscriber.end("capacity", retry_seconds=CAPACITY_RETRIES * settings.STREAMS_RETRY_SECONDS)
            return
        self.presence.come(subscriber)
        if self.draining:
            subscriber.end("drain")
        elif subscriber.since.epoch != self.epoch or subscriber.since.position < self.ring.start:
            subscriber.end("revoked", retry_seconds=REVOKED_RETRY_SECONDS)
        for event in self.ring.after([names.ACCESS], subscriber.since.position):
            subscriber.heed(read_change(event.data))
        self.presence.heed(self.ring.after([f"user:{subscriber.reader.user_id}"], subscriber.since.position))

    def leave(self, subscriber: Subscriber) -> None:
        """Forget a subscriber; twice is once."""
        self.audience.discard(subscriber)
        self.presence.go(subscriber)

    # --- what happens -----------------------------------------------------------------------------

    def apply(self, batch: Batch) -> bool:
        """Take a batch that continues the hub's position; return whether nothing is missing."""
        if batch.epoch != self.epoch:
            return False
        if batch.last <= self.position:
            return True
        if batch.prev > self.position:
            return False
        events: Sequence[Published] = batch.events
        if batch.prev < self.position:
            events = [event for event in events if event.position > self.position]
        forgotten = [json.loads(event.data) for event in events if names.LOG in event.channels]
        hand_out(self, events)
        self.ring.extend(events, batch.last)
        for said in forgotten:
            self._forget(said)
        self.position = batch.last
        self.head = max(self.head, batch.last)
        self.parked.send()
        return True

    def _forget(self, said: Any) -> None:
        """Forget what the log says it forgot: events that were pruned, or whose data was erased."""
        self.replay.forget()
        match said:
            case {"oldest": int(oldest)}:
                self._forget_below(oldest)
            case {"upto": int(upto)}:
                # The log has them still, with other data: replay reads them there.
                self.ring.forget_below(upto + 1)
            case _:
                # Of a newer version. Whatever it asks to be forgotten is not in an empty ring.
                self.ring.clear(self.ring.end)

    def _forget_below(self, oldest: int) -> None:
        self.oldest = max(self.oldest, oldest)
        self.ring.forget_below(self.oldest)

    # --- the log ----------------------------------------------------------------------------------

    async def read(self, channels: frozenset[Channel], after: int) -> Stretch:
        """Return a stretch of some channels' events, from a position on."""
        return await self.replay.read(channels, after)

    async def _channels_page(self, channels: frozenset[Channel], after: int) -> log.Page:
        most = {"limit": settings.STREAMS_PAGE_EVENTS, "bytes": settings.STREAMS_PAGE_BYTES}
        return await self._page(log.CHANNELS_SQL, after=after, channels=sorted(channels), **most)

    async def latest(self, channels: Iterable[Channel]) -> list[bytes]:
        """Return the frames of what is told first of channels that have such: no replay brings it."""
        channels = list(channels)
        frames = self.presence.latest(channels)
        for sql, keys in names.latest_of(channels):
            async with self.replay.turns:
                rows = await self.fetch(sql, {"keys": keys})
            frames += [sse.transient(name, encode(payload)) for name, payload in rows]
        return frames

    async def _page(self, sql: str, **parameters: Any) -> log.Page:
        rows = await self.fetch(sql, parameters)
        return log.page_of(rows, after=parameters["after"], limit=parameters["limit"])

    async def fetch(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Return a statement's rows. For the hub's own few questions: they all wait for one pool."""
        if self._pool is None:
            raise psycopg.OperationalError("the hub is stopped")
        async with asyncio.timeout(READ_SECONDS), self._pool.connection() as connection:
            return await (await connection.execute(sql, parameters)).fetchall()

    async def look(self) -> None:
        """Ask the log where it stands; begin anew where its history is no longer the one seen.

        Who asks while others do shares the answer of a question put after they asked.
        """
        begun = self._looks_begun
        async with self._looking:
            if self._looks_answered <= begun:
                self._looks_begun += 1
                number = self._looks_begun
                await self._look()
                self._looks_answered = number

    async def _look(self) -> None:
        [(epoch, head, oldest, tick_age, self._mark)] = await self.fetch(
            LOOK_SQL, (self.epoch, self.position, [self._mark])
        )
        self.database_up = True
        self.worker_up = tick_age is not None and tick_age < WORKER_SECONDS
        self.worker_seen = self.worker_seen or self.worker_up
        if epoch != self.epoch:
            await self._begin(epoch, head, oldest)
        self.head = max(head, self.position)
        self._forget_below(oldest)

    async def _begin(self, epoch: str, head: int, oldest: int) -> None:
        """Stand at the head of an epoch, the first time with the ring filled from the log."""
        first = not self.epoch
        # Not where streams are open: who is reset goes live where the hub stands then.
        fill = max(head - min(FILL_EVENTS, settings.STREAMS_RING_EVENTS), oldest - 1, 0) if first else head
        self.epoch, self.position, self.head, self.oldest = epoch, fill, head, oldest
        self.ring.clear(fill)
        self.replay.forget()
        if first:
            await self._advance(head)
            return
        logger.warning("A new epoch of the log began; open streams are reset.", extra={"epoch": epoch})
        for subscriber in self.audience:
            subscriber.reset("epoch")
        self.audience.recheck()  # a change of access may lie between the two histories

    async def _advance(self, target: int) -> None:
        """Read the log up to a position of this epoch by pages; jump where the ring could not hold it."""
        epoch = self.epoch
        async with self._advancing:
            if self.epoch == epoch and target - self.position > settings.STREAMS_RING_EVENTS:
                self._jump(target)
            while self.epoch == epoch and self.position < target:
                # Small ones: what a page is made of is free again once it is taken, and the process's still.
                page = await self._page(
                    log.ALL_SQL,
                    after=self.position,
                    limit=settings.STREAMS_PAGE_EVENTS,
                    bytes=settings.STREAMS_RING_BYTES // 8,
                )
                if not self.epoch == epoch == page.epoch or page.covered_to <= page.after:
                    return  # another history, which a look has begun or will
                if page.oldest > self.position + 1:  # which a batch may have moved meanwhile
                    self._jump(page.oldest - 1)
                    continue
                self.apply(Batch.of(page))

    def _jump(self, position: int) -> None:
        """Leave a gap to the subscribers: each reads its own part of it."""
        for subscriber in self.audience:
            subscriber.fall_back(self.position)
        self.position = position
        self.ring.clear(position)
        self.replay.forget()  # what was erased in the gap nobody says here any more
        self.audience.recheck()  # nor who may no longer read, or hides

    async def _watch(self) -> None:
        """Look at the log every second, and read it where no batch brought what it holds."""
        while True:
            try:
                await self.look()
                if not self.running.is_set() and self.position >= self.head:
                    self.running.set()
                if self.position < self.head:
                    epoch, seen = self.epoch, self.head
                    if self._listening and self.running.is_set():
                        await asyncio.sleep(SETTLE_SECONDS)
                    if self.epoch == epoch and self.position < seen:
                        await self._advance(seen)
                    self.running.set()
            except DATABASE_AWAY as error:
                if self.database_up:
                    logger.warning("The log is away; streams wait.", extra={"error": type(error).__name__})
                self.database_up = False
            except Exception:
                if self.database_up or not self._failed:  # once, not every second
                    logger.exception("The look at the log failed; it goes on trying.")
                self._failed = True
                self.database_up = False
            await asyncio.sleep(settings.STREAMS_LOOK_SECONDS)

    # --- Redis --------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Take batches as they come; connect anew, for ever, where Redis goes away."""
        wait = 0.1
        while True:
            try:
                heard = self._messages(self._take, self.audience.deserted)
                async with contextlib.aclosing(heard) as messages:
                    async for message in messages:
                        wait = 0.1
                        await self._hear(message)
            except (RedisError, OSError, TimeoutError) as error:
                if self.redis_up:
                    logger.warning(
                        "Redis is away; streams follow the log.", extra={"error": type(error).__name__}
                    )
            except Exception:
                logger.exception("Listening to Redis failed.")
            self._listening = self.redis_up = False
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311
            wait = min(wait * 2, 1.0)

    def _take(self, message: bytes) -> bool:
        """Take what a message brings; return whether nothing is missing."""
        try:
            said = (Transient if message.startswith(TRANSIENT) else Batch).unpack(message)
        except ValueError:
            logger.warning("A message that is none of ours was ignored.")
            return True
        if isinstance(said, Batch):
            return self.apply(said)
        if self.presence.is_news(said):
            self._tell(said)
        return True

    def _tell(self, said: Transient) -> None:
        for subscriber in self.audience.of(said.channel):
            subscriber.tell(said)

    async def _hear(self, message: bytes | None) -> None:
        """Read the log after a subscription was acknowledged, and after a batch that left a gap."""
        if message is None:
            self._listening = self.redis_up = True
            self.presence.doubt()
        elif self._take(message):
            return
        try:
            await self.look()
            await self._advance(self.head)
        except DATABASE_AWAY:
            logger.info("A gap waits for the log.")
