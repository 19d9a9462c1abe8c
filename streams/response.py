"""The response that streams, and the connection that it streams to.

Django keeps a thread and, through it, a database connection for as long as a request runs. So
an `EventStream` is not sent by the request: the handler (`streams.handler`) finishes that first, then
lets the response stream by itself.
"""

import asyncio
import contextlib
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Protocol

from django.conf import settings
from django.http import HttpResponse, StreamingHttpResponse

from streams import sse
from streams.subscriber import Subscriber

logger = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

# For how long a reader that is behind may go on reading what was written before the end: what it
# may no longer have, or whom a stopping process waits for, is cut off.
LAST_SECONDS = {"revoked": 0.4, "drain": 2.0}


class Link(Protocol):
    """What our server entry tells of a connection, as `scope["extensions"]["tickertape"]`."""

    def outstanding(self) -> int:
        """Return the bytes written that the peer has not acknowledged."""

    def silent(self) -> bool:
        """Tell whether the peer seems to be lost: it acknowledges nothing of what it is sent."""

    def abort(self) -> None:
        """Cut the connection; what was not sent is lost."""


class Outliving(ABC, StreamingHttpResponse):
    """A response that is written when its request has finished."""

    subscriber: Subscriber | None = None

    async def stream(self, connection: "Connection") -> None:
        """Write the chunks until they end, the client leaves or it is cut off."""
        connection.cut = asyncio.current_task().cancel  # type: ignore[union-attr]
        if self.subscriber is not None:
            self.subscriber.on_end = connection.expect_end
            self.subscriber.silent = connection.silent
        leaving = asyncio.create_task(connection.hear())
        try:
            await self.deliver(connection)
        except asyncio.CancelledError:
            if not connection.over:
                raise  # the server's doing, not the client's
        except OSError:
            pass  # the client left while we wrote
        except Exception:
            logger.exception("A stream failed.")
            connection.settle()
            connection.abort()  # Daphne would keep it open for ever, and its client waiting
        finally:
            connection.settle()
            leaving.cancel()

    @abstractmethod
    async def deliver(self, connection: "Connection") -> None:
        """Write it."""

    async def start(self, connection: "Connection") -> None:
        """Write status and headers."""
        headers = [(name.lower().encode(), value.encode()) for name, value in self.items()]
        headers += [(b"set-cookie", cookie.OutputString().encode()) for cookie in self.cookies.values()]
        await connection({"type": "http.response.start", "status": self.status_code, "headers": headers})


class EventStream(Outliving):
    """A `text/event-stream` of the chunks that an asynchronous generator makes.

    The generator runs, and is closed, outside the request; one that never began needs no closing.
    """

    def __init__(self, chunks: AsyncGenerator[bytes], *, subscriber: Subscriber | None = None) -> None:
        super().__init__(
            chunks,
            content_type=sse.CONTENT_TYPE,
            # X-Accel-Buffering: nginx holds a proxied response back without it.
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._chunks = chunks
        self.subscriber = subscriber

    @classmethod
    def ended(cls, reason: str) -> "EventStream":
        """Say why there is no stream now, and end: any status but 200 makes EventSource give up."""

        async def chunks() -> AsyncGenerator[bytes]:
            yield sse.ending(reason, settings.STREAMS_RETRY_SECONDS)

        return cls(chunks())

    def through(self, change: Callable[[AsyncGenerator[bytes]], AsyncGenerator[bytes]]) -> None:
        """Have the chunks go through another generator, which closes theirs."""
        self._chunks = change(self._chunks)

    async def deliver(self, connection: "Connection") -> None:
        """Write the chunks as they come."""
        async with contextlib.aclosing(self._chunks) as chunks:
            await self.start(connection)
            async for chunk in chunks:
                for begin in range(0, len(chunk), settings.STREAMS_WRITE_BYTES):
                    await connection.write(chunk[begin : begin + settings.STREAMS_WRITE_BYTES])
            await connection({"type": "http.response.body", "body": b"", "more_body": False})


class Later(Outliving):
    """A response that is yet to be made, status and all, by waiting as a stream does."""

    def __init__(self, make: Callable[[], Awaitable[HttpResponse]], *, subscriber: Subscriber) -> None:
        super().__init__()
        self._make = make
        self.subscriber = subscriber

    async def deliver(self, connection: "Connection") -> None:
        """Write the response when there is one, with the headers that this one was given meanwhile."""
        made = await self._make()
        self.status_code = made.status_code
        for name, value in made.items():
            self[name] = value
        self["Content-Length"] = str(len(made.content))
        await self.start(connection)
        for begin in range(0, len(made.content), settings.STREAMS_WRITE_BYTES):
            await connection.write(made.content[begin : begin + settings.STREAMS_WRITE_BYTES])
        await connection({"type": "http.response.body", "body": b"", "more_body": False})


class Connection:
    """One ASGI connection, callable as its `send`.

    Remembers that the client left, and cuts off a reader that takes nothing for the set time.
    """

    __slots__ = ("_last", "_link", "_receive", "_room", "_send", "cut", "over", "response")

    def __init__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        # For the body: Django would keep all of it, and only then refuse it for its size.
        self._room: float = settings.DATA_UPLOAD_MAX_MEMORY_SIZE or float("inf")
        self._link: Link | None = scope.get("extensions", {}).get("tickertape")
        self.response: Outliving | None = None
        self.cut: Callable[[], object] | None = None  # ends the stream, while there is one
        self.over = False  # the client left, or was cut off
        self._last: asyncio.TimerHandle | None = None

    async def __call__(self, message: Any) -> None:
        """Send as the server does."""
        await self._send(message)

    async def receive(self) -> Any:
        """Receive, and note a disconnect: it is said only once, and the request may hear it first.

        Of a body that is too large the piece that makes it so is the last one; the rest is dropped.
        """
        message = await self._receive()
        while self._room < 0 and message["type"] == "http.request":
            message = await self._receive()
        if message["type"] == "http.disconnect":
            self.end()
            return message
        self._room -= len(message.get("body", b""))
        return {**message, "more_body": False} if self._room < 0 else message

    async def hear(self) -> None:
        """Listen for the client's leaving."""
        while not self.over:
            await self.receive()

    def end(self) -> None:
        """End the stream: there is nobody to write to."""
        self.over = True
        if self.cut is not None:
            self.cut()

    def expect_end(self, reason: str) -> None:
        """Cut the connection off unless the stream, which was told to end, does so soon."""
        if self._last is None and reason in LAST_SECONDS:
            self._last = asyncio.get_running_loop().call_later(LAST_SECONDS[reason], self.abort)

    def silent(self) -> bool:
        """Tell whether the peer seems to be lost, though the connection is not."""
        return self._link is not None and self._link.silent()

    def settle(self) -> None:
        """Note that the stream has ended: nothing is left to cut off."""
        self.cut = None
        if self._last is not None:
            self._last.cancel()

    def abort(self) -> None:
        """Cut the connection; what was not sent is lost."""
        if self._link is not None:
            self._link.abort()
        self.end()

    async def write(self, chunk: bytes) -> None:
        """Write a piece of the body, as soon as the reader's speed allows."""
        await self.pass_on({"type": "http.response.body", "body": chunk, "more_body": True})

    async def pass_on(self, message: Any) -> None:
        """Send as the server does, and cut off a reader that takes nothing meanwhile."""
        watch = _StallWatch(self._link, self.abort)
        try:
            await self._send(message)
        finally:
            watch.stop()


class _StallWatch:
    """Looks, while a write waits, whether the peer takes anything; cuts it off where not."""

    __slots__ = ("_cut", "_least", "_link", "_since", "_timer")

    def __init__(self, link: Link | None, cut: Callable[[], None]) -> None:
        self._link = link
        self._cut = cut
        self._least: int | None = None
        self._since = 0.0
        self._again()

    def stop(self) -> None:
        """Stop looking: the write is done."""
        self._timer.cancel()

    def _again(self) -> None:
        wait = settings.STREAMS_STALL_SECONDS / 4
        self._timer = asyncio.get_running_loop().call_later(wait, self._look)

    def _look(self) -> None:
        now = time.monotonic()
        outstanding = self._link.outstanding() if self._link else 0
        if self._least is None or outstanding < self._least:
            self._least = outstanding
            self._since = now
        elif now - self._since >= settings.STREAMS_STALL_SECONDS * 3 / 4:
            logger.info("A reader that took nothing was cut off.", extra={"outstanding": outstanding})
            self._cut()
            return
        self._again()
