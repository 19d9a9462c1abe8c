"""Redis as a hub hears it: messages while it answers, an error as soon as it does not.

What comes is handed over where it arrives, in the connection's own callback: to wake a task for each
message, and to bound each wait by a timer, cost several times what the message does. While nobody listens
here, what comes one soon after the other is left with Redis for a moment, for more to come with it: a process
that serves requests only is woken some fifty times a second, and not once an event, amid a request's work.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

import hiredis
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError, ResponseError

from streams.batch import redis_channel

PING_SECONDS = 2.0  # a Redis that does not answer two of them is half-open: connect anew

TOGETHER_SECONDS = 0.02  # that what nobody waits for is left with Redis
MUCH_BYTES = 65_536  # of one piece: there is more of it, and nothing is gained by leaving it

Take = Callable[[bytes], bool]  # takes a message at once, or says that it must be waited for
Nobody = Callable[[], bool]  # says whether nobody waits for what comes


async def messages(take: Take, nobody: Nobody) -> AsyncGenerator[bytes | None]:
    """Yield None once subscribed, then each message that was not taken; raise where Redis stops answering.

    While one is not yet done with, those behind it wait.
    """
    client = redis.asyncio.Redis.from_url(
        settings.REDIS_URL,
        protocol=2,  # in which messages are as everywhere, and not apart from answers
        socket_connect_timeout=1.0,
        socket_timeout=2 * PING_SECONDS,
        retry=Retry(NoBackoff(), 0),  # the hub does that, and reads the log meanwhile
    )
    try:
        # redis-py finds it, opens it, encrypts it, logs in; from then on it is ours.
        connection: Any = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        listener = Listener(take, nobody, connection._writer.transport)
        try:
            listener.say("SUBSCRIBE", redis_channel())
            while True:
                yield await listener.next()
        finally:
            listener.close()
    finally:
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            await client.aclose()


class Listener(asyncio.Protocol):
    """One connection that is subscribed: takes over its transport, and hands over what it brings."""

    def __init__(self, take: Take, nobody: Nobody, transport: asyncio.Transport) -> None:
        if transport.is_closing():
            raise RedisConnectionError("Redis closed the connection")
        self._take = take
        self._nobody = nobody
        self._transport = transport
        self._before = transport.get_protocol()
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=ResponseError)
        self._left: deque[bytes | None] = deque()  # for who waits: what was not taken, and what came since
        self._why: BaseException | None = None  # it is over
        self._news = asyncio.Event()
        self._later: asyncio.TimerHandle | None = None  # reads on
        self._answered = self._asked = time.monotonic()
        transport.set_protocol(self)

    def say(self, *words: str) -> None:
        """Send a command, whose answer comes among the messages."""
        self._asked = time.monotonic()
        self._transport.write(hiredis.pack_command(words))  # type: ignore[arg-type]

    async def next(self) -> bytes | None:
        """Return what was not taken; None: it is subscribed. Raises why there will be nothing more.

        Who asks for the next is done with the last.
        """
        self._answered = time.monotonic()  # while nobody read, nobody was silent
        while not self._left:
            if self._why is not None:
                raise self._why
            self._resume()
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_SECONDS):
                    await self._news.wait()
            if self._news.is_set():
                continue
            now = time.monotonic()
            if now - self._answered > 2.5 * PING_SECONDS:
                raise TimeoutError("Redis does not answer")
            if now - self._asked >= PING_SECONDS:
                self.say("PING")
        return self._left.popleft()

    def close(self) -> None:
        """End the connection."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hand over what is whole; whatever goes wrong, who waits is told."""
        now = time.monotonic()
        soon, self._answered = now - self._answered < TOGETHER_SECONDS, now
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not False:
                self._hear(answer)
        except Exception as error:
            self._end(error)
            self._transport.abort()
        else:
            if soon and len(data) < MUCH_BYTES and not self._left and self._nobody():
                self._stop_reading()
                self._later = asyncio.get_running_loop().call_later(TOGETHER_SECONDS, self._read_on)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits; and who had the connection before, whose close waits for that."""
        self._end(exc or RedisConnectionError("Redis closed the connection"))
        self._before.connection_lost(exc)

    def _hear(self, answer: object) -> None:
        match answer:
            case [b"message", _, bytes(message)]:
                if self._left or not self._take(message):
                    self._leave(message)
            case [b"subscribe", *_]:
                self._leave(None)
            case Exception():
                raise answer

    def _leave(self, what: bytes | None) -> None:
        self._left.append(what)
        self._stop_reading()
        self._news.set()

    def _stop_reading(self) -> None:
        self._transport.pause_reading()
        if self._later is not None:
            self._later.cancel()

    def _read_on(self) -> None:
        self._answered = time.monotonic()
        self._resume()

    def _resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _end(self, why: BaseException) -> None:
        self._why = self._why or why
        self._news.set()
