"""Streaming by a callback: a view hands a producer what it sends with, and that is all.

    def tokens(request):
        async def produce(send):
            async for token in model(request.GET["q"]):
                await send(token)

        return stream(request, produce)

A synchronous producer is called with a `send` that blocks, in a thread of its own; an asynchronous
one holds no thread. Either waits in `send` while its reader is slow, so nothing piles up, and ends
there when the reader has left. What is sent has no id and is nowhere kept: who comes back in the
middle begins anew; who comes back after the end is told that it is over.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import CancelledError
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from streams import sse
from streams.response import EventStream

logger = logging.getLogger(__name__)

OVER = "over"  # the id of the last frame: an EventSource that comes back with it is answered 204

Producer = Callable[[Any], Any]


class ReaderLeft(Exception):
    """Nobody reads any more: let it pass."""


def stream(request: HttpRequest, producer: Producer) -> HttpResponseBase:
    """Answer with what a producer sends, until it returns.

    It is called with `send(data)` or `send(event="name", data=…)`: text is sent as it is, all else as
    JSON. Awaited, where the producer is asynchronous. Raises ReaderLeft in the producer.
    """
    if request.headers.get("Last-Event-ID") == OVER:
        return HttpResponse(status=204)
    return EventStream(_frames(producer))


class _Line:
    """One frame at a time, from the producer to the response."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._frames: asyncio.Queue[bytes | str] = asyncio.Queue(1)
        self._left = False

    async def give(self, frame: bytes | str) -> None:
        """Hand a frame over as soon as the one before it was taken; a text is why there are no more."""
        if not self._left:
            await self._frames.put(frame)
        if self._left:
            raise ReaderLeft

    def give_from_thread(self, frame: bytes | str) -> None:
        """Do the same from a thread."""
        giving = self.give(frame)
        try:
            asyncio.run_coroutine_threadsafe(giving, self._loop).result()
        except (RuntimeError, CancelledError):  # the loop is gone: the process is ending
            giving.close()
            raise ReaderLeft from None

    async def take(self) -> bytes | str:
        """Return the next frame, or a sign of life where there is none for long."""
        try:
            async with asyncio.timeout(settings.STREAMS_HEARTBEAT_SECONDS):
                return await self._frames.get()
        except TimeoutError:
            return sse.KEEPALIVE

    def leave(self) -> None:
        """Have the producer end where it sends next, or stands in it."""
        self._left = True
        while not self._frames.empty():
            self._frames.get_nowait()


async def _frames(producer: Producer) -> AsyncGenerator[bytes]:
    """Yield what the producer sends; end it where the response is closed."""
    line = _Line()
    working: asyncio.Task[None] | None = None
    if iscoroutinefunction(producer):
        working = asyncio.create_task(_produce(producer, line))
    else:
        threading.Thread(target=_produce_in_thread, args=(producer, line), daemon=True).start()
    try:
        while not isinstance(frame := await line.take(), str):
            yield frame
        yield f"id: {OVER}\n".encode() + sse.ending(frame, settings.STREAMS_RETRY_SECONDS)
    finally:
        line.leave()
        if working is not None:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


async def _produce(producer: Producer, line: _Line) -> None:
    async def send(data: Any = None, *, event: str | None = None) -> None:
        await line.give(sse.message(data, event=event))

    reason = "over"
    try:
        await producer(send)
    except Exception:
        logger.exception("A producer failed.")
        reason = "error"
    await line.give(reason)


def _produce_in_thread(producer: Producer, line: _Line) -> None:
    def send(data: Any = None, *, event: str | None = None) -> None:
        line.give_from_thread(sse.message(data, event=event))

    reason = "over"
    try:
        producer(send)
    except ReaderLeft:
        pass
    except Exception:
        logger.exception("A producer failed.")
        reason = "error"
    finally:
        connections.close_all()
    with contextlib.suppress(ReaderLeft):
        line.give_from_thread(reason)
