"""A process's switchboard: one Redis subscription, one look at the log a second, every subscriber.

Its `position` is contiguous: everything at or below it was handed to whom it concerned. A batch
moves it only where it continues it; anything else, a lost message, a Redis that is away or
hangs, is made good by reading the log. So Redis may do what it likes: it costs up to 2 s.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any

import psycopg
from django.conf import settings
from django.db import InterfaceError, OperationalError
from psycopg_pool import AsyncConnectionPool
from redis.exceptions import RedisError

from events import channels as names
from events import log
from events.access import read_change
from events.channels import Channel
from events.cursor import Cursor
from events.patience import PatientAsyncConnection
from streams import hints, sse
from streams.batch import Batch, Published
from streams.ring import Ring
from streams.subscriber import DATABASE_AWAY, REVOKED_RETRY_SECONDS, Reader, Subscriber

logger = logging.getLogger(__name__)

READ_SECONDS = 10.0  # longest a read of the log may take before it counts as away
SETTLE_SECONDS = 0.15  # a batch is usually this close behind the placing that a look sees
FILL_EVENTS = 5_000  # of the log's end that are read into the ring at start
WORKER_SECONDS = 5.0  # a worker's clock ticks twice a second; ten misses mean that none runs

Permitted = Callable[[Reader, frozenset[Channel]], Awaitable[bool]]
Messages = Callable[[], AsyncGenerator[bytes | None]]


class Hub:
    """The switchboard of one event loop."""

    def __init__(self, *, permitted: Permitted, messages: Messages = hints.messages) -> None:
        self.epoch = ""
        self.position = 0
        self.head = 0  # the log's, as of the last look
        self.oldest = 1
        self.ring = Ring(max_events=settings.STREAMS_RING_EVENTS, max_bytes=settings.STREAMS_RING_BYTES)
        self.running = asyncio.Event()
        self.draining = False
        # A storm of reconnects waits here, not in a thread and for a connection each.
        self.admitting = asyncio.Semaphore(settings.DATABASE_POOL_SIZE)
        self.database_up = False
        self.redis_up = False
        self.worker_seen = False  # since this process began: a fleet without workers is not ready
        self.worker_up = False
        self.log_reads = 0
        self._subscribers: set[Subscriber] = set()
        self._by_channel: dict[str, set[Subscriber]] = {}
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._permitted = permitted
        self._messages = messages
        self._recheck_now = asyncio.Event()
        self._advancing = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._looks_begun = 0
        self._looks_answered = 0  # the number of the last one that was answered
        # Replays share all connections but one, which is the hub's: it must not wait behind a crowd.
        self._replays = asyncio.Semaphore(max(1, settings.STREAMS_POOL_SIZE - 1))
        self._stopped = False
        self._failed = False
        self._listening = False

    # --- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to follow the log, in the background; `running` is set once the log was read."""
        if self._tasks or self._stopped:
            return
        self._pool = AsyncConnectionPool(
            settings.DATABASE_URL,
            connection_class=PatientAsyncConnection,
            min_size=1,
            max_size=max(2, settings.STREAMS_POOL_SIZE),
            open=False,
            timeout=settings.DATABASE_CONNECT_SECONDS,
            reconnect_timeout=0,  # a database that is away is asked again at the next look
            check=AsyncConnectionPool.check_connection,
            kwargs={
                **settings.DATABASE_LINK,
                "autocommit": True,
                "application_name": "tickertape hub",
            },
            name="hub",
        )
        await self._pool.open(wait=False)
        for follow in (self._watch(), self._listen(), self._recheck()):
            self._tasks.append(asyncio.create_task(follow))

    async def stop(self) -> None:
        """End the background work and close the connections; subscribers are ended first."""
        self._stopped = True
        await self.drain(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    async def drain(self, seconds: float) -> None:
        """End every stream, spread over a time, each told when to come back; take no new ones."""
        self.draining = True
        leaving = list(self._subscribers)
        random.shuffle(leaving)
        began = time.monotonic()
        for number, subscriber in enumerate(leaving, start=1):
            subscriber.end("drain", retry_seconds=max(settings.STREAMS_RETRY_SECONDS, seconds))
            ahead = seconds * number / len(leaving) - (time.monotonic() - began)
            if ahead > 0.01:
                await asyncio.sleep(ahead)

    @property
    def cursor(self) -> Cursor:
        """Return where the hub stands."""
        return Cursor(self.epoch, self.position)

    @property
    def connections(self) -> int:
        """Return how many subscribers are joined."""
        return len(self._subscribers)

    # --- who listens ------------------------------------------------------------------------------

    def join(self, subscriber: Subscriber) -> None:
        """Hand events to a subscriber from now on.

        A change of access placed since the reader's permission was checked may have gone unseen by
        that check, and ends the stream at once.
        """
        self._subscribers.add(subscriber)
        for channel in subscriber.channels:
            self._by_channel.setdefault(channel, set()).add(subscriber)
        if self.draining:
            subscriber.end("drain")
        elif subscriber.since.epoch != self.epoch or subscriber.since.position < self.ring.start:
            subscriber.end("revoked", retry_seconds=REVOKED_RETRY_SECONDS)
        for event in self.ring.after([names.ACCESS], subscriber.since.position):
            self._revoke(event, [subscriber])

    def leave(self, subscriber: Subscriber) -> None:
        """Forget a subscriber; twice is once."""
        self._subscribers.discard(subscriber)
        for channel in subscriber.channels:
            there = self._by_channel.get(channel)
            if there is not None:
                there.discard(subscriber)
                if not there:
                    del self._by_channel[channel]

    # --- what happens -----------------------------------------------------------------------------

    def apply(self, batch: Batch) -> bool:
        """Take a batch that continues the hub's position; return whether nothing is missing."""
        if batch.epoch != self.epoch:
            return False
        if batch.last <= self.position:
            return True
        if batch.prev > self.position:
            return False
        events = [event for event in batch.events if event.position > self.position]
        for event in events:
            for channel in event.channels:
                if channel == names.ACCESS:
                    self._revoke(event, list(self._subscribers))
                for subscriber in self._by_channel.get(channel, ()):
                    subscriber.push(event.position, event.frame)
        self.ring.extend(events, batch.last)
        for event in events:
            if names.LOG in event.channels:
                self._forget(event)
        self.position = batch.last
        self.head = max(self.head, batch.last)
        return True

    def _forget(self, event: Published) -> None:
        """Forget what the log says it forgot: events that were pruned, or whose data was erased."""
        said = sse.data_of(event.frame)
        match said:
            case {"oldest": int(oldest)}:
                self._forget_below(oldest)
            case {"upto": int(upto)}:
                # The log has them still, with other data: replay reads them there.
                self.ring.forget_below(upto + 1)
            case _:
                # Of a newer version. Whatever it asks to be forgotten is not in an empty ring.
                self.ring.clear(self.ring.end)

    def _revoke(self, event: Published, subscribers: Iterable[Subscriber]) -> None:
        """End the streams whose permission an event may have changed; they may try again."""
        changed = read_change(event.frame.partition(b"\ndata: ")[2])
        for subscriber in subscribers:
            subscriber.heed(changed)

    def _forget_below(self, oldest: int) -> None:
        self.oldest = max(self.oldest, oldest)
        self.ring.forget_below(self.oldest)

    # --- the log ----------------------------------------------------------------------------------

    async def read(self, channels: Iterable[Channel], after: int) -> log.Page:
        """Return a page of some channels' events above a position."""
        async with self._replays:
            self.log_reads += 1
            return await self._page(
                log.CHANNELS_SQL,
                after=after,
                channels=list(channels),
                limit=settings.STREAMS_PAGE_EVENTS,
                bytes=settings.STREAMS_PAGE_BYTES,
            )

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
        [(epoch, head, oldest, tick_age)] = await self.fetch(
            "SELECT epoch, head, oldest, tick_age FROM tickertape_look(%s, %s)", (self.epoch, self.position)
        )
        self.database_up = True
        self.worker_up = tick_age is not None and tick_age < WORKER_SECONDS
        self.worker_seen = self.worker_seen or self.worker_up
        if epoch != self.epoch:
            await self._begin(epoch, head, oldest)
        self.head = max(head, self.position)
        self._forget_below(oldest)

    async def _begin(self, epoch: str, head: int, oldest: int) -> None:
        """Stand at the head of an epoch, with the ring filled from the log."""
        first = not self.epoch
        fill = max(head - min(FILL_EVENTS, settings.STREAMS_RING_EVENTS), oldest - 1, 0)
        self.epoch, self.position, self.head, self.oldest = epoch, fill, head, oldest
        self.ring.clear(fill)
        if not first:
            logger.warning("A new epoch of the log began; open streams are reset.", extra={"epoch": epoch})
            # Nobody is live during the filling: who is reset goes live where the hub stands then.
            self.position = head
            self.ring.clear(head)
            for subscriber in list(self._subscribers):
                subscriber.reset("epoch")
            self.recheck()  # a change of access may lie between the two histories
            return
        await self._advance(head)

    async def _advance(self, target: int) -> None:
        """Read the log up to a position of this epoch by pages; jump where the ring could not hold it."""
        epoch = self.epoch
        async with self._advancing:
            if self.epoch == epoch and target - self.position > settings.STREAMS_RING_EVENTS:
                self._jump(target)
            while self.epoch == epoch and self.position < target:
                page = await self._page(
                    log.ALL_SQL,
                    after=self.position,
                    limit=settings.STREAMS_PAGE_EVENTS * 4,
                    bytes=settings.STREAMS_RING_BYTES // 8,
                )
                if page.epoch != epoch or page.covered_to <= page.after:
                    return  # another history: the next look begins it
                if page.oldest > self.position + 1:  # which a batch may have moved meanwhile
                    self._jump(page.oldest - 1)
                    continue
                self.apply(Batch.of(page))

    def _jump(self, position: int) -> None:
        """Leave a gap to the subscribers: each reads its own part of it."""
        for subscriber in self._subscribers:
            subscriber.fall_back(self.position)
        self.position = position
        self.ring.clear(position)

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

    def recheck(self) -> None:
        """Have every open stream's permission checked now: a change of it may have gone unheard."""
        self._recheck_now.set()

    def _readers(self) -> dict[tuple[Reader, frozenset[Channel]], list[Subscriber]]:
        """Return the open streams by who reads what."""
        found: dict[tuple[Reader, frozenset[Channel]], list[Subscriber]] = {}
        for subscriber in self._subscribers:
            found.setdefault((subscriber.reader, subscriber.channels), []).append(subscriber)
        return found

    async def _recheck(self) -> None:
        """Ask for every open stream whether it is still permitted: not every change is a verb's."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.STREAMS_RECHECK_SECONDS):
                    await self._recheck_now.wait()
            self._recheck_now.clear()
            for (reader, channels), subscribers in self._readers().items():
                try:
                    permitted = await self._permitted(reader, channels)
                except (OperationalError, InterfaceError) as error:
                    logger.warning("A recheck waits for the log.", extra={"error": type(error).__name__})
                    break  # nothing can be placed either, and the next one is soon
                except Exception:
                    logger.exception("A rule failed; who it cannot vouch for is asked to come back.")
                    permitted = False
                if not permitted:
                    for subscriber in subscribers:
                        subscriber.end("revoked")

    # --- Redis --------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Take batches as they come; connect anew, for ever, where Redis goes away."""
        wait = 0.1
        while True:
            try:
                async with contextlib.aclosing(self._messages()) as messages:
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

    async def _hear(self, message: bytes | None) -> None:
        """Read the log after a subscription was acknowledged, and after a batch that left a gap."""
        if message is None:
            self._listening = self.redis_up = True
        else:
            try:
                whole = self.apply(Batch.unpack(message))
            except ValueError:
                logger.warning("A message that is no batch was ignored.")
                return
            if whole:
                return
        try:
            await self.look()
            await self._advance(self.head)
        except DATABASE_AWAY:
            logger.info("A gap waits for the log.")
