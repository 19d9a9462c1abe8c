"""A process whose time, Redis and database's speed the test decides; all else of it is real.

Nothing here sleeps: the loop's clock stands until it is moved, messages arrive when they are
delivered, and an answer of PostgreSQL can be held back while the world goes on.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

import psycopg
from django.conf import settings
from psycopg_pool import AsyncConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError

from streams.batch import Batch
from streams.behind import DATABASE_AWAY
from streams.hints import Nobody, Take
from streams.hub import Hub, Permitted

MOST_QUESTIONS = 300  # to the database before everything rests: more is a hot loop


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock only the test moves."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    def next_timer(self) -> float:
        """Return when something is to happen by the clock."""
        waiting = [timer.when() for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        return min(waiting, default=float("inf"))

    def resting(self) -> bool:
        """Return whether nothing is about to run."""
        return not self._ready  # type: ignore[attr-defined]


class _Complaints(logging.Handler):
    """What processes log as an error: they catch what was not foreseen, and go on."""

    def __init__(self, complaints: list[str]) -> None:
        super().__init__(logging.ERROR)
        self.complaints = complaints

    def emit(self, record: logging.LogRecord) -> None:
        self.complaints.append(self.format(record))


class Bench:
    """The loop, the database pool and the complaints that all stories of a run share."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner(loop_factory=Loop)
        self.loop: Loop = self.runner.get_loop()  # type: ignore[assignment]
        self.loop.set_exception_handler(lambda loop, context: self.complaints.append(str(context)))
        self.complaints: list[str] = []
        self.asking: set[asyncio.Future[None]] = set()  # questions that PostgreSQL has not answered
        self.asked = 0  # questions of all time
        self.happened: Counter[str] = Counter()  # in all stories: what never does is not tested
        self.run(self._open())
        self._handler = _Complaints(self.complaints)
        logging.getLogger("streams").addHandler(self._handler)

    async def _open(self) -> None:
        self.pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] = AsyncConnectionPool(
            settings.DATABASE_URL, min_size=2, max_size=4, open=False, kwargs={"autocommit": True}
        )
        await self.pool.open(wait=True)

    def close(self) -> None:
        logging.getLogger("streams").removeHandler(self._handler)
        self.run(self.pool.close())
        self.runner.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def settle(self) -> None:
        """Let everything run until it waits for the clock, for a message or for a held answer."""
        self.run(self._settle())
        assert not self.complaints, self.complaints

    def pass_time(self, seconds: float) -> None:
        """Move the clock, from one timer to the next, and settle at each."""
        end = self.loop.now + seconds
        self.settle()
        while (timer := self.loop.next_timer()) <= end:
            self.loop.now = max(self.loop.now, timer)
            self.settle()
        self.loop.now = end

    async def _settle(self) -> None:
        most = self.asked + MOST_QUESTIONS
        while True:
            await asyncio.sleep(0)
            assert self.asked < most, "the log is asked without end"
            if self.loop.resting():
                if not self.asking:
                    return
                await asyncio.wait(self.asking, return_when=asyncio.FIRST_COMPLETED)


class Process(Hub):
    """A hub whose Redis and whose database's speed the test decides."""

    def __init__(self, bench: Bench, *, permitted: Permitted) -> None:
        super().__init__(permitted=permitted, messages=self._messages_of_ours)
        self.bench = bench
        self.parked.now = bench.loop.time
        self._pool = bench.pool
        self.wire: list[bytes] = []  # published, and not arrived yet
        self.subscribed = False
        self.hold = ""  # the stage at which questions to the log are held: "asked" or "answered"
        self.held: list[asyncio.Future[None]] = []
        self.away = False  # the log, for this process
        self.was_away = False
        self.stood: dict[str, int] = {}  # where, in each epoch, when it was last looked at
        self._aside: set[asyncio.Task[None]] = set()
        self._arrived: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def start(self) -> None:
        recheck = self.audience.keep_permitted(self.presence.hide)
        for follow in (self._watch(), self._listen(), recheck, self.parked.look_after()):
            self._tasks.append(asyncio.create_task(follow))

    def cease(self) -> None:
        """Ask the log nothing more: the end is near."""
        self.away, self.hold = True, ""

    async def stop(self) -> None:
        self.cease()
        self._pool = None  # it is everyone's
        for task in list(self._aside):
            task.cancel()
        await super().stop()

    def apply(self, batch: Batch) -> bool:
        before = self.position
        whole = super().apply(batch)
        if self.position > before:
            self.bench.happened["a batch was taken"] += 1
        if 0 < batch.prev < before < batch.last:
            self.bench.happened["a batch overlapped"] += 1
        if batch.prev > before and not whole:
            self.bench.happened["a batch left a gap"] += 1
        return whole

    def _jump(self, position: int) -> None:
        self.bench.happened["a hub jumped"] += 1
        super()._jump(position)

    def deliver(self, message: bytes) -> None:
        """Let Redis' message arrive."""
        self._arrived.put_nowait(message)

    def cut(self) -> None:
        """Lose the connection to Redis, and what is on its way."""
        self.wire.clear()
        self._arrived.put_nowait(None)

    def look_aside(self) -> None:
        """Look at the log in a task of its own, as a health check does."""

        async def look() -> None:
            with contextlib.suppress(*DATABASE_AWAY):
                await self.look()

        task = self.bench.loop.create_task(look())
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    async def _messages_of_ours(self, take: Take, nobody: Nobody) -> AsyncGenerator[bytes | None]:
        self._arrived = asyncio.Queue()
        self.subscribed = True
        try:
            yield None
            while (message := await self._arrived.get()) is not None:
                if not take(message):
                    yield message
            raise RedisConnectionError("cut")
        finally:
            self.subscribed = False

    async def fetch(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        await self._pass("asked")
        if self.away:
            raise psycopg.OperationalError("away")
        self.bench.asked += 1
        answer = self.bench.loop.create_future()
        self.bench.asking.add(answer)
        try:
            rows = await super().fetch(sql, parameters)
        finally:
            self.bench.asking.discard(answer)
            answer.set_result(None)
        await self._pass("answered")
        return rows

    async def _pass(self, stage: str) -> None:
        if self.hold == stage:
            gate = self.bench.loop.create_future()
            self.held.append(gate)
            try:
                await gate
            finally:
                self.held.remove(gate)
